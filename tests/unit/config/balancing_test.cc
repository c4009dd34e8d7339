// The keys that say which server a client gets: what they become, what is wrong with them, and how a change of them reads.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "config/config.h"
#include "config/diff.h"

namespace ringmain {
namespace {

// Line 3 is the upstream's keys, line 4 its server's.
std::string File(const std::string& upstream, const std::string& server) {
  return absl::StrCat("listeners: [{ name: l, listen: 127.0.0.1:1, upstream: u }]\nupstreams:\n  - { name: u", upstream,
                      ",\n      servers: [{ address: 10.0.0.1:1", server, " }] }\n");
}

absl::StatusOr<std::shared_ptr<const Config>> Load(const std::string& upstream, const std::string& server = "") {
  return LoadText(File(upstream, server), "f");
}
UpstreamConfig Upstream(const std::string& upstream, const std::string& server = "") {
  auto config = Load(upstream, server);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? (*config)->upstreams[0] : UpstreamConfig();
}

TEST(BalancingKeys, HaveTheDocumentedDefaults) {
  UpstreamConfig upstream = Upstream("");
  EXPECT_EQ(upstream.slow_start, milliseconds(0));
  EXPECT_EQ(upstream.max_queue, 1024u);
  EXPECT_EQ(upstream.queue_timeout, seconds(10));
  EXPECT_FALSE(upstream.ejection.has_value());
  EXPECT_EQ(upstream.panic_threshold_percent, 0u);
  EXPECT_FALSE(upstream.servers[0].backup);
  EXPECT_FALSE(upstream.servers[0].max_connections.has_value());
  EXPECT_EQ(upstream.servers[0].state, ServerState::kEnabled);
  EXPECT_EQ(Upstream(", ejection: on").ejection, EjectionConfig());
  EXPECT_FALSE(upstream.retry_budget.has_value());
  EXPECT_EQ(Upstream(", retry_budget: 30%").retry_budget, (RetryBudgetConfig{30, 10}));
  EXPECT_EQ(Upstream(", retry_budget: { percent: 5%, per_second: 0 }").retry_budget, (RetryBudgetConfig{5, 0}));
}

TEST(BalancingKeys, AreRead) {
  struct {
    const char* word;
    BalanceMethod method;
  } methods[] = {{"round_robin", BalanceMethod::kRoundRobin}, {"least_connections", BalanceMethod::kLeastConnections},
                 {"random", BalanceMethod::kRandom},          {"source_hash", BalanceMethod::kSourceHash},
                 {"maglev", BalanceMethod::kMaglev},          {"least_latency", BalanceMethod::kLeastLatency}};
  for (const auto& one : methods) EXPECT_EQ(Upstream(absl::StrCat(", balance: ", one.word)).balance, one.method);
  UpstreamConfig upstream = Upstream(
      ", slow_start: 30s, max_queue: 0, queue_timeout: off, panic_threshold: 40%,"
      "ejection: { consecutive_failures: 7, count_early_ends: on, time: 3s, max_time: 1m, max_ejected: 25% }",
      ", backup: on, max_connections: 9, state: drain");
  EXPECT_EQ(upstream.slow_start, seconds(30));
  EXPECT_EQ(upstream.max_queue, 0u);
  EXPECT_EQ(upstream.queue_timeout, milliseconds(0));
  EXPECT_EQ(upstream.panic_threshold_percent, 40u);
  EXPECT_EQ(upstream.ejection, (EjectionConfig{7, true, seconds(3), seconds(60), 25}));
  EXPECT_TRUE(upstream.servers[0].backup);
  EXPECT_EQ(upstream.servers[0].max_connections, 9u);
  EXPECT_EQ(upstream.servers[0].state, ServerState::kDrain);
  EXPECT_EQ(Upstream("", ", state: disabled, max_connections: off").servers[0].state, ServerState::kDisabled);
  EXPECT_FALSE(Upstream(", ejection: off, panic_threshold: off, slow_start: off").ejection.has_value());
}

TEST(BalancingKeys, SayWhatIsWrong) {
  struct {
    const char* upstream;
    const char* server;
    const char* error;
  } cases[] = {
      {", balance: fair", "",
       "3:25: balance: 'fair' is not known; write round_robin or least_connections or random or source_hash or maglev or least_latency"},
      {", panic_threshold: 0%", "", "3:33: panic_threshold: '0%' is out of range; write 1% to 100%"},
      {", panic_threshold: 50", "", "3:33: panic_threshold: '50' is not valid; write a percentage such as 10%"},
      {", max_queue: off", "", "3:27: max_queue: 'off' is not valid; write a whole number"},
      {", ejection: yes", "", "3:26: ejection: write on, off, or a map such as { consecutive_failures: 5, time: 10s }"},
      {", ejection: { time: 10m }", "", "3:26: ejection: max_time is shorter than time; make it as long at least"},
      {", ejection: { max_ejected: 101% }", "", "3:41: max_ejected: '101%' is out of range; write 1% to 100%"},
      {", ejection: { failures: 1 }", "",
       "3:28: unknown key 'failures'; known: consecutive_failures, count_early_ends, time, max_time, max_ejected"},
      {", retry_budget: 101%", "", "3:30: retry_budget: '101%' is out of range; write 0% to 100%"},
      {"", ", state: up", "4:47: state: 'up' is not known; write enabled or drain or disabled"},
      {"", ", max_connections: 0", "4:57: max_connections: '0' is out of range; write 1 to 10000000, or off"},
      {"", ", backup: yes", "4:48: backup: 'yes' is not known; write on or off"},
  };
  for (const auto& c : cases) EXPECT_EQ(Load(c.upstream, c.server).status().message(), absl::StrCat("f:", c.error)) << c.upstream << c.server;
}

TEST(BalancingKeys, ChangesAreDescribed) {
  struct {
    const char* upstream;
    const char* server;
    std::vector<std::string> sentences;
  } cases[] = {
      {", balance: maglev", "", {"balance round_robin -> maglev"}},
      {", slow_start: 30s", "", {"slow_start off -> 30s"}},
      {", max_queue: 5, queue_timeout: off", "", {"max_queue 1024 -> 5", "queue_timeout 10s -> off"}},
      {", panic_threshold: 40%", "", {"panic_threshold off -> 40%"}},
      {", ejection: { count_early_ends: on }", "", {"ejection off -> after 5 failures for 10s to 5m of 50% at most, early ends too"}},
      {"", ", backup: on, state: disabled", {"server 10.0.0.1:1 backup off -> on", "server 10.0.0.1:1 state enabled -> disabled"}},
      {", retry_budget: 20%", "", {"retry_budget off -> 20% and 10 a second"}},
      {"", ", max_connections: 7", {"server 10.0.0.1:1 max_connections off -> 7"}},
  };
  for (auto& c : cases) {
    for (std::string& sentence : c.sentences) sentence = "upstream u: " + sentence;
    EXPECT_EQ(DescribeChanges(**Load(""), **Load(c.upstream, c.server)), c.sentences) << c.upstream << c.server;
  }
}

}  // namespace
}  // namespace ringmain
