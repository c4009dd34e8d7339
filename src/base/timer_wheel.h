// TimerWheel: many coarse timers at a constant cost each (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987).
//
// Pure: it reads no clock; `now` is an argument. Thread-bound. A timer is a member of what it times (intrusive), so scheduling never
// allocates. It never fires early; it fires at most one tick late, plus the delay of the caller's Advance.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace ringmain {

class TimerWheel {
 public:
  static constexpr Duration kTick = milliseconds(8);

  // What is scheduled. Embed it; it must be cancelled (or have fired) before it is destroyed.
  class Timer {
   public:
    Timer() = default;
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    bool scheduled() const { return next_ != nullptr; }
    TimePoint deadline() const;  // REQUIRES: scheduled(); rounded up to the tick

   private:
    friend class TimerWheel;
    Timer* next_ = nullptr;
    Timer* previous_ = nullptr;
    uint64_t tick_ = 0;
  };

  explicit TimerWheel(TimePoint now);
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  // Schedules or moves a timer. A deadline in the past fires one tick after the last `now`, so that a caller who reschedules in its
  // PopDue loop cannot keep that loop going for ever.
  void Schedule(Timer& timer, TimePoint deadline);
  // Does nothing if the timer is not scheduled.
  void Cancel(Timer& timer);

  // Takes out the timers that are due, one per call; null when no more is due. `now` must not go backwards. The caller may schedule and
  // cancel any timers between calls.
  Timer* PopDue(TimePoint now);

  // When PopDue must be called next: not later than the earliest deadline, and exactly it where that is near; none without timers.
  std::optional<TimePoint> NextWakeUp() const;

  size_t size() const { return size_; }

 private:
  static constexpr int kLevels = 6;  // 64^6 ticks: 17 years at 8 ms; what is further away waits in the last level again
  static constexpr int kSlotBits = 6;
  static constexpr int kSlots = 1 << kSlotBits;

  void Advance(uint64_t tick);
  void Insert(Timer& timer);
  void Unlink(Timer& timer);
  // The next tick at which a slot must be emptied; UINT64_MAX if all are empty.
  uint64_t NextSlotTick() const;

  // Ticks are counted from the clock's epoch.
  uint64_t now_tick_ = 0;  // every timer at or before it was handed out, or is in due_
  size_t size_ = 0;
  std::array<uint64_t, kLevels> occupied_{};   // one bit per slot that holds timers
  std::array<Timer, kLevels * kSlots> slots_;  // list heads, level by level
  Timer due_;                                  // list head
};

}  // namespace ringmain
