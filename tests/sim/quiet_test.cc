// Quiet sessions: idle_timeout, half_closed_timeout and those of one side, by a clock that only the test moves.
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

// ---- One side alone ----

class QuietSide : public Quiet {
 protected:
  SimSession& OpenWithSides(Duration client, Duration server, Duration half_closed = {}) {
    WorldOptions options;
    options.side_idle_timeouts = {client, server};
    options.half_closed_timeout = half_closed;
    Start(options);
    return Established();
  }
  // Bytes come every second.
  void Send(SimSocket& from, Duration time) {
    for (Duration past{}; past < time; past += seconds(1)) {
      world_->io().PeerSends(from, 1);
      RunUntilQuiet();
      PassInSteps(seconds(1));
    }
  }
};

constexpr Duration kNoted = Sessions::kSweepInterval + milliseconds(50);  // bytes are noted by a sweep

TEST_F(QuietSide, BytesOfTheOtherSideDoNotCount) {
  SimSession& session = OpenWithSides(seconds(4), {});
  Send(*session.server, seconds(3));
  EXPECT_EQ(world_->sessions().size(), 1u);
  Send(*session.server, seconds(2));
  EXPECT_EQ(world_->closed(CloseReason::kClientIdleTimeout), 1u);
  EXPECT_FALSE(session.client->closed_with_reset);
}

TEST_F(QuietSide, TheServersIsItsOwn) {
  SimSession& session = OpenWithSides({}, seconds(4));
  Send(*session.client, seconds(3));
  EXPECT_EQ(world_->sessions().size(), 1u);
  Send(*session.client, seconds(2));
  EXPECT_EQ(world_->closed(CloseReason::kServerIdleTimeout), 1u);
  EXPECT_FALSE(session.server->closed_with_reset);
}

TEST_F(QuietSide, ItsBytesStartItAnew) {
  SimSession& session = OpenWithSides(seconds(4), seconds(60));
  for (int i = 0; i < 5; ++i) {
    PassInSteps(seconds(3));
    world_->io().PeerSends(*session.client, 1);
    RunUntilQuiet();
  }
  PassInSteps(seconds(4) - milliseconds(1));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(kNoted);
  EXPECT_EQ(world_->closed(CloseReason::kClientIdleTimeout), 1u);
}

// The server does not read: until it does the client is not to blame, and after that it has its time to go on.
TEST_F(QuietSide, WhatIsHeldBackIsNoQuiet) {
  SimSession& session = OpenWithSides(seconds(4), {});
  session.server->script.send_capacity = 1000;
  world_->io().PeerSends(*session.client, 3000);
  RunUntilQuiet();
  PassInSteps(seconds(60));
  EXPECT_EQ(world_->sessions().size(), 1u);
  for (int i = 0; i < 3; ++i) {
    world_->io().PeerReads(*session.server, 1000);
    RunUntilQuiet();
  }
  EXPECT_EQ(session.server->accepted, 3000u);
  PassInSteps(seconds(4) - milliseconds(1));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(kNoted);
  EXPECT_EQ(world_->closed(CloseReason::kClientIdleTimeout), 1u);
}

// A server that neither reads nor answers is idle itself; what the client sent is lost, so the end is a reset.
TEST_F(QuietSide, AServerThatDoesNotReadIsIdle) {
  SimSession& session = OpenWithSides(seconds(4), seconds(4));
  session.server->script.send_capacity = 1000;
  world_->io().PeerSends(*session.client, 3000);
  RunUntilQuiet();
  PassInSteps(seconds(4) + kNoted);
  EXPECT_EQ(world_->closed(CloseReason::kServerIdleTimeout), 1u);
  EXPECT_TRUE(session.client->closed_with_reset && session.server->closed_with_reset);
}

TEST_F(QuietSide, ASideThatHasEndedIsNotIdle) {
  SimSession& session = OpenWithSides(seconds(4), seconds(30), seconds(300));
  world_->io().PeerFins(*session.client);
  RunUntilQuiet();
  Send(*session.server, seconds(20));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(seconds(30) + kNoted);
  EXPECT_EQ(world_->closed(CloseReason::kServerIdleTimeout), 1u);
}

// Until a server is connected nothing is expected of either side; then both have their whole time.
TEST_F(QuietSide, CountsFromTheConnect) {
  WorldOptions options;
  options.side_idle_timeouts = {seconds(1), seconds(1)};
  options.connect_timeout = seconds(10);
  Start(options);
  SimSession& session = *world_->Accept(Passive()).session;
  Turn();
  PassInSteps(seconds(8));
  world_->io().EndConnect(*session.server, 0);
  Turn();
  PassInSteps(milliseconds(999));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(milliseconds(100));
  EXPECT_EQ(world_->closed(CloseReason::kClientIdleTimeout), 1u);
}

TEST_F(QuietSide, GoesOnElsewhereAsItStood) {
  SimSession& session = OpenWithSides(seconds(8), seconds(80));
  PassInSteps(seconds(2));
  world_->io().PeerSends(*session.client, 1);
  RunUntilQuiet();  // no sweep has seen it yet
  for (int i = 0; i < 4; ++i) {
    HandOver();
    PassInSteps(milliseconds(1500));
  }
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(milliseconds(1900));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(milliseconds(100) + kNoted);
  EXPECT_EQ(world_->closed(CloseReason::kClientIdleTimeout), 1u);
}

// Bytes that came along get through before any sweep has seen them here.
TEST_F(QuietSide, WhatIsHeldBackIsNoQuietElsewhere) {
  SimSession& session = OpenWithSides(seconds(4), {});
  session.server->script.send_capacity = 1000;
  world_->io().PeerSends(*session.client, 3000);
  RunUntilQuiet();
  PassInSteps(seconds(10));
  HandOver();
  world_->io().AdvanceTo(world_->io().now() + seconds(3));
  for (int i = 0; i < 3; ++i) {
    world_->io().PeerReads(*session.server, 1000);
    Driver(*world_, {.seed = 1}).RunUntilQuiet();
  }
  HandOver();
  PassInSteps(seconds(4) - milliseconds(1));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(kNoted);
  EXPECT_EQ(world_->closed(CloseReason::kClientIdleTimeout), 1u);
}

// ---- Age ----

class Age : public Directed {
 protected:
  void StartWith(Duration max_lifetime, uint32_t jitter_percent) {
    WorldOptions options;
    options.max_lifetime = max_lifetime;
    options.lifetime_jitter_percent = jitter_percent;
    options.idle_timeout = std::chrono::hours(1);
    options.connect_timeout = std::chrono::hours(1);
    Start(options);
  }
};

TEST_F(Age, EndsBusySessionsInOrder) {
  StartWith(seconds(10), 0);
  SimSession& session = Established();
  for (int i = 0; i < 9; ++i) {
    PassInSteps(seconds(1));
    world_->io().PeerSends(*session.client, 100);
    world_->io().PeerSends(*session.server, 100);
    RunUntilQuiet();
  }
  PassInSteps(milliseconds(999));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(milliseconds(20));
  EXPECT_EQ(world_->closed(CloseReason::kMaxLifetime), 1u);
  EXPECT_FALSE(session.client->closed_with_reset || session.server->closed_with_reset);
}

TEST_F(Age, ResetsWhereBytesAreLost) {
  StartWith(seconds(10), 0);
  SimSession& session = Established();
  session.server->script.send_capacity = 1000;
  world_->io().PeerSends(*session.client, 3000);
  RunUntilQuiet();
  PassInSteps(seconds(11));
  EXPECT_EQ(world_->closed(CloseReason::kMaxLifetime), 1u);
  EXPECT_TRUE(session.client->closed_with_reset && session.server->closed_with_reset);
}

TEST_F(Age, EndsWhatIsStillConnecting) {
  StartWith(seconds(10), 0);
  world_->Accept(Passive());
  Turn();
  PassInSteps(seconds(10) - milliseconds(1));
  EXPECT_EQ(world_->sessions().size(), 1u);
  PassInSteps(milliseconds(20));
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kMaxLifetime), 1u);
}

TEST_F(Age, EndsWhatIsHalfClosed) {
  StartWith(seconds(10), 0);
  SimSession& session = Established();
  world_->io().PeerFins(*session.client);
  RunUntilQuiet();
  PassInSteps(seconds(10) + milliseconds(20));
  EXPECT_EQ(world_->closed(CloseReason::kMaxLifetime), 1u);
}

// Each has its own time, and keeps it wherever it goes on.
TEST_F(Age, TheJitterSpreadsTheEnds) {
  StartWith(seconds(100), 50);
  for (int i = 0; i < 100; ++i) Established();
  PassInSteps(seconds(50) - milliseconds(1));
  EXPECT_EQ(world_->sessions().size(), 100u);
  for (size_t step = 1; step <= 10; ++step) {
    if (step == 5) {
      HandOver();
    }
    PassInSteps(seconds(5));
    EXPECT_NEAR(static_cast<double>(world_->closed(CloseReason::kMaxLifetime)), 10.0 * static_cast<double>(step), 3);
  }
  PassInSteps(milliseconds(20));
  EXPECT_EQ(world_->closed(CloseReason::kMaxLifetime), 100u);
}

}  // namespace
}  // namespace ringmain::sim
