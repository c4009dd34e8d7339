#include "admin/routes.h"

#include <array>
#include <charconv>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "admin/page_text.h"
#include "admin/query.h"
#include "admin/server_change.h"
#include "admin/session_routes.h"

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

// The value of `sessions` in the query; none if it is no number of sessions.
std::optional<uint32_t> SessionsWanted(std::string_view query) {
  uint32_t wanted = kDefaultSessions;
  for (const auto& [name, value] : ReadQuery(query)) {
    if (name != "sessions") continue;
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

HttpResponse LivePage(const AdminView&, const HttpRequest&) {
  return {.body = std::string(kPageHtml), .content_type = "text/html; charset=utf-8", .policy = std::string(kPagePolicy)};
}

HttpResponse OpenApi(const AdminView&, const HttpRequest&) {
  return {.body = std::string(kOpenApi), .content_type = "application/yaml; charset=utf-8"};
}

HttpResponse Reload(const AdminView& view, const HttpRequest&) {
  ReloadResult result = view.reload();
  static constexpr std::array<int, 4> kStatus = {200, 200, 422, 409};
  return {.status = kStatus.at(static_cast<size_t>(result.outcome)),
          .body = RenderReloadJson(result),
          .content_type = "application/json; charset=utf-8"};
}

// An upstream or a server that is not there is the answer to a question about one thing: 404.
HttpResponse ChangeServer(const AdminView& view, const HttpRequest& request) {
  if (request.body_too_long) return {.status = 413, .body = absl::StrCat("the body is longer than ", kMostBody, " bytes\n")};
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
constexpr std::array<Page, 7> kPages = {{
    {"/metrics", true, &Metrics},
    {"/healthz", true, &Healthz},
    {"/readyz", true, &Readyz},
    {"/api/v1/status", false, &Status},
    {"/api/v1/sessions", false, &ListSessions},
    {"/api/v1/openapi.yaml", false, &OpenApi},
    {"/", false, &LivePage},
}};

struct Action {
  std::string_view path;
  HttpResponse (*post)(const AdminView&, const HttpRequest&);
};
constexpr std::array<Action, 4> kActions = {{
    {"/api/v1/reload", &Reload},
    {"/api/v1/servers", &ChangeServer},
    {"/api/v1/sessions/close", &CloseSession},
    {"/api/v1/drain", &Drain},
}};

}  // namespace

std::optional<std::string> RefusePost(const HttpRequest& request) {
  if (!request.bound.is_loopback()) return "control needs a loopback admin.listen";
  std::string type = request.content_type.substr(0, request.content_type.find(';'));
  if (!absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(type), "application/json")) {
    return "control needs Content-Type: application/json";
  }
  std::string bound = request.bound.ToString();
  if (request.host != bound &&
      !absl::EqualsIgnoreCase(request.host, absl::StrCat("localhost:", request.bound.port()))) {
    return absl::StrCat("control needs Host: ", bound);
  }
  return std::nullopt;
}

HttpResponse Route(const AdminView& view, RouteSet set, const HttpRequest& request) {
  if (set == RouteSet::kAll && request.method == "POST" && request.path.starts_with("/api/v1/")) {
    if (auto refusal = RefusePost(request)) return {.status = 403, .body = *refusal + "\n"};
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
