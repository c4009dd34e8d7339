#include "base/byte_rate.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace ringmain {
namespace {

TimePoint At(Duration time) { return TimePoint(std::chrono::hours(1) + time); }

TEST(ByteRate, OffNobodyWaits) {
  ByteRate rate;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(rate.Take(1 << 30, At({})), At({}));
}

// Who takes more than was saved up waits for as long as that takes, after those who came before.
TEST(ByteRate, EachWaitsForThoseBefore) {
  ByteRate rate;
  rate.Set(1000, At({}));
  EXPECT_EQ(rate.Take(100, At({})), At({})) << "what was saved up: 100 ms";
  EXPECT_EQ(rate.Take(50, At({})), At(milliseconds(50)));
  EXPECT_EQ(rate.Take(10, At({})), At(milliseconds(60)));
  EXPECT_EQ(rate.Take(1, At(milliseconds(50))), At(milliseconds(61)));
  EXPECT_EQ(rate.Take(1, At(milliseconds(70))), At(milliseconds(70))) << "9 ms were saved up";
}

TEST(ByteRate, NoMoreThanTheBurstIsSavedUp) {
  ByteRate rate;
  rate.Set(1 << 20, At({}));
  uint64_t taken = 0;
  while (rate.Take(1024, At(seconds(1000))) == At(seconds(1000))) taken += 1024;
  EXPECT_NEAR(static_cast<double>(taken), 0.1 * (1 << 20), 2048);
}

TEST(ByteRate, HighRatesAreExact) {
  for (uint64_t per_second : {uint64_t{1} << 40, uint64_t{10'000'000'007}, uint64_t{1} << 10}) {
    ByteRate rate;
    rate.Set(per_second, At({}));
    uint64_t taken = 0;
    TimePoint now = At({});
    while (now < At(seconds(1))) {
      now = rate.Take(64 << 10, now);
      taken += 64 << 10;
    }
    double expected = 1.1 * static_cast<double>(per_second);
    EXPECT_NEAR(static_cast<double>(taken), expected, 0.01 * expected + 2 * (64 << 10)) << per_second;
  }
}

TEST(ByteRate, ExactOverThreads) {
  ByteRate rate;
  rate.Set(1000 * 1000, At({}));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int j = 0; j < 10'000; ++j) rate.Take(100, At({}));
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(rate.Take(1, At({})), At(seconds(4) - milliseconds(100) + microseconds(1)));
}

TEST(ByteRate, AnotherRateForgetsWhatIsOwed) {
  ByteRate rate;
  rate.Set(1024, At({}));
  rate.Take(1 << 20, At({}));  // 17 minutes' worth
  rate.Set(1 << 20, At(seconds(1)));
  EXPECT_EQ(rate.Take(1 << 20, At(seconds(1))), At(seconds(2)));
  rate.Set(1 << 20, At(seconds(1)));
  EXPECT_EQ(rate.Take(1 << 20, At(seconds(1))), At(seconds(3))) << "the same rate changes nothing";
}

TEST(ByteRate, GoesOnElsewhere) {
  ByteRate rate, next;
  rate.Set(1000, At({}));
  next.Set(1000, At({}));
  rate.Take(2000, At({}));
  next.GoOnFrom(rate.paid_until_ns(), At({}));
  EXPECT_EQ(next.Take(1, At({})), At(milliseconds(1901)));
  next.GoOnFrom(INT64_MAX, At({}));
  EXPECT_EQ(next.Take(1, At({})), At(milliseconds(60'001))) << "whatever it is told";
}

}  // namespace
}  // namespace ringmain
