#include "base/clock.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

TEST(CoarseTimeTest, IsNeverTooLongAgo) {
  TimePoint start = TimePoint(seconds(1000)) + milliseconds(3);
  CoarseTime time(start);
  for (milliseconds past : {milliseconds(0), milliseconds(6), milliseconds(7), milliseconds(17), milliseconds(12345)}) {
    EXPECT_LE(time.Ago(start + past), past);
    EXPECT_GE(time.Ago(start + past) + 2 * CoarseTime::kUnit, past);
  }
}

TEST(CoarseTimeTest, IsRightForAYear) {
  constexpr Duration kYear = std::chrono::hours(24 * 365);
  for (int years = 0; years < 50; ++years) {  // the count wraps around in between
    TimePoint start = TimePoint(years * kYear);
    EXPECT_EQ(CoarseTime(start).Ago(start + kYear), kYear);
  }
}

TEST(CoarseTimeTest, AnotherClockReadMayBeALittleBehind) {
  TimePoint start = TimePoint(seconds(1000));
  EXPECT_EQ(CoarseTime(start + microseconds(1)).Ago(start), Duration(0));
  EXPECT_EQ(CoarseTime(start + seconds(5)).Ago(start), Duration(0));
}

}  // namespace
}  // namespace ringmain
