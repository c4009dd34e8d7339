#include "process/service_manager.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

const TimePoint kStart{seconds(1000)};

TEST(Watchdog, NobodyWantsAny) {
  for (const char* text : {static_cast<const char*>(nullptr), "", "0", "-5", "soon"}) {
    Watchdog watchdog(text, kStart);
    EXPECT_FALSE(watchdog.Due(kStart + seconds(1'000'000)));
    EXPECT_EQ(watchdog.Sooner(std::nullopt), std::nullopt);
    EXPECT_EQ(watchdog.Sooner(kStart), kStart);
  }
}

TEST(Watchdog, FourTimesInItsTime) {
  Watchdog watchdog("20000000", kStart);
  EXPECT_EQ(watchdog.Sooner(std::nullopt), kStart + seconds(5));
  EXPECT_EQ(watchdog.Sooner(kStart + seconds(2)), kStart + seconds(2));
  EXPECT_EQ(watchdog.Sooner(kStart + seconds(9)), kStart + seconds(5));
  EXPECT_FALSE(watchdog.Due(kStart + milliseconds(4999)));
  EXPECT_TRUE(watchdog.Due(kStart + seconds(5)));
  EXPECT_FALSE(watchdog.Due(kStart + seconds(5)));
  EXPECT_EQ(watchdog.Sooner(std::nullopt), kStart + seconds(10));
}

TEST(Watchdog, LateIsNotTwice) {
  Watchdog watchdog("4000000", kStart);
  EXPECT_TRUE(watchdog.Due(kStart + seconds(30)));
  EXPECT_FALSE(watchdog.Due(kStart + seconds(30)));
  EXPECT_EQ(watchdog.Sooner(std::nullopt), kStart + seconds(31));
}

TEST(Watchdog, NeverWithoutAPause) {
  Watchdog watchdog("1", kStart);
  EXPECT_EQ(watchdog.Sooner(std::nullopt), kStart + milliseconds(1));
}

}  // namespace
}  // namespace ringmain
