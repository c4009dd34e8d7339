// The keys of health_check: what they become, and what is wrong with them.
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "config/config.h"

namespace ringmain {
namespace {

using StatusRanges = std::vector<HealthCheckConfig::StatusRange>;

std::string File(const std::string& check, const std::string& servers = "{ address: 10.0.0.1:1 }", const std::string& more = "") {
  return absl::StrCat("listeners: [{ name: l, listen: 127.0.0.1:1, upstream: u }]\nupstreams:\n  - name: u\n    servers: [ ", servers,
                      " ]\n", more, "    ", check, "\n");
}

HealthCheckConfig Load(const std::string& keys, const std::string& servers = "{ address: 10.0.0.1:1 }") {
  auto config = LoadText(File("health_check: { " + keys + " }", servers), "f");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *(*config)->upstreams[0].health_check : HealthCheckConfig{};
}

TEST(HealthCheckKeys, Defaults) { EXPECT_EQ(Load(""), HealthCheckConfig{}); }

TEST(HealthCheckKeys, Timing) {
  HealthCheckConfig check = Load("interval: 4s, fast_interval: 500ms, timeout: 3s, rise: 1, fall: 2, jitter: 50%, start: down");
  EXPECT_EQ(check.interval, seconds(4));
  EXPECT_EQ(check.fast_interval, milliseconds(500));
  EXPECT_EQ(check.timeout, seconds(3));
  EXPECT_EQ(check.jitter_percent, 50u);
  EXPECT_FALSE(check.start_up);
  EXPECT_EQ(Load("jitter: 0%").jitter_percent, 0u);
  EXPECT_TRUE(Load("start: up").start_up);
}

TEST(HealthCheckKeys, WhatIsChecked) {
  EXPECT_EQ(Load("port: 81").port, 81);
  EXPECT_EQ(Load("address: \"[::1]:81\"").address->ToString(), "[::1]:81");
  EXPECT_EQ(Load("address: unix:/run/x").address->ToString(), "unix:/run/x");
}

TEST(HealthCheckKeys, BytesAsTextHexOrPattern) {
  HealthCheckConfig check = Load("type: send_expect, send: \"PING\\r\\n\", expect: +PONG");
  EXPECT_EQ(check.type, HealthCheckType::kSendExpect);
  EXPECT_EQ(check.send, "PING\r\n");
  EXPECT_EQ(check.expect, "+PONG");
  check = Load("type: send_expect, send: { hex: \"00 Ff0a\" }, expect: { hex: \"7f\" }");
  EXPECT_EQ(check.send, std::string("\0\xff\n", 3));
  EXPECT_EQ(check.expect, "\x7f");
  check = Load("type: send_expect, expect: { pattern: \"^\\\\+PONG\" }");
  EXPECT_EQ(check.expect, "");
  EXPECT_EQ(check.expect_pattern, "^\\+PONG");
  EXPECT_EQ(Load("type: send_expect, send: x").send, "x");
}

TEST(HealthCheckKeys, Http) {
  HealthCheckConfig check = Load("type: http, method: HEAD, path: \"/up?a=b\", host: example.org, status: [200-299, 304]");
  EXPECT_EQ(check.type, HealthCheckType::kHttp);
  EXPECT_EQ(check.method, "HEAD");
  EXPECT_EQ(check.path, "/up?a=b");
  EXPECT_EQ(check.host, "example.org");
  EXPECT_EQ(check.statuses, (StatusRanges{{200, 299}, {304, 304}}));
  check = Load("type: http, status: 204");
  EXPECT_EQ(check.method, "GET");
  EXPECT_EQ(check.statuses, (StatusRanges{{204, 204}}));
  EXPECT_EQ(Load("type: http").statuses, (StatusRanges{{200, 399}}));
  EXPECT_EQ(Load("type: http, method: OPTIONS, path: \"*\"").path, "*");
}

// One error, at `where` in the line.
void ExpectError(const std::string& keys, const std::string& where, const std::string& message,
                 const std::string& servers = "{ address: 10.0.0.1:1 }", const std::string& more = "") {
  std::string line = "health_check: { " + keys + " }";
  ASSERT_NE(line.find(where), std::string::npos);
  auto config = LoadText(File(line, servers, more), "f");
  std::string expected = absl::StrCat("f:", more.empty() ? 5 : 6, ":", 5 + line.find(where), ": ", message);
  EXPECT_EQ(std::string(config.status().message()), expected) << keys;
}

TEST(HealthCheckErrors, OfTiming) {
  ExpectError("fast_interval: 1ms", "1ms", "fast_interval: '1ms' is out of range; write 10ms to 24h");
  ExpectError("fast_interval: 3s", "{ ", "health_check: fast_interval is longer than interval; make it shorter or leave it out");
  ExpectError("jitter: 51%", "51%", "jitter: '51%' is out of range; write 0% to 50%");
  ExpectError("jitter: 10", "10", "jitter: '10' is not valid; write a percentage such as 10%");
  ExpectError("start: upp", "upp", "start: 'upp' is not known; write up or down");
}

TEST(HealthCheckErrors, OfWhatIsChecked) {
  ExpectError("port: 0", "0", "port: '0' is out of range; write 1 to 65535");
  ExpectError("address: 10.0.0.1:0", "10.", "address: '10.0.0.1:0' has port 0; write 1 to 65535");
  ExpectError("address: 10.0.0.1:5, port: 6", "6", "port: address says the port already; keep one of them");
  ExpectError("port: 6", "6", "port: server 'unix:/x' is a unix socket, which has no port; leave port out", "{ address: unix:/x }");
  ExpectError("address: \"[::1]:5\"", "\"",
              "address: '[::1]:5' has no source address of its family; add an IPv6 address to source_addresses",
              "{ address: 10.0.0.1:1 }", "    source_addresses: [ 10.0.0.9 ]\n");
}

TEST(HealthCheckErrors, OfKeysThatAreForAnotherType) {
  ExpectError("send: x", "x", "send is for checks of type send_expect; set that type or leave the key out");
  ExpectError("type: http, expect: q", "q", "expect is for checks of type send_expect; set that type or leave the key out");
  for (const char* key : {"method", "path", "host", "status"})
    ExpectError(absl::StrCat("type: tcp, ", key, ": z"), "z",
                absl::StrCat(key, " is for checks of type http; set that type or leave the key out"));
  ExpectError("type: http, pth: /x", "pth", "unknown key 'pth'; did you mean 'path'?");
}

TEST(HealthCheckErrors, OfBytes) {
  std::string type = "type: send_expect, ";
  ExpectError("type: send_expect", "{ ", "health_check: type send_expect needs expect, send or both");
  ExpectError(type + "send: ''", "''", "send is empty; give it bytes or leave the key out");
  ExpectError(type + "send: [a]", "[a]", "send must be a single value, not a list");
  ExpectError(type + "send: {}", "{}", "send takes hex, or text in place of the map");
  ExpectError(type + "expect: {}", "{}", "expect takes either hex or pattern, or text in place of the map");
  ExpectError(type + "expect: { hex: 00, pattern: a }", "{ hex", "expect takes either hex or pattern, or text in place of the map");
  for (const char* hex : {"0", "0g", "0x00", "00 0", "''"})
    ExpectError(absl::StrCat(type, "send: { hex: ", hex, " }"), absl::StrCat(hex, " }"),
                absl::StrCat("hex: ", hex[0] == '\'' ? "" : "'", hex, hex[0] == '\'' ? "" : "'",
                             " is not valid; write two digits for each byte, such as 0d0a"));
  ExpectError(type + "expect: { pattern: \"a(b\" }", "\"a", "pattern: 'a(b' is not valid: missing ): a(b");
  ExpectError(type + "expect: { pattern: '' }", "''", "pattern has 0 bytes; write 1 to 1024");
  ExpectError(type + "send: " + std::string(4097, 'q'), "qqq", "send has 4097 bytes; at most 4096 are allowed");
}

TEST(HealthCheckErrors, OfHttp) {
  ExpectError("type: http, method: G ET", "G ET", "method: 'G ET' is not valid; write a method of HTTP such as GET, HEAD or OPTIONS");
  ExpectError("type: http, method: CONNECT", "CONN", "method: 'CONNECT' is not valid; write a method of HTTP such as GET, HEAD or OPTIONS");
  ExpectError("type: http, path: up", "up", "path: 'up' is not valid; write a path such as /health, without spaces");
  ExpectError("type: http, path: \"/a\\r\\nb\"", "\"/a", "path: '/a\\r\\nb' is not valid; write a path such as /health, without spaces");
  ExpectError("type: http, host: \"a b\"", "\"a", "host: 'a b' is not valid; write a host such as example.org");
  for (const char* status : {"99", "600", "300-200", "200-", "-200", "2xx", "200-299-300"})
    ExpectError(absl::StrCat("type: http, status: ", status), status,
                absl::StrCat("status: '", status, "' is not valid; write such as 200 or 200-299, within 100 to 599"));
  ExpectError("type: http, status: []", "[]", "status is empty; it needs at least one item");
}

}  // namespace
}  // namespace ringmain
