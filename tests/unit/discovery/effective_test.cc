#include "discovery/effective.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

std::shared_ptr<const Config> Load(const std::string& upstream) {
  auto config = LoadText(absl::StrCat("listeners: [ { name: front, listen: \"127.0.0.1:1\", upstream: back } ]\nupstreams: [ { name: back, ",
                                      upstream, " } ]"), "f");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

FoundServer At(const std::string& address, uint32_t weight = 0, bool backup = false) {
  return {SocketAddress::Parse(address).value(), weight, backup};
}

std::vector<std::string> Servers(const EffectiveConfig& effective) {
  std::vector<std::string> list;
  for (const ServerConfig& server : effective.config->upstreams[0].servers)
    list.push_back(absl::StrCat(server.address.ToString(), " ", server.weight, server.backup ? " backup" : ""));
  return list;
}

using Texts = std::vector<std::string>;

TEST(PutIn, AfterThoseWithAddresses) {
  auto config = Load("servers: [ { dns: \"b:2\", weight: 3, backup: on }, { address: \"10.0.0.9:2\" }, { dns: \"a:2\" }, { dns: x.y, type: srv } ]");
  EXPECT_EQ(config->upstreams[0].servers.size(), 1u);
  EXPECT_EQ(Servers(PutIn(config, {})), Texts{"10.0.0.9:2 1"});
  Answers answers;
  answers[{"back", "a:2"}] = {At("10.0.0.1:2"), At("10.0.0.9:2")};
  answers[{"back", "b:2"}] = {At("10.0.0.1:2"), At("[::1]:2")};
  answers[{"back", "x.y"}] = {At("10.0.0.5:7", 200), At("10.0.0.6:7", 5, true)};
  answers[{"other", "a:2"}] = {At("10.0.0.7:2")};
  EffectiveConfig effective = PutIn(config, answers);
  EXPECT_EQ(Servers(effective), (Texts{"10.0.0.9:2 1", "10.0.0.1:2 3 backup", "[::1]:2 3 backup", "10.0.0.5:7 200", "10.0.0.6:7 5 backup"}));
  EXPECT_TRUE(effective.left_out.empty());
  EXPECT_EQ(effective.config->upstreams[0].names, config->upstreams[0].names);
}

TEST(PutIn, WithoutNamesTheSameObject) {
  auto config = Load("servers: [ { address: \"10.0.0.9:2\" } ]");
  EXPECT_EQ(PutIn(config, {}).config, config);
}

TEST(PutIn, WhatHasNoSourceIsLeftOut) {
  auto config = Load("source_addresses: [ 127.0.0.1 ], servers: [ { dns: \"a:2\" } ]");
  EffectiveConfig effective = PutIn(config, {{{"back", "a:2"}, {At("10.0.0.1:2"), At("[::1]:2"), At("[::2]:2")}}});
  EXPECT_EQ(Servers(effective), Texts{"10.0.0.1:2 1"});
  EXPECT_EQ(effective.left_out,
            Texts{"upstream back: name a:2: addresses left out: 2; source_addresses has none of their family"});
}

TEST(PutIn, NeverTooMany) {
  auto config = Load("servers: [ { address: \"10.0.0.9:2\" }, { dns: \"a:2\" }, { dns: \"b:2\" } ]");
  Answers answers;
  for (uint32_t i = 0; i < kMaxServers; ++i) {
    SocketAddress address = SocketAddress::Parse(absl::StrCat("10.1.", i / 256, ".", i % 256, ":2")).value();
    answers[{"back", "a:2"}].push_back({address});
  }
  answers[{"back", "b:2"}] = {At("10.9.0.1:2"), At("10.1.0.0:2")};
  EffectiveConfig effective = PutIn(config, answers);
  EXPECT_EQ(effective.config->upstreams[0].servers.size(), kMaxServers);
  ASSERT_EQ(effective.left_out.size(), 2u);
  EXPECT_NE(effective.left_out[0].find("name a:2: addresses left out: 1; at most 4096"), std::string::npos) << effective.left_out[0];
  EXPECT_NE(effective.left_out[1].find("name b:2: addresses left out: 1;"), std::string::npos) << effective.left_out[1];
}

}  // namespace
}  // namespace ringmain
