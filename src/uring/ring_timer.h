// RingTimer: the one timeout of a loop, as a request on its ring.
#pragma once

#include <optional>

#include "base/clock.h"
#include "uring/ring.h"

namespace ringmain {

// At most one request is armed. It is moved when an earlier deadline comes up, and left to fire when it turns out too early: the loop
// looks what is due then, and nothing may be. Its completions carry Token{Op::kTimer}. Thread-bound, like the ring.
class RingTimer {
 public:
  explicit RingTimer(Ring& ring) : ring_(ring) {}

  // Makes sure that a completion comes at `deadline` or before.
  void FireBy(std::optional<TimePoint> deadline);
  // Its completion came.
  void OnFired() { armed_ = false; }
  // Asks for an early completion, if one is to come at all.
  void Cancel();
  // The completion is still to come.
  bool armed() const { return armed_; }

 private:
  static constexpr Token kToken = {Op::kTimer, 0, 0};

  Ring& ring_;
  bool armed_ = false;
  TimePoint at_;
  __kernel_timespec timespec_{};  // the kernel reads it when the entry is submitted
};

}  // namespace ringmain
