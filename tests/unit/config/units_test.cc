#include "config/units.h"

#include <gtest/gtest.h>

#include <limits>

namespace ringmain {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

TEST(UnitsTest, ReadsEveryDurationUnit) {
  EXPECT_EQ(ParseDuration("250ms"), milliseconds(250));
  EXPECT_EQ(ParseDuration("2s"), seconds(2));
  EXPECT_EQ(ParseDuration("10m"), minutes(10));
  EXPECT_EQ(ParseDuration("1h"), hours(1));
  EXPECT_EQ(ParseDuration("0s"), milliseconds(0));
  EXPECT_EQ(ParseDuration("0ms"), milliseconds(0));
  EXPECT_EQ(ParseDuration("007s"), seconds(7));
}

TEST(UnitsTest, RefusesOtherDurations) {
  for (const char* text : {"",   "s",   "ms",  "10", "0",    "-1s",   "+1s",  " 1s", "1s ",  "1 s", "1.5s",
                           "1S", "1us", "1ns", "1d", "1min", "1m30s", "1e3s", "off", "0x1s", "s1"})
    EXPECT_FALSE(ParseDuration(text).has_value()) << text;
}

TEST(UnitsTest, ReadsPercentages) {
  EXPECT_EQ(ParsePercent("20%"), 20u);
  EXPECT_EQ(ParsePercent("0%"), 0u);
  for (const char* text : {"", "%", "20", "20 %", "1.5%", "-1%", "20%%", "off"}) EXPECT_FALSE(ParsePercent(text).has_value()) << text;
}

TEST(UnitsTest, ReadsFineDurations) {
  EXPECT_EQ(ParseFineDuration("50us"), microseconds(50));
  EXPECT_EQ(ParseFineDuration("2ms"), milliseconds(2));
  EXPECT_EQ(ParseFineDuration("1s"), seconds(1));
  for (const char* text : {"", "us", "50", "1m", "1h", "-1us", "1.5us", "50 us", "50ns", "off"})
    EXPECT_FALSE(ParseFineDuration(text).has_value()) << text;
  EXPECT_EQ(FormatFineDuration(microseconds(1500)), "1500us");
  EXPECT_EQ(FormatFineDuration(milliseconds(3)), "3ms");
  EXPECT_EQ(FormatFineDuration(seconds(1)), "1s");
}

TEST(UnitsTest, ReadsEverySizeUnit) {
  EXPECT_EQ(ParseSize("512B"), 512u);
  EXPECT_EQ(ParseSize("64KiB"), 64u << 10);
  EXPECT_EQ(ParseSize("16MiB"), 16u << 20);
  EXPECT_EQ(ParseSize("1GiB"), 1u << 30);
  EXPECT_EQ(ParseSize("2TiB"), 2ull << 40);
  EXPECT_EQ(ParseSize("0B"), 0u);
}

TEST(UnitsTest, RefusesOtherSizes) {
  for (const char* text : {"", "B", "64", "0", "64K", "64KB", "64kB", "64kib", "64KIB", "64 KiB", "-1B", "1.5MiB",
                           "1PiB", "64KiB/s", "auto"})
    EXPECT_FALSE(ParseSize(text).has_value()) << text;
}

TEST(UnitsTest, ReadsRates) {
  EXPECT_EQ(ParseRate("1000/s"), 60'000u);
  EXPECT_EQ(ParseRate("30/m"), 30u);
  EXPECT_EQ(ParseRate("0/s"), 0u);
  EXPECT_EQ(ParseRate("99999999999999999999/s"), std::numeric_limits<uint64_t>::max());
  for (const char* text : {"", "10", "/s", "10/", "10/h", "10/S", "10 /s", "10/ s", "-1/s", "1.5/s", "10s", "10MiB/s", "off"})
    EXPECT_FALSE(ParseRate(text).has_value()) << text;
  EXPECT_EQ(FormatRate(1), "1/m");
  EXPECT_EQ(FormatRate(60), "1/s");
  EXPECT_EQ(FormatRate(90), "90/m");
  EXPECT_EQ(FormatRate(60'000), "1000/s");
}

TEST(UnitsTest, ReadsNumbers) {
  EXPECT_EQ(ParseNumber("0"), 0u);
  EXPECT_EQ(ParseNumber("42"), 42u);
  EXPECT_EQ(ParseNumber("18446744073709551615"), std::numeric_limits<uint64_t>::max());
  for (const char* text : {"", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x10", "1_000", "one", "1a"})
    EXPECT_FALSE(ParseNumber(text).has_value()) << text;
}

TEST(UnitsTest, MakesWhatIsTooLargeTheLargest) {
  constexpr auto kMaxNumber = std::numeric_limits<uint64_t>::max();
  constexpr auto kMaxDuration = std::chrono::duration_cast<milliseconds>(Duration::max());
  EXPECT_EQ(ParseNumber("18446744073709551616"), kMaxNumber);
  EXPECT_EQ(ParseSize("16777216TiB"), kMaxNumber);
  EXPECT_EQ(ParseSize("99999999999999999999999B"), kMaxNumber);
  EXPECT_EQ(ParseDuration("9999999h"), kMaxDuration);
  EXPECT_EQ(ParseDuration("99999999999999999999999ms"), kMaxDuration);
  EXPECT_GT(Duration(*ParseDuration("9999999h")).count(), 0);
}

TEST(UnitsTest, FormatsInTheLargestExactUnit) {
  EXPECT_EQ(FormatDuration(milliseconds(0)), "0s");
  EXPECT_EQ(FormatDuration(milliseconds(1)), "1ms");
  EXPECT_EQ(FormatDuration(milliseconds(1500)), "1500ms");
  EXPECT_EQ(FormatDuration(seconds(90)), "90s");
  EXPECT_EQ(FormatDuration(minutes(5)), "5m");
  EXPECT_EQ(FormatDuration(hours(8760)), "8760h");
  EXPECT_EQ(FormatSize(0), "0B");
  EXPECT_EQ(FormatSize(1025), "1025B");
  EXPECT_EQ(FormatSize(16 << 10), "16KiB");
  EXPECT_EQ(FormatSize(64 << 20), "64MiB");
  EXPECT_EQ(FormatSize(3ull << 40), "3TiB");
}

TEST(UnitsTest, Percentages) {
  EXPECT_EQ(ParsePercent("0%"), 0u);
  EXPECT_EQ(ParsePercent("10%"), 10u);
  for (const char* text : {"", "%", "10", "10 %", "1.5%", "-1%", "10%%"}) EXPECT_FALSE(ParsePercent(text)) << text;
  EXPECT_EQ(FormatPercent(50), "50%");
}

}  // namespace
}  // namespace ringmain
