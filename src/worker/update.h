// WorkerUpdate: what a configuration asks of one worker: where clients of each listener go from now on, and which sockets to accept from.
//
// The process makes one for each worker, at the start and at every reload, and waits until it was carried out.
#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "log/access_log.h"
#include "log/log.h"
#include "metrics/board.h"
#include "session/session.h"
#include "takeover/frozen_process.h"
#include "base/token_bucket.h"
#include "upstream/upstream.h"
#include "worker/access.h"
#include "worker/connection_limit.h"
#include "worker/source_table.h"

namespace ringmain {

// What the workers share about one listener, for as long as it is configured or has sessions.
struct SharedListener {
  // `number` is what it is called between workers; no other listener of the process ever has it.
  SharedListener(std::string name_in, uint32_t number_in, uint32_t max_connections)
      : name(std::move(name_in)), number(number_in), limit(max_connections) {}
  // What the configuration says of max_connections, accept_rate, per_source and bandwidth, from now on. `most` is how many connections the process may
  // have. The process thread.
  void SetLimits(const ListenerConfig& config, uint32_t most, TimePoint now);

  // Of a takeover: what the limits remember, to pass on, and what another process remembered, once SetLimits was called and before any
  // worker knows the listener.
  void Freeze(FrozenListener& frozen, TimePoint now) const;
  void GoOnFrom(const FrozenListener& frozen, TimePoint now);

  const std::string name;
  const uint32_t number;
  ConnectionLimit limit;
  TokenBucket accept_rate;
  Bandwidth bandwidth;
  // Null until per_source is configured; from then on it stays, since sessions may hold entries of it though per_source is off again.
  std::shared_ptr<SourceTable> sources;
  LogLimiter refused;         // by a number of connections
  LogLimiter rate_refused;
  LogLimiter source_refused;
  LogLimiter access_refused;
  LogLimiter no_server;
  LogLimiter no_room;
};

// A listening socket, which one or several workers accept from. It closes when the last of those who share it lets go.
struct ListeningSocket {
  explicit ListeningSocket(UniqueFd fd_in) : fd(std::move(fd_in)) {}
  const UniqueFd fd;
  // Its address is not configured any more: who lets go of it serves first what waits in its accept queue. Set by the process.
  std::atomic<bool> leaving{false};
};

// A route with everything that it points to.
struct ListenerRoute : Route {
  std::shared_ptr<SharedListener> shared;
  std::shared_ptr<ListenerMetrics> listener_metrics;
  std::shared_ptr<Upstream> upstream_owner;
  std::shared_ptr<UpstreamMetrics> upstream_metrics;
  std::vector<std::shared_ptr<ServerMetrics>> server_metrics;
  std::shared_ptr<const AccessRules> access;  // null: everybody may connect
  SourceTable* sources = nullptr;             // that of `shared` while per_source is on
  BandwidthConfig bandwidth_config;           // what `bandwidth` limits to
};
static_assert(SourceTable::kNone == kNoClientSource);

// What a worker writes to the access log, and where; the process owns it.
struct AccessLogUse {
  AccessLog* log = nullptr;
  AccessLogRules rules;
};

// A session as it passes from one worker to another.
struct SavedSession {
  FrozenSession session;
  const ListenerRoute* route = nullptr;
  std::optional<uint16_t> server;  // index in the route, if it is established
};

struct WorkerUpdate {
  struct Acceptance {
    std::shared_ptr<ListeningSocket> socket;
    uint32_t listener = 0;  // SharedListener::number
  };
  // Each takes the place of the one that its listener has, if it has one. Sessions keep the route that they began with.
  std::vector<std::unique_ptr<ListenerRoute>> routes;
  // All that the worker accepts from, from now on; none: no change. Every listener has had a route.
  std::optional<std::vector<Acceptance>> accept_from;
  // Numbers of listeners that no worker accepts for any more and that have no sessions.
  std::vector<uint32_t> forget;
  // Sessions with these are closed, CloseReason::kServerRemoved.
  std::vector<std::shared_ptr<const Server>> close;
  // ---- Of a takeover ----
  // Sessions are to stand still, and to be written down here; carried out once they do and are.
  std::vector<SavedSession>* freeze_into = nullptr;
  // Sessions that come from elsewhere, established ones with server 0 of the route. They stand still until the thaw.
  struct Adoption {
    FrozenSession session;
    ListenerRoute* route = nullptr;  // one of adopted_routes
  };
  std::vector<Adoption> adopt;
  std::vector<std::unique_ptr<ListenerRoute>> adopted_routes;
  std::atomic<bool>* adopted_whole = nullptr;  // becomes false if there was no memory for what a session held
  std::optional<FrozenWorker> counted;         // what the worker of that number had counted before
  bool cut_lost = false;                       // frozen sessions are lost: they are closed, CloseReason::kTakeoverFailed
  bool thaw = false;                           // sessions go on
  bool let_go = false;                         // sessions go on elsewhere: to be forgotten

  std::optional<Duration> close_idle_over;  // sessions that are idle are closed over this time (Sessions::CloseIdle)

  uint32_t high_water = 0;
  uint64_t buffer_bytes = 0;  // of all the worker's buffers
  Duration busy_poll{};
  std::optional<AccessLogUse> access_log;  // from now on; none: off
  std::promise<void> done;
};

}  // namespace ringmain
