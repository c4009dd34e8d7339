#include "process/topology.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

constexpr char kBase[] = R"(
listeners:
  - { name: front, listen: "127.0.0.1:1", upstream: back, max_connections: 5 }
  - { name: side, listen: "127.0.0.1:2", upstream: other }
upstreams:
  - { name: back, servers: [ { address: "10.0.0.1:1" }, { address: "10.0.0.2:1", weight: 2 } ] }
  - { name: other, health_check: {}, servers: [ { address: "10.0.0.1:1" } ] }
)";

class TopologyTest : public testing::Test {
 protected:
  void Load(const std::string& text, size_t workers = 1) {
    auto config = LoadText(text, "f");
    ASSERT_TRUE(config.ok()) << config.status();
    before_ = now_;
    now_ = Topology(**config, before_, workers, time_);
  }
  static std::string Without(const std::string& what, const std::string& instead = "") {
    std::string text = kBase;
    size_t at = text.find(what);
    EXPECT_NE(at, std::string::npos);
    return text.replace(at, what.size(), instead);
  }
  std::vector<std::string> Draining() {
    std::vector<std::string> names;
    auto layout = now_.MakeLayout({{}, {}});
    for (const ListenerLayout& listener : layout->listeners)
      if (listener.draining) names.push_back(listener.config.name);
    for (const UpstreamLayout& upstream : layout->upstreams)
      for (const ServerLayout& server : upstream.servers)
        if (server.draining) names.push_back(upstream.metrics->name + "/" + server.metrics->name);
    return names;
  }

  TimePoint time_ = TimePoint(std::chrono::hours(1));
  Topology before_;
  Topology now_;
};

TEST_F(TopologyTest, WhatStaysKeepsItsObjects) {
  Load(kBase);
  Topology::ServerEntry server = now_.upstreams()[0].servers[1];
  server.server->Reserve();
  auto shared = now_.listener("front").shared;
  Load(Without("10.0.0.1:1\" }, {", "10.0.0.3:1\" }, {"));
  EXPECT_EQ(now_.listener("front").shared, shared);
  EXPECT_EQ(now_.listener("front").metrics, before_.listener("front").metrics);
  EXPECT_EQ(now_.upstreams()[0].servers[1].server, server.server);
  EXPECT_EQ(now_.upstreams()[0].servers[1].metrics, server.metrics);
  EXPECT_NE(now_.upstreams()[0].upstream, before_.upstreams()[0].upstream);
  EXPECT_EQ(now_.upstreams()[1].upstream, before_.upstreams()[1].upstream) << "nothing has changed there";
  EXPECT_FALSE(now_.SameRoute(now_.listener("front"), before_));
  EXPECT_TRUE(now_.SameRoute(now_.listener("side"), before_));
  EXPECT_NE(now_.upstreams()[1].servers[0].server, before_.upstreams()[0].servers[0].server) << "of another upstream";
}

TEST_F(TopologyTest, WhoIsLetInPassesToASuccessor) {
  std::string limits = "max_connections: 5, access: [ { allow: 10.0.0.0/8 }, { deny: all } ], accept_rate: { rate: 1/m, burst: 5 }, "
                       "per_source: { accept_rate: { rate: 1/m, burst: 3 } }";
  Load(Without("max_connections: 5", limits));
  const SocketAddress client = SocketAddress::ParseHost("10.1.2.3").value();
  auto let_in = [&](const Topology& topology) {  // of five, and of five from the client
    SharedListener& shared = *topology.listener("front").shared;
    int all = 0, client_s = 0;
    for (int i = 0; i < 5; ++i) {
      uint32_t entry;
      all += shared.accept_rate.TryTake(time_);
      client_s += shared.sources->Admit(client, time_, entry) == SourceTable::Verdict::kAdmitted;
    }
    return std::pair(all, client_s);
  };
  auto set_limits = [&](const Topology& topology) {
    const Topology::ListenerEntry& front = topology.listener("front");
    front.shared->SetLimits(front.config, 1000, time_);
  };
  set_limits(now_);
  EXPECT_TRUE(now_.listener("front").shared->accept_rate.TryTake(time_));
  uint32_t entry;
  now_.listener("front").shared->sources->Admit(client, time_, entry);
  FrozenProcess frozen;
  now_.Freeze(frozen, time_);

  Topology inherited = Topology::Inherit(frozen, 1, time_);
  const AccessRules rules = now_.listener("front").config.access;
  EXPECT_EQ(inherited.listener("front").config.access, rules);
  auto route = inherited.MakeAdoptedRoute({"front", "back", "10.0.0.1:1"}, 0, {});
  ASSERT_NE(route, nullptr);
  EXPECT_EQ(*route->access, rules);
  EXPECT_EQ(route->sources, nullptr);
  EXPECT_EQ(now_.MakeRoute(now_.listener("side"), 0, {})->access, nullptr);

  Topology next(*LoadText(Without("max_connections: 5", limits), "f").value(), inherited, 1, time_);
  set_limits(next);
  next.GoOnFrom(frozen, time_);
  EXPECT_EQ(next.MakeRoute(next.listener("front"), 0, {})->sources, next.listener("front").shared->sources.get());
  EXPECT_EQ(let_in(next), std::pair(4, 2));
}

TEST_F(TopologyTest, AServerDrainsUntilItsLastSessionAndMayComeBack) {
  Load(kBase);
  auto first = now_.upstreams()[0].servers[0].server;
  first->Reserve();
  Load(Without("{ address: \"10.0.0.1:1\" }, {", "{"));
  EXPECT_EQ(Draining(), std::vector<std::string>{"back/10.0.0.1:1"});
  time_ += seconds(100);
  now_.DropDrained(time_);
  EXPECT_TRUE(now_.has_draining());
  EXPECT_TRUE(now_.Overdue(time_).empty()) << "off";
  Load(kBase);
  EXPECT_EQ(now_.upstreams()[0].servers[0].server, first);
  EXPECT_FALSE(now_.has_draining());
  Load(Without("{ address: \"10.0.0.1:1\" }, {", "{"));
  first->Release();
  now_.DropDrained(time_);
  EXPECT_TRUE(now_.has_draining()) << "a session may be on its way";
  now_.DropDrained(time_ + Topology::kLeastDraining);
  EXPECT_FALSE(now_.has_draining());
}

TEST_F(TopologyTest, AnUpstreamAndAListenerMayLeave) {
  Load(kBase);
  now_.upstreams()[1].servers[0].server->Reserve();
  ASSERT_TRUE(now_.listener("side").shared->limit.TryAcquire());
  uint32_t number = now_.listener("side").shared->number;
  std::string one = Without("  - { name: side, listen: \"127.0.0.1:2\", upstream: other }\n");
  one = one.substr(0, one.find("  - { name: other"));
  auto shared = now_.listener("side").shared;
  auto server = now_.upstreams()[1].servers[0].server;
  Load(one);
  EXPECT_EQ(Draining(), (std::vector<std::string>{"side", "other/10.0.0.1:1"}));
  EXPECT_TRUE(now_.ProbeTargets().empty());
  time_ += seconds(5);
  EXPECT_TRUE(now_.DropDrained(time_).empty());
  Load(kBase);
  EXPECT_EQ(now_.listener("side").shared, shared) << "it came back";
  EXPECT_EQ(now_.upstreams()[1].servers[0].server, server);
  Load(one);
  shared->limit.Release();
  server->Release();
  time_ += seconds(5);
  EXPECT_EQ(now_.DropDrained(time_), std::vector<uint32_t>{number});
  EXPECT_TRUE(Draining().empty());
  Load(kBase);
  EXPECT_NE(now_.listener("side").shared->number, number) << "a number is not used again";
}

TEST_F(TopologyTest, OverdueServersAreThoseWithSessions) {
  std::string closing = Without("name: back,", "name: back, close_removed_after: 10s,");
  Load(closing);
  auto first = now_.upstreams()[0].servers[0].server;
  first->Reserve();
  std::string gone = closing;
  std::string what = "{ address: \"10.0.0.1:1\" }, {";
  Load(gone.replace(gone.find(what), what.size(), "{"));
  EXPECT_TRUE(now_.Overdue(time_ + milliseconds(9999)).empty());
  ASSERT_EQ(now_.Overdue(time_ + seconds(10)).size(), 1u);
  EXPECT_EQ(now_.Overdue(time_ + seconds(10))[0], first);
  first->Release();
  EXPECT_TRUE(now_.Overdue(time_ + seconds(10)).empty());
}

TEST_F(TopologyTest, OnlyAServerThatIsNewMayStartDown) {
  Load(kBase);
  std::string down = Without("health_check: {}, servers: [", "health_check: { start: down }, servers: [ { address: \"10.0.0.9:1\" },");
  Load(down);
  EXPECT_FALSE(now_.upstreams()[1].servers[0].server->up());
  EXPECT_TRUE(now_.upstreams()[1].servers[1].server->up()) << "it was there before";
  Load(down);
  EXPECT_FALSE(now_.upstreams()[1].servers[0].server->up());
  now_.upstreams()[1].servers[0].server->set_up(true);
  Load(down);
  EXPECT_TRUE(now_.upstreams()[1].servers[0].server->up());

  FrozenProcess process;
  now_.upstreams()[1].servers[1].server->set_up(false);
  now_.Freeze(process, TimePoint());
  now_ = Topology::Inherit(process, 1, time_);
  Load(down);
  EXPECT_TRUE(now_.upstreams()[1].servers[0].server->up()) << "known to the process before";
  EXPECT_FALSE(now_.upstreams()[1].servers[1].server->up());
  now_ = {};
  Load(down);
  EXPECT_FALSE(now_.upstreams()[1].servers[0].server->up());
}

TEST_F(TopologyTest, ProbesComeFromSourcesOfTheFamilyOfWhatIsChecked) {
  Load(Without("{ name: other, health_check: {},", "{ name: other, source_addresses: [ 10.0.0.5, \"::5\" ], health_check: { address: \"[::1]:9\" },"));
  std::vector<ProbeTarget> targets = now_.ProbeTargets();
  ASSERT_EQ(targets.size(), 1u);
  ASSERT_EQ(targets[0].sources.size(), 1u);
  EXPECT_EQ(targets[0].sources[0].host(), "::5");
}

TEST_F(TopologyTest, RoutesPointToWhatTheyOwn) {
  Load(kBase);
  now_.GrowTo(4);
  auto route = now_.MakeRoute(now_.listener("front"), 3, PortRange());
  EXPECT_EQ(route->upstream->name(), "back");
  EXPECT_EQ(route->listener_cells, &route->listener_metrics->cells[3]);
  EXPECT_EQ(route->servers.size(), 2u);
  EXPECT_EQ(route->servers[1].cells, &route->server_metrics[1]->cells[3]);
  EXPECT_EQ(route->names->servers[1], "10.0.0.2:1");
  EXPECT_EQ(route->shared->limit.max(), 5u);
}

}  // namespace
}  // namespace ringmain
