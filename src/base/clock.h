// The time types of the whole program. Decisions take `now` as an argument; only loops read the clock.
#pragma once

#include <chrono>
#include <cstdint>

namespace ringmain {

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC
using TimePoint = Clock::time_point;
using Duration = std::chrono::nanoseconds;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A time in four bytes, rounded up to kUnit.
class CoarseTime {
 public:
  static constexpr Duration kUnit = milliseconds(10);
  CoarseTime() = default;
  explicit CoarseTime(TimePoint time) : units_(static_cast<uint32_t>(std::chrono::ceil<Unit>(time.time_since_epoch()).count())) {}
  // How long ago it was: never more than it was, and less by two units at most, for 497 days. Zero if it is still to come, within seconds.
  Duration Ago(TimePoint now) const {
    uint32_t past = static_cast<uint32_t>(std::chrono::floor<Unit>(now.time_since_epoch()).count()) - units_;
    return past <= UINT32_MAX - kAhead ? past * kUnit : Duration(0);
  }

 private:
  using Unit = std::chrono::duration<int64_t, std::centi>;
  static constexpr uint32_t kAhead = 1000;
  uint32_t units_ = 0;
};

}  // namespace ringmain
