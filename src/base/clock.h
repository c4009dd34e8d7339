// The time types of the whole program. Decisions take `now` as an argument; only loops read the clock.
#pragma once

#include <chrono>

namespace ringmain {

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC
using TimePoint = Clock::time_point;
using Duration = std::chrono::nanoseconds;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

}  // namespace ringmain
