// LatencyHistogram: the distribution of latencies in fixed memory (34 KiB), each value kept to within 0.8%.
//
// Log-linear buckets, as in HdrHistogram (Gil Tene, hdrhistogram.org): every power of two is cut into 128 equal
// buckets; values below 128 have one each. One thread records, any thread may take a snapshot.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace ringmain::loadtest {

// What a histogram held at one moment. A value.
class LatencySnapshot {
 public:
  LatencySnapshot();

  uint64_t count() const { return count_; }
  uint64_t min() const { return count_ == 0 ? 0 : min_; }  // exact, nanoseconds
  uint64_t max() const { return max_; }                    // exact, nanoseconds
  double mean() const { return count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_); }
  // The smallest recorded value (nanoseconds, to within 0.8%, never beyond max) that at least `fraction` of all values
  // do not exceed; 0 if nothing was recorded. REQUIRES: 0 < fraction <= 1.
  uint64_t Percentile(double fraction) const;

  void Merge(const LatencySnapshot& other);
  // What was recorded since `earlier`, an older snapshot of the same histograms. Its min and max are those of the
  // buckets.
  LatencySnapshot Since(const LatencySnapshot& earlier) const;

 private:
  friend class LatencyHistogram;
  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t sum_ = 0;
  uint64_t min_ = UINT64_MAX;
  uint64_t max_ = 0;
};

class LatencyHistogram {
 public:
  static constexpr int kSubBucketBits = 7;
  static constexpr int kMaxBits = 40;  // 2^40 ns = 18 minutes; larger values count as the largest bucket
  static constexpr size_t kBuckets = (kMaxBits - kSubBucketBits + 1) << kSubBucketBits;

  void Record(uint64_t nanoseconds);
  LatencySnapshot Snapshot() const;

  // The bucket of a value, and the lowest and highest value of a bucket. Exposed for tests.
  static size_t BucketOf(uint64_t value);
  static uint64_t LowestOf(size_t bucket);
  static uint64_t HighestOf(size_t bucket) { return LowestOf(bucket + 1) - 1; }

 private:
  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
  std::atomic<uint64_t> sum_{0};
  std::atomic<uint64_t> min_{UINT64_MAX};
  std::atomic<uint64_t> max_{0};
};

}  // namespace ringmain::loadtest
