// A server that ends before a byte was passed either way gives way to another; any other end is passed on.
#include <cerrno>

#include "directed.h"

namespace ringmain::sim {
namespace {

class Replacing : public Directed {
 protected:
  // An established session that could have had another server.
  SimSession& Begin(size_t servers = 2, uint32_t connect_tries = 3) {
    WorldOptions options;
    options.servers = servers;
    options.connect_tries = connect_tries;
    Start(options);
    SimSession& session = Established();
    first_ = session.server;
    return session;
  }
  bool replaced(const SimSession& session) const {
    return first_->closed && !session.client->closed && session.server != first_ && session.server->connect.has_value();
  }
  void Connect(SimSession& session) {
    world_->io().EndConnect(*session.server, 0);
    RunUntilQuiet();
  }
  uint64_t lost() {
    uint64_t count = 0;
    for (size_t i = 0; i < world_->options().servers; ++i)
      count += world_->server_cells(i).connect_failures[static_cast<size_t>(ConnectFailure::kLost)].value();
    return count;
  }

  SimSocket* first_ = nullptr;
};

TEST_F(Replacing, AfterAReset) {
  SimSession& session = Begin();
  world_->io().Break(*first_);
  RunUntilQuiet();
  ASSERT_TRUE(replaced(session));
  EXPECT_EQ(lost(), 1u);
  Connect(session);
  world_->io().PeerSends(*session.client, 5000);
  world_->io().PeerSends(*session.server, 7000);
  RunUntilQuiet();
  EXPECT_EQ(session.server->accepted, 5000u);
  EXPECT_EQ(session.client->accepted, 7000u);
}

TEST_F(Replacing, AfterAnEndInOrder) {
  SimSession& session = Begin();
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  EXPECT_TRUE(replaced(session));
  EXPECT_EQ(world_->worker_cells().relays[0].value(), 0);
}

// The session had been quiet for long, with a timer of its own.
TEST_F(Replacing, TheNextOneHasTheTimeoutsOfAnyOther) {
  WorldOptions options;
  options.servers = 2;
  options.idle_timeout = seconds(4);
  options.connect_timeout = seconds(1);
  Start(options);
  SimSession& session = Established();
  first_ = session.server;
  PassInSteps(seconds(3));
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  ASSERT_TRUE(replaced(session));
  PassInSteps(milliseconds(900));
  Connect(session);
  PassInSteps(milliseconds(3500));
  EXPECT_FALSE(session.client->closed);
  PassInSteps(seconds(1));
  EXPECT_EQ(world_->closed(CloseReason::kIdleTimeout), 1u);
}

// What the client sent in the very moment is kept, whichever of the two ends the proxy learns of first.
TEST_F(Replacing, WhatTheClientSentGoesToTheNext) {
  SimSession& session = Begin();
  world_->io().PeerSends(*session.client, 3000);
  world_->io().CarryOutReceive(*session.client);
  Turn();
  ASSERT_TRUE(first_->send.has_value());
  world_->io().Break(*first_);
  world_->io().CarryOutSend(*first_);  // ECONNRESET
  Turn();
  EXPECT_FALSE(first_->closed) << "its receive is still armed, and may bring something";
  world_->io().PeerSends(*session.client, 2000);
  world_->io().CarryOutReceive(*session.client);
  Turn();
  world_->io().CarryOutReceive(*first_);
  Turn();
  ASSERT_TRUE(replaced(session));
  Connect(session);
  EXPECT_EQ(session.server->accepted, 5000u);
}

TEST_F(Replacing, TheEndIsSeenWhileASendIsArmed) {
  for (bool taken : {false, true}) {
    SimSession& session = Begin();
    world_->io().PeerSends(*session.client, 3000);
    world_->io().CarryOutReceive(*session.client);
    Turn();
    world_->io().Break(*first_);
    world_->io().CarryOutReceive(*first_);
    Turn();
    EXPECT_FALSE(first_->closed);
    world_->io().PeerSends(*session.client, 100);
    world_->io().CarryOutReceive(*session.client);
    Turn();
    if (taken) first_->broken = false;
    world_->io().CarryOutSend(*first_);
    first_->broken = true;
    RunUntilQuiet();
    EXPECT_EQ(replaced(session), !taken);
    EXPECT_EQ(world_->closed(CloseReason::kServerReset), taken ? 1u : 0u);
    if (taken) break;
    Connect(session);
    EXPECT_EQ(session.server->accepted, 3100u);
    world_->CloseAll(CloseReason::kShutdown);
    RunUntilQuiet();
  }
}

TEST_F(Replacing, NotOnceTheServerWasHandedAByte) {
  SimSession& session = Begin();
  world_->io().PeerSends(*session.client, 1);
  RunUntilQuiet();
  world_->io().Break(*first_);
  RunUntilQuiet();
  EXPECT_TRUE(session.client->closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kServerReset), 1u);
}

TEST_F(Replacing, NotOnceOneCameBack) {
  SimSession& session = Begin();
  world_->io().PeerSends(*first_, 1);
  RunUntilQuiet();
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  EXPECT_FALSE(first_->closed);
  EXPECT_TRUE(session.client->fin_sent);
}

TEST_F(Replacing, NotForAClientThatHasEndedItsStream) {
  SimSession& session = Begin();
  world_->io().PeerFins(*session.client);
  RunUntilQuiet();
  ASSERT_TRUE(first_->fin_sent);
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kClientClosed), 1u);
}

TEST_F(Replacing, NoMoreOftenThanAConnectIsTried) {
  for (bool by_reset : {true, false}) {
    SimSession& session = Begin(/*servers=*/4, /*connect_tries=*/3);
    for (int i = 0; i < 2; ++i) {
      by_reset ? world_->io().Break(*session.server) : world_->io().PeerFins(*session.server);
      RunUntilQuiet();
      Connect(session);
    }
    EXPECT_EQ(lost(), 2u);
    by_reset ? world_->io().Break(*session.server) : world_->io().PeerFins(*session.server);
    RunUntilQuiet();
    EXPECT_EQ(session.client->closed_with_reset, by_reset);
    EXPECT_EQ(session.client->fin_sent, !by_reset);
    EXPECT_EQ(lost(), 2u);
    world_->CloseAll(CloseReason::kShutdown);
    RunUntilQuiet();
  }
}

TEST_F(Replacing, WithoutAnotherServerTheEndIsPassedOn) {
  SimSession& session = Begin(/*servers=*/2);
  world_->SetServerUp(1 - first_->server, false);
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  EXPECT_TRUE(session.client->fin_sent);
  EXPECT_EQ(world_->upstream().server(1 - first_->server).active(), 0u);
}

// The other one refuses: the client sees how the first had ended.
TEST_F(Replacing, WithoutAnotherThatCanBeHadTheEndIsPassedOn) {
  for (bool by_reset : {true, false})
    for (bool sent : {true, false}) {
      SimSession& session = Begin();
      if (sent) {
        world_->io().PeerSends(*session.client, 10);
        world_->io().CarryOutReceive(*session.client);
      }
      by_reset ? world_->io().Break(*first_) : world_->io().PeerFins(*first_);
      world_->io().CarryOutReceive(*first_);
      RunUntilQuiet();
      ASSERT_TRUE(replaced(session));
      world_->io().EndConnect(*session.server, -ECONNREFUSED);
      RunUntilQuiet();
      EXPECT_TRUE(session.client->closed);
      EXPECT_EQ(session.client->closed_with_reset, by_reset || sent);
      EXPECT_EQ(world_->closed(by_reset ? CloseReason::kServerReset : CloseReason::kServerClosed), 1u);
    }
}

// The session is older than the configuration: the server is chosen among those that there are now.
TEST_F(Replacing, ByTheConfigurationThatHolds) {
  SimSession& session = Begin(/*servers=*/4);
  size_t lost = first_->server, kept = (lost + 2) % 4;
  world_->KeepServers({kept});
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  ASSERT_TRUE(replaced(session));
  EXPECT_EQ(session.server->server, kept);
  Connect(session);
  world_->io().PeerSends(*session.client, 10);
  RunUntilQuiet();
  EXPECT_EQ(session.server->accepted, 10u);
}

TEST_F(Replacing, AsOftenAsTheConfigurationThatHoldsSays) {
  for (bool now : {false, true}) {
    SimSession& session = Begin(/*servers=*/4, /*connect_tries=*/now ? 1 : 3);
    world_->KeepServers({0, 1, 2, 3}, now ? 3 : 1);
    world_->io().PeerFins(*first_);
    RunUntilQuiet();
    EXPECT_EQ(replaced(session), now);
    EXPECT_EQ(session.client->fin_sent, !now);
    world_->CloseAll(CloseReason::kShutdown);
    RunUntilQuiet();
  }
}

TEST_F(Replacing, NotByTheSameAfterAReload) {
  SimSession& session = Begin(/*servers=*/2);
  world_->KeepServers({first_->server});
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  EXPECT_TRUE(session.client->fin_sent);
}

// What is waited for, the end of an armed receive, never comes: it takes no more bytes but has not ended (shutdown(2) of its reading side).
TEST_F(Replacing, WaitsNoLongerThanAHalfClosedSession) {
  WorldOptions options;
  options.servers = 2;
  options.half_closed_timeout = seconds(4);
  Start(options);
  SimSession& session = Established();
  world_->io().PeerSends(*session.client, 10);
  world_->io().CarryOutReceive(*session.client);
  Turn();
  world_->io().EndSend(*session.server, -EPIPE);
  Turn();
  world_->io().PeerSends(*session.client, 10);
  world_->io().CarryOutReceive(*session.client);
  Turn();
  ASSERT_TRUE(session.client->receive.has_value()) << "the client is listened to";
  EXPECT_FALSE(session.client->closed);
  PassInSteps(seconds(5));
  EXPECT_EQ(world_->closed(CloseReason::kHalfClosedTimeout), 1u);
}

TEST_F(Replacing, AClientThatLeavesMeanwhileIsNoticed) {
  SimSession& session = Begin();
  world_->io().PeerSends(*session.client, 10);
  world_->io().CarryOutReceive(*session.client);
  Turn();
  world_->io().EndSend(*first_, -EPIPE);
  Turn();
  world_->io().PeerFins(*session.client);
  world_->io().CarryOutReceive(*session.client);
  Turn();
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  EXPECT_TRUE(session.client->closed);
  EXPECT_EQ(world_->closed(CloseReason::kServerReset), 1u);
}

TEST_F(Replacing, NotWhileSessionsStandStill) {
  SimSession& session = Begin();
  world_->Freeze();
  world_->io().PeerFins(*first_);
  world_->io().CarryOutReceive(*first_);
  world_->io().EndReceive(*session.client, -ECANCELED);
  Turn();
  EXPECT_FALSE(first_->closed);
  ASSERT_TRUE(world_->sessions().settled());
  world_->Thaw();
  RunUntilQuiet();
  EXPECT_TRUE(session.client->fin_sent);
}

}  // namespace
}  // namespace ringmain::sim
