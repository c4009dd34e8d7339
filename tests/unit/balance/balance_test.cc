// The methods of balancing: what each promises, alone and with many threads picking at once.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "balance/make_balancer.h"
#include "balance/round_robin.h"

namespace ringmain {
namespace {

Upstream Make(BalanceMethod method, const std::vector<uint32_t>& weights) {
  UpstreamConfig config;
  config.balance = method;
  for (size_t i = 0; i < weights.size(); ++i) {
    SocketAddress address = SocketAddress::Parse("127.0.0.1:1").value();
    address.set_port(static_cast<uint16_t>(7000 + i));
    config.servers.push_back({address, weights[i]});
  }
  return Upstream(config, MakeBalancer(config));
}

std::vector<uint32_t> ActiveCounts(const Upstream& upstream) {
  std::vector<uint32_t> counts;
  for (size_t i = 0; i < upstream.size(); ++i) counts.push_back(upstream.server(i).active());
  return counts;
}

void PickMany(Upstream& upstream, size_t picks) {
  for (size_t i = 0; i < picks; ++i) ASSERT_TRUE(upstream.Pick({}).server.has_value());
}

void InThreads(size_t threads, const std::function<void(size_t)>& body) {
  std::atomic<size_t> waiting{threads};
  std::vector<std::thread> running;
  for (size_t i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      waiting.fetch_sub(1);
      while (waiting.load() > 0) std::this_thread::yield();
      body(i);
    });
  }
  for (std::thread& thread : running) thread.join();
}

// ---- All ----

class AnyBalancer : public testing::TestWithParam<BalanceMethod> {};
INSTANTIATE_TEST_SUITE_P(Methods, AnyBalancer,
                         testing::Values(BalanceMethod::kRoundRobin, BalanceMethod::kLeastConnections, BalanceMethod::kRandom,
                                         BalanceMethod::kSourceHash, BalanceMethod::kMaglev, BalanceMethod::kLeastLatency));
// Those that follow the weights exactly.
class ExactBalancer : public testing::TestWithParam<BalanceMethod> {};
INSTANTIATE_TEST_SUITE_P(Methods, ExactBalancer, testing::Values(BalanceMethod::kRoundRobin, BalanceMethod::kLeastConnections));

TEST_P(AnyBalancer, ReservesWhatItPicks) {
  Upstream upstream = Make(GetParam(), {1, 1, 1});
  std::vector<uint32_t> expected(3);
  for (int i = 0; i < 20; ++i) {
    std::optional<uint16_t> picked = upstream.Pick({}).server;
    ASSERT_TRUE(picked.has_value());
    ++expected[*picked];
    EXPECT_EQ(ActiveCounts(upstream), expected);
  }
}

TEST_P(ExactBalancer, EqualServersAlternate) {
  Upstream upstream = Make(GetParam(), {1, 1, 1, 1});
  std::vector<int> counts(4);
  for (int i = 0; i < 400; ++i) {  // each connection ends before the next comes
    uint16_t picked = upstream.Pick({}).server.value();
    ++counts[picked];
    upstream.server(picked).Release();
  }
  EXPECT_EQ(counts, (std::vector<int>{100, 100, 100, 100}));
}

TEST_P(ExactBalancer, HeldConnectionsFollowTheWeights) {
  Upstream upstream = Make(GetParam(), {5, 1, 3, 256, 7});
  PickMany(upstream, 272 * 3);
  EXPECT_EQ(ActiveCounts(upstream), (std::vector<uint32_t>{15, 3, 9, 768, 21}));
}

TEST_P(AnyBalancer, SkipsDownAndTriedServers) {
  Upstream upstream = Make(GetParam(), {1, 2, 1, 1});
  upstream.server(0).set_up(false);
  std::vector<uint16_t> tried;
  std::vector<uint16_t> expected = {1, 2, 3};
  for (int i = 0; i < 3; ++i) tried.push_back(upstream.Pick({tried}).server.value());
  std::sort(tried.begin(), tried.end());
  EXPECT_EQ(tried, expected);
  EXPECT_EQ(upstream.Pick({tried}).server, std::nullopt);
  EXPECT_EQ(ActiveCounts(upstream), (std::vector<uint32_t>{0, 1, 1, 1}));  // nothing reserved in vain
  upstream.server(0).set_up(true);
  EXPECT_EQ(upstream.Pick({tried}).server, uint16_t{0});
}

TEST_P(AnyBalancer, NoneLeft) {
  Upstream upstream = Make(GetParam(), {1, 1});
  upstream.server(0).set_up(false);
  upstream.server(1).set_up(false);
  EXPECT_EQ(upstream.Pick({}).server, std::nullopt);
  EXPECT_EQ(ActiveCounts(upstream), (std::vector<uint32_t>{0, 0}));
}

TEST_P(ExactBalancer, RemainingServersShareByWeight) {
  Upstream upstream = Make(GetParam(), {4, 1, 2, 9});
  upstream.server(0).set_up(false);
  PickMany(upstream, 12 * 50);
  EXPECT_EQ(ActiveCounts(upstream), (std::vector<uint32_t>{0, 50, 100, 450}));
}

// The picks of 8 threads are counted exactly, also while a health thread flips servers and connections end.
TEST_P(AnyBalancer, CountsAreExactOverThreads) {
  Upstream upstream = Make(GetParam(), {1, 5, 2, 1});
  constexpr size_t kThreads = 8;
  std::atomic<size_t> running{kThreads};
  std::thread health([&] {
    for (uint16_t i = 0; running.load() > 0; i = (i + 1) % 3) {  // server 3 stays up
      upstream.server(i).set_up(false);
      std::this_thread::yield();
      upstream.server(i).set_up(true);
    }
  });
  std::vector<std::vector<uint32_t>> held(kThreads, std::vector<uint32_t>(4));
  InThreads(kThreads, [&](size_t thread) {
    std::mt19937 random(static_cast<uint32_t>(thread));
    for (int i = 0; i < 20000; ++i) {
      std::optional<uint16_t> picked = upstream.Pick({}).server;
      ASSERT_TRUE(picked.has_value()) << "a server was up all the time";
      ++held[thread][*picked];
      uint16_t released = random() % 4;
      if (held[thread][released] == 0) continue;
      --held[thread][released];
      upstream.server(released).Release();
    }
    running.fetch_sub(1);
  });
  health.join();
  std::vector<uint32_t> total(4);
  for (auto& mine : held) {
    for (size_t i = 0; i < 4; ++i) total[i] += mine[i];
  }
  EXPECT_EQ(ActiveCounts(upstream), total);
}

TEST_P(ExactBalancer, ThreadsTogetherFollowTheWeights) {
  std::vector<uint32_t> weights = {5, 1, 1, 9};  // a period of 16
  Upstream upstream = Make(GetParam(), weights);
  InThreads(8, [&](size_t) { PickMany(upstream, 16 * 500); });
  EXPECT_EQ(ActiveCounts(upstream), (std::vector<uint32_t>{20000, 4000, 4000, 36000}));
}

// ---- Round robin ----

TEST(RoundRobin, FollowsTheSequence) {
  Upstream upstream = Make(BalanceMethod::kRoundRobin, {5, 1, 1});
  std::vector<uint16_t> picks;
  for (int i = 0; i < 14; ++i) picks.push_back(upstream.Pick({}).server.value());
  EXPECT_EQ(picks, (std::vector<uint16_t>{0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0}));
}

TEST(RoundRobin, TheNextOfADeadServerDoesNotTakeItsLoad) {
  Upstream upstream = Make(BalanceMethod::kRoundRobin, {1, 1, 1, 1});
  upstream.server(1).set_up(false);
  InThreads(8, [&](size_t) { PickMany(upstream, 3 * 1000); });
  EXPECT_EQ(ActiveCounts(upstream), (std::vector<uint32_t>{8000, 0, 8000, 8000}));
}

// More turns in a row are of dead servers than a pick takes.
TEST(RoundRobin, FindsTheOneServerThatIsUp) {
  std::vector<uint32_t> weights(kMaxServers, kMaxServerWeight);
  weights[4000] = 1;
  Upstream upstream = Make(BalanceMethod::kRoundRobin, weights);
  ASSERT_GT(upstream.sequence(false).size(), RoundRobin::kMaxTurns);
  for (size_t i = 0; i < upstream.size(); ++i) upstream.server(i).set_up(i == 4000);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(upstream.Pick({}).server, uint16_t{4000});
}

// ---- Least connections ----

TEST(LeastConnections, PrefersTheLeastLoaded) {
  Upstream upstream = Make(BalanceMethod::kLeastConnections, {1, 1, 1});
  PickMany(upstream, 30);
  for (int i = 0; i < 4; ++i) upstream.server(1).Release();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(upstream.Pick({}).server, uint16_t{1});
  EXPECT_EQ(ActiveCounts(upstream), (std::vector<uint32_t>{10, 10, 10}));
}

TEST(LeastConnections, ComparesLoadsByWeight) {
  Upstream upstream = Make(BalanceMethod::kLeastConnections, {1, 3});
  for (int i = 0; i < 2; ++i) upstream.server(1).Reserve();
  // With one more: 1/1 and 3/3. Equal; the lead goes round. After that 1/1 against 4/3, or 2/1 against 3/3.
  uint16_t first = upstream.Pick({}).server.value();
  EXPECT_EQ(upstream.Pick({}).server, static_cast<uint16_t>(1 - first));
  EXPECT_EQ(upstream.Pick({}).server, uint16_t{1});  // 2/1 against 4/3
}

TEST(LeastConnections, ThreadsThatOnlyPickStayWithinOne) {
  Upstream upstream = Make(BalanceMethod::kLeastConnections, std::vector<uint32_t>(7, 1));
  InThreads(8, [&](size_t) { PickMany(upstream, 5000); });  // not a multiple of 7
  std::vector<uint32_t> counts = ActiveCounts(upstream);
  auto [least, most] = std::minmax_element(counts.begin(), counts.end());
  EXPECT_LE(*most - *least, 1u);
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0u), 40000u);
}

}  // namespace
}  // namespace ringmain
