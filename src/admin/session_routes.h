// What the paths about live sessions answer, and that which drains the process. Pure but for what the view does; any thread.
#pragma once

#include "admin/admin_server.h"
#include "admin/http_server.h"

namespace ringmain {

HttpResponse ListSessions(const AdminView& view, const HttpRequest& request);  // GET /api/v1/sessions
HttpResponse CloseSession(const AdminView& view, const HttpRequest& request);  // POST /api/v1/sessions/close
HttpResponse Drain(const AdminView& view, const HttpRequest& request);         // POST /api/v1/drain

}  // namespace ringmain
