// Receive buffers run out: who waits for one gets one in turn, and nobody waits for an event that cannot come.
#include "directed.h"

namespace ringmain::sim {
namespace {

class Starvation : public Directed {
 protected:
  // A pool of `ring` buffers, `all` with the spare ones; without `all` there are none to spare.
  void StartWith(uint32_t ring, uint32_t all = 0, uint32_t high_water = 4 * 4096) {
    WorldOptions options;
    options.buffers = {4096, ring, uint64_t{std::max(ring, all)} * 4096};
    options.high_water = high_water;
    Start(options);
  }
  // The server takes nothing any more: the session holds `buffers` whole ones.
  void Fill(SimSession& session, uint32_t buffers) {
    session.server->script.send_capacity = static_cast<uint32_t>(session.server->accepted - session.server->read);
    world_->io().PeerSends(*session.client, uint64_t{buffers} * 4096);
    RunUntilQuiet();
    ASSERT_EQ(session.client->readable(), 0u);
  }
  static void Read(SimSession& session) {
    session.server->script.send_capacity = 1 << 20;
    session.server->script.stop_reading = PeerScript::kNever;
  }
};

TEST_F(Starvation, IdleReceiveWithoutBuffersWaitsForReadiness) {
  StartWith(1);
  Fill(Established(), 1);
  ASSERT_EQ(world_->io().published(), 0u);
  SimSocket& client = world_->Accept(Passive());
  Turn();
  world_->io().CarryOutReceive(client);  // -ENOBUFS, though there is nothing to read
  Turn();
  ASSERT_TRUE(client.receive.has_value());
  EXPECT_TRUE(client.receive->waits);
  EXPECT_EQ(world_->worker_cells().receive_starvations.value(), 0u);
}

TEST_F(Starvation, ABufferIsNotKeptForOneThatCannotUseIt) {
  StartWith(2, /*all=*/4);
  SimSession& stuck = Established();
  SimSession& waiting = Established();
  SimSession& reads = Established();
  // `stuck` holds a buffer and its next receive waits. Then others hold the rest, and so `stuck` starves, with
  // bytes queued.
  stuck.server->script.send_capacity = 0;
  world_->io().PeerSends(*stuck.client, 10);
  world_->io().CarryOutReceive(*stuck.client, 10, /*end_early=*/true);
  RunUntilQuiet();
  ASSERT_TRUE(stuck.client->receive.has_value());
  Fill(reads, 2);
  Fill(Established(), 1);
  ASSERT_EQ(world_->io().published(), 0u);
  world_->io().PeerSends(*stuck.client, 10);
  world_->io().CarryOutReceive(*stuck.client);
  Turn();
  world_->io().PeerSends(*waiting.client, 10);
  RunUntilQuiet();
  ASSERT_EQ(world_->worker_cells().receive_starvations.value(), 2u);
  // One buffer comes back, but buffers stay scarce, so that `stuck` may not have it.
  reads.server->script.send_capacity += 4096;
  world_->io().CarryOutSend(*reads.server, 4096);
  RunUntilQuiet();
  ASSERT_TRUE(world_->pool().scarce());
  EXPECT_EQ(waiting.server->accepted, 10u);
}

// A connection alone, with fewer buffers than its window: it takes turns with itself.
TEST_F(Starvation, OneConnectionWithAPoolSmallerThanItsWindowDoesNotStall) {
  for (uint32_t ring : {1u, 2u, 4u}) {
    StartWith(ring, ring, 16 * 4096);
    SimSession& session = Established();
    session.client->script = {.bytes = 500'000, .end = PeerScript::End::kFin};
    session.server->script = {
        .bytes = 500'000, .end = PeerScript::End::kFin, .read_chunk = 3000, .send_capacity = 5000};
    RunUntilQuiet();
    EXPECT_TRUE(session.closed);
    EXPECT_EQ(session.server->accepted, 500'000u);
    EXPECT_EQ(session.client->accepted, 500'000u);
  }
}

TEST_F(Starvation, BuffersAreFedInTurn) {
  StartWith(1);
  SimSession& holder = Established();
  std::vector<SimSession*> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(&Established());
  Fill(holder, 1);
  for (SimSession* session : sessions) {
    world_->io().PeerSends(*session->client, 3 * 4096);
    world_->io().CarryOutReceive(*session->client);
  }
  Turn();
  for (SimSession* session : sessions) {  // their first receives had not waited
    if (session->client->receive.has_value()) world_->io().CarryOutReceive(*session->client);
  }
  Turn();
  Read(holder);
  world_->io().PeerReads(*holder.server, holder.server->accepted);
  world_->io().CarryOutSend(*holder.server);
  // As on a ring: what can be carried out at once is, before the proxy handles a completion of it.
  std::vector<size_t> order;
  while (order.size() < 8 && !report_.failed()) {
    Turn();
    for (size_t i = 0; i < sessions.size(); ++i) {
      while (sessions[i]->client->receive.has_value() && sessions[i]->client->readable() > 0) {
        if (world_->io().published() > 0) order.push_back(i);
        world_->io().CarryOutReceive(*sessions[i]->client);
      }
      if (sessions[i]->server->send.has_value()) world_->io().CarryOutSend(*sessions[i]->server);
    }
  }
  for (auto round : {order.begin(), order.begin() + 4}) {
    std::sort(round, round + 4);
    EXPECT_EQ(std::vector<size_t>(round, round + 4), (std::vector<size_t>{0, 1, 2, 3}));
  }
}

// Many that starved with nothing left to read must not keep the buffer from the one that has something.
TEST_F(Starvation, TheIdleDoNotStandInTheWay) {
  StartWith(1);
  SimSession& holder = Established();
  Fill(holder, 1);
  std::vector<SimSocket*> idle;
  for (int i = 0; i < 64; ++i) idle.push_back(&world_->Accept(Passive()));
  SimSocket& last = world_->Accept(Passive());
  Turn();
  for (SimSocket* client : idle) world_->io().CarryOutReceive(*client);
  world_->io().PeerSends(last, 10);
  world_->io().CarryOutReceive(last);
  RunUntilQuiet();
  Read(holder);
  RunUntilQuiet();
  EXPECT_EQ(last.received_handled, 10u);
}

}  // namespace
}  // namespace ringmain::sim
