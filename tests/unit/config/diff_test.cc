#include "config/diff.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

constexpr char kBase[] = R"(
workers: 1
admin: { listen: "127.0.0.1:9000" }
listeners:
  - { name: front, listen: "127.0.0.1:1", upstream: back }
upstreams:
  - name: back
    health_check: { interval: 2s }
    servers: [ { address: "10.0.0.1:1" }, { address: "10.0.0.2:1" } ]
)";

std::shared_ptr<const Config> Load(const std::string& text) {
  auto config = LoadText(text, "f");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

std::vector<std::string> Changes(const std::string& from, const std::string& to) {
  std::string text = kBase;
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return DescribeChanges(*Load(kBase), *Load(text.replace(at, from.size(), to)));
}

TEST(DescribeChanges, NothingOfTheSame) { EXPECT_TRUE(DescribeChanges(*Load(kBase), *Load(kBase)).empty()); }

TEST(DescribeChanges, ASentenceForEach) {
  struct {
    const char* from;
    const char* to;
    std::vector<std::string> sentences;
  } cases[] = {
      {"workers: 1", "workers: auto", {"workers: 1 -> auto"}},
      {"workers: 1", "log: { level: debug, format: json }\nworkers: 1", {"log.level: info -> debug", "log.format: text -> json"}},
      {"workers: 1", "busy_poll: 50us", {"workers: 1 -> auto", "busy_poll: off -> 50us"}},
      {"workers: 1", "metrics: { listen: \"127.0.0.1:5\" }\nworkers: 1", {"metrics.listen: off -> 127.0.0.1:5"}},
      {"workers: 1", "limits: { max_connections: 7, memory: 1GiB, buffer_per_direction: 1MiB }\nworkers: 1",
       {"limits.max_connections: auto -> 7", "limits.buffer_per_direction: 256KiB -> 1MiB", "limits.memory: auto -> 1GiB"}},
      {"workers: 1", "drain: { delay: 1s, timeout: 90s, close_idle: 1m }\nreload: { watch: on }\nworkers: 1",
       {"drain.delay: off -> 1s", "drain.timeout: 30s -> 90s", "drain.close_idle: off -> 1m", "reload.watch: off -> on"}},
      {"9000", "9001", {"admin.listen: 127.0.0.1:9000 -> 127.0.0.1:9001"}},
      {"127.0.0.1:9000\"", "127.0.0.1:9000\", token_file: /x", {"admin.token_file: none -> /x"}},
      {"upstream: back", "upstream: back, idle_timeout: 90s, max_connections: 5, keepalive: off, backlog: 9, half_closed_timeout: off",
       {"listener front: max_connections off -> 5", "listener front: idle_timeout off -> 90s",
        "listener front: half_closed_timeout 5m -> off", "listener front: keepalive 30s -> off", "listener front: backlog 4096 -> 9"}},
      {"upstream: back", "upstream: back, access: [ { allow: [ 10.0.0.0/8, 192.0.2.1 ] }, { deny: all } ], accept_rate: 90/m, "
                         "per_source: { max_connections: 3, accept_rate: { rate: 10/s, burst: 50 }, ipv6_prefix: 56 }",
       {"listener front: access none -> allow 10.0.0.0/8, allow 192.0.2.1/32, deny all",
        "listener front: accept_rate off -> 90/m burst 1", "listener front: per_source.max_connections off -> 3",
        "listener front: per_source.accept_rate off -> 10/s burst 50", "listener front: per_source.ipv6_prefix 64 -> 56"}},
      {"upstream: back", "upstream: back, bandwidth: { to_server: 1GiB/s, per_session: { to_client: 1536KiB/s } }",
       {"listener front: bandwidth.to_server off -> 1GiB/s", "listener front: bandwidth.per_session.to_client off -> 1536KiB/s"}},
      {"upstream: back", "upstream: back, client_idle_timeout: 1m, server_idle_timeout: 2m, max_lifetime: 1h, lifetime_jitter: 20%",
       {"listener front: client_idle_timeout off -> 1m", "listener front: server_idle_timeout off -> 2m",
        "listener front: max_lifetime off -> 1h", "listener front: lifetime_jitter 10% -> 20%"}},
      {"upstream: back", "upstream: back, socket: { keepalive_interval: 5s, keepalive_count: 4, user_timeout: 10s, congestion_control: bbr, "
                         "max_segment: 1400, mark: 7, dscp: 46, interface: eth0, mptcp: on, fast_open: 256, defer_accept: 5s }",
       {"listener front: socket.keepalive_interval default -> 5s", "listener front: socket.keepalive_count default -> 4",
        "listener front: socket.user_timeout off -> 10s", "listener front: socket.congestion_control default -> bbr",
        "listener front: socket.max_segment default -> 1400", "listener front: socket.mark off -> 7", "listener front: socket.dscp off -> 46",
        "listener front: socket.interface any -> eth0", "listener front: socket.mptcp off -> on", "listener front: socket.fast_open off -> 256",
        "listener front: socket.defer_accept off -> 5s"}},
      {"    servers", "    transparent: on\n    socket: { fast_open: on, dscp: 0 }\n    servers",
       {"upstream back: transparent off -> on", "upstream back: socket.dscp off -> 0", "upstream back: socket.fast_open off -> on"}},
      {"    servers", "    connect_total_timeout: 3s\n    servers", {"upstream back: connect_total_timeout off -> 3s"}},
      {"listen: \"127.0.0.1:1\"", "listen: [ \"127.0.0.1:1\", \"unix:/x\" ]", {"listener front: listen 127.0.0.1:1 -> 127.0.0.1:1, unix:/x"}},
      {"name: front", "name: other", {"listener front: removed", "listener other: added"}},
      {"10.0.0.2:1\"", "10.0.0.3:1\"", {"upstream back: server 10.0.0.2:1 removed", "upstream back: server 10.0.0.3:1 added"}},
      {"10.0.0.2:1\"", "10.0.0.2:1\", weight: 3", {"upstream back: server 10.0.0.2:1 weight 1 -> 3"}},
      {"    health_check: { interval: 2s }\n", "", {"upstream back: health_check tcp interval 2s timeout 1s rise 2 fall 3 -> none"}},
      {"health_check: { interval: 2s }", "health_check: { interval: 3s, fast_interval: 1s, timeout: 2s, rise: 1, fall: 4, jitter: 0%, start: down, port: 81 }",
       {"upstream back: health_check.interval 2s -> 3s", "upstream back: health_check.fast_interval off -> 1s",
        "upstream back: health_check.timeout 1s -> 2s", "upstream back: health_check.rise 2 -> 1", "upstream back: health_check.fall 3 -> 4",
        "upstream back: health_check.jitter 10% -> 0%", "upstream back: health_check.start up -> down",
        "upstream back: health_check.port the server's -> 81"}},
      {"{ interval: 2s }", "{ type: send_expect, send: \"a\\r\\n\", expect: { hex: \"00ff\" }, address: 10.0.0.9:5 }",
       {"upstream back: health_check.type tcp -> send_expect", "upstream back: health_check.address the server's -> 10.0.0.9:5",
        "upstream back: health_check.send none -> \"a\\r\\n\"", "upstream back: health_check.expect none -> \"\\x00\\xff\""}},
      {"{ interval: 2s }", "{ type: send_expect, expect: { pattern: \"^ok\" } }",
       {"upstream back: health_check.type tcp -> send_expect", "upstream back: health_check.expect none -> pattern \"^ok\""}},
      {"{ interval: 2s }", "{ type: http, method: HEAD, path: /up, host: a.b, status: [ 200-299, 304 ] }",
       {"upstream back: health_check.type tcp -> http", "upstream back: health_check.method GET -> HEAD",
        "upstream back: health_check.path / -> /up", "upstream back: health_check.host the server's -> a.b",
        "upstream back: health_check.status 200-399 -> 200-299,304"}},
      {"    servers", "    balance: least_connections\n    connect_timeout: 5s\n    connect_tries: 1\n    close_removed_after: 1m\n"
                      "    source_addresses: [ 10.0.0.9 ]\n    servers",
       {"upstream back: balance round_robin -> least_connections", "upstream back: connect_timeout 2s -> 5s",
        "upstream back: connect_tries 3 -> 1", "upstream back: source_addresses none -> 10.0.0.9",
        "upstream back: close_removed_after off -> 1m"}},
      {"{ address: \"10.0.0.1:1\" }, { address: \"10.0.0.2:1\" }", "{ address: \"10.0.0.2:1\" }, { address: \"10.0.0.1:1\" }",
       {"order of listeners, upstreams or servers"}},
  };
  for (const auto& c : cases) EXPECT_EQ(Changes(c.from, c.to), c.sentences) << c.to;
}

}  // namespace
}  // namespace ringmain
