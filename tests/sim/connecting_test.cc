// Connecting: tries, their failures, and clients that do not wait.
#include <map>
#include <string>
#include <vector>

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

// ---- All tries together ----

TEST_F(Connecting, AllTriesTogetherHaveATimeoutToo) {
  WorldOptions options;
  options.servers = 4;
  options.connect_timeout = milliseconds(500);
  options.connect_total_timeout = milliseconds(700);
  SimSocket& client = OpenWith(options);
  Pass(milliseconds(300));
  FailConnect(client, ECONNREFUSED);
  SimSocket& second = *client.session->server;
  Pass(milliseconds(399));
  EXPECT_FALSE(second.connect->cancelled);
  Pass(milliseconds(1) + TimerWheel::kTick);
  ASSERT_TRUE(second.connect->cancelled);
  world_->io().EndConnect(second, -ECANCELED);
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kConnectTimeout), 1u);
  EXPECT_TRUE(client.closed_with_reset);
  EXPECT_EQ(client.session->tried.size(), 2u);
}

TEST_F(Connecting, NoTryBeginsWhenTheTimeForAllIsOver) {
  WorldOptions options;
  options.servers = 4;
  options.connect_total_timeout = milliseconds(700);
  SimSocket& client = OpenWith(options);
  world_->io().AdvanceTo(world_->io().now() + milliseconds(800));
  FailConnect(client, ECONNREFUSED);  // in the turn in which the timer would have been due
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kConnectTimeout), 1u);
  EXPECT_EQ(client.session->tried.size(), 1u);
}

// However old the session is, the search for another server has its time.
TEST_F(Connecting, TheTimeForAllTriesBeginsAnewWhenAServerIsLost) {
  WorldOptions options;
  options.servers = 3;
  options.connect_total_timeout = milliseconds(700);
  SimSocket& client = OpenWith(options);
  world_->io().EndConnect(*client.session->server, 0);
  Turn();
  PassInSteps(seconds(10));
  SimSocket& lost = *client.session->server;
  world_->io().PeerFins(lost);
  RunUntilQuiet();
  ASSERT_TRUE(lost.closed);
  PassInSteps(milliseconds(600));
  FailConnect(client, ECONNREFUSED);
  EXPECT_FALSE(client.closed);
  world_->io().EndConnect(*client.session->server, 0);
  RunUntilQuiet();
  EXPECT_FALSE(client.closed);
}

TEST_F(Connecting, TheTimeForAllTriesGoesOnElsewhere) {
  WorldOptions options;
  options.servers = 3;
  options.connect_timeout = seconds(10);
  options.connect_total_timeout = seconds(4);
  SimSocket& client = OpenWith(options);
  PassInSteps(seconds(3));
  HandOver();
  PassInSteps(milliseconds(990));
  EXPECT_FALSE(client.session->closing);
  PassInSteps(milliseconds(20));
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kConnectTimeout), 1u);
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

TEST_F(Connecting, EachServerGivesTheSourceAddressesTheirTurns) {
  WorldOptions options;
  options.servers = 2;
  options.sources = 3;
  Start(options);
  std::map<size_t, std::vector<std::string>> sources;
  for (int i = 0; i < 8; ++i) {
    const SimSocket& server = *Established().server;
    sources[server.server].push_back(server.source);
  }
  std::vector<std::string> in_turn = {"10.1.0.0", "10.1.0.1", "10.1.0.2", "10.1.0.0"};
  EXPECT_EQ(sources[0], in_turn);
  EXPECT_EQ(sources[1], in_turn);
}

TEST_F(Connecting, WithoutAFreePortTheNextSourceAddressIsTriedAtOnce) {
  WorldOptions options;
  options.servers = 2;
  options.sources = 3;
  SimSocket& client = OpenWith(options);
  size_t server = client.session->server->server;
  FailConnect(client, EADDRNOTAVAIL);
  EXPECT_EQ(client.session->server->source, "10.1.0.1");
  FailConnect(client, EADDRNOTAVAIL);
  EXPECT_EQ(client.session->server->source, "10.1.0.2");
  world_->io().EndConnect(*client.session->server, 0);
  Turn();
  EXPECT_TRUE(client.session->established);
  EXPECT_EQ(client.session->server->server, server);
  for (size_t i = 0; i < kConnectFailures; ++i) EXPECT_EQ(Failures(static_cast<ConnectFailure>(i)), 0u);
}

TEST_F(Connecting, WithoutAFreePortAnywhereTheNextServerIsTried) {
  WorldOptions options;
  options.servers = 2;
  options.sources = 2;
  SimSocket& client = OpenWith(options);
  SimSocket& first = *client.session->server;
  FailConnect(client, EADDRNOTAVAIL);
  FailConnect(client, EADDRNOTAVAIL);
  EXPECT_NE(client.session->server->server, first.server);
  EXPECT_EQ(Failures(ConnectFailure::kNoLocalAddress), 1u);
}

// The kernel looks at every port before it gives up: that must not happen for every client.
TEST_F(Connecting, AServerWithoutAFreePortRests) {
  WorldOptions options;
  SimSocket& client = OpenWith(options);
  FailConnect(client, EADDRNOTAVAIL);
  RunUntilQuiet();
  EXPECT_TRUE(client.closed_with_reset);
  size_t sockets = world_->io().sockets().size();
  SimSocket& second = world_->Accept(Passive());
  EXPECT_TRUE(second.closed_with_reset);
  EXPECT_EQ(world_->io().sockets().size(), sockets + 1) << "a socket was opened for a server";
  EXPECT_EQ(Failures(ConnectFailure::kNoLocalAddress), 2u);
  EXPECT_EQ(world_->closed(CloseReason::kConnectFailed), 2u);
  Pass(SourceTurns::kRest);
  Established();
}

TEST_F(Connecting, ASourceAddressThatIsMissingIsPassedOver) {
  WorldOptions options;
  options.sources = 3;
  options.has_source = [](const std::string& source) { return source == "10.1.0.2"; };
  Start(options);
  EXPECT_EQ(Established().server->source, "10.1.0.2");
  EXPECT_EQ(Established().server->source, "10.1.0.2");
  EXPECT_EQ(Failures(ConnectFailure::kNoLocalAddress), 0u);
}

TEST_F(Connecting, WithoutAnySourceAddressItFails) {
  WorldOptions options;
  options.sources = 2;
  options.has_source = [](const std::string&) { return false; };
  SimSocket& client = OpenWith(options);
  EXPECT_TRUE(client.closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kConnectFailed), 1u);
  EXPECT_EQ(Failures(ConnectFailure::kNoLocalAddress), 1u);
}

TEST_F(Connecting, ItsTimeoutCountsFromTheFirstSourceAddress) {
  WorldOptions options;
  options.sources = 2;
  options.connect_timeout = milliseconds(500);
  SimSocket& client = OpenWith(options);
  Pass(milliseconds(400));
  FailConnect(client, EADDRNOTAVAIL);
  Pass(milliseconds(100) + TimerWheel::kTick);
  EXPECT_TRUE(client.session->server->connect->cancelled);
}

TEST_F(Connecting, AConnectThatReachesItselfIsRefused) {
  WorldOptions options;
  options.servers = 2;
  SimSocket& client = OpenWith(options);
  SimSocket& first = *client.session->server;
  first.script.is_the_proxy = true;
  world_->io().EndConnect(first, 0);
  Turn();
  EXPECT_TRUE(first.closed_with_reset);
  EXPECT_EQ(Failures(ConnectFailure::kRefused), 1u);
  EXPECT_NE(client.session->server->server, first.server);
  world_->io().EndConnect(*client.session->server, 0);
  Turn();
  EXPECT_TRUE(client.session->established);
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

// ---- From the client's own address ----

class Transparent : public Connecting {
 protected:
  SimSocket& OpenTransparent() {
    WorldOptions options;
    options.servers = 2;
    options.transparent = true;
    options.socket = &socket_;
    return OpenWith(options);
  }
  const SocketOptions socket_;
};

TEST_F(Transparent, ConnectsFromTheClientsAddress) {
  SimSocket& client = OpenTransparent();
  EXPECT_EQ(client.session->server->source, "10.0.0.2");
  EXPECT_TRUE(client.session->server->transparent);
  EXPECT_EQ(client.session->server->options, &socket_);
  FailConnect(client, ECONNREFUSED);  // the next server sees it, too
  EXPECT_EQ(client.session->server->source, "10.0.0.2");
  world_->io().EndConnect(*client.session->server, 0);
  RunUntilQuiet();
  PassInSteps(seconds(1));
  EXPECT_TRUE(client.session->server->kept_alive);
}

// That the client's address has no port left towards a server keeps no other client from it.
TEST_F(Transparent, WithoutAPortTheNextServerIsTried) {
  SimSocket& client = OpenTransparent();
  FailConnect(client, EADDRNOTAVAIL);
  EXPECT_EQ(client.session->tried.size(), 2u);
  SimSocket& other = world_->Accept(Passive());
  Turn();
  EXPECT_EQ(other.session->tried.size(), 1u);
  FailConnect(other, ECONNREFUSED);
  EXPECT_EQ(other.session->tried.size(), 2u);
  FailConnect(client, EADDRNOTAVAIL);
  RunUntilQuiet();
  EXPECT_EQ(Failures(ConnectFailure::kNoLocalAddress), 2u);
  EXPECT_EQ(world_->closed(CloseReason::kConnectFailed), 1u);
}

TEST_F(Transparent, AClientThatIsGoneHasNoAddress) {
  WorldOptions options;
  options.transparent = true;
  Start(options);
  SimSocket& client = world_->io().AddClient(Passive());
  world_->io().Break(client);
  world_->Open(client);
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kClientLeft), 1u);
}

}  // namespace
}  // namespace ringmain::sim
