#include "loadtest/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace ringmain::loadtest {
namespace {

TEST(LatencyHistogramTest, BucketsTouchAndAreNarrow) {
  EXPECT_EQ(LatencyHistogram::LowestOf(0), 0u);
  for (size_t bucket = 0; bucket + 1 < LatencyHistogram::kBuckets; ++bucket) {
    uint64_t low = LatencyHistogram::LowestOf(bucket);
    uint64_t high = LatencyHistogram::HighestOf(bucket);
    ASSERT_EQ(LatencyHistogram::BucketOf(low), bucket);
    ASSERT_EQ(LatencyHistogram::BucketOf(high), bucket);
    ASSERT_EQ(LatencyHistogram::BucketOf(high + 1), bucket + 1);
    ASSERT_LE(static_cast<double>(high - low), 0.008 * static_cast<double>(low));
  }
}

TEST(LatencyHistogramTest, HugeValuesStayInTheLastBucket) {
  LatencyHistogram histogram;
  histogram.Record(UINT64_MAX);
  EXPECT_EQ(LatencyHistogram::BucketOf(UINT64_MAX), LatencyHistogram::kBuckets - 1);
  EXPECT_EQ(histogram.Snapshot().max(), UINT64_MAX);
}

TEST(LatencyHistogramTest, PercentilesAreWithinOnePercent) {
  LatencyHistogram histogram;
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> distribution(11, 2);  // around 60 us, with a long tail
  std::vector<uint64_t> values;
  for (int i = 0; i < 100000; ++i) {
    values.push_back(static_cast<uint64_t>(distribution(random)));
    histogram.Record(values.back());
  }
  std::sort(values.begin(), values.end());
  LatencySnapshot snapshot = histogram.Snapshot();
  for (double fraction : {0.001, 0.5, 0.9, 0.99, 0.999}) {
    auto exact = static_cast<double>(values[static_cast<size_t>(std::ceil(fraction * values.size())) - 1]);
    EXPECT_NEAR(static_cast<double>(snapshot.Percentile(fraction)), exact, exact * 0.01) << fraction;
  }
  EXPECT_EQ(snapshot.Percentile(1), values.back());
  EXPECT_EQ(snapshot.min(), values.front());
  EXPECT_EQ(snapshot.max(), values.back());
  EXPECT_EQ(snapshot.count(), values.size());
}

TEST(LatencyHistogramTest, EmptyIsAllZero) {
  LatencySnapshot snapshot = LatencyHistogram().Snapshot();
  EXPECT_EQ(snapshot.count(), 0u);
  EXPECT_EQ(snapshot.min(), 0u);
  EXPECT_EQ(snapshot.max(), 0u);
  EXPECT_EQ(snapshot.Percentile(0.5), 0u);
  EXPECT_EQ(snapshot.mean(), 0);
}

TEST(LatencyHistogramTest, MergeAndSince) {
  LatencyHistogram a, b;
  a.Record(100);
  LatencySnapshot before = a.Snapshot();
  a.Record(1000);
  a.Record(1000);
  b.Record(50);
  LatencySnapshot since = a.Snapshot().Since(before);
  EXPECT_EQ(since.count(), 2u);
  EXPECT_NEAR(static_cast<double>(since.Percentile(0.5)), 1000, 8);
  EXPECT_EQ(since.mean(), 1000);
  LatencySnapshot all = a.Snapshot();
  all.Merge(b.Snapshot());
  EXPECT_EQ(all.count(), 4u);
  EXPECT_EQ(all.min(), 50u);
  EXPECT_EQ(all.max(), 1000u);
}

}  // namespace
}  // namespace ringmain::loadtest
