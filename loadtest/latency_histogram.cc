#include "loadtest/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace ringmain::loadtest {
namespace {

constexpr int kBits = LatencyHistogram::kSubBucketBits;
constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

size_t LatencyHistogram::BucketOf(uint64_t value) {
  if (value < 1u << kBits) return value;
  int shift = std::bit_width(value) - 1 - kBits;  // the top kBits + 1 bits stay
  size_t bucket = (static_cast<size_t>(shift) << kBits) + (value >> shift);
  return std::min(bucket, kBuckets - 1);
}

uint64_t LatencyHistogram::LowestOf(size_t bucket) {
  if (bucket < 2u << kBits) return bucket;
  int shift = static_cast<int>(bucket >> kBits) - 1;
  return ((bucket & ((1u << kBits) - 1)) | 1u << kBits) << shift;
}

void LatencyHistogram::Record(uint64_t nanoseconds) {
  std::atomic<uint64_t>& bucket = buckets_[BucketOf(nanoseconds)];
  bucket.store(bucket.load(kRelaxed) + 1, kRelaxed);  // one writer: no locked instruction needed
  sum_.store(sum_.load(kRelaxed) + nanoseconds, kRelaxed);
  if (nanoseconds < min_.load(kRelaxed)) min_.store(nanoseconds, kRelaxed);
  if (nanoseconds > max_.load(kRelaxed)) max_.store(nanoseconds, kRelaxed);
}

LatencySnapshot LatencyHistogram::Snapshot() const {
  LatencySnapshot snapshot;
  for (size_t i = 0; i < kBuckets; ++i) {
    snapshot.buckets_[i] = buckets_[i].load(kRelaxed);
    snapshot.count_ += snapshot.buckets_[i];
  }
  snapshot.sum_ = sum_.load(kRelaxed);
  snapshot.min_ = min_.load(kRelaxed);
  snapshot.max_ = max_.load(kRelaxed);
  return snapshot;
}

LatencySnapshot::LatencySnapshot() : buckets_(LatencyHistogram::kBuckets) {}

uint64_t LatencySnapshot::Percentile(double fraction) const {
  RINGMAIN_CHECK(fraction > 0 && fraction <= 1);
  if (count_ == 0) return 0;
  auto rank = static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(count_)));
  rank = std::clamp<uint64_t>(rank, 1, count_);
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= rank) return std::min(LatencyHistogram::HighestOf(i), max_);
  }
  return max_;
}

void LatencySnapshot::Merge(const LatencySnapshot& other) {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

LatencySnapshot LatencySnapshot::Since(const LatencySnapshot& earlier) const {
  LatencySnapshot difference;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    uint64_t count = buckets_[i] - earlier.buckets_[i];
    if (count == 0) continue;
    difference.buckets_[i] = count;
    difference.count_ += count;
    difference.min_ = std::min(difference.min_, LatencyHistogram::LowestOf(i));
    difference.max_ = LatencyHistogram::HighestOf(i);
  }
  difference.sum_ = sum_ - earlier.sum_;
  return difference;
}

}  // namespace ringmain::loadtest
