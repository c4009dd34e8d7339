// ConnectQueue: how many clients wait for room on the servers of an upstream, and whose turn it is, over all workers.
//
// A worker keeps its own waiting sessions, in the order in which they came; here it only shows since when its oldest waits. Whoever frees a
// server tells the worker that has the oldest of all, so clients are served in the order of their coming, whichever worker they are on. Times
// are of the machine's clock, so a takeover keeps the order.
//
// Thread-safe, lock-free. Touched only by connections to upstreams that limit the connections of a server.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "base/per_worker.h"

namespace ringmain {

class ConnectQueue {
 public:
  explicit ConnectQueue(size_t workers) : oldest_(workers) {}
  void Grow(size_t workers) { oldest_.Grow(workers); }

  uint32_t waiting() const { return waiting_.load(std::memory_order_seq_cst); }
  // One more waits; false if `most` do already.
  bool TryEnter(uint32_t most) {
    uint32_t waiting = waiting_.load(std::memory_order_relaxed);
    while (waiting < most)
      if (waiting_.compare_exchange_weak(waiting, waiting + 1, std::memory_order_seq_cst)) return true;
    return false;
  }
  // Though it may be one too many: it waited already, elsewhere.
  void Enter() { waiting_.fetch_add(1, std::memory_order_seq_cst); }
  void Leave() { waiting_.fetch_sub(1, std::memory_order_seq_cst); }

  // Since when the oldest of a worker's waits; none if none does. Only that worker says so.
  void SetOldest(size_t worker, std::optional<TimePoint> since) {
    oldest_[worker].since.store(since.has_value() ? since->time_since_epoch().count() : kNobody, std::memory_order_seq_cst);
  }
  // The worker whose turn it is; none if nobody waits.
  std::optional<uint32_t> Next() const {
    std::optional<uint32_t> next;
    int64_t oldest = kNobody;
    for (size_t i = 0; i < oldest_.size(); ++i) {
      int64_t since = oldest_[i].since.load(std::memory_order_seq_cst);
      if (since >= oldest) continue;
      oldest = since;
      next = static_cast<uint32_t>(i);
    }
    return next;
  }

 private:
  static constexpr int64_t kNobody = INT64_MAX;
  struct Oldest {
    std::atomic<int64_t> since{kNobody};
  };
  std::atomic<uint32_t> waiting_{0};
  PerWorker<Oldest> oldest_;
};

}  // namespace ringmain
