// BriefConnections: how many connections of a worker came and went lately.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace ringmain {

// Its worker counts; any thread reads at any time.
class BriefConnections {
 public:
  // A connection that ends sooner is brief.
  static constexpr Duration kBrief = seconds(1);

  // `now` never goes back.
  void OnClosed(Duration lifetime, TimePoint now) {
    if (lifetime >= kBrief) return;
    uint32_t count = Load(current_);
    if (Duration age = now - begin(); age >= kBrief) {
      Store(previous_, age < 2 * kBrief ? count : 0);
      begin_ns_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
      count = 0;
    }
    Store(current_, count + 1);
  }
  // Brief ones that ended in the last one to two seconds. Read while it is counted in, it may be off for a moment.
  uint32_t Recent(TimePoint now) const {
    Duration age = now - begin();
    if (age >= 2 * kBrief) return 0;
    return Load(current_) + (age < kBrief ? Load(previous_) : 0);
  }

 private:
  static uint32_t Load(const std::atomic<uint32_t>& count) { return count.load(std::memory_order_relaxed); }
  static void Store(std::atomic<uint32_t>& count, uint32_t value) { count.store(value, std::memory_order_relaxed); }
  TimePoint begin() const { return TimePoint(Duration(begin_ns_.load(std::memory_order_relaxed))); }

  std::atomic<int64_t> begin_ns_{0};   // of the second that current_ counts in
  std::atomic<uint32_t> current_{0};
  std::atomic<uint32_t> previous_{0};  // in the second before
};

}  // namespace ringmain
