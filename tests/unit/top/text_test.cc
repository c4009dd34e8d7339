#include "top/text.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ringmain::top {
namespace {

TEST(TopText, NothingIsADash) {
  for (Unit unit : {Unit::kText, Unit::kCount, Unit::kPerSecond, Unit::kBytes, Unit::kSeconds}) EXPECT_EQ(Format({}, unit), "-");
  EXPECT_EQ(Format(std::nan(""), Unit::kCount), "-");
}

TEST(TopText, CountsAreExactWhileTheyAreShort) {
  EXPECT_EQ(Format(0.0, Unit::kCount), "0");
  EXPECT_EQ(Format(99'999.0, Unit::kCount), "99999");
  EXPECT_EQ(Format(99'999.4, Unit::kCount), "99999");
  EXPECT_EQ(Format(99'999.5, Unit::kCount), "100k");
  EXPECT_EQ(Format(123'456.0, Unit::kCount), "123k");
  EXPECT_EQ(Format(999'499.0, Unit::kCount), "999k");
  EXPECT_EQ(Format(1'234'567.0, Unit::kCount), "1.23M");
  EXPECT_EQ(Format(45'600'000'000.0, Unit::kCount), "45.6G");
}

TEST(TopText, RatesBelowTenHaveADecimal) {
  EXPECT_EQ(Format(0.0, Unit::kPerSecond), "0");
  EXPECT_EQ(Format(0.04, Unit::kPerSecond), "0.0");  // something, but little
  EXPECT_EQ(Format(9.94, Unit::kPerSecond), "9.9");
  EXPECT_EQ(Format(9.95, Unit::kPerSecond), "10");
  EXPECT_EQ(Format(250'000.0, Unit::kPerSecond), "250k");
}

TEST(TopText, BytesHaveThreeDigits) {
  EXPECT_EQ(Format(0.0, Unit::kBytes), "0B");
  EXPECT_EQ(Format(1023.0, Unit::kBytes), "1023B");
  EXPECT_EQ(Format(1023.6, Unit::kBytesPerSecond), "1.00KiB");
  EXPECT_EQ(Format(1024.0 * 9.99, Unit::kBytes), "9.99KiB");
  EXPECT_EQ(Format(1024.0 * 9.999, Unit::kBytes), "10.0KiB");
  EXPECT_EQ(Format(1024.0 * 99.99, Unit::kBytes), "100KiB");
  EXPECT_EQ(Format(1024.0 * 1023.6, Unit::kBytes), "1.00MiB");
  EXPECT_EQ(Format(5.0 * (1ull << 40), Unit::kBytes), "5.00TiB");
  EXPECT_EQ(Format(1e30, Unit::kBytes).substr(0, 4), "8881");  // no larger unit
}

TEST(TopText, Durations) {
  EXPECT_EQ(Format(0.0, Unit::kSeconds), "0.0s");
  EXPECT_EQ(Format(9.94, Unit::kSeconds), "9.9s");
  EXPECT_EQ(Format(59.4, Unit::kSeconds), "59s");
  EXPECT_EQ(Format(59.6, Unit::kSeconds), "1m00s");
  EXPECT_EQ(Format(3599.0, Unit::kSeconds), "59m59s");
  EXPECT_EQ(Format(5.0 * 3600 + 7 * 60, Unit::kSeconds), "5h07m");
  EXPECT_EQ(Format(100.0 * 86400 + 3600, Unit::kSeconds), "100d01h");
  EXPECT_FALSE(Format(1e300, Unit::kSeconds).empty());
}

TEST(TopText, OnlyPrintableCharactersReachTheTerminal) {
  EXPECT_EQ(Printable("unix:/run/x y~.sock"), "unix:/run/x y~.sock");
  EXPECT_EQ(Printable("a\x1b[2Jb\r\n\t\x7f\x01"), "a?[2Jb?????");
  EXPECT_EQ(Printable("a\xc2\x9b" "2Jb"), "a?2Jb");             // CSI as one character, U+009B
  EXPECT_EQ(Printable("\xe4\xb8\xad\xe6\x96\x87"), "??");       // two characters of three bytes
  EXPECT_EQ(Printable("a\xe2\x80\xae" "b"), "a?b");             // U+202E turns the writing direction
  EXPECT_EQ(Printable(std::string_view("a\0b\x9b\xff", 5)), "a?b??");  // no UTF-8
}

}  // namespace
}  // namespace ringmain::top
