// What each path answers. Pure but for reading the view; any thread.
#pragma once

#include <optional>
#include <string_view>

#include "admin/admin_server.h"
#include "admin/http_server.h"

namespace ringmain {

enum class RouteSet {
  kAll,      // admin.listen
  kMetrics,  // metrics.listen: /metrics, /healthz and /readyz, read-only
};

HttpResponse Route(const AdminView& view, RouteSet set, const HttpRequest& request);

// The answer to a POST that must not be obeyed (403, or 401 for want of the token), if so. A web page that the operator visits can send requests
// to the admin address, but only "simple" ones without asking (https://fetch.spec.whatwg.org/#cors-safelisted-request-header), of
// which a JSON content type is none; and a page whose name was made to resolve to a loopback address (DNS rebinding) sends
// that name as Host. Who shows the token is obeyed; where there is none (`token` is empty), that is who asks on loopback, and nobody else.
std::optional<HttpResponse> RefusePost(const HttpRequest& request, std::string_view token);

}  // namespace ringmain
