// Quiet sessions: idle_timeout and half_closed_timeout, by a clock that only the test moves.
#include "directed.h"

namespace ringmain::sim {
namespace {

class Quiet : public Directed {
 protected:
  SimSession& OpenWith(Duration idle, Duration half_closed) {
    WorldOptions options;
    options.idle_timeout = idle;
    options.half_closed_timeout = half_closed;
    Start(options);
    return Established();
  }
};

constexpr Duration kLate = milliseconds(8 * 9);

TEST_F(Quiet, IdleClosesWithinAnEighth) {
  OpenWith(seconds(8), {});
  PassInSteps(seconds(8) - milliseconds(1));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(seconds(1) + kLate);
  EXPECT_EQ(world_->closed(CloseReason::kIdleTimeout), 1u);
}

TEST_F(Quiet, AByteStartsItAnew) {
  SimSession& session = OpenWith(seconds(8), {});
  for (int i = 0; i < 5; ++i) {
    PassInSteps(seconds(7));
    world_->io().PeerSends(i % 2 == 0 ? *session.client : *session.server, 1);
    RunUntilQuiet();
  }
  PassInSteps(seconds(8) - milliseconds(1));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(seconds(1) + kLate);
  EXPECT_EQ(world_->closed(CloseReason::kIdleTimeout), 1u);
}

TEST_F(Quiet, OffMeansNever) {
  OpenWith({}, {});
  PassInSteps(std::chrono::hours(24));
  EXPECT_EQ(world_->sessions().size(), 1u);
  EXPECT_FALSE(world_->sessions().NextWakeUp().has_value());
}

TEST_F(Quiet, HalfClosedCloses) {
  SimSession& session = OpenWith({}, seconds(4));
  PassInSteps(seconds(60));
  EXPECT_EQ(world_->sessions().size(), 1u);
  world_->io().PeerFins(*session.server);
  RunUntilQuiet();
  PassInSteps(seconds(3));
  world_->io().PeerSends(*session.client, 1);
  RunUntilQuiet();
  PassInSteps(seconds(4) - milliseconds(1));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(milliseconds(500) + kLate);
  EXPECT_EQ(world_->closed(CloseReason::kHalfClosedTimeout), 1u);
}

// A client is gone and its server does not read what it left: bytes are waiting, so the cut is a reset.
TEST_F(Quiet, HalfClosedCountsFromAReset) {
  SimSession& session = OpenWith({}, seconds(4));
  session.server->script.send_capacity = 1;
  world_->io().PeerSends(*session.client, 1000);
  world_->io().Break(*session.client);
  RunUntilQuiet();
  PassInSteps(seconds(4) - milliseconds(1));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(milliseconds(500) + kLate);
  EXPECT_EQ(world_->closed(CloseReason::kHalfClosedTimeout), 1u);
  EXPECT_TRUE(session.server->closed_with_reset);
}

// Of a hundred sessions, all idle, about as many are closed at any time as of the time has passed.
TEST_F(Quiet, IdleSessionsAreClosedSpreadOverTime) {
  Start();
  std::vector<SimSession*> sessions;
  for (int i = 0; i < 100; ++i) sessions.push_back(&Established());
  PassInSteps(seconds(2));
  world_->CloseIdle(seconds(10));
  for (size_t second = 1; second <= 10; ++second) {
    PassInSteps(seconds(1));
    size_t closed = world_->closed(CloseReason::kDrainIdle);
    EXPECT_GE(closed + 12, 10 * second);  // a walk takes a second
    EXPECT_LE(closed, 10 * second + 2);
  }
  PassInSteps(milliseconds(1200));
  EXPECT_EQ(world_->closed(CloseReason::kDrainIdle), 100u);
}

TEST_F(Quiet, WithoutSessionsThereIsNothingToClose) {
  Start();
  world_->CloseIdle(seconds(1));
  world_->io().AdvanceTo(world_->io().now() + seconds(2));
  world_->RunTimers();  // a worker has timers of its own
  EXPECT_FALSE(world_->sessions().NextWakeUp().has_value());
}

TEST_F(Quiet, WhatIsNotIdleIsNotClosedUntilItIs) {
  Start();
  SimSession& session = Established();
  SimSession& slow = Established();
  world_->io().PeerSends(*slow.client, 200 << 10);  // nobody reads it
  world_->CloseIdle(milliseconds(500));
  for (int i = 0; i < 10; ++i) {
    world_->io().PeerSends(*session.server, 1);
    PassInSteps(milliseconds(700));
    RunUntilQuiet();
  }
  EXPECT_FALSE(session.client->closed);
  EXPECT_FALSE(slow.client->closed);
  PassInSteps(milliseconds(1500));
  EXPECT_TRUE(session.client->closed && !session.client->closed_with_reset);
  EXPECT_FALSE(slow.client->closed);
  EXPECT_EQ(world_->closed(CloseReason::kDrainIdle), 1u);
}

}  // namespace
}  // namespace ringmain::sim
