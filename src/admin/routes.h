// What each path answers. Pure but for reading the view; any thread.
#pragma once

#include <optional>
#include <string>

#include "admin/admin_server.h"
#include "admin/http_server.h"

namespace ringmain {

enum class RouteSet {
  kAll,      // admin.listen
  kMetrics,  // metrics.listen: /metrics, /healthz and /readyz, read-only
};

HttpResponse Route(const AdminView& view, RouteSet set, const HttpRequest& request);

// Why a POST must not be obeyed (403), if so. A web page that the operator visits can send requests to the admin
// address, but only "simple" ones without asking (https://fetch.spec.whatwg.org/#cors-safelisted-request-header), of
// which a JSON content type is none; and a page whose name was made to resolve to this address (DNS rebinding) sends
// that name as Host. Off loopback there is no way to tell who asks, so nothing is obeyed.
std::optional<std::string> RefusePost(const HttpRequest& request);

}  // namespace ringmain
