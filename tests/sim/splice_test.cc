// Bulk is moved directly: when a direction changes from receives to a pipe or copies and back, and that its stream stays whole.
#include <memory>
#include <utility>

#include "directed.h"

namespace ringmain::sim {
namespace {

constexpr uint32_t kBuffer = 4096;
constexpr uint32_t kPipe = 1 << 20;
constexpr uint32_t kLots = 8 << 20;

class Splice : public Directed {
 protected:
  SimSession& Open() {
    WorldOptions options;
    options.abilities.splice = true;
    options.buffers = {kBuffer, 8, max_buffers_ * kBuffer};
    options.high_water = 16 * kBuffer;
    options.pipes = {kPipe};
    options.direct_turn_bytes = turn_bytes_;
    options.pipe_refused = [refused = refused_] { return *refused; };
    Start(options);
    SimSession& session = Established();
    session.client->script.send_capacity = session.server->script.send_capacity = kLots;
    return session;
  }
  void Send(SimSession& session, uint64_t bytes) {
    world_->io().PeerSends(*session.client, bytes);
    RunUntilQuiet();
  }
  // Bytes that arrive one buffer at a time, as bulk does.
  void SendBuffers(SimSession& session, uint32_t buffers) {
    for (uint32_t i = 0; i < buffers; ++i) Send(session, kBuffer);
  }
  // To a server that takes 1000 of them.
  void SendBeyondRoom(SimSession& session, uint64_t bytes) {
    session.server->script.send_capacity = static_cast<uint32_t>(session.server->accepted + 1000);
    Send(session, bytes);
  }
  SimSession& OpenSpliced() {
    SimSession& session = Open();
    SendBuffers(session, 4);
    EXPECT_TRUE(Polls(session));
    return session;
  }
  // With `left` bytes in the pipe that the server has no room for.
  SimSession& OpenStuck(uint32_t left) {
    SimSession& session = OpenSpliced();
    SendBeyondRoom(session, 1000 + left);
    EXPECT_TRUE(pipe().lent);
    EXPECT_EQ(pipe().bytes, left);
    return session;
  }
  // Two that have 150,000 bytes each, and the next turn knows.
  std::pair<SimSession&, SimSession&> OpenTwoBusy() {
    SimSession& first = OpenSpliced();
    SimSession& second = Established();
    second.server->script.send_capacity = kLots;
    for (int i = 0; i < 4; ++i) Send(second, kBuffer);
    EXPECT_TRUE(Polls(second));
    for (SimSession* session : {&first, &second}) {
      world_->io().PeerSends(*session->client, 150'000);
      world_->io().CarryOutReceivePoll(*session->client);
    }
    return {first, second};
  }
  void MakeRoom(SimSession& session) {
    session.server->script.send_capacity = kLots;
    RunUntilQuiet();
  }

  static bool Polls(const SimSession& session) {
    return session.client->receive.has_value() && session.client->receive->poll;
  }
  static bool PollsForRoom(const SimSession& session) {
    return session.server->send.has_value() && session.server->send->poll;
  }
  const SimPipe& pipe() const { return world_->io().pipes()[0]; }

  uint32_t max_buffers_ = 8;
  uint32_t turn_bytes_ = Sessions::kDirectTurnBytes;
  std::shared_ptr<bool> refused_ = std::make_shared<bool>(false);
};

TEST_F(Splice, BeginsAfterARunOfFullReceives) {
  SimSession& session = Open();
  SendBuffers(session, 3);
  Send(session, 100);
  SendBuffers(session, 3);
  EXPECT_FALSE(Polls(session)) << "interrupted";
  SendBuffers(session, 1);
  ASSERT_TRUE(Polls(session));
  EXPECT_FALSE(pipe().lent) << "for nothing";
  EXPECT_EQ(session.client->splice_begins, 0u);
  Send(session, 100'000);
  EXPECT_EQ(session.client->splice_begins, 1u);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
}

TEST_F(Splice, BeginsOnlyOnceTheQueueIsSent) {
  SimSession& session = Open();
  session.server->script.send_capacity = 2 * kBuffer + 1;
  Send(session, 4 * kBuffer);
  Send(session, kBuffer);
  EXPECT_FALSE(session.client->receive.has_value()) << "what comes now is to be spliced";
  ASSERT_TRUE(session.server->send.has_value());
  EXPECT_FALSE(session.server->send->poll);
  MakeRoom(session);
  EXPECT_TRUE(Polls(session));
  EXPECT_EQ(session.client->splice_begins, 1u);
  EXPECT_EQ(session.server->accepted, 5u * kBuffer);
}

TEST_F(Splice, AFullSinkHoldsThePipeUntilThereIsRoom) {
  SimSession& session = OpenStuck(2000);
  EXPECT_TRUE(PollsForRoom(session));
  EXPECT_FALSE(session.client->receive.has_value());
  session.server->script.send_capacity += 500;
  RunUntilQuiet();
  EXPECT_EQ(pipe().bytes, 1500u);
  EXPECT_TRUE(PollsForRoom(session));
  MakeRoom(session);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
  EXPECT_FALSE(pipe().lent);
  EXPECT_FALSE(session.server->send.has_value());
  EXPECT_TRUE(Polls(session));
}

TEST_F(Splice, APollForNothingIsArmedAgain) {
  SimSession& session = OpenStuck(2000);
  world_->io().CarryOutSendPoll(*session.server);
  Turn();
  EXPECT_TRUE(PollsForRoom(session));
  MakeRoom(session);
  world_->io().CarryOutReceivePoll(*session.client);
  Turn();
  EXPECT_TRUE(Polls(session));
  EXPECT_FALSE(pipe().lent);
}

TEST_F(Splice, EndsAfterSmallRounds) {
  SimSession& session = Open();
  Send(session, 4 * kBuffer + 100);  // the last receive leaves something
  for (int i = 0; i < 15; ++i) {
    ASSERT_TRUE(Polls(session)) << i;
    Send(session, i == 7 ? 16 << 10 : 100);
  }
  for (int i = 15; i < 23; ++i) Send(session, 100);
  ASSERT_TRUE(Polls(session)) << "the large one began a new run";
  world_->io().PeerSends(*session.client, 100);
  world_->io().CarryOutReceivePoll(*session.client);
  Turn();
  ASSERT_TRUE(session.client->receive.has_value());
  EXPECT_FALSE(Polls(session));
  EXPECT_FALSE(pipe().lent);
  EXPECT_TRUE(session.client->receive->waits) << "or it would take a buffer to find nothing";
  Send(session, 100);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
  SendBuffers(session, 4);
  EXPECT_TRUE(Polls(session)) << "bulk again";
}

// ---- Without a pipe ----

class Copies : public Splice {
 protected:
  Copies() {
    max_buffers_ = 64;
    *refused_ = true;
  }
};

TEST_F(Copies, FillSeveralBuffersInOneCall) {
  SimSession& session = OpenSpliced();
  Send(session, 50'000);
  EXPECT_EQ(session.client->copies, 1u);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
  EXPECT_EQ(session.client->splice_begins, 0u);
  EXPECT_EQ(world_->pool().held(), 0u);
}

TEST_F(Copies, GiveWayToAPipeInTheNextRound) {
  SimSession& session = OpenSpliced();
  Send(session, 50'000);
  *refused_ = false;
  Send(session, 50'000);
  EXPECT_EQ(session.client->splice_begins, 1u);
  const auto& spliced = world_->worker_cells().relays[static_cast<size_t>(RelayMode::kSpliced)];
  EXPECT_EQ(spliced.value(), 1);
  // And when there is none any more.
  *refused_ = true;
  uint32_t copies = session.client->copies;
  Send(session, 50'000);
  EXPECT_GT(session.client->copies, copies);
  EXPECT_EQ(spliced.value(), 0);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
  EXPECT_TRUE(Polls(session));
}

TEST_F(Copies, HoldNoMoreThanADirectionMay) {
  SimSession& session = OpenSpliced();
  SendBeyondRoom(session, 1 << 20);
  EXPECT_TRUE(PollsForRoom(session));
  EXPECT_FALSE(session.client->receive.has_value());
  EXPECT_EQ(session.client->received_handled - session.server->sent_handled, 16 * kBuffer - 1000);
  EXPECT_EQ(world_->pool().held(), 16u);
  EXPECT_EQ(world_->pool().published(), 8u) << "others are not held up";
  MakeRoom(session);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
  EXPECT_EQ(world_->pool().held(), 0u);
}

// Who has held half of what may be held leaves the rest to small receives.
TEST_F(Copies, EndWhenThePoolIsTight) {
  max_buffers_ = 8 + 16;
  SimSession& session = OpenSpliced();
  SendBeyondRoom(session, 1 << 20);
  EXPECT_EQ(world_->pool().held(), 9u);
  SimSession& other = Established();
  other.server->script.send_capacity = kLots;
  for (int i = 0; i < 5; ++i) Send(other, kBuffer);
  EXPECT_FALSE(Polls(other));
  EXPECT_EQ(other.server->accepted, other.client->arrived);
  MakeRoom(session);
}

TEST_F(Copies, AResetOfTheSinkDropsWhatIsHeld) {
  SimSession& session = OpenSpliced();
  SendBeyondRoom(session, 50'000);
  world_->io().Break(*session.server);
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kServerReset), 1u);
  EXPECT_EQ(world_->pool().held(), 0u);
}

TEST_F(Copies, FinWaitsForTheLastByte) {
  SimSession& session = OpenSpliced();
  SendBeyondRoom(session, 50'000);
  world_->io().PeerFins(*session.client);
  RunUntilQuiet();
  EXPECT_FALSE(session.server->fin_sent);
  MakeRoom(session);
  EXPECT_TRUE(session.server->fin_sent);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
}

// ---- Ends ----

TEST_F(Splice, FinWaitsForTheBytesInThePipe) {
  SimSession& session = OpenStuck(2000);
  world_->io().PeerFins(*session.client);
  RunUntilQuiet();
  EXPECT_FALSE(session.server->fin_sent);
  MakeRoom(session);
  EXPECT_TRUE(session.server->fin_sent);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
  EXPECT_FALSE(pipe().lent);
  world_->io().PeerFins(*session.server);
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kClientClosed), 1u);
}

TEST_F(Splice, AResetOfTheSourceFollowsTheBytesInThePipe) {
  SimSession& session = OpenStuck(2000);
  world_->io().Break(*session.client);
  RunUntilQuiet();
  EXPECT_FALSE(session.closed);
  MakeRoom(session);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
  EXPECT_EQ(world_->closed(CloseReason::kClientReset), 1u);
  EXPECT_TRUE(session.server->closed_with_reset);
}

TEST_F(Splice, AResetOfTheSinkDropsWhatIsInThePipe) {
  SimSession& session = OpenStuck(2000);
  world_->io().Break(*session.server);
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kServerReset), 1u);
  EXPECT_TRUE(session.client->closed_with_reset);
  EXPECT_FALSE(pipe().lent);
}

// The failure of a send tells that the stream's end is a reset; it has not been handled yet when the end is found.
TEST_F(Splice, ABrokenStreamDoesNotEndInOrder) {
  SimSession& session = OpenSpliced();
  world_->io().PeerSends(*session.server, 10);
  world_->io().CarryOutReceive(*session.server);
  Turn();
  world_->io().Break(*session.client);
  world_->io().CarryOutReceivePoll(*session.client);
  world_->io().CarryOutSend(*session.client);
  world_->HandleCompletions(1);
  world_->Flush();
  RunUntilQuiet();
  EXPECT_FALSE(session.server->fin_sent);
  EXPECT_EQ(world_->closed(CloseReason::kClientReset), 1u);
}

TEST_F(Splice, ClosingDiscardsThePipeAndResets) {
  SimSession& session = OpenStuck(2000);
  world_->CloseAll(CloseReason::kShutdown);
  EXPECT_TRUE(session.server->send->cancelled);
  EXPECT_FALSE(session.closed) << "a poll is armed";
  RunUntilQuiet();
  EXPECT_TRUE(session.closed);
  EXPECT_TRUE(session.client->closed_with_reset && session.server->closed_with_reset);
  EXPECT_FALSE(pipe().lent);
}

TEST_F(Splice, ClosingAnIdleOneIsNoReset) {
  SimSession& session = OpenSpliced();
  world_->CloseAll(CloseReason::kShutdown);
  EXPECT_FALSE(session.closed) << "a poll is armed";
  RunUntilQuiet();
  EXPECT_TRUE(session.closed);
  EXPECT_FALSE(session.server->closed_with_reset);
}

// Its bytes wait in the socket for their turn, and the sink has all that came before.
TEST_F(Splice, ACutBetweenTwoRoundsIsAReset) {
  SimSession& session = OpenSpliced();
  world_->io().PeerSends(*session.client, 3 << 20);
  world_->io().CarryOutReceivePoll(*session.client);
  Turn();
  EXPECT_EQ(session.server->accepted, session.client->taken);
  EXPECT_LT(session.client->taken, session.client->arrived);
  world_->CloseAll(CloseReason::kDrainTimeout);
  RunUntilQuiet();
  EXPECT_TRUE(session.closed && session.server->closed_with_reset);
}

TEST_F(Splice, OthersGetTheirTurn) {
  SimSession& session = OpenSpliced();
  world_->io().PeerSends(*session.client, 3 << 20);
  world_->io().CarryOutReceivePoll(*session.client);
  Turn();
  EXPECT_EQ(session.server->given_in_turn, 1u << 20);
  EXPECT_TRUE(Polls(session));
  EXPECT_FALSE(pipe().lent);
  RunUntilQuiet();
  EXPECT_EQ(session.server->accepted, session.client->arrived);
  EXPECT_LE(world_->io().most_given(), 1u << 20);
}

// A turn splices so much in all. Who comes too late has its turn in the next, before those that come anew, and nothing is armed for it
// meanwhile: the next turn does not wait.
TEST_F(Splice, OneTurnHasABudgetForAll) {
  turn_bytes_ = 100'000;
  auto [first, second] = OpenTwoBusy();
  Turn();
  EXPECT_EQ(first.server->given_in_turn, 100'000u);
  EXPECT_EQ(second.server->given_in_turn, 0u);
  EXPECT_TRUE(world_->sessions().has_deferred());
  EXPECT_FALSE(second.client->receive.has_value());
  world_->io().CarryOutReceivePoll(*first.client);
  Turn();
  EXPECT_EQ(second.server->given_in_turn, 100'000u);
  EXPECT_EQ(first.server->given_in_turn, 0u);
  RunUntilQuiet();
  EXPECT_FALSE(world_->sessions().has_deferred());
  for (SimSession* session : {&first, &second}) EXPECT_EQ(session->server->accepted, session->client->arrived);
}

TEST_F(Splice, ADeferredOneCanBeClosed) {
  turn_bytes_ = 100'000;
  OpenTwoBusy();
  Turn();
  ASSERT_TRUE(world_->sessions().has_deferred());
  world_->CloseAll(CloseReason::kShutdown);
  Turn();
  EXPECT_FALSE(world_->sessions().has_deferred());
}

// A flow that starved while it was buffered needs no buffer any more.
TEST_F(Splice, AStarvedFlowIsNotFedBuffers) {
  SimSession& session = Open();
  for (int i = 0; i < 20; ++i) Send(session, 10);
  ASSERT_TRUE(session.client->receive.has_value() && session.client->receive->multishot);
  session.server->script.send_capacity = static_cast<uint32_t>(session.server->accepted + 8 * kBuffer + 1000);
  world_->io().PeerSends(*session.client, 8 * kBuffer + 3000);
  for (int i = 0; i < 9; ++i) world_->io().CarryOutReceive(*session.client);
  Turn();
  ASSERT_EQ(world_->worker_cells().receive_starvations.value(), 1u);
  world_->io().CarryOutSend(*session.server);
  Turn();
  EXPECT_EQ(pipe().bytes, 2000u);
  EXPECT_FALSE(session.client->receive.has_value());
  MakeRoom(session);
  EXPECT_EQ(session.server->accepted, session.client->arrived);
}

}  // namespace
}  // namespace ringmain::sim
