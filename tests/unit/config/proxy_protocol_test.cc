// The PROXY protocol in the configuration: what it becomes, what is wrong with it, and what is said of a change.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "config/config.h"
#include "config/diff.h"

namespace ringmain {
namespace {

// `listener` is the fifth line, `upstream` the ninth.
std::string Text(const std::string& listener, const std::string& upstream) {
  return absl::StrCat("listeners:\n  - name: l\n    listen: 127.0.0.1:1\n    upstream: u\n    ", listener,
                      "\nupstreams:\n  - name: u\n    servers: [{ address: 127.0.0.1:2 }]\n    ", upstream, "\n");
}

Config Load(const std::string& listener, const std::string& upstream = "") {
  auto config = LoadText(Text(listener, upstream), "f");
  EXPECT_TRUE(config.ok()) << config.status() << listener << upstream;
  return config.ok() ? **config : Config();
}

TEST(ProxyProtocolConfig, WhatItBecomes) {
  EXPECT_EQ(Load("").listeners[0].proxy_protocol, ProxyProtocolConfig());
  EXPECT_EQ(Load("").upstreams[0].send_proxy_protocol, ProxyProtocolSend::kOff);
  EXPECT_EQ(Load("proxy_protocol: off").listeners[0].proxy_protocol, ProxyProtocolConfig());
  ProxyProtocolConfig required{.accept = ProxyProtocolAccept::kRequired};
  EXPECT_EQ(required.timeout, seconds(5));
  EXPECT_EQ(Load("proxy_protocol: required").listeners[0].proxy_protocol, required);
  required.timeout = milliseconds(250);
  EXPECT_EQ(Load("proxy_protocol: { accept: required, timeout: 250ms }").listeners[0].proxy_protocol, required);
  ProxyProtocolConfig optional{.accept = ProxyProtocolAccept::kOptional, .from = {Network::Parse("10.0.0.0/8").value()}};
  EXPECT_EQ(Load("proxy_protocol: { accept: optional, from: 10.0.0.0/8 }").listeners[0].proxy_protocol, optional);
  optional.from.push_back(Network::Parse("::1").value());
  EXPECT_EQ(Load("proxy_protocol: { accept: optional, from: [10.0.0.0/8, '::1'] }").listeners[0].proxy_protocol, optional);
  EXPECT_EQ(Load("", "send_proxy_protocol: v1").upstreams[0].send_proxy_protocol, ProxyProtocolSend::kV1);
  Config checked = Load("", "send_proxy_protocol: v2\n    health_check: { send_proxy_protocol: on }");
  EXPECT_EQ(checked.upstreams[0].send_proxy_protocol, ProxyProtocolSend::kV2);
  EXPECT_TRUE(checked.upstreams[0].health_check->send_proxy_protocol);
  EXPECT_FALSE(Load("", "health_check: { send_proxy_protocol: off }").upstreams[0].health_check->send_proxy_protocol);
}

TEST(ProxyProtocolConfig, WhatIsWrongWithIt) {
  constexpr char kNeedsFrom[] =
      "proxy_protocol: optional needs from, the networks of the proxies that may send a header, or anybody could claim any address; write "
      "such as { accept: optional, from: [10.0.0.0/8] }";
  struct {
    const char* listener;
    const char* upstream;
    std::string error;
  } cases[] = {
      {"proxy_protocol: on", "", "5:21: proxy_protocol: 'on' is not known; write off or optional or required"},
      {"proxy_protocol: [off]", "", "5:21: proxy_protocol must be a single value, not a list"},
      {"proxy_protocol: {}", "", "5:21: missing key 'accept'"},
      {"proxy_protocol: { accept: v1 }", "", "5:31: accept: 'v1' is not known; write off or optional or required"},
      {"proxy_protocol: { accept: off, form: x }", "", "5:36: unknown key 'form'; did you mean 'from'?"},
      {"proxy_protocol: optional", "", absl::StrCat("5:21: ", kNeedsFrom)},
      {"proxy_protocol: { accept: optional }", "", absl::StrCat("5:21: ", kNeedsFrom)},
      {"proxy_protocol: { accept: optional, from: [] }", "", "5:47: from is empty; it needs at least one item"},
      {"proxy_protocol: { accept: optional, from: [x] }", "",
       "5:48: from: \"x\" is no network; write one such as 10.0.0.0/8, 2001:db8::/32, one address, or all"},
      {"proxy_protocol: { accept: required, timeout: 0s }", "", "5:50: timeout: '0s' is out of range; write 1ms to 1h"},
      {"", "send_proxy_protocol: on", "9:26: send_proxy_protocol: 'on' is not known; write off or v1 or v2"},
      {"", "health_check: { send_proxy_protocol: on }",
       "9:19: health_check: send_proxy_protocol is on, but the upstream sends none; set the upstream's to v1 or v2"},
      {"", "send_proxy_protocol: v1\n    health_check: { send_proxy_protocol: v1 }",
       "10:42: send_proxy_protocol: 'v1' is not known; write on or off"},
  };
  for (const auto& c : cases) EXPECT_EQ(std::string(LoadText(Text(c.listener, c.upstream), "f").status().message()), "f:" + c.error);
}

TEST(ProxyProtocolConfig, WhatIsSaidOfAChange) {
  Config none = Load(""), all = Load("proxy_protocol: { accept: optional, from: [10.0.0.0/8, '::1'] }", "send_proxy_protocol: v2");
  using Sentences = std::vector<std::string>;
  EXPECT_EQ(DescribeChanges(none, all), (Sentences{"listener l: proxy_protocol off -> optional from 10.0.0.0/8, ::1/128 timeout 5s",
                                                   "upstream u: send_proxy_protocol off -> v2"}));
  EXPECT_EQ(DescribeChanges(Load("", "send_proxy_protocol: v1\n    health_check: {}"),
                            Load("", "send_proxy_protocol: v1\n    health_check: { send_proxy_protocol: on }")),
            (Sentences{"upstream u: health_check.send_proxy_protocol off -> on"}));
  EXPECT_EQ(DescribeChanges(Load("proxy_protocol: required"), Load("proxy_protocol: { accept: required, timeout: 1s }")),
            (Sentences{"listener l: proxy_protocol required timeout 5s -> required timeout 1s"}));
}

}  // namespace
}  // namespace ringmain
