// A timer stands in the level that its distance fits: level L holds what is 64^L to 64^(L+1) - 1 ticks away, in the
// slot of its tick's digit L (base 64). When time reaches the start of a slot, its timers move down to where they
// belong then; from level 0 they are due. The current slot of a level is always empty but for timers one full round
// ahead.
#include "base/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace ringmain {
namespace {

constexpr uint64_t kTickNs = TimerWheel::kTick.count();
// The last tick that is a TimePoint.
constexpr uint64_t kLastTick = static_cast<uint64_t>(Duration::max().count()) / kTickNs;

uint64_t TickRoundedDown(TimePoint time) {
  int64_t ns = time.time_since_epoch().count();
  return ns > 0 ? static_cast<uint64_t>(ns) / kTickNs : 0;
}
uint64_t TickRoundedUp(TimePoint time) {
  int64_t ns = time.time_since_epoch().count();
  return ns > 0 ? std::min((static_cast<uint64_t>(ns) + kTickNs - 1) / kTickNs, kLastTick) : 0;
}
TimePoint TimeOf(uint64_t tick) { return TimePoint(Duration(tick * kTickNs)); }

}  // namespace

TimePoint TimerWheel::Timer::deadline() const { return TimeOf(tick_); }

TimerWheel::TimerWheel(TimePoint now) : now_tick_(TickRoundedDown(now)) {
  due_.next_ = due_.previous_ = &due_;
  for (Timer& head : slots_) head.next_ = head.previous_ = &head;
}

void TimerWheel::Schedule(Timer& timer, TimePoint deadline) {
  Cancel(timer);
  timer.tick_ = std::max(TickRoundedUp(deadline), now_tick_ + 1);
  Insert(timer);
  ++size_;
}

void TimerWheel::Cancel(Timer& timer) {
  if (!timer.scheduled()) return;
  Unlink(timer);
  --size_;
}

TimerWheel::Timer* TimerWheel::PopDue(TimePoint now) {
  if (uint64_t tick = TickRoundedDown(now); tick > now_tick_) Advance(tick);
  Timer* timer = due_.next_;
  if (timer == &due_) return nullptr;
  Cancel(*timer);
  return timer;
}

std::optional<TimePoint> TimerWheel::NextWakeUp() const {
  if (size_ == 0) return std::nullopt;
  return TimeOf(due_.next_ != &due_ ? now_tick_ : NextSlotTick());
}

void TimerWheel::Advance(uint64_t tick) {
  // From one occupied slot to the next: the cost does not depend on how far time jumped.
  for (uint64_t next = NextSlotTick(); next <= tick; next = NextSlotTick()) {
    now_tick_ = next;
    for (int level = 0; level < kLevels; ++level) {
      int shift = level * kSlotBits;
      if ((next & ((uint64_t{1} << shift) - 1)) != 0) continue;  // not the start of a slot of this level
      Timer& head = slots_[level * kSlots + (next >> shift) % kSlots];
      while (head.next_ != &head) {
        Timer& timer = *head.next_;
        Unlink(timer);
        Insert(timer);
      }
    }
  }
  now_tick_ = tick;
}

void TimerWheel::Insert(Timer& timer) {
  Timer* head = &due_;
  if (timer.tick_ > now_tick_) {
    // Beyond the wheel's span: it waits in the furthest slot and is placed again from there.
    constexpr uint64_t kFurthest = (uint64_t{1} << (kLevels * kSlotBits)) - 1;
    uint64_t distance = std::min(timer.tick_ - now_tick_, kFurthest);
    int level = (std::bit_width(distance) - 1) / kSlotBits;
    size_t slot = ((now_tick_ + distance) >> (level * kSlotBits)) % kSlots;
    occupied_[level] |= uint64_t{1} << slot;
    head = &slots_[level * kSlots + slot];
  }
  timer.next_ = head;
  timer.previous_ = head->previous_;
  head->previous_->next_ = &timer;
  head->previous_ = &timer;
}

void TimerWheel::Unlink(Timer& timer) {
  Timer* head = timer.next_;
  bool last = timer.next_ == timer.previous_;  // both are the head then
  timer.next_->previous_ = timer.previous_;
  timer.previous_->next_ = timer.next_;
  timer.next_ = timer.previous_ = nullptr;
  if (last && head != &due_) {
    size_t index = head - slots_.data();
    occupied_[index / kSlots] &= ~(uint64_t{1} << index % kSlots);
  }
}

uint64_t TimerWheel::NextSlotTick() const {
  uint64_t next = UINT64_MAX;
  for (int level = 0; level < kLevels; ++level) {
    if (occupied_[level] == 0) continue;
    uint64_t current = now_tick_ >> (level * kSlotBits);
    // Slots from the one after the current round to the current itself, which is 64 ahead.
    uint64_t ahead = std::countr_zero(std::rotr(occupied_[level], static_cast<int>((current + 1) % kSlots))) + 1;
    next = std::min(next, (current + ahead) << (level * kSlotBits));
  }
  return next;
}

}  // namespace ringmain
