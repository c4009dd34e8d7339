// What sessions tell of themselves in metrics: times, sizes, and how their servers' connections fare.
#include "directed.h"

namespace ringmain::sim {
namespace {

class Measuring : public Directed {
 protected:
  template <typename Values>
  static uint64_t Count(const Values& values) {
    uint64_t count = 0;
    for (size_t i = 0; i < Values::kBuckets; ++i) count += values.bucket(i);
    return count;
  }
  static uint64_t Nanoseconds(Duration duration) { return static_cast<uint64_t>(duration.count()); }
  void Close(SimSession& session) {
    world_->io().PeerFins(*session.client);
    RunUntilQuiet();
    world_->io().PeerFins(*session.server);
    RunUntilQuiet();
    EXPECT_TRUE(session.closed);
  }
};

TEST_F(Measuring, TheFirstByteIsTheServersAndCountsOnce) {
  Start();
  SimSession& session = Established();
  world_->io().PeerSends(*session.client, 10);
  RunUntilQuiet();
  Pass(milliseconds(70));
  EXPECT_EQ(Count(world_->listener_cells().first_byte), 0u);
  world_->io().PeerSends(*session.server, 10);
  RunUntilQuiet();
  uint64_t waited = world_->listener_cells().first_byte.sum();
  EXPECT_GE(waited, Nanoseconds(milliseconds(70)));
  EXPECT_LE(waited, Nanoseconds(world_->io().now() - session.opened_at));
  HandOver();
  for (int i = 0; i < 40; ++i) {
    PassInSteps(milliseconds(20));
    world_->io().PeerSends(*session.server, 10);
    world_->io().PeerSends(*session.client, 10);
    RunUntilQuiet();
  }
  EXPECT_EQ(Count(world_->listener_cells().first_byte), 1u);
  EXPECT_EQ(world_->listener_cells().first_byte.sum(), waited);
  EXPECT_GE(world_->worker_cells().messages.value(), 2u + 2 * 40);
}

TEST_F(Measuring, AServerThatSaysNothingHasNoFirstByte) {
  Start();
  SimSession& session = Established();
  world_->io().PeerSends(*session.client, 10);
  RunUntilQuiet();
  Close(session);
  EXPECT_EQ(Count(world_->listener_cells().first_byte), 0u);
  EXPECT_EQ(Count(world_->listener_cells().duration), 1u);
}

TEST_F(Measuring, SizesAreOfPayload) {
  WorldOptions options;
  options.send_proxy_protocol = ProxyProtocolSend::kV2;
  Start(options);
  SimSession& session = Established();
  RunUntilQuiet();
  world_->io().PeerSends(*session.client, 5000);
  world_->io().PeerSends(*session.server, 1);
  RunUntilQuiet();
  EXPECT_EQ(Count(world_->listener_cells().session_bytes[0]), 0u);
  Close(session);
  EXPECT_EQ(world_->listener_cells().session_bytes[0].sum(), 5000u);
  EXPECT_EQ(world_->listener_cells().session_bytes[1].sum(), 1u);
  EXPECT_EQ(Count(world_->listener_cells().session_bytes[1]), 1u);
}

TEST_F(Measuring, WaitsOfThoseThatAreServedAndOfThoseThatLeave) {
  WorldOptions options;
  options.server_max_connections = 1;
  options.max_queue = 2;
  options.queue_timeout = seconds(5);
  Start(options);
  SimSession& first = Established();
  SimSocket& second = world_->Accept(Passive());
  Turn();
  PassInSteps(seconds(1));
  world_->Accept(Passive());
  Turn();
  PassInSteps(seconds(1));
  EXPECT_EQ(Count(world_->upstream_cells().queue_wait), 0u);
  world_->io().Break(*first.client);
  RunUntilQuiet();
  ASSERT_NE(second.session->server, nullptr);
  world_->io().EndConnect(*second.session->server, 0);
  Turn();
  EXPECT_EQ(world_->upstream_cells().queue_wait.sum(), Nanoseconds(seconds(2)));
  PassInSteps(seconds(5));
  EXPECT_EQ(world_->closed(CloseReason::kQueueTimeout), 1u);
  EXPECT_EQ(Count(world_->upstream_cells().queue_wait), 2u);
  EXPECT_GE(world_->upstream_cells().queue_wait.sum(), Nanoseconds(seconds(7)));
  EXPECT_LE(world_->upstream_cells().queue_wait.sum(), Nanoseconds(seconds(7) + milliseconds(200)));
}

// A few at each sweep, others the next time, and what was counted of a connection is not counted again, here or elsewhere.
TEST_F(Measuring, LiveConnectionsAreSampledInTurn) {
  Start();
  std::vector<SimSession*> sessions;
  for (int i = 0; i < 40; ++i) sessions.push_back(&Established());
  auto sweep = [&] {
    for (SimSession* session : sessions) world_->io().PeerSends(*session->client, 20);
    RunUntilQuiet();
    uint64_t before = world_->io().samples();
    PassInSteps(Sessions::kSweepInterval);
    EXPECT_LE(world_->io().samples() - before, Sessions::kSampledPerSweep);
  };
  for (int i = 0; i < 10; ++i) sweep();
  const ServerCells& cells = world_->server_cells(0);
  EXPECT_EQ(cells.rtt_samples.value(), 40u);
  uint64_t round_trips = 0, segments = 0;
  for (SimSession* session : sessions) round_trips += static_cast<uint64_t>(session->server->fd);
  EXPECT_EQ(cells.rtt_ns.value(), round_trips * 1'000'000);
  HandOver();
  for (int i = 0; i < 10; ++i) sweep();
  EXPECT_EQ(cells.rtt_samples.value(), 80u);
  for (SimSession* session : sessions) segments += session->server->accepted;
  EXPECT_LE(cells.sampled_segments.value(), segments);
  EXPECT_GE(cells.sampled_segments.value(), segments / 2);
  EXPECT_NEAR(static_cast<double>(cells.sampled_retransmits.value()), static_cast<double>(cells.sampled_segments.value()) / 10, 40);
  uint64_t samples = world_->io().samples();
  PassInSteps(seconds(1));
  EXPECT_LE(world_->io().samples() - samples, 2 * Sessions::kSampledPerSweep) << "the sweeps end, and so do samples";
}

TEST_F(Measuring, WithoutAServerThereIsNothingToSample) {
  WorldOptions options;
  options.server_max_connections = 1;
  options.max_queue = 5;
  Start(options);
  SimSession& session = Established();
  for (int i = 0; i < 3; ++i) world_->Accept(Passive());
  Turn();
  PassInSteps(seconds(2));
  EXPECT_LE(world_->server_cells(0).rtt_samples.value(), 3u) << "of the one that has a server";
  Close(session);
}

}  // namespace
}  // namespace ringmain::sim
