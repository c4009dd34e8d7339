#include "admin/admin_server.h"

#include <utility>

#include "admin/http_server.h"
#include "admin/routes.h"

namespace ringmain {
namespace {

static_assert(kAdminFileDescriptors >= 2 * kHttpFileDescriptors);

class HttpAdminServer final : public AdminServer {
 public:
  explicit HttpAdminServer(AdminView view) : view_(std::move(view)) {}

  absl::Status Start() {
    auto admin = Serve("admin", "admin.listen (or --admin)", view_.config->admin_listen, RouteSet::kAll);
    if (!admin.ok()) return admin.status();
    admin_ = *std::move(admin);
    if (!view_.config->metrics_listen) return absl::OkStatus();
    auto metrics = Serve("metrics", "metrics.listen", *view_.config->metrics_listen, RouteSet::kMetrics);
    if (!metrics.ok()) return metrics.status();
    metrics_ = *std::move(metrics);
    return absl::OkStatus();
  }

  SocketAddress admin_address() const override { return admin_->address(); }
  std::optional<SocketAddress> metrics_address() const override {
    if (metrics_ == nullptr) return std::nullopt;
    return metrics_->address();
  }

 private:
  absl::StatusOr<std::unique_ptr<HttpServer>> Serve(const std::string& section, const std::string& setting,
                                                    const SocketAddress& listen, RouteSet set) {
    return HttpServer::Start(section, setting, listen,
                             [this, set](const HttpRequest& request) { return Route(view_, set, request); });
  }

  const AdminView view_;
  // After the view: their threads end first.
  std::unique_ptr<HttpServer> admin_;
  std::unique_ptr<HttpServer> metrics_;
};

}  // namespace

std::string_view StateName(const AdminView& view) {
  if (view.draining->load(std::memory_order_acquire)) return "draining";
  return view.ready->load(std::memory_order_acquire) ? "ready" : "starting";
}

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(AdminView view) {
  auto server = std::make_unique<HttpAdminServer>(std::move(view));
  if (absl::Status status = server->Start(); !status.ok()) return status;
  return server;
}

}  // namespace ringmain
