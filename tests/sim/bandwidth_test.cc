// Bandwidth limits: how fast, who waits, and what becomes of those who wait. That nothing is ever too fast is among the rules (CheckBandwidth).
#include "directed.h"

namespace ringmain::sim {
namespace {

constexpr uint64_t kRate = 256 << 10;

class BandwidthTest : public Directed {
 protected:
  World& StartWith(WorldOptions::ByteRates to_server, WorldOptions::ByteRates to_client = {}) {
    WorldOptions options;
    options.abilities = {.multishot_receive = true, .receive_credit = true};
    options.buffers = {4096, 16, 64 * 4096};
    options.high_water = 16 * 4096;
    options.bandwidth = {to_server, to_client};
    return Start(options);
  }
  SimSession& Open() {
    SimSession& session = Established();
    for (SimSocket* socket : {session.client, session.server}) socket->script.send_capacity = 1 << 30;
    return session;
  }
  void Send(SimSocket& socket, uint64_t bytes) { world_->io().PeerSends(socket, bytes); }
  void Run(Duration time) {
    RunUntilQuiet();
    PassInSteps(time);
  }
  static uint64_t Received(const SimSocket& socket) { return socket.received_handled; }
  static void ExpectNear(uint64_t bytes, double expected) { EXPECT_NEAR(static_cast<double>(bytes), expected, 0.08 * kRate); }
};

TEST_F(BandwidthTest, ASessionGetsItsRate) {
  StartWith({.per_session = kRate});
  SimSession& first = Open();
  SimSession& second = Open();
  Send(*first.client, 8 * kRate);
  Send(*second.client, 8 * kRate);
  Send(*first.server, 8 * kRate);
  Run(seconds(4));
  for (SimSession* session : {&first, &second}) ExpectNear(Received(*session->client), 4.1 * kRate);
  EXPECT_EQ(first.server->accepted, Received(*first.client));
  EXPECT_EQ(Received(*first.server), 8 * kRate) << "the other direction is not limited";
  EXPECT_GT(world_->listener_cells().bandwidth_waits[0].value(), 100u);
  EXPECT_EQ(world_->listener_cells().bandwidth_waits[1].value(), 0u);
}

TEST_F(BandwidthTest, AListenersRateIsSharedEvenly) {
  StartWith({}, {.listener = kRate});
  std::vector<SimSession*> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(&Open());
  for (SimSession* session : sessions) Send(*session->server, 4 * kRate);
  Run(seconds(4));
  uint64_t all = 0;
  for (SimSession* session : sessions) {
    all += Received(*session->server);
    EXPECT_NEAR(static_cast<double>(Received(*session->server)), 4.1 * kRate / 4, 8 << 10);
  }
  ExpectNear(all, 4.1 * kRate);
}

// One session has what others leave.
TEST_F(BandwidthTest, AloneASessionHasAllOfIt) {
  StartWith({.listener = 4 * kRate, .per_session = 2 * kRate});
  SimSession& session = Open();
  Open();
  Send(*session.client, 16 * kRate);
  Run(seconds(2));
  EXPECT_NEAR(static_cast<double>(Received(*session.client)), 2 * 2.1 * kRate, 0.1 * kRate);
}

// Whoever comes while others owe waits behind them, so that many short sessions are not more than the rate.
TEST_F(BandwidthTest, NewSessionsTakeTheirPlaceBehindThoseThatOwe) {
  StartWith({.listener = kRate});
  uint64_t all = 0;
  for (int i = 0; i < 400; ++i) {
    SimSession& session = Open();
    Send(*session.client, 4 << 10);
    Run(milliseconds(2));
  }
  for (const SimSession& session : world_->io().sessions()) all += Received(*session.client);
  EXPECT_LT(all, 1.1 * kRate) << "in 0.8 s";
  EXPECT_GT(all, 0.8 * kRate);
}

TEST_F(BandwidthTest, NothingIsArmedMeanwhileAndAResetPassesAfterTheBytes) {
  StartWith({.per_session = 16 << 10});
  SimSession& session = Open();
  Send(*session.client, 64 << 10);
  RunUntilQuiet();
  EXPECT_FALSE(session.client->receive.has_value());
  EXPECT_EQ(world_->pool().held(), 0u);
  world_->io().Break(*session.client, ECONNRESET);
  Run(seconds(2));
  EXPECT_FALSE(session.closed) << "what it sent before still goes on, at its rate";
  EXPECT_EQ(session.client->read, 0u);
  Run(seconds(3));
  EXPECT_EQ(session.server->accepted, 64u << 10);
  EXPECT_EQ(world_->closed(CloseReason::kClientReset), 1u);
}

TEST_F(BandwidthTest, WaitsPassToAnotherWorker) {
  StartWith({.listener = 4 * kRate, .per_session = kRate});
  SimSession& session = Open();
  Send(*session.client, 8 * kRate);
  for (int i = 0; i < 20; ++i) {
    Run(milliseconds(100));
    HandOver();
  }
  ExpectNear(Received(*session.client), 2.1 * kRate);
}

TEST_F(BandwidthTest, OtherLimitsHoldForThoseWhoAreThere) {
  StartWith({.per_session = 1 << 10});
  SimSession& session = Open();
  Send(*session.client, 100 * kRate);
  Run(seconds(10));
  EXPECT_LT(Received(*session.client), 20u << 10);
  world_->ChangeBandwidth({WorldOptions::ByteRates{.per_session = kRate}, {}});
  Turn();
  uint64_t before = Received(*session.client);
  Run(seconds(2));
  ExpectNear(Received(*session.client) - before, 2.1 * kRate);
  world_->ChangeBandwidth({});
  Turn();
  Run(milliseconds(20));
  EXPECT_EQ(Received(*session.client), 100 * kRate) << "off";
  // And on again, in the middle of a multishot receive.
  for (int i = 0; i < 50; ++i) {
    Send(*session.client, 10);
    RunUntilQuiet();
  }
  ASSERT_TRUE(session.client->receive.has_value() && session.client->receive->multishot);
  world_->ChangeBandwidth({WorldOptions::ByteRates{.per_session = kRate}, {}});
  before = Received(*session.client);
  Send(*session.client, 10 * kRate);
  Run(seconds(2));
  EXPECT_LT(Received(*session.client) - before, 2.1 * kRate + (70 << 10));
}

// What all owed together at a low rate keeps nobody waiting at a higher one.
TEST_F(BandwidthTest, AnotherRateOfTheListenerBeginsAnew) {
  StartWith({.listener = 1 << 10});
  std::vector<SimSession*> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(&Open());
  for (SimSession* session : sessions) Send(*session->client, 100 * kRate);
  Run(seconds(2));
  world_->ChangeBandwidth({WorldOptions::ByteRates{.listener = kRate}, {}});
  Turn();
  uint64_t before = 0, all = 0;
  for (SimSession* session : sessions) before += Received(*session->client);
  Run(seconds(2));
  for (SimSession* session : sessions) all += Received(*session->client);
  EXPECT_GT(all - before, 1.8 * kRate);
}

// Those who come and say nothing take nothing from those who are there.
TEST_F(BandwidthTest, ACrowdThatIsSilentTakesLittle) {
  constexpr uint64_t kFast = 64 << 20;
  StartWith({.listener = kFast});
  SimSession& session = Open();
  Send(*session.client, 10 * kFast);
  Run(milliseconds(200));
  for (int i = 0; i < 100; ++i) Open();
  uint64_t before = Received(*session.client);
  Run(milliseconds(500));
  EXPECT_GT(Received(*session.client) - before, 0.45 * kFast);
}

// Bulk goes on as such, in rounds that the limit allows.
TEST_F(BandwidthTest, BulkIsLimitedToo) {
  constexpr uint64_t kFast = 64 << 20;
  WorldOptions options;
  options.abilities = {.multishot_receive = true, .receive_credit = true, .splice = true};
  options.buffers = {4096, 16, 64 * 4096};
  options.high_water = 16 * 4096;
  options.pipes = {1 << 20, 1 << 20};
  options.bandwidth[0].per_session = kFast;
  Start(options);
  SimSession& session = Open();
  Send(*session.client, 4 * kFast);
  Run(seconds(1));
  EXPECT_NEAR(static_cast<double>(Received(*session.client)), 1.1 * kFast, 0.1 * kFast);
  EXPECT_GT(session.client->splice_begins, 0u);
}

}  // namespace
}  // namespace ringmain::sim
