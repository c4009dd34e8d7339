// ConnectionLimit: a bound on connections that is exact over all workers.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/check.h"

namespace ringmain {

// Thread-safe, lock-free; touched once per connection.
class alignas(64) ConnectionLimit {
 public:
  explicit ConnectionLimit(uint32_t max) : max_(max) {}

  // False if `max` connections are there already.
  bool TryAcquire() {
    uint32_t active = active_.load(std::memory_order_relaxed);
    do {
      if (active >= max()) return false;
    } while (!active_.compare_exchange_weak(active, active + 1, std::memory_order_relaxed));
    return true;
  }
  // Though it may be one too many: for a connection that is there already.
  void Acquire() { active_.fetch_add(1, std::memory_order_relaxed); }
  // REQUIRES: an acquired connection.
  void Release() {
    uint32_t before = active_.fetch_sub(1, std::memory_order_relaxed);
    RINGMAIN_CHECK(before > 0);
  }
  // How many more would be let in now.
  uint32_t room() const {
    uint32_t now = active();
    uint32_t most = max();
    return now < most ? most - now : 0;
  }
  uint32_t active() const { return active_.load(std::memory_order_relaxed); }
  uint32_t max() const { return max_.load(std::memory_order_relaxed); }
  // Those above a lower one stay.
  void set_max(uint32_t max) { max_.store(max, std::memory_order_relaxed); }

 private:
  std::atomic<uint32_t> max_;
  std::atomic<uint32_t> active_{0};
};

}  // namespace ringmain
