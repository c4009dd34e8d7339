// Every mistake in a configuration file, with its place and its words: YAML in, lines out.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "config/config.h"

namespace ringmain {
namespace {

struct Case {
  std::string yaml;
  std::vector<std::string> errors;  // `line:col: message`
};

// Complete the rest of a file whose beginning is under test.
constexpr char kListeners[] = "listeners: [{ name: l, listen: 127.0.0.1:8080, upstream: u }]\n";
constexpr char kUpstreams[] = "upstreams: [{ name: u, servers: [{ address: 127.0.0.1:7001 }] }]\n";

std::string ErrorsOf(const std::string& yaml, const std::string& file = "f") {
  return std::string(LoadText(yaml, file).status().message());
}

void Check(const std::vector<Case>& cases, const std::string& rest) {
  for (const Case& c : cases) {
    std::vector<std::string> lines;
    for (const std::string& error : c.errors) lines.push_back(absl::StrCat("f:", error));
    EXPECT_EQ(ErrorsOf(c.yaml + rest), absl::StrJoin(lines, "\n")) << c.yaml;
  }
}

TEST(ErrorsTest, OfTheTopLevel) {
  Check(
      {
          {"workers: 0\n", {"1:10: workers: '0' is out of range; write 1 to 256, or auto"}},
          {"workers: 257\n", {"1:10: workers: '257' is out of range; write 1 to 256, or auto"}},
          {"workers: 4294967297\n", {"1:10: workers: '4294967297' is out of range; write 1 to 256, or auto"}},
          {"workers: -1\n", {"1:10: workers: '-1' is not valid; write a whole number, or auto"}},
          {"workers: 1.5\n", {"1:10: workers: '1.5' is not valid; write a whole number, or auto"}},
          {"workers: Auto\n", {"1:10: workers: 'Auto' is not valid; write a whole number, or auto"}},
          {"workers: [1]\n", {"1:10: workers must be a single value, not a list"}},
          {"workers: {}\n", {"1:10: workers must be a single value, not a map"}},
          {"workers:\n", {"1:1: workers has no value; give it one or leave the key out"}},
          {"workers: ~\n", {"1:1: workers has no value; give it one or leave the key out"}},
          {"workers: null\n", {"1:1: workers has no value; give it one or leave the key out"}},
          {"workers: ''\n", {"1:10: workers: '' is not valid; write a whole number, or auto"}},
          {"workers: \"a\\nb\"\n", {"1:10: workers: 'a\\nb' is not valid; write a whole number, or auto"}},
          {"wrokers: 1\n", {"1:1: unknown key 'wrokers'; did you mean 'workers'?"}},
          {"listener: 1\n", {"1:1: unknown key 'listener'; did you mean 'listeners'?"}},
          {"zzz: 1\n",
           {"1:1: unknown key 'zzz'; known: workers, busy_poll, admin, metrics, log, limits, drain, reload, takeover, listeners, upstreams"}},
          {"zzz:\n",
           {"1:1: unknown key 'zzz'; known: workers, busy_poll, admin, metrics, log, limits, drain, reload, takeover, listeners, upstreams"}},
          {"workers: 1\nworkers: 2\n", {"2:1: duplicate key 'workers'; it is first at line 1, keep one of them"}},
          {"[a, b]: 1\n", {"1:1: a key must be a word, not a list"}},
          {"? { a: b }\n: 1\n", {"1:3: a key must be a word, not a map"}},
          {"~: 1\n", {"1:1: a key must be a word, not empty"}},
          {"admin: 127.0.0.1:1\n", {"1:8: admin must be a map of keys, not a single value"}},
          {"admin: [{}]\n", {"1:8: admin must be a map of keys, not a list"}},
          {"log:\n", {"1:1: log has no value; give it one or leave the key out"}},
          {"drain: 5s\n", {"1:8: drain must be a map of keys, not a single value"}},
          {"limits: off\n", {"1:9: limits must be a map of keys, not a single value"}},
      },
      absl::StrCat(kListeners, kUpstreams));
}

TEST(ErrorsTest, OfTheSections) {
  constexpr char kForms[] = "; write 127.0.0.1:8080, [::1]:8080 or unix:/run/x.sock";
  constexpr char kDuration[] = "is not valid; write a duration such as 250ms, 2s, 10m or 1h";
  constexpr char kSize[] = "is not valid; write a size such as 512B, 64KiB, 16MiB or 1GiB";
  Check(
      {
          {"admin: { listen: 9900 }\n", {absl::StrCat("1:18: listen: address '9900' has no port", kForms)}},
          {"admin: { listen: unix:/x }\n",
           {"1:18: listen: 'unix:/x' is a unix address; write host:port such as 127.0.0.1:9900"}},
          {"admin: { listen: off }\n", {absl::StrCat("1:18: listen: address 'off' has no port", kForms)}},
          {"admin: { listen: [127.0.0.1:1] }\n", {"1:18: listen must be a single value, not a list"}},
          {"admin: { token_file: token }\n", {"1:22: token_file: 'token' is no absolute path; write one such as /etc/ringmain/token"}},
          {"admin: { token_file: [/a] }\n", {"1:22: token_file must be a single value, not a list"}},
          {"admin: { lisen: 1 }\n", {"1:10: unknown key 'lisen'; did you mean 'listen'?"}},
          {"metrics: { listen: unix:/x }\n",
           {"1:20: listen: 'unix:/x' is a unix address; write host:port such as 127.0.0.1:9900"}},
          {"metrics: { port: 1 }\n", {"1:12: unknown key 'port'; known: listen"}},
          {"log: { level: warning }\n",
           {"1:15: level: 'warning' is not known; write trace or debug or info or warn or error"}},
          {"log: { format: xml }\n", {"1:16: format: 'xml' is not known; write text or json"}},
          {"log: { level: [] }\n", {"1:15: level must be a single value, not a list"}},
          {"log: { levl: info }\n", {"1:8: unknown key 'levl'; did you mean 'level'?"}},
          {"limits: { max_connections: 0 }\n",
           {"1:28: max_connections: '0' is out of range; write 1 to 10000000, or auto"}},
          {"limits: { max_connections: 10000001 }\n",
           {"1:28: max_connections: '10000001' is out of range; write 1 to 10000000, or auto"}},
          {"limits: { buffer_per_direction: 1KiB }\n",
           {"1:33: buffer_per_direction: '1KiB' is out of range; write 16KiB to 64MiB"}},
          {"limits: { buffer_per_direction: 65MiB }\n",
           {"1:33: buffer_per_direction: '65MiB' is out of range; write 16KiB to 64MiB"}},
          {"limits: { buffer_per_direction: 262144 }\n",
           {absl::StrCat("1:33: buffer_per_direction: '262144' ", kSize)}},
          {"limits: { memory: 1GB }\n", {absl::StrCat("1:19: memory: '1GB' ", kSize, ", or auto")}},
          {"limits: { memory: 1KiB }\n", {"1:19: memory: '1KiB' is out of range; write 1MiB to 64TiB, or auto"}},
          {"limits: { memory: 99999999TiB }\n",
           {"1:19: memory: '99999999TiB' is out of range; write 1MiB to 64TiB, or auto"}},
          {"busy_poll: 2s\n", {"1:12: busy_poll: '2s' is out of range; write 1us to 1s, or off"}},
          {"busy_poll: 0us\n", {"1:12: busy_poll: '0us' is out of range; write 1us to 1s, or off"}},
          {"busy_poll: 50\n", {"1:12: busy_poll: '50' is not valid; write a duration such as 50us, 1ms or 1s, or off"}},
          {"drain: { delay: 2h }\n", {"1:17: delay: '2h' is out of range; write 0s to 1h"}},
          {"drain: { timeout: 30 }\n", {absl::StrCat("1:19: timeout: '30' ", kDuration)}},
          {"drain: { timeout: -1s }\n", {absl::StrCat("1:19: timeout: '-1s' ", kDuration)}},
          {"drain: { timeout: off }\n", {absl::StrCat("1:19: timeout: 'off' ", kDuration)}},
          {"drain: { close_idle: 0s }\n", {"1:22: close_idle: '0s' is out of range; write 1ms to 168h, or off"}},
          {"workers: 1\ndrain: { close_idle: 31s }\n",
           {"2:8: drain: close_idle is longer than timeout, after which no session is left; make it shorter or timeout longer"}},
          {"drain: { timeout: 169h }\n", {"1:19: timeout: '169h' is out of range; write 0s to 168h"}},
      },
      absl::StrCat(kListeners, kUpstreams));
}

TEST(ErrorsTest, OfListeners) {
  constexpr char kForms[] = "; write 127.0.0.1:8080, [::1]:8080 or unix:/run/x.sock";
  // Ends with one key of the only listener.
  auto with = [](const std::string& line) {
    return "listeners:\n  - name: l\n    listen: 127.0.0.1:1\n    upstream: u\n    " + line + "\n";
  };
  Check(
      {
          {"", {"1:1: missing key 'listeners'"}},
          {"listeners:\n", {"1:1: listeners has no value; give it one or leave the key out"}},
          {"listeners: []\n", {"1:12: listeners is empty; it needs at least one item"}},
          {"listeners: x\n", {"1:12: listeners must be a list, not a single value"}},
          {"listeners: { name: x }\n", {"1:12: listeners must be a list, not a map"}},
          {"listeners:\n  - x\n", {"2:5: a listener must be a map of keys, not a single value"}},
          {"listeners:\n  -\n  - ~\n",
           {"3:3: listeners has an item without a value; fill it in or take it out",
            "3:5: listeners has an item without a value; fill it in or take it out"}},
          {"listeners:\n  - {}\n",
           {"2:5: missing key 'name'", "2:5: missing key 'listen'", "2:5: missing key 'upstream'"}},
          {"listeners:\n  - { name: l, listen: 127.0.0.1:1, upstream: }\n",
           {"2:37: upstream has no value; give it one or leave the key out"}},
          {with("names: x"), {"5:5: unknown key 'names'; did you mean 'name'?"}},
          {with("servers: x"),
           {"5:5: unknown key 'servers'; known: name, listen, upstream, max_connections, "
            "idle_timeout, half_closed_timeout, client_idle_timeout, server_idle_timeout, max_lifetime, lifetime_jitter, keepalive, backlog, access, "
            "accept_rate, per_source, bandwidth, socket, proxy_protocol"}},
          {with("name: m"), {"5:5: duplicate key 'name'; it is first at line 2, keep one of them"}},
          {with("max_connections: 0"), {"5:22: max_connections: '0' is out of range; write 1 to 10000000, or off"}},
          {with("max_connections: many"), {"5:22: max_connections: 'many' is not valid; write a whole number, or off"}},
          {with("idle_timeout: 0s"), {"5:19: idle_timeout: '0s' is out of range; write 1ms to 8760h, or off"}},
          {with("idle_timeout: 8761h"), {"5:19: idle_timeout: '8761h' is out of range; write 1ms to 8760h, or off"}},
          {with("idle_timeout: never"),
           {"5:19: idle_timeout: 'never' is not valid; write a duration such as 250ms, 2s, "
            "10m or 1h, or off"}},
          {with("half_closed_timeout: 0ms"),
           {"5:26: half_closed_timeout: '0ms' is out of range; write 1ms to 8760h, or off"}},
          {with("client_idle_timeout: 1"),
           {"5:26: client_idle_timeout: '1' is not valid; write a duration such as 250ms, 2s, 10m or 1h, or off"}},
          {with("server_idle_timeout: 0ms"), {"5:26: server_idle_timeout: '0ms' is out of range; write 1ms to 8760h, or off"}},
          {with("max_lifetime: 9000h"), {"5:19: max_lifetime: '9000h' is out of range; write 1ms to 8760h, or off"}},
          {with("lifetime_jitter: 51%"), {"5:22: lifetime_jitter: '51%' is out of range; write 0% to 50%"}},
          {with("lifetime_jitter: 10"), {"5:22: lifetime_jitter: '10' is not valid; write a percentage such as 10%"}},
          {with("lifetime_jitter: 1.5%"), {"5:22: lifetime_jitter: '1.5%' is not valid; write a percentage such as 10%"}},
          {with("keepalive: 0s"), {"5:16: keepalive: '0s' is out of range; write 1s to 9h, or off"}},
          {with("keepalive: 10h"), {"5:16: keepalive: '10h' is out of range; write 1s to 9h, or off"}},
          {with("keepalive: 1500ms"), {"5:16: keepalive: '1500ms' is not a whole number of seconds; write such as 2s"}},
          {with("backlog: 0"), {"5:14: backlog: '0' is out of range; write 1 to 65535"}},
          {with("backlog: 65536"), {"5:14: backlog: '65536' is out of range; write 1 to 65535"}},
          {with("backlog: auto"), {"5:14: backlog: 'auto' is not valid; write a whole number"}},
          {"listeners: [{ name: 'a b', listen: 127.0.0.1:1, upstream: u }]\n",
           {"1:21: name: 'a b' is not valid; write 1 to 64 letters, digits, '.', '_' or '-'"}},
          {"listeners: [{ name: '', listen: 127.0.0.1:1, upstream: u }]\n",
           {"1:21: name: '' is not valid; write 1 to 64 letters, digits, '.', '_' or '-'"}},
          {"listeners: [{ name: l, listen: 127.0.0.1:1, upstream: w }]\n",
           {"1:55: upstream 'w' does not exist; known: u"}},
          {"listeners: [{ name: l, listen: 127.0.0.1:1, upstream: uu }]\n",
           {"1:55: upstream 'uu' does not exist; did you mean 'u'?"}},
          {"listeners: [{ name: l, listen: [], upstream: u }]\n",
           {"1:32: listen is empty; it needs at least one item"}},
          {"listeners: [{ name: l, listen: {}, upstream: u }]\n", {"1:32: listen must be a single value, not a map"}},
          {"listeners: [{ name: l, listen: [[127.0.0.1:1]], upstream: u }]\n",
           {"1:33: listen must be a single value, not a list"}},
          {"listeners: [{ name: l, listen: [127.0.0.1:1, localhost:2], upstream: u }]\n",
           {absl::StrCat(
               "1:46: listen: address 'localhost:2' is not a valid IPv4 address (host names are not supported)",
               kForms)}},
          {"listeners:\n  - { name: l, listen: 127.0.0.1:1, upstream: u }\n"
           "  - { name: l, listen: 127.0.0.1:2, upstream: u }\n",
           {"3:13: listener name 'l' is already used at line 2"}},
          {"listeners:\n  - { name: l, listen: 127.0.0.1:1, upstream: u }\n"
           "  - { name: m, listen: 127.0.0.1:01, upstream: u }\n",
           {"3:24: listen address '127.0.0.1:1' is already used at line 2"}},
          {"listeners: [{ name: l, listen: [unix:/x, unix:/x], upstream: u }]\n",
           {"1:42: listen address 'unix:/x' is already used at line 1"}},
          {"admin: { listen: 127.0.0.1:1 }\nmetrics: { listen: 127.0.0.1:1 }\n"
           "listeners: [{ name: l, listen: 127.0.0.1:1, upstream: u }]\n",
           {"2:20: listen address '127.0.0.1:1' is already used at line 1",
            "3:32: listen address '127.0.0.1:1' is already used at line 1"}},
          {"listeners: [{ name: l, listen: 127.0.0.1:9900, upstream: u }]\n",
           {"1:32: listen address '127.0.0.1:9900' is that of the admin server; change it or admin.listen"}},
      },
      kUpstreams);
}

TEST(ErrorsTest, OfWhoIsLetIn) {
  auto with = [](const std::string& line) {
    return "listeners:\n  - name: l\n    listen: 127.0.0.1:1\n    upstream: u\n    " + line + "\n";
  };
  constexpr char kEither[] = "an access rule is either allow or deny; write such as { allow: 10.0.0.0/8 }";
  constexpr char kRate[] = "is not valid; write a rate such as 1000/s or 60/m";
  Check(
      {
          {with("access: all"), {"5:13: access must be a list, not a single value"}},
          {with("access: []"), {"5:13: access is empty; it needs at least one item"}},
          {with("access: [all]"), {"5:14: an access rule must be a map of keys, not a single value"}},
          {with("access: [{}]"), {absl::StrCat("5:14: ", kEither)}},
          {with("access: [{ allow: all, deny: all }]"), {absl::StrCat("5:14: ", kEither)}},
          {with("access: [{ alow: all }]"), {"5:16: unknown key 'alow'; did you mean 'allow'?"}},
          {with("access: [{ deny: }]"), {"5:16: deny has no value; give it one or leave the key out"}},
          {with("access: [{ deny: [] }]"), {"5:22: deny is empty; it needs at least one item"}},
          {with("access: [{ deny: {} }]"), {"5:22: deny must be a single value, not a map"}},
          {with("access: [{ deny: 10.0.0.1/8 }]"),
           {"5:22: deny: \"10.0.0.1/8\" has bits behind its prefix; 10.0.0.0/8 is the network that it is in"}},
          {with("access: [{ allow: [10.0.0.0/8, host] }]"),
           {"5:36: allow: \"host\" is no network; write one such as 10.0.0.0/8, 2001:db8::/32, one address, or all"}},
          {with("access: [{ deny: all }, { allow: 10.0.0.0/8 }, { deny: 10.0.0.0/8 }]"),
           {"5:29: this access rule never decides: that of line 5 is for all; put it before that one or take it out"}},
          {with("accept_rate: 10"), {absl::StrCat("5:18: accept_rate: '10' ", kRate, ", or off")}},
          {with("accept_rate: 0/s"), {"5:18: accept_rate: '0/s' is out of range; write 1/m to 1000000/s, or off"}},
          {with("accept_rate: 1000001/s"), {"5:18: accept_rate: '1000001/s' is out of range; write 1/m to 1000000/s, or off"}},
          {with("accept_rate: [1/s]"), {"5:18: accept_rate must be a single value, not a list"}},
          {with("accept_rate: { burst: 5 }"), {"5:18: missing key 'rate'"}},
          {with("accept_rate: { rate: off }"), {absl::StrCat("5:26: rate: 'off' ", kRate)}},
          {with("accept_rate: { rate: 1/s, burst: 0 }"), {"5:38: burst: '0' is out of range; write 1 to 1000000"}},
          {with("accept_rate: { rate: 1/s, brust: 1 }"), {"5:31: unknown key 'brust'; did you mean 'burst'?"}},
          {with("bandwidth: 1MiB/s"), {"5:16: bandwidth must be a map of keys, not a single value"}},
          {with("bandwidth: { to_server: 1MiB }"),
           {"5:29: to_server: '1MiB' is not valid; write a rate such as 512KiB/s or 10MiB/s, or off"}},
          {with("bandwidth: { to_client: 1023B/s }"), {"5:29: to_client: '1023B/s' is out of range; write 1KiB/s to 1TiB/s, or off"}},
          {with("bandwidth: { to_client: 2TiB/s }"), {"5:29: to_client: '2TiB/s' is out of range; write 1KiB/s to 1TiB/s, or off"}},
          {with("bandwidth: { per_session: { to_sever: 1MiB/s } }"), {"5:33: unknown key 'to_sever'; did you mean 'to_server'?"}},
          {with("bandwidth: { session: {} }"), {"5:18: unknown key 'session'; did you mean 'per_session'?"}},
          {with("per_source: 100"), {"5:17: per_source must be a map of keys, not a single value"}},
          {with("per_source: { max_connections: 0 }"),
           {"5:36: max_connections: '0' is out of range; write 1 to 10000000, or off"}},
          {with("per_source: { accept_rate: fast }"), {absl::StrCat("5:32: accept_rate: 'fast' ", kRate, ", or off")}},
          {with("per_source: { ipv6_prefix: 129 }"), {"5:32: ipv6_prefix: '129' is out of range; write 1 to 128"}},
          {with("per_source: { ipv6_prefix: 0 }"), {"5:32: ipv6_prefix: '0' is out of range; write 1 to 128"}},
          {with("per_source: { max: 1 }"), {"5:19: unknown key 'max'; known: max_connections, accept_rate, ipv6_prefix"}},
      },
      kUpstreams);
  std::string networks = "10.0.0.0";
  for (int i = 1; i < 4096; ++i) networks += absl::StrCat(", 10.0.", i / 256, ".", i % 256);
  EXPECT_EQ(ErrorsOf(absl::StrCat(with("access: [{ deny: [" + networks + "] }]"), kUpstreams)), "");
  EXPECT_EQ(ErrorsOf(absl::StrCat(with("access: [{ deny: [" + networks + "] }, { allow: all }]"), kUpstreams)),
            "f:5:13: access has 4097 networks; at most 4096 are allowed");
}

TEST(ErrorsTest, OfUpstreams) {
  auto with = [](const std::string& line) {
    return "upstreams:\n  - name: u\n    servers: [{ address: 127.0.0.1:1 }]\n    " + line + "\n";
  };
  Check(
      {
          {"", {"1:1: missing key 'upstreams'"}},
          {"upstreams: {}\n", {"1:12: upstreams must be a list, not a map"}},
          {"upstreams:\n  - u\n", {"2:5: an upstream must be a map of keys, not a single value"}},
          {"upstreams:\n  - {}\n", {"2:5: missing key 'name'", "2:5: missing key 'servers'"}},
          {with("conect_timeout: 1s"), {"4:5: unknown key 'conect_timeout'; did you mean 'connect_timeout'?"}},
          {with("balance: fair"),
           {"4:14: balance: 'fair' is not known; write round_robin or least_connections or random or source_hash or maglev or "
            "least_latency"}},
          {with("connect_timeout: 0s"), {"4:22: connect_timeout: '0s' is out of range; write 1ms to 1h"}},
          {with("connect_timeout: off"),
           {"4:22: connect_timeout: 'off' is not valid; write a duration such as 250ms, 2s, 10m or 1h"}},
          {with("connect_timeout: 61m"), {"4:22: connect_timeout: '61m' is out of range; write 1ms to 1h"}},
          {with("connect_tries: 0"), {"4:20: connect_tries: '0' is out of range; write 1 to 8"}},
          {with("connect_tries: 9"), {"4:20: connect_tries: '9' is out of range; write 1 to 8"}},
          {with("health_check: tcp"), {"4:19: health_check must be a map of keys, not a single value"}},
          {with("health_check:"), {"4:5: health_check has no value; give it one or leave the key out"}},
          {with("health_check: { type: htp }"), {"4:27: type: 'htp' is not known; write tcp or send_expect or http"}},
          {with("health_check: { interval: 0s }"), {"4:31: interval: '0s' is out of range; write 10ms to 24h"}},
          {with("health_check: { timeout: 0s }"), {"4:30: timeout: '0s' is out of range; write 1ms to 1h"}},
          {with("health_check: { rise: 0 }"), {"4:27: rise: '0' is out of range; write 1 to 100"}},
          {with("health_check: { fall: 101 }"), {"4:27: fall: '101' is out of range; write 1 to 100"}},
          {with("health_check: { fal: 1 }"), {"4:21: unknown key 'fal'; did you mean 'fall'?"}},
          {with("source_addresses: 10.0.0.1"), {"4:23: source_addresses must be a list, not a single value"}},
          {with("source_addresses: []"), {"4:23: source_addresses is empty; it needs at least one item"}},
          {with("source_addresses: [10.0.0.1:80]"),
           {"4:24: a source address: '10.0.0.1:80' is not an IP address; write it like 127.0.0.2 or ::1"}},
          {with("source_addresses: [[10.0.0.1]]"), {"4:24: a source address must be a single value, not a list"}},
          {with("source_addresses: [0.0.0.0]"),
           {"4:24: a source address: '0.0.0.0' is no address of one machine; leave source_addresses out to connect from any"}},
          {with("source_addresses: [10.0.0.1, \"fe80::1\"]"),
           {"4:34: a source address: 'fe80::1' is link-local, which needs an interface; link-local addresses are not "
            "supported"}},
          {with("source_addresses: [10.0.0.1, 10.0.0.1]"), {"4:34: source address '10.0.0.1' is already used at line 4"}},
          {with("source_addresses: [\"::1\"]"),
           {"3:26: address: '127.0.0.1:1' has no source address of its family; add an IPv4 address to source_addresses"}},
          {"upstreams:\n  - name: u\n    servers: [{ address: unix:/x }, { address: \"[::1]:1\" }]\n"
           "    source_addresses: [127.0.0.2]\n",
           {"3:48: address: '[::1]:1' has no source address of its family; add an IPv6 address to source_addresses"}},
          {with("- x"),
           {"4:5: not valid YAML: end of map not found; check indentation, colons, quotes and brackets here"}},
          {"upstreams: [{ name: u, servers: [] }]\n", {"1:33: servers is empty; it needs at least one item"}},
          {"upstreams: [{ name: u, servers: x }]\n", {"1:33: servers must be a list, not a single value"}},
          {"upstreams: [{ name: u, servers: [127.0.0.1:1] }]\n",
           {"1:34: a server must be a map of keys, not a single value"}},
          {"upstreams: [{ name: u, servers: [{ weight: 1 }] }]\n", {"1:34: missing key 'address'"}},
          {"upstreams: [{ name: u, servers: [{ address: 127.0.0.1:1, wieght: 1 }] }]\n",
           {"1:58: unknown key 'wieght'; did you mean 'weight'?"}},
          {"upstreams: [{ name: u, servers: [{ address: 127.0.0.1:1, weight: 0 }] }]\n",
           {"1:66: weight: '0' is out of range; write 1 to 256"}},
          {"upstreams: [{ name: u, servers: [{ address: 127.0.0.1:1, weight: 257 }] }]\n",
           {"1:66: weight: '257' is out of range; write 1 to 256"}},
          {"upstreams: [{ name: u, servers: [{ address: 127.0.0.1:0 }] }]\n",
           {"1:45: address: '127.0.0.1:0' has port 0; write 1 to 65535"}},
          {"upstreams:\n  - name: u\n    servers:\n      - { address: \"[::1]:1\" }\n"
           "      - { address: \"[0::1]:1\" }\n",
           {"5:20: server address '[::1]:1' is already used at line 4"}},
          {"upstreams:\n  - { name: u, servers: [{ address: 127.0.0.1:1 }] }\n"
           "  - { name: u, servers: [{ address: 127.0.0.1:1 }] }\n",
           {"3:13: upstream name 'u' is already used at line 2"}},
      },
      // The listener comes last, so that places are those of the text above.
      kListeners);
}

TEST(ErrorsTest, OfTheYaml) {
  constexpr char kCheck[] = "; check indentation, colons, quotes and brackets here";
  Check(
      {
          {"", {"1:1: the file has no keys; it needs at least listeners and upstreams"}},
          {"# nothing\n\n", {"1:1: the file has no keys; it needs at least listeners and upstreams"}},
          {"---\n...\n", {"1:1: the file has no keys; it needs at least listeners and upstreams"}},
          {"~\n", {"1:1: the file has no keys; it needs at least listeners and upstreams"}},
          {"%YAML\n", {absl::StrCat("1:1: not valid YAML: YAML directives must have exactly one argument", kCheck)}},
          {"{}\n", {"1:1: missing key 'listeners'", "1:1: missing key 'upstreams'"}},
          {"hello\n", {"1:1: the file must be a map of keys, not a single value"}},
          {"- a\n", {"1:1: the file must be a map of keys, not a list"}},
          {"a: b: c\n", {absl::StrCat("1:5: not valid YAML: illegal map value", kCheck)}},
          {"a: [1,\n  2\n", {absl::StrCat("2:1: not valid YAML: end of sequence flow not found", kCheck)}},
          {"a: [1,\n  2", {absl::StrCat("2:1: not valid YAML: end of sequence flow not found", kCheck)}},
          {"a: *b\n", {absl::StrCat("1:4: not valid YAML: the referenced anchor is not defined", kCheck)}},
          {"a: @b\n", {absl::StrCat("1:4: not valid YAML: unknown token", kCheck)}},
          {"a: 'b\n", {absl::StrCat("1:6: not valid YAML: illegal EOF in scalar", kCheck)}},
          {"a: 1\nb: \x04\n", {"2:4: the character 0x04 is not allowed; the file must be UTF-8 text"}},
          {std::string("a\0b", 3), {"1:2: the character 0x00 is not allowed; the file must be UTF-8 text"}},
          {"\xff\xfe" + std::string("a\0", 2), {"1:4: the character 0x00 is not allowed; the file must be UTF-8 text"}},
          {std::string(10000, '['), {"1:1: nested too deeply"}},
          {",", {"1:1: the file has no keys; it needs at least listeners and upstreams"}},
      },
      "");
}

TEST(ErrorsTest, OfASecondDocument) {
  EXPECT_EQ(ErrorsOf(absl::StrCat(kListeners, kUpstreams, "---\nworkers: 0\n")),
            "f:3:1: a second document starts here; the file must be one document");
}

TEST(ErrorsTest, AreAllReportedInTheOrderOfTheFile) {
  EXPECT_EQ(ErrorsOf("upstreams:\n"
                     "  - name: u\n"
                     "    balance: best\n"
                     "    servers: [{ address: x }, { address: 127.0.0.1:0 }]\n"
                     "listeners:\n"
                     "  - name: l\n"
                     "    listen: 127.0.0.1:1\n"
                     "    upstream: v\n"
                     "    zzzzzzzzzzzzzzzzzzzz: 1\n"
                     "    keepalive: 0s\n"
                     "workers: none\n",
                     "dir/a.yaml"),
            "dir/a.yaml:3:14: balance: 'best' is not known; write round_robin or least_connections or random or source_hash or "
            "maglev or least_latency\n"
            "dir/a.yaml:4:26: address: address 'x' has no port; write 127.0.0.1:8080, [::1]:8080 or unix:/run/x.sock\n"
            "dir/a.yaml:4:42: address: '127.0.0.1:0' has port 0; write 1 to 65535\n"
            "dir/a.yaml:8:15: upstream 'v' does not exist; known: u\n"
            "dir/a.yaml:9:5: unknown key 'zzzzzzzzzzzzzzzzzzzz'; known: name, listen, upstream, max_connections, "
            "idle_timeout, half_closed_timeout, client_idle_timeout, server_idle_timeout, max_lifetime, lifetime_jitter, keepalive, backlog, access, "
            "accept_rate, per_source, bandwidth, socket, proxy_protocol\n"
            "dir/a.yaml:10:16: keepalive: '0s' is out of range; write 1s to 9h, or off\n"
            "dir/a.yaml:11:10: workers: 'none' is not valid; write a whole number, or auto");
}

TEST(ErrorsTest, InAnAliasAreReportedOnceAtTheAnchor) {
  EXPECT_EQ(ErrorsOf(absl::StrCat(kListeners,
                                  "upstreams:\n"
                                  "  - name: u\n"
                                  "    health_check: &check { rise: 0 }\n"
                                  "    servers: &servers [{ address: 127.0.0.1:1, weight: 0 }]\n"
                                  "  - { name: v, health_check: *check, servers: *servers }\n"
                                  "  - { name: w, health_check: *servers, servers: *check }\n")),
            "f:4:34: rise: '0' is out of range; write 1 to 100\n"
            "f:5:56: weight: '0' is out of range; write 1 to 256\n"
            "f:7:16: health_check must be a map of keys, not a list\n"
            "f:7:40: servers must be a list, not a map");
}

TEST(ErrorsTest, AreFoundInAFileThatRefersToItself) {
  EXPECT_EQ(ErrorsOf("&a [*a]\n"), "f:1:1: the file must be a map of keys, not a list");
  EXPECT_EQ(ErrorsOf(absl::StrCat("admin: &a { listen: *a }\n", kListeners, kUpstreams)),
            "f:1:13: listen must be a single value, not a map");
}

// A file of `upstreams` upstreams that share one list of `servers` servers by an alias.
std::string ManyServers(size_t upstreams, size_t servers) {
  std::string yaml = "listeners: [{ name: l, listen: 127.0.0.1:1, upstream: u0 }]\nupstreams:\n";
  for (size_t i = 0; i < upstreams; ++i) {
    absl::StrAppend(&yaml, "- name: u", i, "\n  servers: ", i == 0 ? "&s\n" : "*s\n");
    for (size_t j = 1; i == 0 && j <= servers; ++j) absl::StrAppend(&yaml, "  - address: 10.0.0.1:", j, "\n");
  }
  return yaml;
}

TEST(ErrorsTest, BoundWhatAliasesRepeat) {
  EXPECT_EQ(ErrorsOf(ManyServers(1, kMaxServers + 1)), "f:4:12: servers has 4097 items; at most 4096 are allowed");
  EXPECT_TRUE(LoadText(ManyServers(16, kMaxServers), "f").ok());
  EXPECT_EQ(ErrorsOf(ManyServers(kMaxUpstreams, kMaxServers)),
            "f:4132:3: too many servers; all upstreams together may have 65536");
  EXPECT_EQ(ErrorsOf(ManyServers(kMaxUpstreams + 1, 1)), "f:3:1: upstreams has 1025 items; at most 1024 are allowed");
  // "Billion laughs": each list holds the previous one ten times over.
  std::string laughs = "a0: &a0 [x]\n";
  for (int i = 1; i < 30; ++i) {
    absl::StrAppend(&laughs, "a", i, ": &a", i, " [");
    for (int j = 0; j < 10; ++j) absl::StrAppend(&laughs, "*a", i - 1, ",");
    laughs += "]\n";
  }
  EXPECT_NE(ErrorsOf(absl::StrCat(laughs, "listeners: *a29\n", kUpstreams))
                .find("a listener must be a map of keys, not a list"),
            std::string::npos);
}

TEST(ErrorsTest, StopAfterAThousand) {
  std::string yaml;
  for (int i = 0; i < 100000; ++i) absl::StrAppend(&yaml, "k", i, ": 1\n");
  std::string message = ErrorsOf(yaml);
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 1000);
  EXPECT_TRUE(message.ends_with("\nf: more errors may follow; these are the first 1000 found")) << message;
}

TEST(ErrorsTest, OfSockets) {
  auto listener = [](const std::string& socket, const std::string& more = "") {
    return absl::StrCat("listeners:\n  - { name: l, listen: 127.0.0.1:1, upstream: u", more, ",\n      socket: ", socket, " }\n", kUpstreams);
  };
  auto upstream = [](const std::string& keys) {
    return absl::StrCat(kListeners, "upstreams:\n  - { name: u, servers: [{ address: 127.0.0.1:7001 }],\n      ", keys, " }\n");
  };
  Check(
      {
          {listener("on"), {"3:15: socket must be a map of keys, not a single value"}},
          {listener("{ user_timout: 5s }"), {"3:17: unknown key 'user_timout'; did you mean 'user_timeout'?"}},
          {listener("{ keepalive_interval: off }"),
           {"3:37: keepalive_interval: 'off' is not valid; write a duration such as 250ms, 2s, 10m or 1h"}},
          {listener("{ keepalive_interval: 1500ms }"),
           {"3:37: keepalive_interval: '1500ms' is not a whole number of seconds; write such as 2s"}},
          {listener("{ keepalive_count: 128 }"), {"3:34: keepalive_count: '128' is out of range; write 1 to 127"}},
          {listener("{ keepalive_count: 5 }", ", keepalive: off"),
           {"3:15: socket: keepalive_interval and keepalive_count mean nothing while keepalive is off"}},
          {listener("{ user_timeout: 25h }"), {"3:31: user_timeout: '25h' is out of range; write 1ms to 24h"}},
          {listener("{ congestion_control: a/b }"),
           {"3:37: congestion_control: 'a/b' is no name that the kernel takes; it has 1 to 15 letters, digits and signs"}},
          {listener("{ congestion_control: [] }"), {"3:37: congestion_control must be a single value, not a list"}},
          {listener("{ max_segment: 87 }"), {"3:30: max_segment: '87' is out of range; write 88 to 32767"}},
          {listener("{ mark: 0 }"), {"3:23: mark: '0' is out of range; write 1 to 4294967295, or off"}},
          {listener("{ dscp: 64 }"), {"3:23: dscp: '64' is out of range; write 0 to 63, or off"}},
          {listener("{ interface: sixteen-letters- }"),
           {"3:28: interface: 'sixteen-letters-' is no name that the kernel takes; it has 1 to 15 letters, digits and signs"}},
          {listener("{ mptcp: yes }"), {"3:24: mptcp: 'yes' is not known; write on or off"}},
          {listener("{ fast_open: on }"), {"3:28: fast_open: 'on' is not valid; write a whole number, or off"}},
          {listener("{ defer_accept: 2h }"), {"3:31: defer_accept: '2h' is out of range; write 1s to 1h, or off"}},
          {upstream("socket: { fast_open: 16 }"), {"4:28: fast_open: '16' is not known; write on or off"}},
          {upstream("socket: { defer_accept: 5s }"),
           {"4:17: unknown key 'defer_accept'; known: keepalive_interval, keepalive_count, user_timeout, congestion_control, "
            "max_segment, mark, dscp, interface, mptcp, fast_open"}},
          {upstream("transparent: yes"), {"4:20: transparent: 'yes' is not known; write on or off"}},
          {upstream("transparent: on, source_addresses: [127.0.0.1]"),
           {"4:42: source_addresses: connections come from the clients' addresses (transparent: on); leave out one of the two"}},
      },
      "");
}

}  // namespace
}  // namespace ringmain
