// Upstream: the servers that clients of a listener may get, and how one of them is chosen.
//
// Built by the composition root, shared by all threads. Everything but the atomics is immutable: a reload, or a change of a server at run
// time, makes a new Upstream, which has the servers that stay in common with the old one, while sessions of the old one go on.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/socket_address.h"
#include "config/config.h"
#include "upstream/connect_queue.h"
#include "upstream/retry_budget.h"
#include "upstream/server.h"

namespace ringmain {

class Upstream;

// What a choice goes by.
struct PickRequest {
  std::span<const uint16_t> tried = {};  // servers that this session has tried already
  uint64_t source = 0;                   // HashOfSource of the client's address, if the balancer needs_source()
  TimePoint now{};
};

// A server with a connection reserved on it; or none, and whether that is only because servers have as many connections as they may have.
struct PickResult {
  std::optional<uint16_t> server;
  bool full = false;
};

// Which servers may be chosen now, by everything but the method of balancing: health, ejection, what the operator wants, room, what was
// tried. One lasts for one choice.
class Candidates {
 public:
  // Everything passed outlives it.
  Candidates(Upstream& upstream, const PickRequest& request, bool backups, bool ignore_health)
      : upstream_(upstream), request_(request), backups_(backups), ignore_health_(ignore_health) {}

  const PickRequest& request() const { return request_; }
  bool backups() const { return backups_; }
  // May be chosen.
  bool Has(uint16_t server) const;
  // Would be one, had it room.
  bool Usable(uint16_t server) const;
  bool AnyUsable() const;
  // How much of the upstream's connections a server is to get, in relation to others: its weight times 1024, less while it starts slowly.
  uint32_t Share(uint16_t server) const;
  // Whether a server that starts slowly takes this turn; all others take each. `turn` is any number, different for each turn.
  bool TakesTurn(uint16_t server, uint64_t turn) const;
  // Reserves a connection; false if there is no room any more.
  bool Reserve(uint16_t server) const;
  // The same, but only if the count of connections still is `seen`.
  bool Reserve(uint16_t server, uint32_t seen) const;

 private:
  uint32_t Progress(uint16_t server) const;

  Upstream& upstream_;
  const PickRequest& request_;
  const bool backups_;
  const bool ignore_health_;
};

// Chooses a server. One implementation per method, in balance/. What it remembers of choices is in the atomics of Upstream and Server, so all
// workers share one.
class Balancer {
 public:
  virtual ~Balancer() = default;
  // The index of a candidate with a connection reserved on it; none if there is none. Thread-safe, no lock, no allocation, no clock.
  virtual std::optional<uint16_t> Pick(Upstream& upstream, const Candidates& candidates) const = 0;
  // It goes by the client's address.
  virtual bool needs_source() const { return false; }
  // It goes by how long connects take.
  virtual bool needs_latency() const { return false; }
};

// Whether clients may ever have to wait.
bool NeedsQueue(const UpstreamConfig& config);

class Upstream {
 public:
  using Servers = std::vector<std::shared_ptr<Server>>;

  // REQUIRES: `servers` are those of `config`, in its order; a queue if NeedsQueue(config).
  Upstream(const UpstreamConfig& config, std::unique_ptr<const Balancer> balancer, Servers servers,
           std::shared_ptr<ConnectQueue> queue = nullptr);
  // With servers of its own.
  Upstream(const UpstreamConfig& config, std::unique_ptr<const Balancer> balancer);
  // Takes its turns where `before` stands, so that a reload does not begin with the first server again. REQUIRES: not in use yet.
  void ContinueAfter(const Upstream& before) { ticket_.store(before.ticket_.load(std::memory_order_relaxed), std::memory_order_relaxed); }

  const UpstreamConfig& config() const { return config_; }
  const std::string& name() const { return config_.name; }
  size_t size() const { return servers_.size(); }
  Server& server(size_t i) { return *servers_[i]; }
  const Server& server(size_t i) const { return *servers_[i]; }
  const Servers& servers() const { return servers_; }
  // What a choice needs to know of a server's configuration, close together.
  struct Terms {
    uint32_t weight = 1;
    uint32_t max_connections = UINT32_MAX;
    bool enabled = true;
    bool backup = false;
  };
  const Terms& terms(size_t i) const { return terms_[i]; }
  // The local addresses that connections to server `i` are made from, all of its family; empty: the kernel chooses.
  std::span<const SocketAddress> sources(size_t i) const { return SourcesOf(servers_[i]->address().family()); }
  std::span<const SocketAddress> SourcesOf(int family) const;

  const Balancer& balancer() const { return *balancer_; }

  // Chooses a server. Backups only if no other can be chosen, or will be able to as soon as it has room. With fewer servers up than
  // panic_threshold, whether they are up does not matter.
  PickResult Pick(const PickRequest& request);
  // Whether a server could be chosen, now or as soon as one has room.
  bool MayPick(const PickRequest& request);
  // Fewer servers are up than panic_threshold.
  bool Panics(TimePoint now) const;

  // ---- Ejection (ejection.cc) ----

  // Server `i` was of use: connected to, or, where early ends count, has sent something.
  void Succeeded(size_t i, TimePoint now);
  // It was not. If it is ejected for that, for how long.
  std::optional<Duration> Failed(size_t i, TimePoint now);
  // Connections that the server ends before it has sent a byte count as failures.
  bool counts_early_ends() const { return config_.ejection.has_value() && config_.ejection->count_early_ends; }

  // null: any number of retries.
  RetryBudget* retry_budget() const { return retry_budget_.get(); }

  // Where clients wait for room; null: no server limits its connections, or nobody may wait.
  const std::shared_ptr<ConnectQueue>& queue() const { return queue_; }

  // ---- For balancers ----

  // The turn of this connection, unique over all workers.
  uint64_t NextTicket() { return ticket_.fetch_add(1, std::memory_order_relaxed); }
  // The smooth weighted round-robin sequence (server indices) of the enabled servers that are backups, or are not: each stands in it in
  // proportion to its weight, spread as evenly as can be.
  std::span<const uint16_t> sequence(bool backups) const { return sequences_[backups ? 1 : 0]; }

 private:
  bool MayEjectOneMore(TimePoint now) const;

  const UpstreamConfig config_;
  const std::unique_ptr<const Balancer> balancer_;
  std::vector<SocketAddress> sources_;  // IPv4 first
  size_t ipv4_sources_ = 0;
  const Servers servers_;
  const std::shared_ptr<ConnectQueue> queue_;
  const std::unique_ptr<RetryBudget> retry_budget_;
  std::vector<Terms> terms_;
  bool has_backups_ = false;
  std::array<std::vector<uint16_t>, 2> sequences_;  // without and of backups
  alignas(64) std::atomic<uint64_t> ticket_{0};
};

// Exposed for tests: the sequence for these weights, by the smooth weighted round robin that nginx made known (each turn every
// server gains its weight, the richest serves and pays the total). Weights are divided by their greatest common divisor first.
std::vector<uint16_t> SmoothWeightedSequence(std::span<const uint32_t> weights);

}  // namespace ringmain
