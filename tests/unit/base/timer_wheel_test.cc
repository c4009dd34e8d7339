#include "base/timer_wheel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <vector>

namespace ringmain {
namespace {

constexpr Duration kTick = TimerWheel::kTick;
const TimePoint kStart = TimePoint(std::chrono::hours(1000) + Duration(3'141'592));

TEST(TimerWheel, FiresNotEarlyAndAtMostOneTickLate) {
  for (Duration wait : std::vector<Duration>{Duration(1), kTick, kTick * 63, kTick * 64, kTick * 65, kTick * 4096,
                                             kTick * 4097, seconds(86400), seconds(40 * 86400)}) {
    TimerWheel wheel(kStart);
    TimerWheel::Timer timer;
    TimePoint deadline = kStart + wait;
    wheel.Schedule(timer, deadline);
    EXPECT_GE(timer.deadline(), deadline);
    EXPECT_LT(timer.deadline(), deadline + kTick);
    EXPECT_EQ(wheel.PopDue(deadline - Duration(1)), nullptr) << wait.count();
    EXPECT_EQ(wheel.PopDue(deadline + kTick), &timer) << wait.count();
    EXPECT_FALSE(timer.scheduled());
    EXPECT_EQ(wheel.size(), 0u);
  }
}

TEST(TimerWheel, PastDeadlineFiresAtTheNextTick) {
  TimerWheel wheel(kStart);
  TimerWheel::Timer timer, ancient;
  wheel.Schedule(timer, kStart - seconds(10));
  wheel.Schedule(ancient, TimePoint::min());
  ASSERT_TRUE(wheel.NextWakeUp().has_value());
  EXPECT_LE(*wheel.NextWakeUp(), kStart + kTick);
  EXPECT_NE(wheel.PopDue(kStart + kTick), nullptr);
  EXPECT_NE(wheel.PopDue(kStart + kTick), nullptr);
  EXPECT_EQ(wheel.PopDue(kStart + kTick), nullptr);
}

TEST(TimerWheel, ReschedulingThePastInsideTheLoopEndsTheLoop) {
  TimerWheel wheel(kStart);
  TimerWheel::Timer timers[3];
  for (auto& timer : timers) wheel.Schedule(timer, kStart);
  // A jump of an hour: each fires once, not once per tick that passed.
  TimePoint now = kStart + std::chrono::hours(1);
  for (int round = 0; round < 5; ++round, now += kTick) {
    int fired = 0;
    while (TimerWheel::Timer* timer = wheel.PopDue(now)) {
      wheel.Schedule(*timer, kStart);
      ASSERT_LE(++fired, 3);
    }
    EXPECT_EQ(fired, 3);
  }
  for (auto& timer : timers) wheel.Cancel(timer);
}

TEST(TimerWheel, CancelInsideTheLoopTakesOutDueTimers) {
  TimerWheel wheel(kStart);
  TimerWheel::Timer a, b;
  wheel.Schedule(a, kStart + kTick);
  wheel.Schedule(b, kStart + kTick);
  TimerWheel::Timer* first = wheel.PopDue(kStart + seconds(1));
  ASSERT_NE(first, nullptr);
  TimerWheel::Timer& other = first == &a ? b : a;
  EXPECT_TRUE(other.scheduled());
  wheel.Cancel(other);
  EXPECT_EQ(wheel.PopDue(kStart + seconds(1)), nullptr);
  EXPECT_EQ(wheel.size(), 0u);
}

TEST(TimerWheel, CancelOfAnIdleTimerDoesNothing) {
  TimerWheel wheel(kStart);
  TimerWheel::Timer timer;
  wheel.Cancel(timer);
  EXPECT_EQ(wheel.size(), 0u);
  EXPECT_FALSE(wheel.NextWakeUp().has_value());
}

TEST(TimerWheel, ScheduleMovesATimer) {
  TimerWheel wheel(kStart);
  TimerWheel::Timer timer;
  wheel.Schedule(timer, kStart + seconds(1));
  wheel.Schedule(timer, kStart + seconds(100));
  EXPECT_EQ(wheel.size(), 1u);
  EXPECT_EQ(wheel.PopDue(kStart + seconds(99)), nullptr);
  wheel.Schedule(timer, kStart + seconds(99) + kTick);
  EXPECT_EQ(wheel.PopDue(kStart + seconds(99) + 2 * kTick), &timer);
}

TEST(TimerWheel, NextWakeUpIsExactForNearTimers) {
  TimerWheel wheel(kStart);
  TimerWheel::Timer timer;
  for (int ticks = 1; ticks < 63; ++ticks) {
    wheel.Schedule(timer, kStart + ticks * kTick);
    EXPECT_EQ(wheel.NextWakeUp(), timer.deadline()) << ticks;
  }
  wheel.Cancel(timer);
  EXPECT_FALSE(wheel.NextWakeUp().has_value());
}

// Sleeping from wake-up to wake-up reaches any timer in a few steps, one per level at most.
TEST(TimerWheel, FewWakeUpsUntilAFarTimer) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 2000; ++i) {
    TimePoint now = kStart + Duration(random() % 1'000'000'000'000);
    TimerWheel wheel(now);
    TimerWheel::Timer timer;
    wheel.Schedule(timer, now + Duration(random() % (int64_t{1} << (20 + i % 38))));
    int wakeups = 0;
    TimerWheel::Timer* fired = nullptr;
    while (fired == nullptr) {
      ASSERT_LE(++wakeups, 7);
      TimePoint next = wheel.NextWakeUp().value();
      ASSERT_GT(next, now) << "busy loop";
      ASSERT_LE(next, timer.deadline());
      now = next;
      fired = wheel.PopDue(now);
    }
  }
}

TEST(TimerWheel, DeadlinesBeyondTheSpanStillFireNotEarly) {
  TimerWheel wheel(kStart);
  TimerWheel::Timer far, never;
  TimePoint deadline = kStart + std::chrono::hours(24 * 365 * 100);
  wheel.Schedule(far, deadline);
  wheel.Schedule(never, TimePoint::max());
  EXPECT_GT(never.deadline(), TimePoint::max() - kTick);
  int wakeups = 0;
  TimePoint now = kStart;
  TimerWheel::Timer* fired = nullptr;
  while (fired == nullptr) {
    ASSERT_LE(++wakeups, 40);
    ASSERT_GT(*wheel.NextWakeUp(), now);
    now = *wheel.NextWakeUp();
    fired = wheel.PopDue(now);
  }
  EXPECT_EQ(fired, &far);
  EXPECT_GE(now, deadline);
  EXPECT_LT(now, deadline + kTick);
  EXPECT_EQ(wheel.PopDue(TimePoint::max()), &never);
}

// Against a sorted map: random schedules, moves, cancels and jumps of every size.
class TimerWheelModel : public testing::TestWithParam<int> {};

TEST_P(TimerWheelModel, AgreesWithASortedMap) {
  std::mt19937_64 random(GetParam());
  auto below = [&](uint64_t n) { return random() % n; };
  auto any_size = [&] {
    return Duration(below(uint64_t{1} << (10 + below(45))));
  };  // 1 us to 400 days, each size as likely

  struct Entry {
    TimerWheel::Timer timer;
    std::multimap<TimePoint, Entry*>::iterator position;
  };
  std::vector<std::unique_ptr<Entry>> entries;
  for (int i = 0; i < 200; ++i) entries.push_back(std::make_unique<Entry>());
  std::multimap<TimePoint, Entry*> model;

  TimePoint now = kStart + any_size();
  TimerWheel wheel(now);
  auto schedule = [&](Entry& entry) {
    TimePoint deadline = now + any_size() - (below(8) == 0 ? any_size() : Duration(0));
    if (entry.timer.scheduled()) model.erase(entry.position);
    entry.position = model.emplace(std::max(deadline, now), &entry);
    wheel.Schedule(entry.timer, deadline);
  };
  for (int step = 0; step < 5000; ++step) {
    Entry& entry = *entries[below(entries.size())];
    switch (below(4)) {
      case 0:
      case 1:
        schedule(entry);
        break;
      case 2:
        if (entry.timer.scheduled()) model.erase(entry.position);
        wheel.Cancel(entry.timer);
        break;
      case 3: {
        std::optional<TimePoint> wake_up = wheel.NextWakeUp();
        ASSERT_EQ(wake_up.has_value(), !model.empty());
        if (wake_up.has_value()) {
          ASSERT_LE(*wake_up, model.begin()->first + kTick);
        }
        now = wake_up.has_value() && below(2) == 0 ? std::max(now, *wake_up) : now + any_size();
        while (TimerWheel::Timer* timer = wheel.PopDue(now)) {
          auto it = std::find_if(model.begin(), model.end(), [&](auto& e) { return &e.second->timer == timer; });
          ASSERT_NE(it, model.end());
          ASSERT_LE(it->first, now) << "early";
          Entry* fired = it->second;
          model.erase(it);
          if (below(4) == 0) schedule(*fired);
        }
        if (!model.empty()) {
          ASSERT_GE(model.begin()->first + kTick, now) << "lost or late";
        }
        break;
      }
    }
    ASSERT_EQ(wheel.size(), model.size());
  }
  for (auto& entry : entries) wheel.Cancel(entry->timer);
  EXPECT_FALSE(wheel.NextWakeUp().has_value());
}

INSTANTIATE_TEST_SUITE_P(Seeds, TimerWheelModel, testing::Range(0, 40));

}  // namespace
}  // namespace ringmain
