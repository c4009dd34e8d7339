// Server: one server of an upstream, and what all workers and the health thread share about it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/clock.h"
#include "base/socket_address.h"

namespace ringmain {

// Shared by all threads. The shared part is one cache line: it is touched once per connection (pick, connect, release), never per message.
class alignas(64) Server {
 public:
  explicit Server(const SocketAddress& address) : address_(address), name_(address.ToString()) {}

  const SocketAddress& address() const { return address_; }
  const std::string& name() const { return name_; }

  // ---- Connections ----

  // That are connecting or established, exact over all workers.
  uint32_t active() const { return active_.load(std::memory_order_relaxed); }
  // Reserves a connection, but only if the count still is `seen`: a pick that decided by a count must not act on a stale one.
  bool TryReserve(uint32_t seen) {
    return active_.compare_exchange_strong(seen, seen + 1, std::memory_order_relaxed);
  }
  // Reserves one if there are fewer than `most`.
  bool TryReserveBelow(uint32_t most) {
    uint32_t seen = active();
    while (seen < most)
      if (active_.compare_exchange_weak(seen, seen + 1, std::memory_order_relaxed)) return true;
    return false;
  }
  // Though it may be one too many: for a connection that is there already, or where there is no limit.
  void Reserve() { active_.fetch_add(1, std::memory_order_relaxed); }
  // REQUIRES: a reservation. The order is that of ConnectQueue: whoever waits for room must see it, or be seen.
  void Release() {
    uint32_t before = active_.fetch_sub(1, std::memory_order_seq_cst);
    RINGMAIN_CHECK(before > 0);
  }

  // ---- Health ----

  bool up() const { return up_.load(std::memory_order_relaxed); }
  // Only the health thread calls this; and who makes the server, before others know of it.
  void set_up(bool up) { up_.store(up, std::memory_order_relaxed); }
  // When it last began to take connections after it had not, from which slow_start counts; the epoch: long ago.
  TimePoint started_at() const { return TimePoint(Duration(started_at_.load(std::memory_order_relaxed))); }
  void set_started_at(TimePoint at) { started_at_.store(at.time_since_epoch().count(), std::memory_order_relaxed); }

  // ---- Ejection: what Upstream::Failed and Upstream::Succeeded know of it ----

  bool ejected(TimePoint now) const { return now < ejected_until(); }
  TimePoint ejected_until() const { return TimePoint(Duration(ejected_until_.load(std::memory_order_relaxed))); }
  bool InService(TimePoint now) const { return up() && !ejected(now); }
  // How often in a row.
  uint32_t ejections() const { return ejections_.load(std::memory_order_relaxed); }
  void SetEjected(TimePoint until, uint32_t in_a_row) {
    ejections_.store(in_a_row, std::memory_order_relaxed);
    ejected_until_.store(until.time_since_epoch().count(), std::memory_order_relaxed);
  }
  // Failures in a row, this one included.
  uint32_t CountFailure() { return failures_.fetch_add(1, std::memory_order_relaxed) + 1; }
  void ForgetFailures() {
    if (failures_.load(std::memory_order_relaxed) != 0) failures_.store(0, std::memory_order_relaxed);
  }

  // ---- Latency of connects: a peak-sensitive moving average ----
  //
  // A slower connect counts in full at once; faster ones bring the average down over kLatencyMemory, and so does time without any
  // (as in Finagle's "peak EWMA"). Several workers may observe at once; one of two observations in the same moment may get lost.

  static constexpr Duration kLatencyMemory = seconds(10);
  void ObserveConnect(Duration took, TimePoint now);
  // As it stands now, in microseconds; 0: not known, or long ago.
  uint32_t LatencyMicros(TimePoint now) const;

 private:
  // Written at every connection.
  std::atomic<uint32_t> active_{0};
  // Written when health flips.
  std::atomic<bool> up_{true};
  std::atomic<int64_t> started_at_{0};
  // Written where the upstream ejects, when connects fail.
  std::atomic<uint32_t> failures_{0};
  std::atomic<uint32_t> ejections_{0};
  std::atomic<int64_t> ejected_until_{0};
  // Written at every connect, where the balancer needs it. The average in microseconds in the upper half, when it was taken in milliseconds
  // in the lower.
  std::atomic<uint64_t> latency_{0};
  // Immutable.
  alignas(64) SocketAddress address_;
  std::string name_;
};

}  // namespace ringmain
