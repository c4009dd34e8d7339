#include "loadtest/units.h"

#include <gtest/gtest.h>

namespace ringmain::loadtest {
namespace {

TEST(UnitsTest, Durations) {
  EXPECT_EQ(*ParseDuration("250ms"), milliseconds(250));
  EXPECT_EQ(*ParseDuration("2s"), seconds(2));
  EXPECT_EQ(*ParseDuration("10m"), seconds(600));
  EXPECT_EQ(*ParseDuration("7us"), Duration(7000));
  EXPECT_EQ(*ParseDuration("0s"), Duration::zero());
  for (const char* wrong : {"", "s", "5", "5 s", "-5s", "1.5s", "5sec", "99999999999999h"})
    EXPECT_FALSE(ParseDuration(wrong).ok()) << wrong;
}

TEST(UnitsTest, Sizes) {
  EXPECT_EQ(*ParseSize("64"), 64u);
  EXPECT_EQ(*ParseSize("64B"), 64u);
  EXPECT_EQ(*ParseSize("64KiB"), 65536u);
  EXPECT_EQ(*ParseSize("1MiB"), 1048576u);
  EXPECT_EQ(*ParseSize("2GiB"), 2147483648u);
  for (const char* wrong : {"", "KiB", "64KB", "64k", "-1", "99999999999999999999", "9999999999GiB"})
    EXPECT_FALSE(ParseSize(wrong).ok()) << wrong;
}

TEST(UnitsTest, ByteRates) {
  EXPECT_EQ(*ParseByteRate("10MiB/s"), 10485760u);
  EXPECT_EQ(*ParseByteRate("5/s"), 5u);
  for (const char* wrong : {"", "/s", "10MiB", "10MiB/m", "s"}) EXPECT_FALSE(ParseByteRate(wrong).ok()) << wrong;
}

}  // namespace
}  // namespace ringmain::loadtest
