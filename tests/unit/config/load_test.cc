// What a valid configuration becomes: every default, every key, every form.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "config/config.h"

namespace ringmain {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

constexpr char kSmallest[] =
    "listeners:\n"
    "  - { name: l, listen: 127.0.0.1:8080, upstream: u }\n"
    "upstreams:\n"
    "  - { name: u, servers: [{ address: 127.0.0.1:7001 }] }\n";

std::shared_ptr<const Config> Load(const std::string& yaml) {
  auto config = LoadText(yaml, "test.yaml");
  EXPECT_TRUE(config.ok()) << config.status().message() << "\n" << yaml;
  return config.ok() ? *config : std::make_shared<const Config>();
}

TEST(LoadTest, HasTheDocumentedDefaults) {
  auto config = Load(kSmallest);
  EXPECT_EQ(config->workers, std::nullopt);
  EXPECT_EQ(config->busy_poll, microseconds(0));
  EXPECT_EQ(config->admin_listen.ToString(), "127.0.0.1:9900");
  EXPECT_FALSE(config->metrics_listen.has_value());
  EXPECT_EQ(config->log.level, LogLevel::kInfo);
  EXPECT_EQ(config->log.format, LogFormat::kText);
  EXPECT_EQ(config->limits.max_connections, std::nullopt);
  EXPECT_EQ(config->limits.buffer_per_direction_bytes, 256u << 10);
  EXPECT_EQ(config->limits.memory_bytes, std::nullopt);
  EXPECT_EQ(config->drain.delay, milliseconds(0));
  EXPECT_EQ(config->drain.timeout, seconds(30));

  ASSERT_EQ(config->listeners.size(), 1u);
  const ListenerConfig& listener = config->listeners[0];
  EXPECT_EQ(listener.name, "l");
  ASSERT_EQ(listener.listen.size(), 1u);
  EXPECT_EQ(listener.listen[0].ToString(), "127.0.0.1:8080");
  EXPECT_EQ(listener.upstream, "u");
  EXPECT_EQ(listener.max_connections, std::nullopt);
  EXPECT_EQ(listener.idle_timeout, milliseconds(0));
  EXPECT_EQ(listener.half_closed_timeout, minutes(5));
  EXPECT_EQ(listener.keepalive, seconds(30));
  EXPECT_EQ(listener.backlog, 4096u);

  ASSERT_EQ(config->upstreams.size(), 1u);
  const UpstreamConfig& upstream = config->upstreams[0];
  EXPECT_EQ(upstream.name, "u");
  EXPECT_EQ(upstream.balance, BalanceMethod::kRoundRobin);
  EXPECT_EQ(upstream.connect_timeout, seconds(2));
  EXPECT_EQ(upstream.connect_tries, 3u);
  EXPECT_FALSE(upstream.health_check.has_value());
  EXPECT_TRUE(upstream.source_addresses.empty());
  ASSERT_EQ(upstream.servers.size(), 1u);
  EXPECT_EQ(upstream.servers[0].address.ToString(), "127.0.0.1:7001");
  EXPECT_EQ(upstream.servers[0].weight, 1u);
}

TEST(LoadTest, ReadsEveryKey) {
  auto config = Load(R"(
workers: 4
busy_poll: 50us
admin: { listen: "0.0.0.0:9000", token_file: /run/secrets/token }
metrics: { listen: "[::]:9001" }
log: { level: warn, format: json }
limits: { max_connections: 50000, buffer_per_direction: 64KiB, memory: 1GiB }
drain: { delay: 5s, timeout: 10m }
listeners:
  - name: first
    listen: [0.0.0.0:8080, "[::]:8080", unix:/run/x.sock]
    upstream: two
    max_connections: 10000
    idle_timeout: 10m
    half_closed_timeout: off
    keepalive: 1m
    backlog: 128
  - name: second
    listen: 0.0.0.0:8081
    upstream: one
    idle_timeout: off
    keepalive: off
    max_connections: off
upstreams:
  - name: one
    balance: round_robin
    servers: [{ address: "unix:/run/y.sock" }]
  - name: two
    balance: least_connections
    connect_timeout: 250ms
    connect_tries: 8
    health_check: { type: tcp, interval: 500ms, timeout: 1s, rise: 1, fall: 5 }
    source_addresses: [127.0.0.2, 10.0.0.1, "::1"]
    servers:
      - { address: 127.0.0.1:7001, weight: 256 }
      - { address: "[::1]:7001" }
)");
  EXPECT_EQ(config->workers, 4u);
  EXPECT_EQ(config->busy_poll, microseconds(50));
  EXPECT_EQ(config->admin_listen.ToString(), "0.0.0.0:9000");
  EXPECT_EQ(config->admin_token_file, "/run/secrets/token");
  EXPECT_EQ(config->metrics_listen->ToString(), "[::]:9001");
  EXPECT_EQ(config->log.level, LogLevel::kWarn);
  EXPECT_EQ(config->log.format, LogFormat::kJson);
  EXPECT_EQ(config->limits.max_connections, 50000u);
  EXPECT_EQ(config->limits.buffer_per_direction_bytes, 64u << 10);
  EXPECT_EQ(config->limits.memory_bytes, 1u << 30);
  EXPECT_EQ(config->drain.delay, seconds(5));
  EXPECT_EQ(config->drain.timeout, minutes(10));

  ASSERT_EQ(config->listeners.size(), 2u);
  const ListenerConfig& first = config->listeners[0];
  ASSERT_EQ(first.listen.size(), 3u);
  EXPECT_EQ(first.listen[1].ToString(), "[::]:8080");
  EXPECT_EQ(first.listen[2].unix_path(), "/run/x.sock");
  EXPECT_EQ(first.upstream, "two");
  EXPECT_EQ(first.max_connections, 10000u);
  EXPECT_EQ(first.idle_timeout, minutes(10));
  EXPECT_EQ(first.half_closed_timeout, milliseconds(0));
  EXPECT_EQ(first.keepalive, seconds(60));
  EXPECT_EQ(first.backlog, 128u);
  const ListenerConfig& second = config->listeners[1];
  EXPECT_EQ(second.idle_timeout, milliseconds(0));
  EXPECT_EQ(second.keepalive, seconds(0));
  EXPECT_EQ(second.max_connections, std::nullopt);

  ASSERT_EQ(config->upstreams.size(), 2u);
  EXPECT_TRUE(config->upstreams[0].servers[0].address.is_unix());
  const UpstreamConfig& two = config->upstreams[1];
  EXPECT_EQ(two.balance, BalanceMethod::kLeastConnections);
  EXPECT_EQ(two.connect_timeout, milliseconds(250));
  EXPECT_EQ(two.connect_tries, 8u);
  ASSERT_TRUE(two.health_check.has_value());
  EXPECT_EQ(two.health_check->interval, milliseconds(500));
  EXPECT_EQ(two.health_check->timeout, seconds(1));  // longer than the interval: allowed
  EXPECT_EQ(two.health_check->rise, 1u);
  EXPECT_EQ(two.health_check->fall, 5u);
  ASSERT_EQ(two.source_addresses.size(), 3u);
  EXPECT_EQ(two.source_addresses[1].ToString(), "10.0.0.1:0");
  EXPECT_EQ(two.source_addresses[2].ToString(), "[::1]:0");
  EXPECT_EQ(two.servers[0].weight, 256u);
  EXPECT_EQ(two.servers[1].weight, 1u);
}

TEST(LoadTest, ReadsTimeouts) {
  auto config = Load(
      "listeners:\n"
      "  - { name: a, listen: 127.0.0.1:1, upstream: u, client_idle_timeout: 1m, server_idle_timeout: 2m, max_lifetime: 24h,\n"
      "      lifetime_jitter: 50% }\n"
      "  - { name: b, listen: 127.0.0.1:3, upstream: u, client_idle_timeout: off, server_idle_timeout: off, max_lifetime: off }\n"
      "upstreams: [{ name: u, connect_total_timeout: 5s, servers: [{ address: 127.0.0.1:2 }] }]\n");
  const ListenerConfig& a = config->listeners[0];
  EXPECT_EQ(a.client_idle_timeout, minutes(1));
  EXPECT_EQ(a.server_idle_timeout, minutes(2));
  EXPECT_EQ(a.max_lifetime, std::chrono::hours(24));
  EXPECT_EQ(a.lifetime_jitter_percent, 50u);
  const ListenerConfig& b = config->listeners[1];
  EXPECT_EQ(b.client_idle_timeout + b.server_idle_timeout + b.max_lifetime, milliseconds(0));
  EXPECT_EQ(b.lifetime_jitter_percent, 10u);
  EXPECT_EQ(config->upstreams[0].connect_total_timeout, seconds(5));
}

TEST(LoadTest, ReadsSocketOptions) {
  auto config = Load(
      "listeners:\n"
      "  - name: a\n"
      "    listen: 127.0.0.1:1\n"
      "    upstream: u\n"
      "    socket: { keepalive_interval: 10s, keepalive_count: 3, user_timeout: 1500ms, congestion_control: bbr, max_segment: 1400,\n"
      "              mark: 4294967295, dscp: 63, interface: eth0.7, mptcp: on, fast_open: 256, defer_accept: 5s }\n"
      "  - { name: b, listen: 127.0.0.1:3, upstream: u, socket: { mark: off, dscp: off, mptcp: off, fast_open: off, defer_accept: off } }\n"
      "upstreams: [{ name: u, transparent: on, socket: { dscp: 0, fast_open: on }, servers: [{ address: 127.0.0.1:2 }] }]\n");
  SocketOptions all{seconds(10), 3, milliseconds(1500), "bbr", 1400, 4294967295, 63, "eth0.7", true, 256, seconds(5)};
  EXPECT_EQ(config->listeners[0].socket, all);
  EXPECT_EQ(config->listeners[1].socket, SocketOptions());
  const UpstreamConfig& upstream = config->upstreams[0];
  EXPECT_TRUE(upstream.transparent);
  EXPECT_EQ(upstream.socket.dscp, 0);
  EXPECT_EQ(upstream.socket.fast_open, 1u);
}

TEST(LoadTest, AnEmptyHealthCheckHasTheDefaults) {
  auto config = Load(
      "listeners: [{ name: l, listen: 127.0.0.1:1, upstream: u }]\n"
      "upstreams: [{ name: u, health_check: {}, servers: [{ address: 127.0.0.1:2 }] }]\n");
  const auto& check = config->upstreams[0].health_check;
  ASSERT_TRUE(check.has_value());
  EXPECT_EQ(check->type, HealthCheckType::kTcp);
  EXPECT_EQ(check->interval, seconds(2));
  EXPECT_EQ(check->timeout, seconds(1));
  EXPECT_EQ(check->rise, 2u);
  EXPECT_EQ(check->fall, 3u);
}

TEST(LoadTest, TakesTheEndsOfEveryRange) {
  const std::string smallest = kSmallest;
  for (const char* line : {"workers: 1",
                           "workers: 256",
                           "workers: auto",
                           "limits: { max_connections: 1 }",
                           "limits: { max_connections: 10000000 }",
                           "limits: { buffer_per_direction: 16KiB }",
                           "limits: { buffer_per_direction: 64MiB }",
                           "limits: { memory: 1MiB }",
                           "limits: { memory: 64TiB }",
                           "drain: { delay: 0s, timeout: 0s }",
                           "drain: { delay: 1h, timeout: 168h }",
                           "metrics: { listen: off }",
                           "admin: {}",
                           "metrics: {}",
                           "log: {}",
                           "limits: {}",
                           "drain: {}",
                           "log: { level: trace }",
                           "log: { level: debug }",
                           "log: { level: error }",
                           "\"workers\": '2'",
                           "admin: { listen: 127.0.0.1:0 }"})
    Load(line + ("\n" + smallest));
  for (const char* keys : {"idle_timeout: 1ms", "idle_timeout: 8760h", "half_closed_timeout: 1ms", "keepalive: 1s",
                           "keepalive: 9h", "keepalive: 2000ms", "backlog: 1", "backlog: 65535", "max_connections: 1"})
    Load("listeners: [{ name: l, listen: 127.0.0.1:1, upstream: u, " + std::string(keys) + " }]\n" +
         smallest.substr(smallest.find("upstreams")));
  for (const char* keys : {"connect_timeout: 1ms", "connect_timeout: 1h", "connect_tries: 1", "connect_tries: 8",
                           "health_check: { interval: 10ms, timeout: 1ms, rise: 1, fall: 1 }",
                           "health_check: { interval: 24h, timeout: 1h, rise: 100, fall: 100 }"})
    Load(smallest.substr(0, smallest.find("upstreams")) + "upstreams: [{ name: u, " + keys +
         ", servers: [{ address: 127.0.0.1:7001 }] }]\n");
}

TEST(LoadTest, PortZeroMayRepeat) {
  auto config = Load(
      "admin: { listen: 127.0.0.1:0 }\n"
      "metrics: { listen: 127.0.0.1:0 }\n"
      "listeners: [{ name: l, listen: [127.0.0.1:0, 127.0.0.1:0], upstream: u }]\n"
      "upstreams: [{ name: u, servers: [{ address: 127.0.0.1:2 }] }]\n");
  EXPECT_EQ(config->listeners[0].listen.size(), 2u);
}

TEST(LoadTest, TwoUpstreamsMayShareAServer) {
  Load(
      "listeners: [{ name: l, listen: 127.0.0.1:1, upstream: u }]\n"
      "upstreams:\n"
      "  - { name: u, servers: [{ address: 127.0.0.1:2 }] }\n"
      "  - { name: v, servers: [{ address: 127.0.0.1:2 }] }\n");
}

TEST(LoadTest, ReadsAnchorsAndAliases) {
  auto config = Load(
      "listeners: [{ name: l, listen: 127.0.0.1:1, upstream: u }]\n"
      "upstreams:\n"
      "  - name: u\n"
      "    health_check: &check { interval: 3s }\n"
      "    servers: &servers [{ address: 127.0.0.1:2 }, { address: 127.0.0.1:3 }]\n"
      "  - name: v\n"
      "    health_check: *check\n"
      "    servers: *servers\n");
  ASSERT_EQ(config->upstreams.size(), 2u);
  EXPECT_EQ(config->upstreams[1].health_check->interval, seconds(3));
  EXPECT_EQ(config->upstreams[1].servers.size(), 2u);
}

TEST(LoadTest, TakesOtherWaysToWriteTheSame) {
  std::string text = kSmallest;
  Load("---\n" + text);
  Load("%YAML 1.2\n---\n" + text + "...\n");
  Load("\xef\xbb\xbf" + text);  // a byte-order mark
  Load("# a comment, with an umlaut: \xc3\xbc\n" + text);
  std::string crlf;
  for (char c : text) crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
  Load(crlf);
  Load(R"({"listeners":[{"name":"l","listen":"127.0.0.1:8080","upstream":"u"}],
           "upstreams":[{"name":"u","servers":[{"address":"127.0.0.1:7001"}]}]})");
}

TEST(LoadTest, ReadsWhoIsLetIn) {
  auto of = [](const std::string& keys) {
    return Load("listeners: [{ name: l, listen: 127.0.0.1:8080, upstream: u" + keys +
                " }]\nupstreams: [{ name: u, servers: [{ address: 127.0.0.1:7001 }] }]\n")
        ->listeners[0];
  };
  ListenerConfig open = of("");
  EXPECT_TRUE(open.access.empty());
  EXPECT_FALSE(open.accept_rate.has_value());
  EXPECT_EQ(open.per_source, PerSourceConfig());
  EXPECT_FALSE(open.per_source.on());
  EXPECT_EQ(open, of(", accept_rate: off, per_source: { max_connections: off, accept_rate: off, ipv6_prefix: 64 }"));

  ListenerConfig limited = of(", access: [{ allow: [192.0.2.0/24, \"2001:db8::/32\"] }, { deny: all }], accept_rate: { rate: 1000/s, burst: 2000 }, "
                              "per_source: { max_connections: 100, accept_rate: 10/s, ipv6_prefix: 56 }");
  std::vector<AccessRule> access{{true, Network::Parse("192.0.2.0/24").value()}, {true, Network::Parse("2001:db8::/32").value()}, {false, {}}};
  EXPECT_EQ(limited.access, access);
  EXPECT_EQ(limited.accept_rate, (RateConfig{60'000, 2000}));
  EXPECT_EQ(limited.per_source, (PerSourceConfig{100, RateConfig{600, 10}, 56}));
  EXPECT_TRUE(limited.per_source.on());
  EXPECT_EQ(of(", bandwidth: { to_server: off, to_client: off, per_session: { to_server: off, to_client: off } }"), open);
  EXPECT_EQ(of(", bandwidth: { to_client: 10MiB/s, per_session: { to_server: 1KiB/s } }").bandwidth,
            (BandwidthConfig{.listener = {.to_client = 10 << 20}, .per_session = {.to_server = 1024}}));
  EXPECT_EQ(of(", accept_rate: 30/m").accept_rate, (RateConfig{30, 1})) << "at least one at once";
  EXPECT_EQ(of(", accept_rate: { rate: 7/s }").accept_rate, (RateConfig{420, 7}));
}

TEST(LoadTest, ReadsAFile) {
  std::string path = testing::TempDir() + "ringmain_load_test_" + std::to_string(getpid()) + ".yaml";
  std::ofstream(path) << kSmallest;
  auto config = LoadFile(path);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*config)->listeners[0].name, "l");
  std::ofstream(path) << "wrokers: 3\n" << kSmallest;
  EXPECT_EQ(std::string(LoadFile(path).status().message()),
            path + ":1:1: unknown key 'wrokers'; did you mean 'workers'?");
  std::ofstream(path) << std::string(kMaxConfigFileBytes + 1, '#');
  EXPECT_EQ(std::string(LoadFile(path).status().message()), path + ": larger than 4 MiB; this is not a configuration");
  unlink(path.c_str());
  EXPECT_EQ(std::string(LoadFile(path).status().message()), path + ": No such file or directory");
  EXPECT_EQ(std::string(LoadFile(testing::TempDir()).status().message()), testing::TempDir() + ": Is a directory");
  EXPECT_EQ(std::string(LoadFile("/dev/zero").status().message()),
            "/dev/zero: larger than 4 MiB; this is not a configuration");
  EXPECT_EQ(LoadFile("").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ToStringTest, NamesEveryChoice) {
  EXPECT_EQ(ToString(BalanceMethod::kRoundRobin), "round_robin");
  EXPECT_EQ(ToString(BalanceMethod::kLeastConnections), "least_connections");
  EXPECT_EQ(ToString(LogFormat::kText), "text");
  EXPECT_EQ(ToString(LogFormat::kJson), "json");
  EXPECT_EQ(ToString(LogLevel::kTrace), "trace");
  EXPECT_EQ(ToString(LogLevel::kDebug), "debug");
  EXPECT_EQ(ToString(LogLevel::kInfo), "info");
  EXPECT_EQ(ToString(LogLevel::kWarn), "warn");
  EXPECT_EQ(ToString(LogLevel::kError), "error");
}

}  // namespace
}  // namespace ringmain
