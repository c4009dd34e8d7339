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

  absl::Status Prepare(const SocketAddress& admin, const std::optional<SocketAddress>& metrics) override {
    next_ = now_;
    absl::Status status = Open(next_.admin, admin, "admin", "admin.listen (or --admin)", RouteSet::kAll);
    if (status.ok() && !metrics.has_value()) next_.metrics = {};
    if (status.ok() && metrics.has_value())
      status = Open(next_.metrics, *metrics, "metrics", "metrics.listen", RouteSet::kMetrics);
    if (!status.ok()) Abandon();
    return status;
  }

  std::vector<std::shared_ptr<void>> Commit() override {
    std::vector<std::shared_ptr<void>> gone;
    if (now_.admin.server != next_.admin.server) gone.push_back(now_.admin.server);
    if (now_.metrics.server != next_.metrics.server) gone.push_back(now_.metrics.server);
    now_ = std::exchange(next_, {});
    return gone;
  }

  void Abandon() override { next_ = {}; }

  SocketAddress admin_address() const override { return now_.admin.server->address(); }
  std::optional<SocketAddress> metrics_address() const override {
    if (now_.metrics.server == nullptr) return std::nullopt;
    return now_.metrics.server->address();
  }

 private:
  struct Endpoint {
    SocketAddress wanted;  // as configured
    std::shared_ptr<HttpServer> server;
  };
  struct Endpoints {
    Endpoint admin;
    Endpoint metrics;
  };

  absl::Status Open(Endpoint& endpoint, const SocketAddress& listen, const std::string& section, const std::string& setting,
                    RouteSet set) {
    if (endpoint.server != nullptr && endpoint.wanted == listen) return absl::OkStatus();
    auto server = HttpServer::Start(section, setting, listen,
                                    [this, set](const HttpRequest& request) { return Route(view_, set, request); });
    if (!server.ok()) return server.status();
    endpoint = {listen, *std::move(server)};
    return absl::OkStatus();
  }

  const AdminView view_;
  // After the view: their threads end first.
  Endpoints now_;
  Endpoints next_;
};

}  // namespace

std::string_view StateName(const AdminView& view) {
  if (view.draining->load(std::memory_order_acquire)) return "draining";
  return view.ready->load(std::memory_order_acquire) ? "ready" : "starting";
}

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(AdminView view, const SocketAddress& admin,
                                                                const std::optional<SocketAddress>& metrics) {
  auto server = std::make_unique<HttpAdminServer>(std::move(view));
  if (absl::Status status = server->Prepare(admin, metrics); !status.ok()) return status;
  server->Commit();
  return server;
}

}  // namespace ringmain
