#include "upstream/upstream.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "balance/make_balancer.h"

namespace ringmain {
namespace {

// Smooth weighted round robin as nginx writes it: O(servers) per turn.
std::vector<uint16_t> Reference(std::vector<uint32_t> weights) {
  uint32_t divisor = 0;
  for (uint32_t weight : weights) divisor = std::gcd(divisor, weight);
  int64_t total = 0;
  for (uint32_t& weight : weights) total += weight /= divisor;
  std::vector<int64_t> current(weights.size());
  std::vector<uint16_t> sequence;
  for (int64_t turn = 0; turn < total; ++turn) {
    size_t best = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      current[i] += weights[i];
      if (current[i] > current[best]) best = i;
    }
    current[best] -= total;
    sequence.push_back(static_cast<uint16_t>(best));
  }
  return sequence;
}

TEST(UpstreamTest, GivesEachServerTheSourceAddressesOfItsFamily) {
  UpstreamConfig config;
  for (const char* server : {"[::1]:1", "127.0.0.1:1", "unix:/x"}) config.servers.push_back({SocketAddress::Parse(server).value()});
  for (const char* source : {"::2", "10.0.0.2", "::1", "10.0.0.1"})
    config.source_addresses.push_back(SocketAddress::ParseHost(source).value());
  Upstream upstream(config, nullptr);
  auto sources = [&](size_t server) {
    std::vector<std::string> hosts;
    for (const SocketAddress& source : upstream.sources(server)) hosts.push_back(source.host());
    return hosts;
  };
  EXPECT_EQ(sources(0), (std::vector<std::string>{"::2", "::1"}));
  EXPECT_EQ(sources(1), (std::vector<std::string>{"10.0.0.2", "10.0.0.1"}));
  EXPECT_TRUE(sources(2).empty());
}

TEST(SmoothWeightedSequence, SpreadsTheHeavyServer) {
  std::vector<uint32_t> weights = {5, 1, 1};
  EXPECT_EQ(SmoothWeightedSequence(weights), (std::vector<uint16_t>{0, 0, 1, 0, 2, 0, 0}));
}

TEST(SmoothWeightedSequence, DividesByTheCommonDivisor) {
  EXPECT_EQ(SmoothWeightedSequence(std::vector<uint32_t>{256, 256, 256}), (std::vector<uint16_t>{0, 1, 2}));
  EXPECT_EQ(SmoothWeightedSequence(std::vector<uint32_t>{100, 200}).size(), 3u);
  EXPECT_EQ(SmoothWeightedSequence(std::vector<uint32_t>{17}), std::vector<uint16_t>{0});
}

TEST(SmoothWeightedSequence, AgreesWithTheReference) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::vector<uint32_t> weights(1 + random() % 40);
    uint32_t distinct = 1 + random() % (round % 2 == 0 ? 4 : kMaxServerWeight);
    for (uint32_t& weight : weights) weight = 1 + random() % distinct;
    EXPECT_EQ(SmoothWeightedSequence(weights), Reference(weights)) << "round " << round;
  }
}

TEST(SmoothWeightedSequence, LargestConfigurationIsExact) {
  std::mt19937 random(4);
  std::vector<uint32_t> weights(kMaxServers);
  for (uint32_t& weight : weights) weight = 1 + random() % kMaxServerWeight;
  std::vector<uint16_t> sequence = SmoothWeightedSequence(weights);
  std::vector<uint32_t> counts(weights.size());
  for (uint16_t server : sequence) ++counts[server];
  EXPECT_EQ(counts, weights);
}

UpstreamConfig Configuration(const std::vector<uint32_t>& weights) {
  UpstreamConfig config;
  config.name = "test";
  for (size_t i = 0; i < weights.size(); ++i) {
    SocketAddress address = SocketAddress::Parse("127.0.0.1:1").value();
    address.set_port(static_cast<uint16_t>(7000 + i));
    config.servers.push_back({address, weights[i]});
  }
  return config;
}

TEST(Upstream, BuildsServersInTheOrderOfTheConfiguration) {
  Upstream upstream(Configuration({3, 1}), nullptr);
  ASSERT_EQ(upstream.size(), 2u);
  EXPECT_EQ(upstream.name(), "test");
  EXPECT_EQ(upstream.server(0).name(), "127.0.0.1:7000");
  EXPECT_EQ(upstream.server(1).name(), "127.0.0.1:7001");
  EXPECT_EQ(upstream.terms(0).weight, 3u);
  EXPECT_TRUE(upstream.server(0).up());
  EXPECT_EQ(upstream.server(0).active(), 0u);
  EXPECT_EQ(upstream.sequence(false).size(), 4u);
}

TEST(Upstream, ASuccessorSharesServersAndTurns) {
  Upstream before(Configuration({3, 1}), nullptr);
  before.server(1).Reserve();
  uint64_t turn = before.NextTicket();
  Upstream after(Configuration({1, 2, 1}), nullptr,
                 {before.servers()[1], before.servers()[0], std::make_shared<Server>(SocketAddress::Parse("127.0.0.1:1").value())});
  after.ContinueAfter(before);
  EXPECT_EQ(after.server(0).active(), 1u);
  EXPECT_EQ(after.terms(0).weight, 1u);
  EXPECT_EQ(before.terms(1).weight, 1u);
  EXPECT_EQ(after.NextTicket(), turn + 1);
}

TEST(Upstream, MayHaveNoServer) {
  for (BalanceMethod method : {BalanceMethod::kRoundRobin, BalanceMethod::kLeastConnections, BalanceMethod::kRandom,
                               BalanceMethod::kSourceHash, BalanceMethod::kMaglev, BalanceMethod::kLeastLatency}) {
    UpstreamConfig config = Configuration({});
    config.balance = method;
    Upstream upstream(config, MakeBalancer(config));
    EXPECT_EQ(upstream.size(), 0u);
    EXPECT_TRUE(upstream.sequence(false).empty());
    PickResult result = upstream.Pick({});
    EXPECT_FALSE(result.server.has_value() || result.full);
  }
}

TEST(Upstream, SharedCountsAreOnALineOfTheirOwn) {
  EXPECT_EQ(alignof(Server), 64u);
  EXPECT_EQ(sizeof(Server) % 64, 0u);
}

TEST(Server, TryReserveRefusesAStaleCount) {
  Upstream upstream(Configuration({1}), nullptr);
  Server& server = upstream.server(0);
  EXPECT_TRUE(server.TryReserve(0));
  EXPECT_FALSE(server.TryReserve(0));
  EXPECT_EQ(server.active(), 1u);
  EXPECT_TRUE(server.TryReserve(1));
  server.Release();
  server.Release();
  EXPECT_EQ(server.active(), 0u);
}

TEST(ServerDeathTest, RefusesAReleaseWithoutAReservation) {
  Upstream upstream(Configuration({1}), nullptr);
  EXPECT_DEATH(upstream.server(0).Release(), "check failed");
}

TEST(Upstream, TicketsAreUniqueOverThreads) {
  Upstream upstream(Configuration({1}), nullptr);
  constexpr size_t kThreads = 4, kEach = 20000;
  std::vector<std::vector<uint64_t>> taken(kThreads);
  std::vector<std::thread> threads;
  for (auto& mine : taken) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < kEach; ++i) mine.push_back(upstream.NextTicket());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<bool> seen(kThreads * kEach);
  for (auto& mine : taken) {
    for (uint64_t ticket : mine) {
      ASSERT_LT(ticket, seen.size());
      ASSERT_FALSE(seen[ticket]);
      seen[ticket] = true;
    }
  }
}

}  // namespace
}  // namespace ringmain
