// AdminServer: the HTTP side of ringmain: /metrics, /healthz, /readyz, /api/v1/status and control.
//
// Its threads are civetweb's. They read atomics of the other threads and immutable objects, take no lock a worker could wait for, and
// change nothing: control goes through `AdminView`'s callbacks into process.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "config/config.h"
#include "metrics/board.h"
#include "upstream/upstream.h"

namespace ringmain {

// What the admin side may see. Everything pointed to outlives the server.
struct AdminView {
  std::shared_ptr<const Config> config;
  const Board* board = nullptr;
  std::vector<const Upstream*> upstreams;                     // in the order of the configuration
  std::vector<std::vector<SocketAddress>> listener_addresses;  // bound ones, in the order of the configuration
  uint32_t max_connections = 0;                               // the effective limits.max_connections
  std::string features;                                       // kernel features in use
  std::chrono::system_clock::time_point start_time;
  const std::atomic<bool>* ready = nullptr;     // listening and not draining
  const std::atomic<bool>* draining = nullptr;
};

class AdminServer {
 public:
  // Serves everything on config->admin_listen and, if configured, /metrics /healthz /readyz on metrics_listen, until destroyed.
  // Errors: names the address and the cause (an occupied port, a missing privilege).
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(AdminView view);
  virtual ~AdminServer() = default;

  // Bound addresses: the port the kernel chose where 0 was configured.
  virtual SocketAddress admin_address() const = 0;
  virtual std::optional<SocketAddress> metrics_address() const = 0;
};

// The body of GET /metrics, in the Prometheus text format 0.0.4. Exposed for tests.
std::string RenderMetrics(const AdminView& view);
// The body of GET /api/v1/status. Exposed for tests.
std::string RenderStatusJson(const AdminView& view);

}  // namespace ringmain
