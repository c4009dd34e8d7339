// RetryBudget: how many connects beyond the first of each session there may be, so that an upstream in trouble is not tried to death.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/token_bucket.h"
#include "config/config.h"

namespace ringmain {

// Each first connect pays in a part of a retry, and each retry takes a whole one; some a second are free. Thread-safe, lock-free; for what
// happens once per connection.
class RetryBudget {
 public:
  // What is saved up at most, so that quiet hours do not pay for a storm.
  static constexpr int64_t kMostSaved = 100;

  explicit RetryBudget(const RetryBudgetConfig& config) : percent_(config.percent) {
    if (config.per_second > 0) free_.Set(Pace::Of(60 * config.per_second, config.per_second), TimePoint());
    has_free_ = config.per_second > 0;
  }

  void OnFirstConnect() {
    int64_t saved = saved_.load(std::memory_order_relaxed);
    while (saved < 100 * kMostSaved && !saved_.compare_exchange_weak(saved, saved + percent_, std::memory_order_relaxed)) {
    }
  }
  // False if there is none left; else one is taken.
  bool TryRetry(TimePoint now) {
    int64_t saved = saved_.load(std::memory_order_relaxed);
    while (saved >= 100)
      if (saved_.compare_exchange_weak(saved, saved - 100, std::memory_order_relaxed)) return true;
    return has_free_ && free_.TryTake(now);
  }

 private:
  const int64_t percent_;
  std::atomic<int64_t> saved_{0};  // in hundredths of a retry
  TokenBucket free_;
  bool has_free_ = false;
};

}  // namespace ringmain
