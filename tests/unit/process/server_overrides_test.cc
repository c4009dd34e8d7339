// What is changed of servers at run time: it holds until the configuration says something else of them.
#include "process/server_overrides.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

std::shared_ptr<const Config> Load(const std::string& first, const std::string& second = "") {
  auto config = LoadText("listeners: [{ name: l, listen: 127.0.0.1:1, upstream: u }]\nupstreams: [{ name: u, servers: [{ address: 10.0.0.1:1" +
                             first + " }, { address: 10.0.0.2:1" + second + " }] }]\n",
                         "f");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

ServerChange Change(std::optional<ServerState> state, std::optional<uint32_t> weight = std::nullopt) {
  return {.upstream = "u", .server = "10.0.0.1:1", .state = state, .weight = weight};
}

const ServerConfig& First(const std::shared_ptr<const Config>& config) { return config->upstreams[0].servers[0]; }

TEST(ServerOverrides, ComeOnTopOfTheConfiguration) {
  auto config = Load(", max_connections: 5");
  ServerOverrides overrides;
  EXPECT_EQ(overrides.Apply(config), config);
  ASSERT_TRUE(overrides.Add(*config, Change(ServerState::kDrain)).ok());
  ASSERT_TRUE(overrides.Add(*config, Change(std::nullopt, 9)).ok());
  auto running = overrides.Apply(config);
  EXPECT_EQ(First(running).state, ServerState::kDrain);
  EXPECT_EQ(First(running).weight, 9u);
  EXPECT_EQ(First(running).max_connections, 5u);
  EXPECT_EQ(running->upstreams[0].servers[1], config->upstreams[0].servers[1]);
  EXPECT_EQ(First(config).weight, 1u) << "a configuration is never changed";
}

TEST(ServerOverrides, CanBeTakenBack) {
  auto config = Load(", max_connections: 5");
  ServerOverrides overrides;
  ServerChange change = Change(ServerState::kDrain, 9);
  change.max_connections.emplace(std::nullopt);
  ASSERT_TRUE(overrides.Add(*config, change).ok());
  EXPECT_FALSE(First(overrides.Apply(config)).max_connections.has_value());
  ServerChange reset = Change(std::nullopt, 3);
  reset.reset = true;
  ASSERT_TRUE(overrides.Add(*config, reset).ok());
  EXPECT_EQ(First(overrides.Apply(config)).state, ServerState::kEnabled);
  EXPECT_EQ(First(overrides.Apply(config)).weight, 3u);
  ASSERT_TRUE(overrides.Add(*config, Change(std::nullopt, 1)).ok());
  EXPECT_EQ(overrides.Apply(config), config) << "as configured again";
}

TEST(ServerOverrides, AreOfServersThatThereAre) {
  auto config = Load("");
  ServerOverrides overrides;
  ServerChange change = Change(ServerState::kDrain);
  change.server = "10.0.0.3:1";
  EXPECT_EQ(overrides.Add(*config, change).message(), "upstream u has no server 10.0.0.3:1");
}

TEST(ServerOverrides, GiveWayToWhatTheFileSaysLater) {
  auto config = Load("");
  ServerOverrides overrides;
  ASSERT_TRUE(overrides.Add(*config, Change(ServerState::kDrain)).ok());
  overrides.KeepFor(*Load("", ", weight: 2"));
  EXPECT_EQ(First(overrides.Apply(config)).state, ServerState::kDrain) << "the other server's settings do not matter";
  overrides.KeepFor(*Load(", weight: 2"));
  EXPECT_EQ(First(overrides.Apply(config)).state, ServerState::kEnabled);
}

TEST(ServerOverrides, PassToASuccessor) {
  auto config = Load(", weight: 2");
  ServerOverrides overrides;
  ServerChange change = Change(ServerState::kDisabled, 7);
  change.max_connections.emplace(3);
  ASSERT_TRUE(overrides.Add(*config, change).ok());
  FrozenProcess process;
  FrozenUpstream& upstream = process.upstreams.emplace_back();
  upstream.name = "u";
  for (const char* address : {"10.0.0.1:1", "10.0.0.2:1"}) upstream.servers.emplace_back().address = address;
  overrides.Freeze(process);
  process.upstreams[0].servers[0].ejected_until = TimePoint(seconds(5));
  process.upstreams[0].servers[0].ejections = 2;
  absl::StatusOr<FrozenProcess> passed = DecodeProcess(Encode(process), 0);
  ASSERT_TRUE(passed.ok()) << passed.status();
  EXPECT_EQ(passed->upstreams[0].servers[0].ejected_until, TimePoint(seconds(5)));
  EXPECT_EQ(passed->upstreams[0].servers[0].ejections, 2u);
  ServerOverrides inherited = ServerOverrides::Inherit(*passed);
  EXPECT_EQ(*inherited.Apply(config), *overrides.Apply(config));
  inherited.KeepFor(*Load(", weight: 3"));
  EXPECT_EQ(First(inherited.Apply(config)).state, ServerState::kEnabled) << "the new process's file says something else";
}

}  // namespace
}  // namespace ringmain
