#include "admin/routes.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "admin/debug_page.h"
#include "sample.h"

namespace ringmain {
namespace {

HttpRequest Request(std::string method, std::string path) {
  return {.method = std::move(method), .path = std::move(path), .bound = Address("127.0.0.1:9900")};
}

TEST(Routes, Readyz) {
  Sample sample;
  auto readyz = [&] { return Route(sample.View(), RouteSet::kAll, Request("GET", "/readyz")); };
  EXPECT_EQ(readyz().status, 200);
  EXPECT_EQ(readyz().body, "ready\n");
  sample.draining = true;
  EXPECT_EQ(readyz().status, 503);
  EXPECT_EQ(readyz().body, "draining\n");
  sample.ready = false;
  EXPECT_EQ(readyz().body, "draining\n");
  sample.draining = false;
  EXPECT_EQ(readyz().status, 503);
  EXPECT_EQ(readyz().body, "starting\n");
}

TEST(Routes, UnknownPathsAndMethods) {
  Sample sample;
  auto route = [&](std::string method, std::string path) {
    return Route(sample.View(), RouteSet::kAll, Request(std::move(method), std::move(path)));
  };
  EXPECT_EQ(route("GET", "/metrics/").status, 404);
  EXPECT_EQ(route("GET", "/api/v1/").status, 404);
  EXPECT_EQ(route("GET", "/api/v1/status").status, 200);
  EXPECT_EQ(route("HEAD", "/").status, 200);
  EXPECT_EQ(route("DELETE", "/metrics").status, 405);
  EXPECT_EQ(route("POST", "/metrics").allow, "GET, HEAD");
}

TEST(Routes, MetricsListenerServesNothingElse) {
  Sample sample;
  auto status = [&](std::string method, std::string path) {
    return Route(sample.View(), RouteSet::kMetrics, Request(std::move(method), std::move(path))).status;
  };
  EXPECT_EQ(status("GET", "/metrics"), 200);
  EXPECT_EQ(status("GET", "/healthz"), 200);
  EXPECT_EQ(status("GET", "/readyz"), 200);
  EXPECT_EQ(status("GET", "/"), 404);
  EXPECT_EQ(status("GET", "/api/v1/status"), 404);
  EXPECT_EQ(status("POST", "/api/v1/status"), 404);
}

TEST(RefusePost, NeedsJsonAndTheBoundHost) {
  struct {
    const char* bound;  // there is no token
    const char* host;
    const char* content_type;
    bool allowed;
  } cases[] = {
      {"127.0.0.1:9900", "127.0.0.1:9900", "application/json", true},
      {"127.0.0.1:9900", "localhost:9900", "application/json; charset=utf-8", true},
      {"127.0.0.1:9900", "LocalHost:9900", "Application/JSON ;charset=utf-8", true},
      {"[::1]:9900", "[::1]:9900", "application/json", true},
      {"127.0.0.1:9900", "127.0.0.1:9900", "", false},
      {"127.0.0.1:9900", "127.0.0.1:9900", "text/plain", false},
      {"127.0.0.1:9900", "127.0.0.1:9900", "application/jsonp", false},
      {"127.0.0.1:9900", "127.0.0.1:9900", "text/plain; application/json", false},
      {"127.0.0.1:9900", "", "application/json", false},
      {"127.0.0.1:9900", "127.0.0.1", "application/json", false},
      {"127.0.0.1:9900", "localhost:9901", "application/json", false},
      {"127.0.0.1:9900", "evil.example:9900", "application/json", false},
      {"127.0.0.1:9900", "127.0.0.1:9900.evil.example", "application/json", false},
      {"0.0.0.0:9900", "0.0.0.0:9900", "application/json", false},
      {"10.0.0.1:9900", "10.0.0.1:9900", "application/json", false},
      {"10.0.0.1:9900", "localhost:9900", "application/json", false},
  };
  for (const auto& c : cases) {
    HttpRequest request{.method = "POST",
                        .path = "/api/v1/drain",
                        .host = c.host,
                        .content_type = c.content_type,
                        .bound = Address(c.bound)};
    EXPECT_EQ(!RefusePost(request, "").has_value(), c.allowed) << c.bound << " " << c.host << " " << c.content_type;
    Sample sample;
    EXPECT_EQ(Route(sample.View(), RouteSet::kAll, request).status, c.allowed ? 404 : 403);
  }
}

TEST(RefusePost, NeedsTheTokenWhereThereIsOne) {
  const std::string token = "0123456789abcdef";
  struct {
    const char* bound;
    const char* host;
    std::string authorization;
    const char* content_type;
    int status;  // 404: it got as far as finding no such path
  } cases[] = {
      {"0.0.0.0:9900", "proxy.example:9900", "Bearer " + token, "application/json", 404},
      {"10.0.0.1:9900", "10.0.0.1:9900", "bearer  " + token, "application/json", 404},
      {"127.0.0.1:9900", "127.0.0.1:9900", "Bearer " + token, "application/json", 404},
      {"10.0.0.1:9900", "10.0.0.1:9900", "", "application/json", 401},
      {"10.0.0.1:9900", "10.0.0.1:9900", token, "application/json", 401},
      {"10.0.0.1:9900", "10.0.0.1:9900", "Bearer", "application/json", 401},
      {"10.0.0.1:9900", "10.0.0.1:9900", "Bearer ", "application/json", 401},
      {"10.0.0.1:9900", "10.0.0.1:9900", "Basic " + token, "application/json", 401},
      {"10.0.0.1:9900", "10.0.0.1:9900", "Bearer " + token + "0", "application/json", 401},
      {"10.0.0.1:9900", "10.0.0.1:9900", "Bearer " + token.substr(1), "application/json", 401},
      {"10.0.0.1:9900", "10.0.0.1:9900", "Bearer 0123456789abcdeF", "application/json", 401},
      {"10.0.0.1:9900", "10.0.0.1:9900", "Bearer " + token + token, "application/json", 401},
      {"10.0.0.1:9900", "10.0.0.1:9900", "Bearer " + token, "text/plain", 403},
      {"127.0.0.1:9900", "127.0.0.1:9900", "", "application/json", 401},
      {"127.0.0.1:9900", "evil.example:9900", "Bearer " + token, "application/json", 403},
  };
  Sample sample;
  sample.SetToken(token);
  for (const auto& c : cases) {
    HttpRequest request{.method = "POST",
                        .path = "/api/v1/nothing",
                        .host = c.host,
                        .content_type = c.content_type,
                        .authorization = c.authorization,
                        .bound = Address(c.bound)};
    HttpResponse response = Route(sample.View(), RouteSet::kAll, request);
    EXPECT_EQ(response.status, c.status) << c.bound << " " << c.host << " " << c.authorization;
    EXPECT_EQ(response.asks_token, c.status == 401);
    EXPECT_EQ(response.body.find(token), std::string::npos);
    request.method = "GET";
    request.path = "/api/v1/status";
    HttpResponse status = Route(sample.View(), RouteSet::kAll, request);
    EXPECT_EQ(status.status, 200) << "reading asks for none";
    EXPECT_EQ(status.body.find(token), std::string::npos);
  }
}

TEST(Routes, DebugNamesTheProcessAndItsThreads) {
  Sample sample;
  HttpResponse response = Route(sample.View(), RouteSet::kAll, Request("GET", "/debug"));
  EXPECT_EQ(response.status, 200);
  EXPECT_NE(response.body.find(absl::StrCat("gdb -p ", getpid(), " ")), std::string::npos) << response.body;
  EXPECT_NE(response.body.find(absl::StrCat("  ", getpid(), "  ")), std::string::npos) << "the main thread";
  EXPECT_EQ(Route(sample.View(), RouteSet::kMetrics, Request("GET", "/debug")).status, 404);

  std::string page = RenderDebugPage(7, true, {{7, "ringmain"}, {9, "rm-worker-0"}, {10, "rm-worker-1"}, {11, "rm-admin"}});
  EXPECT_NE(page.find("perf record -F 199 -g -t 9,10 "), std::string::npos) << page;
  EXPECT_NE(page.find("bpftrace -p 7 -e 'usdt:/proc/7/exe:ringmain:close "), std::string::npos) << page;
  EXPECT_EQ(RenderDebugPage(7, false, {}).find("bpftrace"), std::string::npos);
}

TEST(Routes, StatusTakesANumberOfSessions) {
  Sample sample;
  auto status = [&](std::string query) {
    HttpRequest request = Request("GET", "/api/v1/status");
    request.query = std::move(query);
    return Route(sample.View(), RouteSet::kAll, request);
  };
  struct {
    const char* query;
    uint32_t asked_for;
  } good[] = {{"", 100},          {"sessions=0", 0},      {"sessions=1", 1},       {"sessions=10000", 10000},
              {"a=b&sessions=7", 7}, {"sessions=7&a", 7}, {"sessionsx=8&&", 100}, {"sessions=3&sessions=4", 4}};
  for (const auto& c : good) {
    EXPECT_EQ(status(c.query).status, 200) << c.query;
    EXPECT_EQ(sample.asked_for, c.asked_for) << c.query;
  }
  for (const char* query : {"sessions", "sessions=", "sessions=10001", "sessions=-1", "sessions=+1", "sessions=1x", "sessions=%31",
                            "sessions= 1", "sessions=99999999999999999999", "sessions=x&sessions=1", "a=b&sessions=all"}) {
    sample.asked_for = 12345;
    HttpResponse refused = status(query);
    EXPECT_EQ(refused.status, 400) << query;
    EXPECT_EQ(refused.body, "sessions: write a number from 0 to 10000, as in ?sessions=1000\n");
    EXPECT_EQ(sample.asked_for, 12345u) << "workers were asked for a bad query";
  }
}

TEST(StatusJson, ListsSessions) {
  Sample sample;
  SessionRecord connecting;
  connecting.number = 4;
  SessionRecord established;
  established.worker = 1;
  established.number = (uint64_t{1} << 48) + 12'345'678'901;
  established.server = 1;
  established.client = Address("[2001:db8::1]:5555");
  established.state = SessionState::kEstablished;
  established.age = milliseconds(90'061'001);
  established.idle = std::chrono::microseconds(1499);
  established.relays[0] = {RelayMode::kSpliced, ReceiveKind::kPoll, true, 1ull << 40, 1000, 24};
  established.relays[1].receive = ReceiveKind::kMultishot;
  auto route = std::make_shared<RouteNames>();
  *route = {"tunnel", "echo", {"127.0.0.1:7001", "unix:/run/\"b\".sock"}};
  connecting.route = established.route = route;
  sample.sessions = {2077, {connecting, established}, {0}};

  auto status = nlohmann::json::parse(RenderStatusJson(sample.View(), 5));
  EXPECT_EQ(sample.asked_for, 5u);
  EXPECT_EQ(status["sessions"], nlohmann::json::parse(R"({
    "total": 2077,
    "missing_workers": [0],
    "list": [
      {"id": "0-4", "worker": 0, "listener": "tunnel", "upstream": "echo", "server": null, "client": null,
       "state": "connecting", "age_seconds": 0.0, "idle_seconds": 0.0,
       "to_server": {"mode": "buffered", "receive": "none", "ended": false,
                     "received_bytes": 0, "sent_bytes": 0, "queued_bytes": 0},
       "to_client": {"mode": "buffered", "receive": "none", "ended": false,
                     "received_bytes": 0, "sent_bytes": 0, "queued_bytes": 0}},
      {"id": "1-12345678901", "worker": 1, "listener": "tunnel", "upstream": "echo", "server": "unix:/run/\"b\".sock",
       "client": "[2001:db8::1]:5555", "state": "established", "age_seconds": 90061.001, "idle_seconds": 0.001,
       "to_server": {"mode": "spliced", "receive": "poll", "ended": true,
                     "received_bytes": 1099511627776, "sent_bytes": 1000, "queued_bytes": 24},
       "to_client": {"mode": "buffered", "receive": "multishot", "ended": false,
                     "received_bytes": 0, "sent_bytes": 0, "queued_bytes": 0}}
    ]})"));
}

TEST(Routes, AReloadSaysWhatCameOfIt) {
  Sample sample;
  auto post = [&] {
    return Route(sample.View(), RouteSet::kAll,
                 {.method = "POST",
                  .path = "/api/v1/reload",
                  .host = "127.0.0.1:9900",
                  .content_type = "application/json",
                  .bound = Address("127.0.0.1:9900")});
  };
  using Outcome = ReloadResult::Outcome;
  sample.reload = {Outcome::kReloaded, {"workers: 1 -> 2"}, {"x"}, {}};
  EXPECT_EQ(post().status, 200);
  EXPECT_EQ(nlohmann::json::parse(post().body),
            nlohmann::json::parse(R"({"result": "reloaded", "changes": ["workers: 1 -> 2"], "next_start": ["x"], "errors": []})"));
  sample.reload = {Outcome::kUnchanged, {}, {}, {}};
  EXPECT_EQ(post().status, 200);
  sample.reload = {Outcome::kFailed, {}, {}, {"f:1:2: no"}};
  EXPECT_EQ(post().status, 422);
  EXPECT_EQ(nlohmann::json::parse(post().body)["errors"][0], "f:1:2: no");
  sample.reload = {Outcome::kRefused, {}, {}, {"ending"}};
  EXPECT_EQ(post().status, 409);
  HttpResponse get = Route(sample.View(), RouteSet::kAll, Request("GET", "/api/v1/reload"));
  EXPECT_EQ(get.status, 405);
  EXPECT_EQ(get.allow, "POST");
  EXPECT_EQ(Route(sample.View(), RouteSet::kMetrics, Request("POST", "/api/v1/reload")).status, 404);
}

TEST(StatusJson, SaysWhatIs) {
  Sample sample;
  sample.listener(0).accepted.Add(5);
  sample.listener(1).active.Add(2);
  sample.listener(1).closed[static_cast<size_t>(CloseReason::kIdleTimeout)].Add(3);
  sample.upstream->server(0).Reserve();
  sample.upstream->server(1).set_up(false);
  sample.server(0).health.last_failure.Set("status 503");
  sample.server(0).cells[0].connects.Add(8);
  sample.server(1).cells[1].connect_failures[static_cast<size_t>(ConnectFailure::kTimeout)].Add(1);
  sample.workers[1].accept_paused.Set(1);
  sample.workers[1].completions.Add(11);
  sample.workers[1].relays[static_cast<size_t>(RelayMode::kSpliced)].Set(3);
  sample.draining = true;

  auto status = nlohmann::json::parse(RenderStatusJson(sample.View()));
  EXPECT_EQ(status["version"], RINGMAIN_VERSION);
  EXPECT_EQ(status["pid"], getpid());
  EXPECT_EQ(status["state"], "draining");
  EXPECT_EQ(status["start_time"], "2023-11-14T22:13:20Z");
  EXPECT_GT(status["uptime_seconds"], 0);
  EXPECT_EQ(status["features"], "multishot defer_taskrun");
  EXPECT_EQ(status["max_connections"], 1000);

  ASSERT_EQ(status["listeners"].size(), 1u);
  const auto& listener = status["listeners"][0];
  EXPECT_EQ(listener["name"], "tunnel");
  EXPECT_EQ(listener["state"], "active");
  EXPECT_EQ(listener["addresses"], nlohmann::json::array({"127.0.0.1:8080"}));
  EXPECT_EQ(listener["upstream"], "echo");
  EXPECT_EQ(listener["connections_total"], 5);
  EXPECT_EQ(listener["connections_active"], 2);
  EXPECT_EQ(listener["closed"].size(), kCloseReasons);
  EXPECT_EQ(listener["closed"]["idle_timeout"], 3);
  EXPECT_EQ(listener["access"], nlohmann::json::array());
  EXPECT_EQ(listener["accept_rate"], nullptr);
  EXPECT_EQ(listener["per_source"], nullptr);

  ASSERT_EQ(status["upstreams"].size(), 1u);
  EXPECT_EQ(status["upstreams"][0]["name"], "echo");
  EXPECT_EQ(status["upstreams"][0]["balance"], "least_connections");
  EXPECT_EQ(status["upstreams"][0]["send_proxy_protocol"], "off");
  EXPECT_EQ(status["listeners"][0]["proxy_protocol"], "off");
  ASSERT_EQ(status["upstreams"][0]["servers"].size(), 2u);
  const auto& first = status["upstreams"][0]["servers"][0];
  EXPECT_EQ(first["address"], "127.0.0.1:7001");
  EXPECT_EQ(first["weight"], 3);
  EXPECT_EQ(first["up"], true);
  EXPECT_EQ(first["health_checked"], true);
  EXPECT_EQ(first["last_check_failure"], "status 503");
  EXPECT_EQ(status["upstreams"][0]["health_check"], "tcp");
  EXPECT_EQ(first["connections_active"], 1);
  EXPECT_EQ(first["connects_total"], 8);
  const auto& second = status["upstreams"][0]["servers"][1];
  EXPECT_EQ(second["up"], false);
  EXPECT_EQ(second["connect_failures"]["timeout"], 1);

  ASSERT_EQ(status["upstreams"][0]["names"].size(), 1u);
  EXPECT_EQ(status["upstreams"][0]["names"][0]["name"], "db.example.org:5432");

  ASSERT_EQ(status["workers"].size(), 2u);
  EXPECT_EQ(status["workers"][1]["accept_paused"], true);
  EXPECT_EQ(status["workers"][1]["completions_total"], 11);
  EXPECT_EQ(status["workers"][1]["relays"], nlohmann::json::parse(R"({"buffered": 0, "spliced": 3})"));
}

TEST(StatusJson, Names) {
  Sample sample;
  auto name = [&] { return nlohmann::json::parse(RenderStatusJson(sample.View()))["upstreams"][0]["names"][0]; };
  sample.name->last_result.Set(NameMetrics::kNone);
  EXPECT_EQ(name(), nlohmann::json::parse(R"({"name": "db.example.org:5432", "type": "any", "state": "missing", "addresses": 0,
                                              "last_error": null, "age_seconds": null})"));
  sample.name->last_result.Set(static_cast<int64_t>(LookupResult::kNoName));
  EXPECT_EQ(name()["last_error"], "no_such_name");
  sample.name->last_result.Set(static_cast<int64_t>(LookupResult::kSuccess));
  sample.name->cells[0].last_success_epoch.Set(1'700'000'000'500);
  sample.name->addresses.Set(2);
  EXPECT_EQ(name()["state"], "found");
  EXPECT_EQ(name()["addresses"], 2);
  EXPECT_EQ(name()["last_error"], nullptr);
  EXPECT_GT(name()["age_seconds"], 1);
  sample.name->last_result.Set(static_cast<int64_t>(LookupResult::kTimeout));
  EXPECT_EQ(name()["state"], "kept");
  EXPECT_EQ(name()["last_error"], "timeout");
}

}  // namespace
}  // namespace ringmain
