// Ends of streams: half-close and reset, each way.
#include "directed.h"

namespace ringmain::sim {
namespace {

// Each test runs both ways: the first side is the one that ends.
class Ends : public Directed, public testing::WithParamInterface<Direction> {
 protected:
  void Open(WorldOptions options = {}) {
    Start(options);
    session_ = &Established();
    bool client = GetParam() == Direction::kToServer;
    first_ = client ? session_->client : session_->server;
    second_ = client ? session_->server : session_->client;
  }
  uint64_t ClosedFor(CloseReason by_client, CloseReason by_server) {
    return world_->closed(GetParam() == Direction::kToServer ? by_client : by_server);
  }

  SimSession* session_ = nullptr;
  SimSocket* first_ = nullptr;
  SimSocket* second_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Both, Ends, testing::Values(Direction::kToServer, Direction::kToClient),
                         [](const auto& param) { return std::string(kDirectionNames[size_t(param.param)]); });

TEST_P(Ends, HalfCloseLeavesTheOtherDirectionOpen) {
  Open();
  world_->io().PeerSends(*first_, 1000);
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  EXPECT_TRUE(second_->fin_sent);
  EXPECT_EQ(second_->accepted, 1000u);
  EXPECT_FALSE(first_->closed);
  world_->io().PeerSends(*second_, 70'000);
  first_->script.stop_reading = PeerScript::kNever;
  RunUntilQuiet();
  EXPECT_EQ(first_->accepted, 70'000u);
  EXPECT_EQ(world_->sessions().size(), 1u);
  world_->io().PeerFins(*second_);
  RunUntilQuiet();
  EXPECT_EQ(ClosedFor(CloseReason::kClientClosed, CloseReason::kServerClosed), 1u);
  EXPECT_FALSE(first_->closed_with_reset || second_->closed_with_reset);
}

TEST_P(Ends, FinWaitsForTheLastByte) {
  Open();
  second_->script.send_capacity = 100;
  world_->io().PeerSends(*first_, 1000);
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  EXPECT_EQ(second_->accepted, 100u);
  EXPECT_FALSE(second_->fin_sent);
  second_->script.stop_reading = PeerScript::kNever;
  RunUntilQuiet();
  EXPECT_EQ(second_->accepted, 1000u);
  EXPECT_TRUE(second_->fin_sent);
}

TEST_P(Ends, ResetFollowsTheBytesBeforeIt) {
  Open();
  second_->script.send_capacity = 100;
  world_->io().PeerSends(*first_, 5000);
  world_->io().Break(*first_);
  RunUntilQuiet();
  EXPECT_FALSE(second_->closed);
  second_->script.stop_reading = PeerScript::kNever;
  RunUntilQuiet();
  EXPECT_EQ(second_->accepted, 5000u);
  EXPECT_TRUE(second_->closed_with_reset);
  EXPECT_EQ(ClosedFor(CloseReason::kClientReset, CloseReason::kServerReset), 1u);
}

// The send finds the broken connection first; then the receive sees only an end of the stream.
TEST_P(Ends, ResetSeenBySendIsNoOrderlyEnd) {
  Open();
  world_->io().PeerSends(*first_, 5000);
  world_->io().PeerSends(*second_, 300);
  world_->io().CarryOutReceive(*second_);
  Turn();
  world_->io().Break(*first_);
  world_->io().CarryOutSend(*first_);
  ASSERT_EQ(first_->pending_error, 0);
  RunUntilQuiet();
  EXPECT_TRUE(first_->eof_handled);
  EXPECT_EQ(second_->accepted, 5000u);
  EXPECT_TRUE(second_->closed_with_reset);
  EXPECT_EQ(ClosedFor(CloseReason::kClientReset, CloseReason::kServerReset), 1u);
}

TEST_P(Ends, ResetAfterFinIsPassedOn) {
  Open();
  world_->io().PeerFins(*first_);
  RunUntilQuiet();
  ASSERT_TRUE(second_->fin_sent);
  world_->io().Break(*first_);
  world_->io().PeerSends(*second_, 10);
  RunUntilQuiet();
  EXPECT_TRUE(second_->closed_with_reset);
  EXPECT_EQ(ClosedFor(CloseReason::kClientReset, CloseReason::kServerReset), 1u);
}

TEST_P(Ends, BothFinsInOneTurnCloseInOrder) {
  Open();
  world_->io().PeerFins(*first_);
  world_->io().PeerFins(*second_);
  world_->io().CarryOutReceive(*first_);
  world_->io().CarryOutReceive(*second_);
  Turn();
  EXPECT_EQ(world_->sessions().size(), 0u);
  EXPECT_EQ(ClosedFor(CloseReason::kClientClosed, CloseReason::kServerClosed), 1u);
}

class MissedEnds : public Ends {
 protected:
  // The first side sends its last bytes, and what comes behind them is missed.
  void MissFin() {
    Open();
    first_->script.stop_reading = second_->script.stop_reading = PeerScript::kNever;
    for (int i = 0; i < 50; ++i) {
      world_->io().PeerSends(*first_, 10);
      RunUntilQuiet();
    }
    ASSERT_TRUE(first_->receive.has_value() && first_->receive->multishot);
    world_->io().PeerSends(*first_, 10);
    world_->io().PeerFins(*first_);
    world_->io().MissEnd(*first_);
    RunUntilQuiet();
    ASSERT_EQ(second_->accepted, 510u);
    ASSERT_FALSE(second_->fin_sent);
  }
};
INSTANTIATE_TEST_SUITE_P(Both, MissedEnds, testing::Values(Direction::kToServer, Direction::kToClient),
                         [](const auto& param) { return std::string(kDirectionNames[size_t(param.param)]); });

TEST_P(MissedEnds, AreFoundWhenTheSessionIsQuiet) {
  MissFin();
  PassInSteps(3 * Sessions::kSweepInterval);
  EXPECT_TRUE(second_->fin_sent);
}

TEST_P(MissedEnds, AreFoundWhileTheOtherDirectionIsBusy) {
  MissFin();
  for (Duration passed{}; passed < 3 * Sessions::kSweepInterval; passed += milliseconds(10)) {
    world_->io().PeerSends(*second_, 1);
    RunUntilQuiet();
    PassInSteps(milliseconds(10));
  }
  EXPECT_TRUE(second_->fin_sent);
}

}  // namespace
}  // namespace ringmain::sim
