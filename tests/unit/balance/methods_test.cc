// What an operator asks of any method: shares, backups, limits, states, a slow start; and what the consistent ones promise.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "balance/make_balancer.h"
#include "base/hash.h"

namespace ringmain {
namespace {

using std::chrono::hours;

constexpr TimePoint kNow = TimePoint() + hours(100);

UpstreamConfig Configuration(BalanceMethod method, const std::vector<uint32_t>& weights) {
  UpstreamConfig config;
  config.balance = method;
  for (size_t i = 0; i < weights.size(); ++i) {
    SocketAddress address = SocketAddress::Parse("10.0.0.1:1").value();
    address.set_port(static_cast<uint16_t>(7000 + i));
    config.servers.push_back({.address = address, .weight = weights[i]});
  }
  return config;
}
Upstream Make(const UpstreamConfig& config) { return Upstream(config, MakeBalancer(config)); }

PickResult Pick(Upstream& upstream, uint64_t source = 0, TimePoint now = kNow) { return upstream.Pick({{}, Mix(source), now}); }

// Where each of the sources goes; connections end at once.
std::vector<uint16_t> Places(Upstream& upstream, uint64_t sources) {
  std::vector<uint16_t> places;
  for (uint64_t source = 0; source < sources; ++source) {
    places.push_back(Pick(upstream, source).server.value());
    upstream.server(places.back()).Release();
  }
  return places;
}

class AnyMethod : public testing::TestWithParam<BalanceMethod> {};
INSTANTIATE_TEST_SUITE_P(Methods, AnyMethod,
                         testing::Values(BalanceMethod::kRoundRobin, BalanceMethod::kLeastConnections, BalanceMethod::kRandom,
                                         BalanceMethod::kSourceHash, BalanceMethod::kMaglev, BalanceMethod::kLeastLatency));

TEST_P(AnyMethod, TenThousandConnectionsFollowTheWeightsWithinOnePercent) {
  std::vector<uint32_t> weights = {1, 2, 3, 4};
  Upstream upstream = Make(Configuration(GetParam(), weights));
  constexpr int kPicks = 10000;
  for (int i = 0; i < kPicks; ++i) ASSERT_TRUE(Pick(upstream, static_cast<uint64_t>(i)).server.has_value());
  for (size_t i = 0; i < weights.size(); ++i)
    EXPECT_NEAR(upstream.server(i).active(), kPicks * weights[i] / 10.0, kPicks / 100) << "server " << i;
}

TEST_P(AnyMethod, BackupsServeOnlyWhenNobodyElseCan) {
  UpstreamConfig config = Configuration(GetParam(), {1, 1, 1});
  config.servers[1].backup = true;
  Upstream upstream = Make(config);
  for (uint16_t server : Places(upstream, 50)) EXPECT_NE(server, 1);
  upstream.server(0).set_up(false);
  for (uint16_t server : Places(upstream, 50)) EXPECT_EQ(server, 2);
  upstream.server(2).set_up(false);
  for (uint16_t server : Places(upstream, 50)) EXPECT_EQ(server, 1);
  std::vector<uint16_t> tried = {2};
  upstream.server(2).set_up(true);
  EXPECT_EQ(upstream.Pick({tried, 0, kNow}).server, 1) << "the only other one did not work";
}

TEST_P(AnyMethod, AServerThatDrainsOrIsDisabledGetsNothing) {
  UpstreamConfig config = Configuration(GetParam(), {1, 256, 256});
  config.servers[1].state = ServerState::kDrain;
  config.servers[2].state = ServerState::kDisabled;
  Upstream upstream = Make(config);
  for (uint16_t server : Places(upstream, 50)) EXPECT_EQ(server, 0);
  upstream.server(0).set_up(false);
  PickResult none = Pick(upstream);
  EXPECT_FALSE(none.server.has_value() || none.full);
}

TEST_P(AnyMethod, MaxConnectionsAreExactOverThreads) {
  UpstreamConfig config = Configuration(GetParam(), {1, 1, 5});
  config.servers[0].max_connections = 100;
  config.servers[1].max_connections = 7;
  config.servers[2].max_connections = 1;
  Upstream upstream = Make(config);
  std::atomic<int> picked{0}, full{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 100; ++i) {
        PickResult result = Pick(upstream, t * 1000 + i);
        picked += result.server.has_value() ? 1 : 0;
        full += result.full ? 1 : 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(picked, 108);
  EXPECT_EQ(full, 400 - 108);
  EXPECT_EQ(upstream.server(0).active(), 100u);
  EXPECT_EQ(upstream.server(1).active(), 7u);
  EXPECT_EQ(upstream.server(2).active(), 1u);
  upstream.server(1).Release();
  EXPECT_EQ(Pick(upstream).server, 1);
}

TEST_P(AnyMethod, ClientsWaitForAFullServerRatherThanTakeABackup) {
  UpstreamConfig config = Configuration(GetParam(), {1, 1});
  config.servers[0].max_connections = 1;
  config.servers[1].backup = true;
  Upstream upstream = Make(config);
  EXPECT_EQ(Pick(upstream).server, 0);
  PickResult result = Pick(upstream);
  EXPECT_TRUE(!result.server.has_value() && result.full);
}

// ---- Slow start ----

TEST(SlowStart, AServerThatComesUpGetsItsShareBitByBit) {
  for (BalanceMethod method : {BalanceMethod::kRoundRobin, BalanceMethod::kRandom}) {
    UpstreamConfig config = Configuration(method, {1, 1});
    config.slow_start = seconds(100);
    auto share = [&](TimePoint started, TimePoint now) {
      Upstream upstream = Make(config);
      upstream.server(1).set_started_at(started);
      for (int i = 0; i < 10000; ++i) Pick(upstream, 0, now);
      return upstream.server(1).active() / 10000.0;
    };
    EXPECT_NEAR(share(TimePoint(), kNow), 0.5, 0.01) << "at the start of the process nobody is new";
    // It counts as a tenth of a server at least, then as half of one.
    EXPECT_NEAR(share(kNow, kNow + seconds(1)), 0.1 / 1.1, 0.02);
    EXPECT_NEAR(share(kNow, kNow + seconds(50)), 0.5 / 1.5, 0.02);
    EXPECT_NEAR(share(kNow, kNow + seconds(100)), 0.5, 0.01);
  }
}

TEST(SlowStart, LeastConnectionsLevelsOutLater) {
  UpstreamConfig config = Configuration(BalanceMethod::kLeastConnections, {1, 1});
  config.slow_start = seconds(100);
  Upstream upstream = Make(config);
  upstream.server(1).set_started_at(kNow);
  for (int i = 0; i < 110; ++i) Pick(upstream, 0, kNow + seconds(10));
  EXPECT_NEAR(upstream.server(1).active(), 10, 2);
  for (int i = 0; i < 90; ++i) Pick(upstream, 0, kNow + seconds(100));
  EXPECT_EQ(upstream.server(1).active(), 100u);
}

// ---- Consistent methods ----

class Consistent : public testing::TestWithParam<BalanceMethod> {};
INSTANTIATE_TEST_SUITE_P(Methods, Consistent, testing::Values(BalanceMethod::kSourceHash, BalanceMethod::kMaglev));

constexpr uint64_t kSources = 20000;

TEST_P(Consistent, ASourceKeepsItsServer) {
  Upstream upstream = Make(Configuration(GetParam(), std::vector<uint32_t>(7, 1)));
  EXPECT_EQ(Places(upstream, kSources), Places(upstream, kSources));
}

TEST_P(Consistent, AServerThatFailsTakesOnlyItsOwnClients) {
  Upstream upstream = Make(Configuration(GetParam(), std::vector<uint32_t>(10, 1)));
  std::vector<uint16_t> before = Places(upstream, kSources);
  upstream.server(3).set_up(false);
  std::vector<uint16_t> meanwhile = Places(upstream, kSources);
  std::vector<int> inherited(10);
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i] == 3)
      ++inherited[meanwhile[i]];
    else
      EXPECT_EQ(meanwhile[i], before[i]);
  }
  EXPECT_EQ(inherited[3], 0);
  inherited.erase(inherited.begin() + 3);
  for (size_t i = 0; i < inherited.size(); ++i)
    EXPECT_NEAR(inherited[i], kSources / 90.0, kSources / 180.0) << "they spread over the others";
  upstream.server(3).set_up(true);
  EXPECT_EQ(Places(upstream, kSources), before);
}

TEST_P(Consistent, AServerThatLeavesTheConfigurationMovesFew) {
  for (size_t servers : {5u, 10u, 64u, 100u, 300u}) {
    UpstreamConfig config = Configuration(GetParam(), std::vector<uint32_t>(servers, 1));
    Upstream upstream = Make(config);
    std::vector<uint16_t> before = Places(upstream, kSources);
    size_t gone = servers / 2;
    config.servers.erase(config.servers.begin() + static_cast<ptrdiff_t>(gone));
    Upstream without = Make(config);
    std::vector<uint16_t> after = Places(without, kSources);
    size_t moved = 0;
    for (size_t i = 0; i < before.size(); ++i) moved += after[i] + (after[i] >= gone ? 1u : 0u) != before[i] ? 1 : 0;
    EXPECT_LE(static_cast<double>(moved) / kSources, 1.5 / static_cast<double>(servers)) << servers << " servers";
    EXPECT_GE(static_cast<double>(moved) / kSources, 0.5 / static_cast<double>(servers)) << "its own have to";
  }
}

TEST_P(Consistent, TheOrderOfServersDoesNotMatter) {
  UpstreamConfig config = Configuration(GetParam(), {1, 2, 3, 4, 5});
  Upstream upstream = Make(config);
  std::reverse(config.servers.begin(), config.servers.end());
  Upstream reversed = Make(config);
  std::vector<uint16_t> places = Places(upstream, 1000), others = Places(reversed, 1000);
  for (size_t i = 0; i < places.size(); ++i) EXPECT_EQ(places[i], 4 - others[i]);
}

TEST_P(Consistent, ManyServersAllGetClients) {
  Upstream upstream = Make(Configuration(GetParam(), std::vector<uint32_t>(1000, 1)));
  std::vector<int> counts(1000);
  for (uint16_t server : Places(upstream, kSources)) ++counts[server];
  EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 0);
}

// ---- Least latency ----

TEST(LeastLatency, LeavesASlowServerAndComesBack) {
  Upstream upstream = Make(Configuration(BalanceMethod::kLeastLatency, {1, 1}));
  TimePoint now = kNow;
  auto share = [&] {
    int picked = 0;
    for (int i = 0; i < 1000; ++i) {
      uint16_t server = Pick(upstream, 0, now).server.value();
      picked += server == 1 ? 1 : 0;
      upstream.server(server).Release();
    }
    return picked;
  };
  for (size_t i : {0u, 1u}) upstream.server(i).ObserveConnect(microseconds(500), now);
  EXPECT_NEAR(share(), 500, 60);
  upstream.server(1).ObserveConnect(milliseconds(50), now);
  EXPECT_EQ(share(), 0);
  now += seconds(60);
  upstream.server(0).ObserveConnect(microseconds(500), now);
  EXPECT_EQ(share(), 1000) << "the peak has faded to less than the other's: it is tried again";
  now += seconds(60);
  for (size_t i : {0u, 1u}) upstream.server(i).ObserveConnect(microseconds(500), now);
  EXPECT_NEAR(share(), 500, 60);
}

TEST(LeastLatency, WhatIsNotKnownDecidesNothing) {
  Upstream upstream = Make(Configuration(BalanceMethod::kLeastLatency, {1, 1}));
  upstream.server(0).ObserveConnect(microseconds(500), kNow);
  for (int i = 0; i < 100; ++i) Pick(upstream);
  EXPECT_NEAR(upstream.server(1).active(), 50, 1) << "no herd to the one nobody knows";
}

TEST(Server, LatencyRisesAtOnceAndFallsSlowly) {
  Upstream upstream = Make(Configuration(BalanceMethod::kLeastLatency, {1}));
  Server& server = upstream.server(0);
  EXPECT_EQ(server.LatencyMicros(kNow), 0u);
  server.ObserveConnect(milliseconds(1), kNow);
  server.ObserveConnect(milliseconds(100), kNow);
  EXPECT_EQ(server.LatencyMicros(kNow), 100'000u);
  server.ObserveConnect(milliseconds(1), kNow + seconds(10));
  EXPECT_NEAR(server.LatencyMicros(kNow + seconds(10)), 1000 + 99'000 / 2.718, 500);
  EXPECT_NEAR(server.LatencyMicros(kNow + seconds(9)), 37'420, 600) << "another worker's clock is a moment behind";
}

// ---- Panic ----

TEST(Panic, WithTooFewServersUpHealthIsIgnored) {
  UpstreamConfig config = Configuration(BalanceMethod::kRoundRobin, {1, 1, 1, 1});
  config.panic_threshold_percent = 50;
  Upstream upstream = Make(config);
  upstream.server(0).set_up(false);
  upstream.server(1).set_up(false);
  EXPECT_FALSE(upstream.Panics(kNow)) << "half of them are up";
  for (uint16_t server : Places(upstream, 20)) EXPECT_GE(server, 2);
  upstream.server(2).set_up(false);
  EXPECT_TRUE(upstream.Panics(kNow));
  std::vector<uint16_t> places = Places(upstream, 20);
  for (uint16_t server : {0, 1, 2, 3}) EXPECT_EQ(std::count(places.begin(), places.end(), server), 5);
}

}  // namespace
}  // namespace ringmain
