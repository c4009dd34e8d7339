#include "base/token_bucket.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace ringmain {
namespace {

TimePoint At(Duration time) { return TimePoint(std::chrono::hours(1) + time); }

uint32_t Taken(TokenBucket& bucket, TimePoint now, uint32_t tries = 10'000) {
  uint32_t taken = 0;
  for (uint32_t i = 0; i < tries; ++i) taken += bucket.TryTake(now);
  return taken;
}

TEST(TokenBucket, WithoutAPaceAllIsLetThrough) {
  TokenBucket bucket;
  EXPECT_EQ(Taken(bucket, At({})), 10'000u);
}

TEST(TokenBucket, ABurstThenTheRate) {
  TokenBucket bucket;
  bucket.Set(Pace::Of(60 * 10, 5), At({}));  // every 100 ms
  EXPECT_EQ(Taken(bucket, At({})), 5u);
  EXPECT_EQ(Taken(bucket, At(milliseconds(100) - Duration(1))), 0u);
  EXPECT_EQ(Taken(bucket, At(milliseconds(100))), 1u);
  EXPECT_EQ(Taken(bucket, At(milliseconds(350))), 2u);
  EXPECT_EQ(Taken(bucket, At(milliseconds(400))), 1u);
  EXPECT_EQ(Taken(bucket, At(milliseconds(899))), 4u);
  EXPECT_EQ(Taken(bucket, At(seconds(100))), 5u) << "no more than the burst, however long nobody came";
}

TEST(TokenBucket, TriesInVainTakeNothing) {
  TokenBucket bucket;
  bucket.Set(Pace::Of(60, 1), At({}));
  EXPECT_TRUE(bucket.TryTake(At({})));
  for (int i = 1; i < 1000; ++i) EXPECT_FALSE(bucket.TryTake(At(milliseconds(i))));
  EXPECT_TRUE(bucket.TryTake(At(seconds(1))));
}

TEST(TokenBucket, TheSlowestAndTheFastest) {
  TokenBucket slow;
  slow.Set(Pace::Of(1, 1'000'000), At({}));
  EXPECT_EQ(Taken(slow, At({}), 1'000'001), 1'000'000u);
  EXPECT_FALSE(slow.TryTake(At(seconds(60) - Duration(1))));
  EXPECT_TRUE(slow.TryTake(At(seconds(60))));
  TokenBucket fast;
  fast.Set(Pace::Of(60'000'000, 1), At({}));
  uint32_t taken = 0;
  for (int64_t us = 0; us < 10'000; ++us) taken += Taken(fast, At(microseconds(us)), 3);
  EXPECT_EQ(taken, 10'000u);
}

// 7 a minute do not divide a minute: never more than asked for.
TEST(TokenBucket, NeverMoreThanAskedFor) {
  TokenBucket bucket;
  bucket.Set(Pace::Of(7, 1), At({}));
  uint32_t taken = 0;
  for (int64_t ms = 0; ms < 600'000; ++ms) taken += bucket.TryTake(At(milliseconds(ms)));
  EXPECT_EQ(taken, 70u);
}

TEST(TokenBucket, AnotherPaceKeepsWhatIsOwed) {
  TokenBucket bucket;
  bucket.Set(Pace::Of(60, 10), At({}));
  EXPECT_EQ(Taken(bucket, At({})), 10u);
  bucket.Set(Pace::Of(60 * 10, 10), At({}));  // ten times as fast: the ten are paid for in a second
  EXPECT_EQ(Taken(bucket, At({})), 0u);
  EXPECT_EQ(Taken(bucket, At(milliseconds(500))), 5u);
  bucket.Set(Pace::Of(60 * 10, 3), At(milliseconds(500)));  // not more than three may be owed
  EXPECT_EQ(Taken(bucket, At(milliseconds(500))), 0u);
  EXPECT_EQ(Taken(bucket, At(milliseconds(600))), 1u);
  bucket.Set(Pace(), At(milliseconds(600)));
  EXPECT_EQ(Taken(bucket, At(milliseconds(600))), 10'000u);
  bucket.Set(Pace::Of(60 * 10, 3), At(seconds(2)));
  EXPECT_EQ(Taken(bucket, At(seconds(2))), 3u);
}

TEST(TokenBucket, GoesOnElsewhere) {
  TokenBucket bucket, next;
  bucket.Set(Pace::Of(60, 4), At({}));
  EXPECT_EQ(Taken(bucket, At({}), 3), 3u);
  next.Set(Pace::Of(60, 4), At(seconds(1)));
  next.GoOnFrom(bucket.pace(), bucket.paid_until_ns(), At(seconds(1)));
  EXPECT_EQ(Taken(next, At(seconds(1))), 2u);
  TokenBucket odd;
  odd.Set(Pace::Of(60, 4), At({}));
  odd.GoOnFrom(Pace::Of(60, 4), INT64_MAX, At({}));
  EXPECT_EQ(Taken(odd, At(seconds(1))), 1u) << "not shut for ever by a number that cannot be";
}

TEST(TokenBucket, APaceThatCannotBe) {
  EXPECT_TRUE(Pace::Of(1, 1'000'000).valid());
  EXPECT_TRUE(Pace::Of(60'000'000, 1).valid());
  EXPECT_FALSE(Pace().valid());
  EXPECT_FALSE((Pace{1000, 999}).valid());
  EXPECT_FALSE((Pace{1000, INT64_MAX}).valid());
  EXPECT_FALSE((Pace{INT64_MAX, INT64_MAX}).valid());
}

TEST(TokenBucket, IsExactOverThreads) {
  TokenBucket bucket;
  bucket.Set(Pace::Of(60 * 1000, 500), At({}));  // one a millisecond
  std::atomic<uint32_t> taken{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int ms = 0; ms <= 1000; ++ms) taken += Taken(bucket, At(milliseconds(ms)), 20);
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, 1500u) << "the burst, and one for each millisecond";
}

}  // namespace
}  // namespace ringmain
