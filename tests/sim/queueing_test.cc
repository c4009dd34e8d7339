// Waiting for room on a server: in what order, how many, how long, and what becomes of clients that do not wait to the end.
#include <cerrno>

#include "directed.h"

namespace ringmain::sim {
namespace {

class Queueing : public Directed {
 protected:
  // One server that takes one connection, which one client has; two more may wait.
  SimSocket& StartFull(Duration queue_timeout = seconds(5)) {
    WorldOptions options;
    options.server_max_connections = 1;
    options.max_queue = 2;
    options.queue_timeout = queue_timeout;
    Start(options);
    return *Established().client;
  }
  SimSocket& Waiting() {
    SimSocket& client = world_->Accept(Passive());
    Turn();
    EXPECT_EQ(client.session->server, nullptr);
    return client;
  }
  bool HasServer(const SimSocket& client) { return client.session->server != nullptr; }
  void StandStill() {
    world_->Freeze();
    for (SimSocket& socket : world_->io().sockets())
      if (socket.receive.has_value()) world_->io().EndReceive(socket, -ECANCELED);
    Turn();
    ASSERT_TRUE(world_->sessions().settled());
  }
  void End(SimSocket& client) {
    world_->io().Break(client);
    RunUntilQuiet();
    EXPECT_TRUE(client.closed);
  }
};

TEST_F(Queueing, FirstComeFirstServed) {
  SimSocket& first = StartFull();
  SimSocket& second = Waiting();
  SimSocket& third = Waiting();
  EXPECT_EQ(world_->queue().waiting(), 2u);
  End(first);
  EXPECT_TRUE(HasServer(second));
  EXPECT_FALSE(HasServer(third));
  world_->io().EndConnect(*second.session->server, 0);
  RunUntilQuiet();
  End(second);
  EXPECT_TRUE(HasServer(third));
  EXPECT_EQ(world_->queue().waiting(), 0u);
}

TEST_F(Queueing, NobodyOvertakes) {
  SimSocket& first = StartFull();
  SimSocket& second = Waiting();
  world_->io().Break(first);
  RunUntilQuiet();
  SimSocket& third = world_->Accept(Passive());  // the server has room for one, which is the second's
  Turn();
  EXPECT_TRUE(HasServer(second));
  EXPECT_FALSE(HasServer(third));
}

TEST_F(Queueing, OneTooManyIsRefused) {
  StartFull();
  Waiting();
  Waiting();
  SimSocket& fourth = world_->Accept(Passive());
  Turn();
  EXPECT_TRUE(fourth.closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kQueueFull), 1u);
  EXPECT_EQ(world_->queue().waiting(), 2u);
}

TEST_F(Queueing, NothingIsReadMeanwhileAndAllOfItArrives) {
  SimSocket& first = StartFull();
  SimSocket& second = Waiting();
  world_->io().PeerSends(second, 6000);
  RunUntilQuiet();
  EXPECT_FALSE(second.receive.has_value());
  EXPECT_EQ(second.taken, 0u);
  End(first);
  world_->io().EndConnect(*second.session->server, 0);
  RunUntilQuiet();
  EXPECT_EQ(second.session->server->accepted, 6000u);
}

TEST_F(Queueing, TheWaitHasAnEnd) {
  StartFull(milliseconds(500));
  SimSocket& second = Waiting();
  Pass(milliseconds(490));
  EXPECT_FALSE(second.closed);
  PassInSteps(milliseconds(10) + TimerWheel::kTick);
  EXPECT_TRUE(second.closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kQueueTimeout), 1u);
  EXPECT_EQ(world_->queue().waiting(), 0u);
}

TEST_F(Queueing, TheNextOneHasATurnWhenTheFirstGivesUp) {
  SimSocket& first = StartFull();
  SimSocket& second = Waiting();
  SimSocket& third = Waiting();
  world_->io().Break(second);
  PassInSteps(2 * Sessions::kSweepInterval);
  EXPECT_TRUE(second.closed);
  EXPECT_EQ(world_->closed(CloseReason::kClientLeft), 1u);
  EXPECT_EQ(world_->queue().waiting(), 1u);
  End(first);
  EXPECT_TRUE(HasServer(third));
}

TEST_F(Queueing, AClientThatEndsItsStreamUnusedHasLeft) {
  StartFull();
  SimSocket& second = Waiting();
  world_->io().PeerFins(second);
  PassInSteps(Sessions::kLeaveGrace);
  EXPECT_FALSE(second.closed);
  PassInSteps(2 * Sessions::kSweepInterval);
  EXPECT_TRUE(second.closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kClientLeft), 1u);
}

TEST_F(Queueing, AClientThatHasSaidAllItHasToSayWaits) {
  SimSocket& first = StartFull();
  SimSocket& second = Waiting();
  world_->io().PeerSends(second, 100);
  world_->io().PeerFins(second);
  PassInSteps(Sessions::kLeaveGrace + seconds(1));
  EXPECT_FALSE(second.closed);
  End(first);
  ASSERT_TRUE(HasServer(second));
  world_->io().EndConnect(*second.session->server, 0);
  RunUntilQuiet();
  EXPECT_EQ(second.session->server->accepted, 100u);
  EXPECT_TRUE(second.session->server->fin_sent);
}

// A server with room that nobody told of: the sweep finds it.
TEST_F(Queueing, RoomThatComesSilentlyIsFound) {
  WorldOptions options;
  options.servers = 2;
  options.server_max_connections = 1;
  options.max_queue = 10;
  options.queue_timeout = seconds(5);
  Start(options);
  world_->SetServerUp(1, false);
  Established();
  SimSocket& second = Waiting();
  world_->SetServerUp(1, true);
  PassInSteps(Sessions::kSweepInterval + milliseconds(10));
  EXPECT_TRUE(HasServer(second));
}

TEST_F(Queueing, TheOrderAndTheDeadlineStayElsewhere) {
  SimSocket& first = StartFull(seconds(1));
  SimSocket& second = Waiting();
  Pass(milliseconds(300));
  SimSocket& third = Waiting();
  Pass(milliseconds(100));
  StandStill();
  world_->HandOver();
  RunUntilQuiet();
  EXPECT_EQ(world_->queue().waiting(), 2u);
  End(first);
  EXPECT_TRUE(HasServer(second));
  EXPECT_FALSE(HasServer(third));
  PassInSteps(milliseconds(880));
  EXPECT_FALSE(third.closed) << "its second ends 1.3 s after the start";
  PassInSteps(milliseconds(60));
  EXPECT_TRUE(third.closed);
}

TEST_F(Queueing, AFreezeInPlaceChangesNothing) {
  SimSocket& first = StartFull();
  SimSocket& second = Waiting();
  StandStill();
  world_->Thaw();
  RunUntilQuiet();
  EXPECT_EQ(world_->queue().waiting(), 1u);
  End(first);
  EXPECT_TRUE(HasServer(second));
}

// A server that refuses, after a wait, is given back to the next in line.
TEST_F(Queueing, AFailedConnectGivesTheRoomToTheNext) {
  SimSocket& first = StartFull();
  SimSocket& second = Waiting();
  SimSocket& third = Waiting();
  End(first);
  ASSERT_TRUE(HasServer(second));
  world_->io().EndConnect(*second.session->server, -ECONNREFUSED);
  RunUntilQuiet();
  EXPECT_TRUE(second.closed_with_reset) << "there is no other server to try";
  EXPECT_TRUE(HasServer(third));
}

}  // namespace
}  // namespace ringmain::sim
