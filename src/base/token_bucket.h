// TokenBucket: so many at once, and so many a minute; exact over all threads.
//
// The generic cell rate algorithm (ITU-T I.371): all that a bucket has to remember is the time up to which what was taken is paid for, at one
// interval each. So that is one number, and taking is one compare-exchange.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace ringmain {

// How fast, as the algorithm counts. A value.
struct Pace {
  static constexpr int64_t kMinute = 60'000'000'000;
  static constexpr int64_t kMostBurst = 1'000'000;

  int64_t interval_ns = 0;  // between two that are taken, in the long run; 0: as many as there are
  int64_t depth_ns = 0;     // that may be taken ahead of time: the burst

  // Rounded so that never more are taken than asked for: by a thousandth at a million a second, by less below. REQUIRES: 0 < per_minute <=
  // 60,000,000; 0 < burst <= 1,000,000.
  static Pace Of(uint32_t per_minute, uint32_t burst) {
    int64_t interval = (kMinute + per_minute - 1) / per_minute;
    return {interval, interval * burst};
  }
  bool on() const { return interval_ns != 0; }
  // Whether Of could have made it.
  bool valid() const {
    return interval_ns > 0 && interval_ns <= kMinute && depth_ns >= interval_ns && depth_ns / interval_ns <= kMostBurst;
  }
  bool operator==(const Pace&) const = default;
};

// Takes one at `now` if it may be taken; `paid_until` is what is remembered, at first 0. REQUIRES: pace.on().
inline bool TakeOne(const Pace& pace, int64_t now_ns, int64_t& paid_until) {
  int64_t next = std::max(paid_until, now_ns) + pace.interval_ns;
  if (next - now_ns > pace.depth_ns) return false;
  paid_until = next;
  return true;
}
// What is remembered once the pace changes: as many are owed as before, but no more than may be now.
inline int64_t ChangePace(int64_t paid_until, const Pace& before, const Pace& after, int64_t now_ns) {
  if (paid_until <= now_ns || !before.on() || !after.on() || before == after) return paid_until;
  double owed = static_cast<double>(paid_until - now_ns) / static_cast<double>(before.interval_ns);
  double most = static_cast<double>(after.depth_ns) / static_cast<double>(after.interval_ns);
  return now_ns + static_cast<int64_t>(std::min(owed, most) * static_cast<double>(after.interval_ns));
}

// The same for what another process remembered, which may be any number.
inline int64_t RestorePace(int64_t paid_until, const Pace& saved, const Pace& own, int64_t now_ns) {
  return ChangePace(std::min(paid_until, now_ns + saved.depth_ns), saved, own, now_ns);
}

// Thread-safe, lock-free; for what happens once per connection. At first everything is let through.
class alignas(64) TokenBucket {
 public:
  bool TryTake(TimePoint now) {
    Pace now_in_force = pace();
    if (!now_in_force.on()) return true;
    int64_t before = paid_until_.load(std::memory_order_relaxed);
    int64_t after;
    do {
      after = before;
      if (!TakeOne(now_in_force, now.time_since_epoch().count(), after)) return false;
    } while (!paid_until_.compare_exchange_weak(before, after, std::memory_order_relaxed));
    return true;
  }
  // Another pace, from now on. One thread at a time; who takes in that moment may do so at the old one.
  void Set(const Pace& next, TimePoint now) {
    Pace last = pace();
    if (next == last) return;
    interval_ns_.store(next.interval_ns, std::memory_order_relaxed);
    depth_ns_.store(next.depth_ns, std::memory_order_relaxed);
    int64_t before = paid_until_.load(std::memory_order_relaxed);
    while (!paid_until_.compare_exchange_weak(before, ChangePace(before, last, next, now.time_since_epoch().count()),
                                              std::memory_order_relaxed)) {
    }
  }
  Pace pace() const {
    return {interval_ns_.load(std::memory_order_relaxed), depth_ns_.load(std::memory_order_relaxed)};
  }

  // What is remembered, to go on from it elsewhere.
  int64_t paid_until_ns() const { return paid_until_.load(std::memory_order_relaxed); }
  // Goes on from what another remembered, of the pace `saved`. REQUIRES: nobody has taken any.
  void GoOnFrom(const Pace& saved, int64_t paid_until_ns, TimePoint now) {
    paid_until_.store(RestorePace(paid_until_ns, saved, pace(), now.time_since_epoch().count()), std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t> paid_until_{0};
  std::atomic<int64_t> interval_ns_{0};
  std::atomic<int64_t> depth_ns_{0};
};

}  // namespace ringmain
