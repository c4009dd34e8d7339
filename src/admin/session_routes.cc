#include "admin/session_routes.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "admin/sessions_json.h"

namespace ringmain {
namespace {

constexpr const char* kJson = "application/json; charset=utf-8";

HttpResponse Wrong(const absl::Status& status) { return {.status = 400, .body = absl::StrCat(status.message(), "\n")}; }

}  // namespace

HttpResponse ListSessions(const AdminView& view, const HttpRequest& request) {
  absl::StatusOr<SessionQuery> query = ParseSessionQuery(request.query);
  if (!query.ok()) return Wrong(query.status());
  return {.body = RenderSessionsJson(*query, view.list_sessions(*query)), .content_type = kJson};
}

HttpResponse CloseSession(const AdminView& view, const HttpRequest& request) {
  if (request.body_too_long) return {.status = 413, .body = absl::StrCat("the body is longer than ", kMostBody, " bytes\n")};
  absl::StatusOr<uint64_t> number = ParseSessionToClose(request.body);
  if (!number.ok()) return Wrong(number.status());
  ClosingResult result = view.close_session(*number);
  static constexpr std::array<int, 4> kStatus = {200, 404, 503, 409};
  return {.status = kStatus.at(static_cast<size_t>(result.outcome)), .body = RenderClosingJson(*number, result), .content_type = kJson};
}

HttpResponse Drain(const AdminView& view, const HttpRequest&) {
  bool begun = view.drain() == DrainOutcome::kDraining;
  return {.status = begun ? 202 : 409,
          .body = begun ? "{\"result\": \"draining\", \"errors\": []}\n"
                        : "{\"result\": \"refused\", \"errors\": [\"the process is ending already\"]}\n",
          .content_type = kJson};
}

}  // namespace ringmain
