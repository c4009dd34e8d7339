// Names in place of addresses: how they are written, and what is told of mistakes and changes.
#include "config/dns_name.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "config/diff.h"

namespace ringmain {
namespace {

constexpr char kListeners[] = "listeners: [{ name: l, listen: 127.0.0.1:8080, upstream: u }]\n";
constexpr char kForm[] = "; write db.example.org:5432";

TEST(DnsName, WhatIsOne) {
  for (const char* text : {"localhost:1", "db.example.org:5432", "db.example.org.:65535", "_x-1.y:7", "10.0.0.1x:80", "XN--abc.de:1"}) {
    auto name = ParseDnsName(text, DnsType::kAny);
    ASSERT_TRUE(name.ok()) << name.status();
    EXPECT_EQ(name->ToString(), text);
  }
  auto service = ParseDnsName("_pg._tcp.example.org", DnsType::kSrv);
  ASSERT_TRUE(service.ok()) << service.status();
  EXPECT_EQ(service->ToString(), "_pg._tcp.example.org");
  EXPECT_EQ(service->port, 0);
}

TEST(DnsName, WhatIsNone) {
  const std::pair<std::string, std::string> cases[] = {
      {"db", "'db' has no port"},
      {":80", "':80' has no host name"},
      {".:80", "'.:80' has no host name"},
      {"db:", "'db:' has no valid port (1 to 65535)"},
      {"db:0", "'db:0' has no valid port (1 to 65535)"},
      {"db:65536", "'db:65536' has no valid port (1 to 65535)"},
      {"db:1x", "'db:1x' has no valid port (1 to 65535)"},
      {"a..b:1", "'a..b:1' has an empty part between its dots"},
      {absl::StrCat(std::string(64, 'a'), ":1"), absl::StrCat("'", std::string(64, 'a'), ":1' has a part longer than 63 characters")},
      {"a b:1", "'a b:1' is no host name, which has letters, digits, '-', '_' and dots"},
      {"[::1]:1", "'[::1]:1' is no host name, which has letters, digits, '-', '_' and dots"},
      {"b\xc3\xbc.de:1", "'b\xc3\xbc.de:1' is not ASCII (write the xn-- form of an international name)"},
      {"10.0.0.1:80", "'10.0.0.1:80' is an IP address or a number, not a host name"},
      {"10.0.0.300:80", "'10.0.0.300:80' is an IP address or a number, not a host name"},
  };
  for (const auto& [text, what] : cases)
    EXPECT_EQ(std::string(ParseDnsName(text, DnsType::kA).status().message()), absl::StrCat(what, kForm));
  std::string longest;
  for (int i = 0; i < 127; ++i) longest += "a.";
  EXPECT_FALSE(ParseDnsName(longest + "a:1", DnsType::kAny).ok());
  EXPECT_TRUE(ParseDnsName(longest.substr(0, 252) + "a:1", DnsType::kAny).ok());
  EXPECT_EQ(std::string(ParseDnsName("_x._tcp.y:80", DnsType::kSrv).status().message()),
            "'_x._tcp.y:80' has a port, which SRV records say; write _pg._tcp.example.org");
}

TEST(DnsConfig, IsRead) {
  auto config = LoadText(absl::StrCat(kListeners,
                                      "upstreams:\n"
                                      "  - name: u\n"
                                      "    dns: { resolvers: [ 127.0.0.53, \"[::1]:5300\" ], min_ttl: 1s, max_ttl: 1h, timeout: 500ms, tries: 2 }\n"
                                      "    servers:\n"
                                      "      - { dns: \"db.example.org:5432\", type: aaaa, weight: 7, backup: on }\n"
                                      "      - { address: \"10.0.0.1:5432\" }\n"
                                      "      - { dns: _pg._tcp.example.org, type: srv }\n"
                                      "  - { name: v, servers: [ { dns: \"a.b:1\" } ] }\n"),
                         "f");
  ASSERT_TRUE(config.ok()) << config.status();
  const UpstreamConfig& first = (*config)->upstreams[0];
  ASSERT_EQ(first.servers.size(), 1u);
  ASSERT_EQ(first.names.size(), 2u);
  EXPECT_EQ(first.names[0].host, "db.example.org");
  EXPECT_EQ(first.names[0].port, 5432);
  EXPECT_EQ(first.names[0].type, DnsType::kAaaa);
  EXPECT_EQ(first.names[0].each.weight, 7u);
  EXPECT_TRUE(first.names[0].each.backup);
  EXPECT_EQ(first.names[1].type, DnsType::kSrv);
  ASSERT_EQ(first.dns.resolvers.size(), 2u);
  EXPECT_EQ(first.dns.resolvers[0].ToString(), "127.0.0.53:53");
  EXPECT_EQ(first.dns.resolvers[1].ToString(), "[::1]:5300");
  EXPECT_EQ(first.dns.min_ttl, seconds(1));
  EXPECT_EQ(first.dns.max_ttl, std::chrono::hours(1));
  EXPECT_EQ(first.dns.timeout, milliseconds(500));
  EXPECT_EQ(first.dns.tries, 2u);
  const UpstreamConfig& second = (*config)->upstreams[1];
  EXPECT_TRUE(second.servers.empty()) << "until they are found";
  EXPECT_EQ(second.names.at(0).type, DnsType::kAny);
  EXPECT_EQ(second.dns, DnsConfig());
}

TEST(DnsConfig, Mistakes) {
  const std::pair<std::string, std::string> cases[] = {
      {"servers: [ { dns: db } ]", "3:23: dns: 'db' has no port; write db.example.org:5432"},
      {"servers: [ { dns: [ a ] } ]", "3:23: dns must be a single value, not a list"},
      {"servers: [ { dns: \"a:1\", address: \"1.1.1.1:1\" } ]", "3:39: a server has either address or dns; make two of it"},
      {"servers: [ { dns: \"a:1\", type: mx } ]", "3:36: type: 'mx' is not known; write any or a or aaaa or srv"},
      {"servers: [ { dns: \"a:1\", type: srv } ]", "3:23: dns: 'a:1' has a port, which SRV records say; write _pg._tcp.example.org"},
      {"servers: [ { dns: a, type: srv, weight: 2 } ]", "3:45: weight: SRV records say the weight of each server; leave it out"},
      {"servers: [ { dns: \"a:1\" }, { dns: \"a:1\", type: a } ]", "3:39: name 'a:1' is already used at line 3"},
      {"servers: [ { dns: \"a:1\", tpye: a } ]", "3:30: unknown key 'tpye'; did you mean 'type'?"},
      {"servers: [ { address: \"db.org:1\" } ]",
       "3:27: address: 'db.org:1' is a host name; write dns: db.org:1 to have it looked up"},
      {"servers: [ { dns: \"a:1\" } ]\n    dns: { resolvers: [] }", "4:23: resolvers is empty; it needs at least one item"},
      {"servers: [ { dns: \"a:1\" } ]\n    dns: { resolvers: [ dns.org:53 ] }",
       "4:25: a resolver: 'dns.org:53' is not the address of one; write 127.0.0.53:53, 10.0.0.2 or [::1]:53"},
      {"servers: [ { dns: \"a:1\" } ]\n    dns: { resolvers: [ 1.1.1.1, \"1.1.1.1:53\" ] }",
       "4:34: resolver '1.1.1.1:53' is already used at line 4"},
      {"servers: [ { dns: \"a:1\" } ]\n    dns: { min_ttl: 1h }",
       "4:10: dns: min_ttl, 1h, is longer than max_ttl, 5m; make it shorter or max_ttl longer"},
      {"servers: [ { dns: \"a:1\" } ]\n    dns: { tries: 0 }", "4:19: tries: '0' is out of range; write 1 to 10"},
      {"servers: [ { dns: \"a:1\" } ]\n    dns: { timeout: 1ms }", "4:21: timeout: '1ms' is out of range; write 10ms to 1m"},
  };
  for (const auto& [text, error] : cases) {
    std::string whole = absl::StrCat("upstreams:\n  - name: u\n    ", text, "\n", kListeners);
    EXPECT_EQ(std::string(LoadText(whole, "f").status().message()), absl::StrCat("f:", error)) << text;
  }
}

TEST(DnsConfig, ChangesAreTold) {
  auto load = [](const std::string& upstream) {
    auto config = LoadText(absl::StrCat(kListeners, "upstreams: [ { name: u, ", upstream, " } ]\n"), "f");
    EXPECT_TRUE(config.ok()) << config.status();
    return *config;
  };
  auto changes = [&](const std::string& before, const std::string& after) { return DescribeChanges(*load(before), *load(after)); };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(changes("servers: [ { dns: \"a:1\" } ]", "servers: [ { dns: \"b:1\" } ]"),
            (Texts{"upstream u: name a:1 removed", "upstream u: name b:1 added"}));
  EXPECT_EQ(changes("servers: [ { dns: \"a:1\" } ]", "servers: [ { dns: \"a:1\", type: a, weight: 2, backup: on } ]"),
            (Texts{"upstream u: name a:1 type any -> a", "upstream u: name a:1 weight 1 -> 2", "upstream u: name a:1 backup off -> on"}));
  EXPECT_EQ(changes("servers: [ { dns: \"a:1\" } ]",
                    "dns: { resolvers: [ 1.1.1.1 ], min_ttl: 1s, max_ttl: 1m, timeout: 1s, tries: 1 }, servers: [ { dns: \"a:1\" } ]"),
            (Texts{"upstream u: dns.resolvers system -> 1.1.1.1:53", "upstream u: dns.min_ttl 5s -> 1s", "upstream u: dns.max_ttl 5m -> 1m",
                   "upstream u: dns.timeout 2s -> 1s", "upstream u: dns.tries 3 -> 1"}));
  EXPECT_EQ(changes("servers: [ { address: \"1.1.1.1:1\" } ]", "servers: [ { address: \"1.1.1.1:1\", backup: on } ]"),
            Texts{"upstream u: server 1.1.1.1:1 backup off -> on"});
}

TEST(DnsConfig, OnTheCommandLine) {
  auto config = FromCommandLine("0.0.0.0:8080", "127.0.0.1:1,db.example.org:5432,unix:/x", "");
  ASSERT_TRUE(config.ok()) << config.status();
  const UpstreamConfig& upstream = (*config)->upstreams.at(0);
  EXPECT_EQ(upstream.servers.size(), 2u);
  ASSERT_EQ(upstream.names.size(), 1u);
  EXPECT_EQ(upstream.names[0].ToString(), "db.example.org:5432");
  EXPECT_EQ(std::string(FromCommandLine("0.0.0.0:1", "db:1,db:1", "").status().message()),
            "--to: address 'db:1' is there twice; write each server once");
}

}  // namespace
}  // namespace ringmain
