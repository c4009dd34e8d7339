// AdminServer: the HTTP side of ringmain: /metrics, /healthz, /readyz, /api/v1/status and control.
//
// Its threads are civetweb's. They read atomics of the other threads and immutable objects, take no lock a worker could wait for, and
// change nothing. The list of sessions they ask for, through `AdminView::list_sessions`. Control (none exists yet) will go through callbacks of `AdminView` into process, after RefusePost (routes.h).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "config/config.h"
#include "metrics/board.h"
#include "metrics/session_list.h"
#include "upstream/upstream.h"

namespace ringmain {

// What the admin side may see. Everything pointed to outlives the server.
struct AdminView {
  std::shared_ptr<const Config> config;
  const Board* board = nullptr;
  std::vector<const Upstream*> upstreams;                     // in the order of the configuration
  std::vector<std::vector<SocketAddress>> listener_addresses;  // bound ones, in the order of the configuration
  uint32_t max_connections = 0;                               // the effective limits.max_connections
  std::string features;                                       // kernel features in use, as logged at start
  std::chrono::system_clock::time_point start_time;
  const std::atomic<bool>* ready = nullptr;     // listening and not draining
  const std::atomic<bool>* draining = nullptr;
  std::function<SessionList(uint32_t most)> list_sessions;  // called by several threads at once; may take a second or so
};

// Sessions in a status, unless `?sessions=` says otherwise, and at most.
inline constexpr uint32_t kDefaultSessions = 100;
inline constexpr uint32_t kMostSessions = 10000;

// File descriptors that an AdminServer may hold at once: the process keeps them out of what sessions may use.
inline constexpr uint32_t kAdminFileDescriptors = 64;

class AdminServer {
 public:
  // Serves everything on config->admin_listen and, if configured, /metrics /healthz /readyz on metrics_listen, until destroyed.
  // Errors: one line with the address, the cause (an occupied port, a missing privilege, IPv6 with a civetweb built without) and the
  // setting to change. REQUIRES: called with every signal blocked that civetweb's threads must not take (they inherit the mask); the
  // pointers of `view` are not null, and its lists are as long as the configuration's and the board's.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(AdminView view);
  // Ends the threads: at once, or within 2 s per address if a client holds a connection open.
  virtual ~AdminServer() = default;

  // Bound addresses: the port the kernel chose where 0 was configured.
  virtual SocketAddress admin_address() const = 0;
  virtual std::optional<SocketAddress> metrics_address() const = 0;
};

// "starting", "ready" or "draining": the body of /readyz, and `state` in the status.
std::string_view StateName(const AdminView& view);
// The body of GET /metrics, in the Prometheus text format 0.0.4. Exposed for tests.
std::string RenderMetrics(const AdminView& view);
// The body of GET /api/v1/status, with up to `sessions` sessions. Exposed for tests.
std::string RenderStatusJson(const AdminView& view, uint32_t sessions = kDefaultSessions);

}  // namespace ringmain
