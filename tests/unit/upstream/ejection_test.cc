// Ejection: when a server that fails in use is left out, for how long, and how many at once.
#include <gtest/gtest.h>

#include "balance/make_balancer.h"

namespace ringmain {
namespace {

constexpr TimePoint kStart = TimePoint() + std::chrono::hours(1);

UpstreamConfig Configuration(size_t servers) {
  UpstreamConfig config;
  for (size_t i = 0; i < servers; ++i) {
    SocketAddress address = SocketAddress::Parse("10.0.0.1:1").value();
    address.set_port(static_cast<uint16_t>(7000 + i));
    config.servers.push_back({address});
  }
  config.ejection = EjectionConfig{.consecutive_failures = 3, .time = seconds(10), .max_time = seconds(25), .max_ejected_percent = 50};
  return config;
}

// Fails until the server is ejected; how many failures that took.
int FailUntilEjected(Upstream& upstream, size_t server, TimePoint now) {
  for (int failures = 1; failures <= 10; ++failures)
    if (upstream.Failed(server, now).has_value()) return failures;
  return 0;
}

TEST(Ejection, TakesFailuresInARow) {
  UpstreamConfig config = Configuration(4);
  Upstream upstream(config, MakeBalancer(config));
  EXPECT_FALSE(upstream.Failed(1, kStart).has_value());
  EXPECT_FALSE(upstream.Failed(1, kStart).has_value());
  upstream.Succeeded(1, kStart);
  EXPECT_FALSE(upstream.Failed(1, kStart).has_value());
  EXPECT_FALSE(upstream.Failed(1, kStart).has_value());
  EXPECT_EQ(upstream.Failed(1, kStart), Duration(seconds(10)));
  EXPECT_TRUE(upstream.server(1).ejected(kStart));
  for (int i = 0; i < 12; ++i) EXPECT_NE(upstream.Pick({{}, 0, kStart + seconds(9)}).server, 1);
  bool back = false;
  for (int i = 0; i < 4; ++i) back |= upstream.Pick({{}, 0, kStart + seconds(10)}).server == 1;
  EXPECT_TRUE(back);
}

TEST(Ejection, GrowsAndIsForgotten) {
  UpstreamConfig config = Configuration(4);
  Upstream upstream(config, MakeBalancer(config));
  TimePoint now = kStart;
  for (int seconds_out : {10, 20, 25, 25}) {
    EXPECT_EQ(FailUntilEjected(upstream, 0, now), 3);
    EXPECT_EQ(upstream.server(0).ejected_until() - now, seconds(seconds_out));
    now = upstream.server(0).ejected_until();
    upstream.Succeeded(0, now);  // too soon to be forgiven
  }
  upstream.Succeeded(0, now + seconds(25));
  EXPECT_EQ(FailUntilEjected(upstream, 0, now + seconds(30)), 3);
  EXPECT_EQ(upstream.server(0).ejected_until() - (now + seconds(30)), seconds(10));
}

TEST(Ejection, LeavesEnoughServers) {
  UpstreamConfig config = Configuration(4);
  Upstream upstream(config, MakeBalancer(config));
  EXPECT_EQ(FailUntilEjected(upstream, 0, kStart), 3);
  EXPECT_EQ(FailUntilEjected(upstream, 1, kStart), 3);
  EXPECT_EQ(FailUntilEjected(upstream, 2, kStart), 0) << "half of four are out";
  EXPECT_EQ(FailUntilEjected(upstream, 2, kStart + seconds(10)), 1) << "the others are back, and it has failed all the time";
}

TEST(Ejection, OneMayAlwaysBe) {
  UpstreamConfig config = Configuration(2);
  config.ejection->max_ejected_percent = 1;
  Upstream upstream(config, MakeBalancer(config));
  EXPECT_EQ(FailUntilEjected(upstream, 0, kStart), 3);
  EXPECT_EQ(FailUntilEjected(upstream, 1, kStart), 0);
}

TEST(Ejection, IsOffUnlessConfigured) {
  UpstreamConfig config = Configuration(2);
  config.ejection.reset();
  Upstream upstream(config, MakeBalancer(config));
  EXPECT_EQ(FailUntilEjected(upstream, 0, kStart), 0);
}

TEST(Ejection, CountsAsDownForThePanicThreshold) {
  UpstreamConfig config = Configuration(2);
  config.panic_threshold_percent = 60;
  Upstream upstream(config, MakeBalancer(config));
  EXPECT_EQ(FailUntilEjected(upstream, 0, kStart), 3);
  EXPECT_TRUE(upstream.Panics(kStart));
  EXPECT_FALSE(upstream.Panics(kStart + seconds(10)));
}

// ---- The retry budget ----

TEST(RetryBudget, IsAShareOfFirstConnectsAndSomeASecond) {
  RetryBudget budget(RetryBudgetConfig{.percent = 20, .per_second = 2});
  int allowed = 0;
  for (int i = 0; i < 10; ++i) allowed += budget.TryRetry(kStart) ? 1 : 0;
  EXPECT_EQ(allowed, 2) << "so many are free";
  for (int i = 0; i < 50; ++i) budget.OnFirstConnect();
  for (int i = 0; i < 20; ++i) allowed += budget.TryRetry(kStart) ? 1 : 0;
  EXPECT_EQ(allowed, 12);
  for (int i = 0; i < 20; ++i) allowed += budget.TryRetry(kStart + seconds(1)) ? 1 : 0;
  EXPECT_EQ(allowed, 14);
}

TEST(RetryBudget, SavesUpOnlySoMuch) {
  RetryBudget budget(RetryBudgetConfig{.percent = 100, .per_second = 0});
  for (int i = 0; i < 10000; ++i) budget.OnFirstConnect();
  int64_t allowed = 0;
  for (int i = 0; i < 1000; ++i) allowed += budget.TryRetry(kStart) ? 1 : 0;
  EXPECT_EQ(allowed, RetryBudget::kMostSaved);
}

}  // namespace
}  // namespace ringmain
