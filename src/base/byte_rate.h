// ByteRate: so many bytes a second for all who share it, in the order in which they ask; exact over all threads.
//
// A schedule instead of a bucket that is emptied: what is remembered is the time up to which the bytes that were given out are paid for (the
// generic cell rate algorithm, ITU-T I.371, as in token_bucket.h). Who takes bytes is told when they are paid for, after those of all who came
// before. So nobody has to look again and again, and nobody is passed over.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace ringmain {

// What was not used may be used later at once, but no more than of this time.
inline constexpr int64_t kByteRateBurstNs = 100'000'000;

// How long so many bytes take at so many a second, to the nearest nanosecond. REQUIRES: bytes <= 2^33, per_second > 0.
inline int64_t TimeOfBytes(uint64_t bytes, uint64_t per_second) {
  return static_cast<int64_t>((bytes * 1'000'000'000 + per_second / 2) / per_second);
}

// Takes bytes at `now` and returns when they are paid for, `now` at the earliest; `paid_until` is what is remembered, at first 0.
inline int64_t TakeBytes(uint64_t bytes, uint64_t per_second, int64_t now_ns, int64_t& paid_until_ns) {
  paid_until_ns = std::max(paid_until_ns, now_ns - kByteRateBurstNs) + TimeOfBytes(bytes, per_second);
  return std::max(paid_until_ns, now_ns);
}

// Thread-safe, lock-free: a compare-exchange on a line that all share, for each turn of a limited session that brought bytes. At first it is
// off: bytes cost nothing.
class alignas(64) ByteRate {
 public:
  TimePoint Take(uint64_t bytes, TimePoint now) {
    uint64_t rate = per_second();
    if (rate == 0) return now;
    int64_t now_ns = now.time_since_epoch().count();
    int64_t before = paid_until_.load(std::memory_order_relaxed);
    int64_t after, paid_at;
    do {
      after = before;
      paid_at = TakeBytes(bytes, rate, now_ns, after);
    } while (!paid_until_.compare_exchange_weak(before, after, std::memory_order_relaxed));
    return TimePoint(Duration(paid_at));
  }

  // Another rate, from now on; 0 is off. Nothing is owed then: at the old rate that might have taken for ever. One thread at a time.
  void Set(uint64_t per_second, TimePoint now) {
    if (per_second_.exchange(per_second, std::memory_order_relaxed) == per_second) return;
    int64_t now_ns = now.time_since_epoch().count();
    int64_t before = paid_until_.load(std::memory_order_relaxed);
    while (before > now_ns && !paid_until_.compare_exchange_weak(before, now_ns, std::memory_order_relaxed)) {
    }
  }
  uint64_t per_second() const { return per_second_.load(std::memory_order_relaxed); }

  // What is remembered, to go on from it elsewhere, where it may be any number: no debt is taken over that is longer than this.
  static constexpr int64_t kMostDebtNs = 60'000'000'000;
  int64_t paid_until_ns() const { return paid_until_.load(std::memory_order_relaxed); }
  void GoOnFrom(int64_t paid_until_ns, TimePoint now) {
    paid_until_.store(std::min(paid_until_ns, now.time_since_epoch().count() + kMostDebtNs), std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t> paid_until_{0};
  std::atomic<uint64_t> per_second_{0};
};

}  // namespace ringmain
