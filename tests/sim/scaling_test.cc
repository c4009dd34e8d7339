// Balance over nodes and workers, and over servers that several nodes choose for: the figures of deploy/SCALING.md. Pure arithmetic with the
// project's own rules (ChooseReceiver, the balancers); what routers do is modelled here.
//
// Each row is written as it stands in that page; tests/tidy/test_scaling.py looks whether it does.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "balance/make_balancer.h"
#include "base/hash.h"
#include "worker/choose_receiver.h"

namespace ringmain {
namespace {

// What a router computes of a flow's addresses and ports.
uint64_t HashOfFlow(uint64_t flow) { return Mix(Mix(flow) ^ 0x5ca1e); }

std::string Row(const std::vector<std::string>& cells) { return absl::StrCat("| ", absl::StrJoin(cells, " | "), " |"); }
std::string Three(double value) { return absl::StrFormat("%.3f", value); }

// The most loaded one, of what each would have if all had the same.
template <typename Counts>
double MostOfMean(const Counts& counts) {
  double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  return static_cast<double>(*std::max_element(counts.begin(), counts.end())) * static_cast<double>(counts.size()) / total;
}

// ---- Nodes behind a router that hashes flows ------------------------------------------------------------------------

std::string NodesRow(const char* name, uint64_t flows) {
  std::vector<std::string> cells = {name};
  for (uint32_t nodes : {4u, 8u, 16u, 32u}) {
    std::vector<uint32_t> counts(nodes);
    for (uint64_t flow = 0; flow < flows; ++flow) ++counts[HashOfFlow(flow) % nodes];
    cells.push_back(Three(MostOfMean(counts)));
  }
  return Row(cells);
}

TEST(Scaling, NodesAreLoadedAlikeTheMoreFlowsThereAre) {
  EXPECT_EQ(NodesRow("1,000", 1'000),
            "| 1,000 | 1.060 | 1.080 | 1.216 | 1.312 |");
  EXPECT_EQ(NodesRow("10,000", 10'000),
            "| 10,000 | 1.010 | 1.020 | 1.078 | 1.082 |");
  EXPECT_EQ(NodesRow("100,000", 100'000),
            "| 100,000 | 1.007 | 1.013 | 1.016 | 1.029 |");
  EXPECT_EQ(NodesRow("1,000,000", 1'000'000),
            "| 1,000,000 | 1.002 | 1.005 | 1.008 | 1.010 |");
  EXPECT_EQ(NodesRow("10,000,000", 10'000'000),
            "| 10,000,000 | 1.001 | 1.001 | 1.001 | 1.003 |");
}

// ---- Workers of a node ----------------------------------------------------------------------------------------------

// The kernel's blind choice, and that with what workers hand over.
std::string WorkersRow(const char* name, uint32_t flows, bool hand_over) {
  std::vector<std::string> cells = {name};
  for (uint32_t workers : {2u, 8u, 32u}) {
    std::vector<WorkerLoad> loads(workers, WorkerLoad{0, true});
    for (uint32_t flow = 0; flow < flows; ++flow) {
      auto accepts = static_cast<uint32_t>(HashOfFlow(flow) % workers);
      std::optional<uint32_t> receiver;
      if (hand_over) receiver = ChooseReceiver(accepts, loads[accepts].connections, workers, [&](uint32_t i) { return loads[i]; });
      ++loads[receiver.value_or(accepts)].connections;
    }
    std::vector<uint32_t> counts;
    for (const WorkerLoad& load : loads) counts.push_back(load.connections);
    cells.push_back(Three(MostOfMean(counts)));
  }
  return Row(cells);
}

TEST(Scaling, WorkersAreLoadedAlikeByHandingOver) {
  EXPECT_EQ(WorkersRow("1,000, by the kernel alone", 1'000, false),
            "| 1,000, by the kernel alone | 1.030 | 1.080 | 1.312 |");
  EXPECT_EQ(WorkersRow("1,000, as it is", 1'000, true),
            "| 1,000, as it is | 1.006 | 1.016 | 1.120 |");
  EXPECT_EQ(WorkersRow("10,000, by the kernel alone", 10'000, false),
            "| 10,000, by the kernel alone | 1.007 | 1.020 | 1.082 |");
  EXPECT_EQ(WorkersRow("10,000, as it is", 10'000, true),
            "| 10,000, as it is | 1.006 | 1.018 | 1.014 |");
  EXPECT_EQ(WorkersRow("100,000, by the kernel alone", 100'000, false),
            "| 100,000, by the kernel alone | 1.003 | 1.013 | 1.029 |");
  EXPECT_EQ(WorkersRow("100,000, as it is", 100'000, true),
            "| 100,000, as it is | 1.002 | 1.010 | 1.014 |");
}

// ---- A node that fails ----------------------------------------------------------------------------------------------

// A router that divides the hash by the number of next hops: which node a flow goes to.
uint32_t Divided(uint64_t flow, const std::vector<uint32_t>& nodes) { return nodes[HashOfFlow(flow) % nodes.size()]; }

// One with resilient hashing: a table of buckets, of which only those of the node that has gone are given to others.
class Resilient {
 public:
  explicit Resilient(uint32_t nodes) : table_(4096) {
    for (size_t i = 0; i < table_.size(); ++i) table_[i] = static_cast<uint32_t>(i % nodes);
  }
  void Fail(uint32_t node, const std::vector<uint32_t>& others) {
    size_t next = 0;
    for (uint32_t& bucket : table_)
      if (bucket == node) bucket = others[next++ % others.size()];
  }
  uint32_t NodeOf(uint64_t flow) const { return table_[HashOfFlow(flow) % table_.size()]; }

 private:
  std::vector<uint32_t> table_;
};

// Of the flows of nodes that live, those that go to another afterwards, which resets them.
std::string FailureRow(uint32_t nodes) {
  constexpr uint64_t kFlows = 200'000;
  std::vector<uint32_t> before(nodes);
  std::iota(before.begin(), before.end(), 0);
  std::vector<uint32_t> after(before.begin(), before.end() - 1);
  uint32_t failed = nodes - 1;
  Resilient resilient_before(nodes), resilient_after(nodes);
  resilient_after.Fail(failed, after);
  uint64_t lived = 0, moved = 0, resilient_lived = 0, resilient_moved = 0;
  for (uint64_t flow = 0; flow < kFlows; ++flow) {
    if (uint32_t node = Divided(flow, before); node != failed) {
      ++lived;
      moved += Divided(flow, after) != node;
    }
    if (uint32_t node = resilient_before.NodeOf(flow); node != failed) {
      ++resilient_lived;
      resilient_moved += resilient_after.NodeOf(flow) != node;
    }
  }
  auto percent = [](uint64_t part, uint64_t whole) { return absl::StrFormat("%.1f%%", 100.0 * static_cast<double>(part) / static_cast<double>(whole)); };
  return Row({absl::StrCat(nodes), percent(kFlows - lived, kFlows), percent(moved, lived), percent(resilient_moved, resilient_lived)});
}

TEST(Scaling, ANodeThatFailsTakesOthersFlowsAlongUnlessTheRouterIsResilient) {
  EXPECT_EQ(FailureRow(2),
            "| 2 | 50.1% | 0.0% | 0.0% |");
  EXPECT_EQ(FailureRow(4),
            "| 4 | 25.1% | 66.7% | 0.0% |");
  EXPECT_EQ(FailureRow(8),
            "| 8 | 12.4% | 85.8% | 0.0% |");
  EXPECT_EQ(FailureRow(16),
            "| 16 | 6.1% | 93.3% | 0.0% |");
}

// ---- Servers that several nodes choose for --------------------------------------------------------------------------

UpstreamConfig Configuration(BalanceMethod method, uint32_t servers, uint32_t without = UINT32_MAX) {
  UpstreamConfig config;
  config.balance = method;
  for (uint32_t i = 0; i < servers; ++i) {
    SocketAddress address = SocketAddress::Parse("10.0.0.1:1").value();
    address.set_port(static_cast<uint16_t>(7000 + i));
    if (i != without) config.servers.push_back({.address = address});
  }
  return config;
}

// Some nodes, each with an Upstream of its own: they know nothing of each other.
class Nodes {
 public:
  Nodes(uint32_t count, const UpstreamConfig& config) {
    for (uint32_t i = 0; i < count; ++i) nodes_.push_back(std::make_unique<Upstream>(config, MakeBalancer(config)));
  }
  // Of a client whose flow comes to this node: the server's port.
  uint16_t Choose(uint64_t node, uint64_t client) {
    Upstream& upstream = *nodes_[node];
    uint16_t server = upstream.Pick({{}, Mix(client), TimePoint()}).server.value();
    return upstream.server(server).address().port();
  }
  std::vector<uint64_t> ConnectionsByServer() const {
    std::vector<uint64_t> counts(nodes_[0]->size());
    for (const auto& node : nodes_)
      for (size_t i = 0; i < counts.size(); ++i) counts[i] += node->server(i).active();
    return counts;
  }

 private:
  std::vector<std::unique_ptr<Upstream>> nodes_;
};

std::string ServersRow(const char* name, BalanceMethod method) {
  std::vector<std::string> cells = {name};
  for (uint32_t nodes : {1u, 8u, 32u}) {
    Nodes all(nodes, Configuration(method, 40));
    for (uint64_t client = 0; client < 100'000; ++client) all.Choose(HashOfFlow(client) % nodes, client);
    cells.push_back(Three(MostOfMean(all.ConnectionsByServer())));
  }
  return Row(cells);
}

TEST(Scaling, NodesThatDoNotKnowOfEachOtherLoadServersAlike) {
  EXPECT_EQ(ServersRow("`round_robin`", BalanceMethod::kRoundRobin),
            "| `round_robin` | 1.000 | 1.002 | 1.006 |");
  EXPECT_EQ(ServersRow("`least_connections`", BalanceMethod::kLeastConnections),
            "| `least_connections` | 1.000 | 1.002 | 1.006 |");
  EXPECT_EQ(ServersRow("`maglev`", BalanceMethod::kMaglev),
            "| `maglev` | 1.034 | 1.034 | 1.034 |");
  EXPECT_EQ(ServersRow("`source_hash`", BalanceMethod::kSourceHash),
            "| `source_hash` | 1.055 | 1.055 | 1.055 |");
}

// Who comes back by another node, and finds the server that it had.
std::string ReturnRow(const char* name, BalanceMethod method) {
  constexpr uint32_t kServers = 40, kGone = 7;
  constexpr uint64_t kClients = 20'000;
  Nodes first(8, Configuration(method, kServers)), same(8, Configuration(method, kServers)), fewer(8, Configuration(method, kServers, kGone));
  std::vector<uint16_t> servers;
  for (uint64_t client = 0; client < kClients; ++client) servers.push_back(first.Choose(HashOfFlow(client) % 8, client));
  uint64_t found = 0, stayed = 0, could_stay = 0;
  for (uint64_t i = 0; i < kClients; ++i) {
    uint64_t client = i * 7919 % kClients;  // in another order
    uint16_t server = servers[client];
    uint64_t other_node = (HashOfFlow(client) + 1 + Mix(client) % 7) % 8;
    found += same.Choose(other_node, client) == server;
    uint16_t again = fewer.Choose(other_node, client);
    if (server == 7000 + kGone) continue;
    ++could_stay;
    stayed += again == server;
  }
  auto percent = [](uint64_t part, uint64_t whole) { return absl::StrFormat("%.1f%%", 100.0 * static_cast<double>(part) / static_cast<double>(whole)); };
  return Row({name, percent(found, kClients), percent(stayed, could_stay)});
}

TEST(Scaling, ConsistentMethodsAgreeOverNodes) {
  EXPECT_EQ(ReturnRow("`round_robin`", BalanceMethod::kRoundRobin),
            "| `round_robin` | 2.5% | 2.6% |");
  EXPECT_EQ(ReturnRow("`least_connections`", BalanceMethod::kLeastConnections),
            "| `least_connections` | 2.5% | 2.6% |");
  EXPECT_EQ(ReturnRow("`maglev`", BalanceMethod::kMaglev),
            "| `maglev` | 100.0% | 99.6% |");
  EXPECT_EQ(ReturnRow("`source_hash`", BalanceMethod::kSourceHash),
            "| `source_hash` | 100.0% | 100.0% |");
}

}  // namespace
}  // namespace ringmain
