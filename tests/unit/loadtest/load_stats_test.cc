#include "loadtest/load_stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

namespace ringmain::loadtest {
namespace {

TEST(LoadStatsTest, TotalsAddThreads) {
  auto a = std::make_unique<LoadStats>(), b = std::make_unique<LoadStats>();
  Add(a->operations, 3);
  Add(b->operations, 4);
  Add(a->errors[static_cast<size_t>(ErrorKind::kReset)], 1);
  Add(b->errors[static_cast<size_t>(ErrorKind::kMismatch)], 2);
  Add(a->connections, 5);
  Add(a->connections, -2);
  a->latency.Record(10);
  b->latency.Record(20);
  a->measured_ns = 7;
  b->measured_ns = 9;
  LoadTotals totals;
  totals.Add(*a);
  totals.Add(*b);
  EXPECT_EQ(totals.operations, 7u);
  EXPECT_EQ(totals.connections, 3u);
  EXPECT_EQ(totals.error_total(), 3u);
  EXPECT_EQ(totals.errors[static_cast<size_t>(ErrorKind::kMismatch)], 2u);
  EXPECT_EQ(totals.latency.count(), 2u);
  EXPECT_EQ(totals.measured_ns, 9);
}

TEST(LoadStatsTest, EachMessageIsPrintedOnceAndNotTooMany) {
  ErrorPrinter printer;
  testing::internal::CaptureStderr();
  for (int i = 0; i < 1000; ++i) printer.Print("the same");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "the same\n");
  testing::internal::CaptureStderr();
  for (int i = 0; i < 1000; ++i) printer.Print("number " + std::to_string(i));
  std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 10);
  EXPECT_NE(text.find("further errors are only counted\n"), std::string::npos);
}

}  // namespace
}  // namespace ringmain::loadtest
