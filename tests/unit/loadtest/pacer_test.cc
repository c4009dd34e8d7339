#include "loadtest/pacer.h"

#include <gtest/gtest.h>

namespace ringmain::loadtest {
namespace {

TEST(PacerTest, FirstIsDueAtTheStart) {
  Pacer pacer(1000);
  EXPECT_EQ(pacer.DueAt(0), Duration::zero());
  EXPECT_EQ(pacer.DueBy(Duration(-1)), 0u);
  EXPECT_EQ(pacer.DueBy(Duration::zero()), 1u);
  EXPECT_EQ(pacer.DueBy(milliseconds(1) - Duration(1)), 1u);
  EXPECT_EQ(pacer.DueBy(milliseconds(1)), 2u);
}

TEST(PacerTest, DueByAgreesWithDueAt) {
  for (double rate : {0.3, 1.0, 3.0, 7.7, 999.9, 33333.3, 1e6, 1e8}) {
    Pacer pacer(rate);
    for (uint64_t number : {0ull, 1ull, 2ull, 3ull, 10ull, 1000ull, 123456ull, 10000000ull}) {
      Duration due = pacer.DueAt(number);
      EXPECT_GE(pacer.DueBy(due), number + 1) << rate << " " << number;
      EXPECT_LE(pacer.DueBy(due - Duration(1)), number) << rate << " " << number;
    }
  }
}

TEST(PacerTest, KeepsTheRateOverAnHour) { EXPECT_EQ(Pacer(33333).DueBy(seconds(3600) - Duration(1)), 33333u * 3600); }

}  // namespace
}  // namespace ringmain::loadtest
