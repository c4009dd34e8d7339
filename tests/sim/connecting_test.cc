// Connecting: tries, their failures, and clients that do not wait.
#include "directed.h"

namespace ringmain::sim {
namespace {

class Connecting : public Directed {
 protected:
  SimSocket& OpenWith(WorldOptions options) {
    Start(options);
    SimSocket& client = world_->Accept(Passive());
    Turn();
    return client;
  }
  void FailConnect(SimSocket& client, int error) {
    world_->io().EndConnect(*client.session->server, -error);
    Turn();
  }
  uint64_t Failures(ConnectFailure failure) {
    uint64_t count = 0;
    for (size_t i = 0; i < world_->options().servers; ++i)
      count += world_->server_cells(i).connect_failures[static_cast<size_t>(failure)].value();
    return count;
  }
};

TEST_F(Connecting, RefusedMovesOnToDistinctServersAndThenResets) {
  WorldOptions options;
  options.servers = 4;
  options.connect_tries = 3;
  SimSocket& client = OpenWith(options);
  FailConnect(client, ECONNREFUSED);
  FailConnect(client, EHOSTUNREACH);
  EXPECT_FALSE(client.closed);
  FailConnect(client, ECONNREFUSED);  // the rules know that each was another server
  RunUntilQuiet();
  EXPECT_TRUE(client.closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kConnectFailed), 1u);
  EXPECT_EQ(Failures(ConnectFailure::kRefused), 2u);
  EXPECT_EQ(Failures(ConnectFailure::kUnreachable), 1u);
}

TEST_F(Connecting, TheNextServerGetsWhatTheClientSentMeanwhile) {
  WorldOptions options;
  options.servers = 2;
  SimSocket& client = OpenWith(options);
  world_->io().PeerSends(client, 6000);
  RunUntilQuiet();
  FailConnect(client, ECONNREFUSED);
  world_->io().EndConnect(*client.session->server, 0);
  RunUntilQuiet();
  EXPECT_EQ(client.session->server->accepted, 6000u);
}

TEST_F(Connecting, TimeoutMovesOn) {
  WorldOptions options;
  options.servers = 2;
  options.connect_timeout = milliseconds(500);
  SimSocket& client = OpenWith(options);
  SimSocket& first = *client.session->server;
  Pass(milliseconds(499));
  EXPECT_FALSE(first.connect->cancelled);
  Pass(milliseconds(1) + TimerWheel::kTick);
  ASSERT_TRUE(first.connect->cancelled);
  world_->io().EndConnect(first, -ECANCELED);
  Turn();
  EXPECT_TRUE(first.closed);
  EXPECT_NE(client.session->server, &first);
  EXPECT_EQ(Failures(ConnectFailure::kTimeout), 1u);
}

TEST_F(Connecting, AConnectThatBeatsItsCancelCounts) {
  WorldOptions options;
  options.connect_timeout = milliseconds(500);
  SimSocket& client = OpenWith(options);
  Pass(milliseconds(520));
  ASSERT_TRUE(client.session->server->connect->cancelled);
  world_->io().EndConnect(*client.session->server, 0);
  Turn();
  EXPECT_TRUE(client.session->established);
  EXPECT_EQ(world_->sessions().size(), 1u);
}

TEST_F(Connecting, NoServerUpResets) {
  Start();
  world_->SetServerUp(0, false);
  SimSocket& client = world_->Accept(Passive());
  EXPECT_TRUE(client.closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kNoServer), 1u);
}

TEST_F(Connecting, NoFilesResets) {
  WorldOptions options;
  options.open_result = [] { return -EMFILE; };
  SimSocket& client = OpenWith(options);
  EXPECT_TRUE(client.closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kNoFiles), 1u);
  EXPECT_EQ(Failures(ConnectFailure::kNoFiles), 1u);
}

TEST_F(Connecting, AClientsResetEndsItAtOnce) {
  SimSocket& client = OpenWith({});
  world_->io().Break(client);
  world_->io().CarryOutReceive(client);
  Turn();
  EXPECT_TRUE(client.session->server->connect->cancelled);
  world_->io().EndConnect(*client.session->server, -ECANCELED);
  Turn();
  EXPECT_EQ(world_->closed(CloseReason::kClientLeft), 1u);
  EXPECT_EQ(Failures(ConnectFailure::kTimeout) + Failures(ConnectFailure::kOther), 0u);
}

TEST_F(Connecting, AClientThatSentNothingAndEndedHasAGrace) {
  WorldOptions options;
  options.connect_timeout = seconds(10);
  SimSocket& client = OpenWith(options);
  world_->io().PeerFins(client);
  world_->io().CarryOutReceive(client);
  Turn();
  PassInSteps(Sessions::kLeaveGrace - milliseconds(1));
  EXPECT_FALSE(client.session->closing);
  PassInSteps(milliseconds(1) + TimerWheel::kTick);
  EXPECT_EQ(world_->closed(CloseReason::kClientLeft), 1u);
}

TEST_F(Connecting, AClientThatSentAndEndedIsServed) {
  WorldOptions options;
  options.connect_timeout = seconds(10);
  SimSocket& client = OpenWith(options);
  world_->io().PeerSends(client, 100);
  world_->io().PeerFins(client);
  RunUntilQuiet();
  PassInSteps(seconds(5));
  ASSERT_FALSE(client.session->closing);
  world_->io().EndConnect(*client.session->server, 0);
  RunUntilQuiet();
  EXPECT_EQ(client.session->server->accepted, 100u);
  EXPECT_TRUE(client.session->server->fin_sent);
}

}  // namespace
}  // namespace ringmain::sim
