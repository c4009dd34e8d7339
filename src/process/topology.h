// Topology: the listeners, upstreams and servers that run, as shared objects, and what is left of those that a reload has taken out.
//
// What stays over a reload keeps its objects: a listener by its name, a server by its address within the upstream of its name; with them
// stay limits, counts, health and metrics. What leaves is draining until its last session has ended. Process thread only; a value: the
// next one is made beside the one that runs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin/admin_server.h"
#include "base/clock.h"
#include "config/config.h"
#include "health/probes.h"
#include "process/machine.h"
#include "takeover/frozen_process.h"
#include "worker/update.h"

namespace ringmain {

class Topology {
 public:
  struct ServerEntry {
    std::shared_ptr<Server> server;
    std::shared_ptr<ServerMetrics> metrics;
    TimePoint left_at{};  // draining: since when
  };
  struct UpstreamEntry {
    std::shared_ptr<Upstream> upstream;
    std::shared_ptr<UpstreamMetrics> metrics;
    std::shared_ptr<ConnectQueue> queue;  // null if none is needed
    std::vector<ServerEntry> servers;   // in the order of the configuration; none if the upstream itself is draining
    std::vector<ServerEntry> draining;
  };
  struct ListenerEntry {
    ListenerConfig config;
    std::shared_ptr<SharedListener> shared;
    std::shared_ptr<ListenerMetrics> metrics;
    std::shared_ptr<const RouteNames> names;
    std::shared_ptr<const AccessRules> access;  // null: everybody may connect
    size_t upstream = 0;  // index in upstreams()
    TimePoint left_at{};  // draining: since when
  };
  // What has left is kept so long though it has no session: one may still be on its way out of an accept queue.
  static constexpr Duration kLeastDraining = seconds(1);

  Topology() = default;
  // That of `config`, coming from `before`. `workers` is the size of the metrics that are new.
  Topology(const Config& config, const Topology& before, size_t workers, TimePoint now);

  const std::vector<ListenerEntry>& listeners() const { return listeners_; }  // in the order of the configuration
  const std::vector<UpstreamEntry>& upstreams() const { return upstreams_; }
  // ---- Takeover ----

  // What another process had; all of it as if it were configured.
  static Topology Inherit(const FrozenProcess& process, size_t workers, TimePoint now);
  // What the limits of its listeners remembered; once those of the configuration are in force, and before a worker knows them.
  void GoOnFrom(const FrozenProcess& process, TimePoint now) const;
  // Adds what there is to pass on, but for workers and sessions.
  void Freeze(FrozenProcess& process, TimePoint now) const;
  // The name of the upstream of a listener, configured or draining; empty if there is no such listener.
  std::string UpstreamOf(const std::string& listener) const;
  // A route for sessions that were opened under that one. Server 0 is the route's server, if it has one.
  std::unique_ptr<ListenerRoute> MakeAdoptedRoute(const FrozenRoute& frozen, uint32_t worker, PortRange local_ports) const;

  // The entry of a listener of the configuration. REQUIRES: there is one.
  const ListenerEntry& listener(const std::string& name) const;

  // A worker's route for clients of this listener.
  std::unique_ptr<ListenerRoute> MakeRoute(const ListenerEntry& listener, uint32_t worker, PortRange local_ports) const;
  // Whether the route of a listener is the same as in `before`.
  bool SameRoute(const ListenerEntry& listener, const Topology& before) const;
  std::vector<ProbeTarget> ProbeTargets() const;
  // For metrics that count by worker.
  void GrowTo(size_t workers);

  bool has_draining() const;
  // Drops what has drained. Returns the numbers of listeners that went by it.
  std::vector<uint32_t> DropDrained(TimePoint now);
  // Draining servers that have sessions though their upstream's close_removed_after has passed.
  std::vector<std::shared_ptr<const Server>> Overdue(TimePoint now) const;

  // `addresses` are the bound ones of listeners(), in their order.
  std::shared_ptr<Layout> MakeLayout(const std::vector<std::vector<SocketAddress>>& addresses) const;

 private:
  UpstreamEntry NextUpstream(const UpstreamConfig& config, const UpstreamEntry* before, size_t workers, TimePoint now);
  ListenerEntry NextListener(const ListenerConfig& config, const ListenerEntry* before, size_t workers);
  void DrainUpstream(UpstreamEntry entry, TimePoint now);
  static std::unique_ptr<ListenerRoute> RouteOf(const ListenerEntry& listener, const std::shared_ptr<Upstream>& upstream,
                                                const std::shared_ptr<UpstreamMetrics>& metrics,
                                                const std::vector<ServerEntry>& servers, uint32_t worker, PortRange local_ports);

  std::vector<ListenerEntry> listeners_;
  std::vector<ListenerEntry> draining_listeners_;
  std::vector<UpstreamEntry> upstreams_;
  std::vector<UpstreamEntry> draining_upstreams_;
  uint32_t next_number_ = 0;  // of a listener
};

}  // namespace ringmain
