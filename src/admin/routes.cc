#include "admin/routes.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "admin/control_token.h"
#include "admin/debug_page.h"
#include "admin/server_change.h"
#include "base/probe.h"

namespace ringmain {
namespace {

HttpResponse Metrics(const AdminView& view, const HttpRequest&) {
  return {.body = RenderMetrics(view), .content_type = "text/plain; version=0.0.4; charset=utf-8"};
}

HttpResponse Healthz(const AdminView&, const HttpRequest&) { return {.body = "ok\n"}; }

HttpResponse Readyz(const AdminView& view, const HttpRequest&) {
  std::string_view state = StateName(view);
  return {.status = state == "ready" ? 200 : 503, .body = std::string(state) + "\n"};
}

// The value of `sessions` in the query, the last one if there are several; none if it is no number of sessions.
std::optional<uint32_t> SessionsWanted(std::string_view query) {
  uint32_t wanted = kDefaultSessions;
  while (!query.empty()) {
    std::string_view parameter = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(parameter.size() + 1, query.size()));
    std::string_view name = parameter.substr(0, parameter.find('='));
    if (name != "sessions") continue;
    std::string_view value = parameter.substr(std::min(name.size() + 1, parameter.size()));
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), wanted);
    if (error != std::errc() || end != value.data() + value.size() || wanted > kMostSessions) return std::nullopt;
  }
  return wanted;
}

HttpResponse Status(const AdminView& view, const HttpRequest& request) {
  std::optional<uint32_t> sessions = SessionsWanted(request.query);
  if (!sessions.has_value())
    return {.status = 400, .body = absl::StrCat("sessions: write a number from 0 to ", kMostSessions, ", as in ?sessions=1000\n")};
  return {.body = RenderStatusJson(view, *sessions), .content_type = "application/json; charset=utf-8"};
}

HttpResponse Index(const AdminView&, const HttpRequest&) {
  return {
      .body =
          "<!DOCTYPE html>\n<html lang=\"en\"><head><title>ringmain</title></head><body><h1>ringmain " RINGMAIN_VERSION
          "</h1>\n<ul>\n<li><a href=\"/api/v1/status\">/api/v1/status</a></li>\n"
          "<li><a href=\"/metrics\">/metrics</a></li>\n<li><a href=\"/healthz\">/healthz</a></li>\n"
          "<li><a href=\"/readyz\">/readyz</a></li>\n<li><a href=\"/debug\">/debug</a></li>\n</ul></body></html>\n",
      .content_type = "text/html; charset=utf-8"};
}

HttpResponse Debug(const AdminView&, const HttpRequest&) { return {.body = RenderDebugPage(getpid(), kHasProbes, ListThreads())}; }

HttpResponse Reload(const AdminView& view, const HttpRequest&) {
  ReloadResult result = view.reload();
  static constexpr std::array<int, 4> kStatus = {200, 200, 422, 409};
  return {.status = kStatus.at(static_cast<size_t>(result.outcome)),
          .body = RenderReloadJson(result),
          .content_type = "application/json; charset=utf-8"};
}

// An upstream or a server that is not there is the answer to a question about one thing: 404.
HttpResponse ChangeServer(const AdminView& view, const HttpRequest& request) {
  absl::StatusOr<ServerChange> change = ParseServerChange(request.body);
  if (!change.ok()) return {.status = 400, .body = absl::StrCat(change.status().message(), "\n")};
  ReloadResult result = view.change_server(*change);
  static constexpr std::array<int, 4> kStatus = {200, 200, 404, 409};
  return {.status = kStatus.at(static_cast<size_t>(result.outcome)),
          .body = RenderReloadJson(result),
          .content_type = "application/json; charset=utf-8"};
}

struct Page {
  std::string_view path;
  bool on_metrics_listener;
  HttpResponse (*get)(const AdminView&, const HttpRequest&);
};
constexpr std::array<Page, 6> kPages = {{
    {"/metrics", true, &Metrics},
    {"/healthz", true, &Healthz},
    {"/readyz", true, &Readyz},
    {"/api/v1/status", false, &Status},
    {"/debug", false, &Debug},
    {"/", false, &Index},
}};

struct Action {
  std::string_view path;
  HttpResponse (*post)(const AdminView&, const HttpRequest&);
};
constexpr std::array<Action, 2> kActions = {{
    {"/api/v1/reload", &Reload},
    {"/api/v1/servers", &ChangeServer},
}};

}  // namespace

std::optional<HttpResponse> RefusePost(const HttpRequest& request, std::string_view token) {
  auto forbidden = [](const std::string& why) { return HttpResponse{.status = 403, .body = why + "\n"}; };
  bool loopback = request.bound.is_loopback();
  if (!loopback && token.empty()) return forbidden("control needs a loopback admin.listen, or admin.token_file");
  std::string type = request.content_type.substr(0, request.content_type.find(';'));
  if (!absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(type), "application/json")) {
    return forbidden("control needs Content-Type: application/json");
  }
  std::string bound = request.bound.ToString();
  // Off loopback the address has names of its own; there the token says who asks.
  if (loopback && request.host != bound &&
      !absl::EqualsIgnoreCase(request.host, absl::StrCat("localhost:", request.bound.port()))) {
    return forbidden(absl::StrCat("control needs Host: ", bound));
  }
  if (!token.empty() && !ShowsToken(request.authorization, token))
    return HttpResponse{.status = 401, .body = "control needs Authorization: Bearer, and the token of admin.token_file\n", .asks_token = true};
  return std::nullopt;
}

HttpResponse Route(const AdminView& view, RouteSet set, const HttpRequest& request) {
  if (set == RouteSet::kAll && request.method == "POST" && request.path.starts_with("/api/v1/")) {
    if (auto refusal = RefusePost(request, view.layout()->control_token)) return *refusal;
  }
  for (const Page& page : kPages) {
    if (page.path != request.path || (set == RouteSet::kMetrics && !page.on_metrics_listener)) continue;
    if (request.method == "GET" || request.method == "HEAD") return page.get(view, request);
    return {.status = 405, .body = "method not allowed\n", .allow = "GET, HEAD"};
  }
  for (const Action& action : kActions) {
    if (action.path != request.path || set == RouteSet::kMetrics) continue;
    if (request.method == "POST") return action.post(view, request);
    return {.status = 405, .body = "method not allowed\n", .allow = "POST"};
  }
  return {.status = 404, .body = "not found\n"};
}

}  // namespace ringmain
