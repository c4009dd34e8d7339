// AdminServer: the HTTP side of ringmain: /metrics, /healthz, /readyz, /api/v1/status and control.
//
// Its threads are those of http_server.h. They read atomics of the other threads and immutable objects, take no lock a worker could wait for, and
// change nothing. The list of sessions they ask for, through `AdminView::list_sessions`. Control goes through callbacks of `AdminView` into
// process, after RefusePost (routes.h).
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

// What is configured, in the order of the configuration, and after that what a reload has taken out and that still has sessions: it is
// draining. Nothing here changes but the atomics that it points to; a reload makes another layout.
struct ServerLayout {
  std::shared_ptr<const Server> server;
  std::shared_ptr<const ServerMetrics> metrics;
  ServerConfig config;
  bool draining = false;
};
struct UpstreamLayout {
  std::shared_ptr<const Upstream> upstream;  // the last one of this name
  std::shared_ptr<const UpstreamMetrics> metrics;
  std::vector<ServerLayout> servers;
  std::vector<std::shared_ptr<const NameMetrics>> names;  // in the order of the configuration
};
// Of the source addresses that a listener counts, for per_source.
struct SourceUse {
  uint64_t sources = 0;    // with connections
  uint64_t entries = 0;    // that there is memory for
  uint64_t no_entry = 0;   // connections refused since there was none
};
struct ListenerLayout {
  ListenerConfig config;
  std::vector<SocketAddress> addresses;  // bound ones
  std::shared_ptr<const ListenerMetrics> metrics;
  bool draining = false;
  std::function<SourceUse()> sources;  // null: per_source is off
};
struct WorkerLayout {
  uint32_t number = 0;
  bool draining = false;
};
struct Layout {
  std::vector<ListenerLayout> listeners;
  std::vector<UpstreamLayout> upstreams;
  std::vector<WorkerLayout> workers;
  uint32_t max_connections = 0;  // the effective limits.max_connections
  std::string control_token;     // that a POST must show; empty: none
};

struct ReloadResult {
  enum class Outcome {
    kReloaded,
    kUnchanged,  // the file says what runs
    kFailed,     // nothing has changed; `errors` say why
    kRefused,    // there is no file, or the process is ending
  };
  Outcome outcome = Outcome::kReloaded;
  std::vector<std::string> changes;     // sentences
  std::vector<std::string> next_start;  // settings that take effect at the next start only
  std::vector<std::string> errors;
};

// What is to change of one server, until it is changed again or the configuration says something else of it.
struct ServerChange {
  std::string upstream;
  std::string server;  // its address, as in the status
  bool reset = false;  // first back to what the configuration says
  std::optional<ServerState> state;
  std::optional<uint32_t> weight;
  std::optional<std::optional<uint32_t>> max_connections;
};

// What the admin side may see. Everything pointed to outlives the server; every function may be called by several threads at once.
struct AdminView {
  std::function<std::shared_ptr<const Layout>()> layout;  // the one that holds now
  const PerWorker<WorkerCells>* workers = nullptr;
  const ReloadCells* reloads = nullptr;
  std::string config_file;  // empty: there is none
  std::string features;     // kernel features in use, as logged at start
  std::chrono::system_clock::time_point start_time;
  const std::atomic<bool>* ready = nullptr;  // listening and not draining
  const std::atomic<bool>* draining = nullptr;
  std::function<SessionList(uint32_t most)> list_sessions;  // may take a second or so
  std::function<ReloadResult()> reload;                     // may take a second or so
  // The same. kFailed: there is no such server.
  std::function<ReloadResult(const ServerChange&)> change_server;
};

// Sessions in a status, unless `?sessions=` says otherwise, and at most.
inline constexpr uint32_t kDefaultSessions = 100;
inline constexpr uint32_t kMostSessions = 10000;

// File descriptors that an AdminServer may hold at once: the process keeps them out of what sessions may use.
inline constexpr uint32_t kAdminFileDescriptors = 140;

class AdminServer {
 public:
  // Serves everything on `admin` and, if there is one, /metrics /healthz /readyz on `metrics`, until destroyed.
  // Errors: one line with the address, the cause (an occupied port, a missing privilege) and the
  // setting to change. REQUIRES: called with every signal blocked that its threads must not take (they inherit the mask); the
  // pointers of `view` are not null.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(AdminView view, const SocketAddress& admin,
                                                            const std::optional<SocketAddress>& metrics);
  // Ends the threads, once they are through with requests in progress.
  virtual ~AdminServer() = default;

  // Serves these addresses, too, where they differ from those that were asked for last. Errors: as above; nothing has changed.
  virtual absl::Status Prepare(const SocketAddress& admin, const std::optional<SocketAddress>& metrics) = 0;
  // After Prepare: serves only those that it named. What is returned serves the others until it is destroyed, before this server is.
  virtual std::vector<std::shared_ptr<void>> Commit() = 0;
  // After Prepare: as if it had not been called.
  virtual void Abandon() = 0;

  // Bound addresses: the port the kernel chose where 0 was configured.
  virtual SocketAddress admin_address() const = 0;
  virtual std::optional<SocketAddress> metrics_address() const = 0;
};

// "starting", "ready" or "draining": the body of /readyz, and `state` in the status.
std::string_view StateName(const AdminView& view);
// The body of GET /metrics, in the Prometheus text format 0.0.4. Exposed for tests.
std::string RenderMetrics(const AdminView& view);
// The body of the answer to POST /api/v1/reload.
std::string RenderReloadJson(const ReloadResult& result);
// The body of GET /api/v1/status, with up to `sessions` sessions. Exposed for tests.
std::string RenderStatusJson(const AdminView& view, uint32_t sessions = kDefaultSessions);

}  // namespace ringmain
