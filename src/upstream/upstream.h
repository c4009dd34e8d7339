// Upstream and Server: who the servers are, and what all workers share about them.
//
// Built by the composition root, shared by all threads. Everything but the atomics is immutable: a reload makes a new Upstream, which has
// the servers that stay in common with the old one, while sessions of the old one go on.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/socket_address.h"
#include "config/config.h"

namespace ringmain {

// One server. The shared part is one cache line: it is touched once per connection (pick, release), never per message.
class alignas(64) Server {
 public:
  explicit Server(const SocketAddress& address) : address_(address), name_(address.ToString()) {}

  const SocketAddress& address() const { return address_; }
  const std::string& name() const { return name_; }

  // Connections that are connecting or established, exact over all workers.
  uint32_t active() const { return active_.load(std::memory_order_relaxed); }
  // Reserves a connection, but only if the count still is `seen`: a pick that decided by a count must not act on a stale one.
  bool TryReserve(uint32_t seen) {
    return active_.compare_exchange_strong(seen, seen + 1, std::memory_order_relaxed);
  }
  void Reserve() { active_.fetch_add(1, std::memory_order_relaxed); }
  // REQUIRES: a reservation.
  void Release() {
    uint32_t before = active_.fetch_sub(1, std::memory_order_relaxed);
    RINGMAIN_CHECK(before > 0);
  }

  bool up() const { return up_.load(std::memory_order_relaxed); }
  // Only the health thread calls this; and who makes the server, before others know of it.
  void set_up(bool up) { up_.store(up, std::memory_order_relaxed); }

 private:
  // Written at every connection.
  std::atomic<uint32_t> active_{0};
  // Written when health flips.
  std::atomic<bool> up_{true};
  // Immutable.
  alignas(64) SocketAddress address_;
  std::string name_;
};

class Upstream;

// Chooses a server. One implementation per method, in balance/. Stateless: what it remembers is in Upstream's atomics, so all
// workers share one.
class Balancer {
 public:
  virtual ~Balancer() = default;
  // The index of an up server that is not in `tried`, with a connection reserved on it; none if there is no such server.
  // Thread-safe, no lock, no allocation.
  virtual std::optional<uint16_t> Pick(Upstream& upstream, std::span<const uint16_t> tried) const = 0;
};

class Upstream {
 public:
  using Servers = std::vector<std::shared_ptr<Server>>;

  // REQUIRES: `servers` are those of `config`, in its order.
  Upstream(const UpstreamConfig& config, std::unique_ptr<const Balancer> balancer, Servers servers);
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
  uint32_t weight(size_t i) const { return config_.servers[i].weight; }
  // The local addresses that connections to server `i` are made from, all of its family; empty: the kernel chooses.
  std::span<const SocketAddress> sources(size_t i) const { return SourcesOf(servers_[i]->address().family()); }
  std::span<const SocketAddress> SourcesOf(int family) const;

  std::optional<uint16_t> Pick(std::span<const uint16_t> tried) { return balancer_->Pick(*this, tried); }

  // For balancers. The turn of this connection, unique over all workers.
  uint64_t NextTicket() { return ticket_.fetch_add(1, std::memory_order_relaxed); }
  // The smooth weighted round-robin sequence (server indices): each server stands in it in proportion to its weight, spread as
  // evenly as can be. Never empty.
  std::span<const uint16_t> sequence() const { return sequence_; }

 private:
  const UpstreamConfig config_;
  const std::unique_ptr<const Balancer> balancer_;
  std::vector<SocketAddress> sources_;  // IPv4 first
  size_t ipv4_sources_ = 0;
  const Servers servers_;
  std::vector<uint16_t> sequence_;
  alignas(64) std::atomic<uint64_t> ticket_{0};
};

// Exposed for tests: the sequence for these weights, by the smooth weighted round robin that nginx made known (each turn every
// server gains its weight, the richest serves and pays the total). Weights are divided by their greatest common divisor first.
std::vector<uint16_t> SmoothWeightedSequence(std::span<const uint32_t> weights);

}  // namespace ringmain
