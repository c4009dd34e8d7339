// The cells that workers count in: plain, monotonic, one writer each, relaxed atomics.
//
// Thread rule: exactly one thread writes a cell (its worker, or the health thread); any thread reads it at any time. A write is a
// load and a store, not a locked instruction, so counting on the per-message path costs what a plain variable costs.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/per_worker.h"

namespace ringmain {

// Only grows.
class Counter {
 public:
  void Add(uint64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Goes up and down.
class Gauge {
 public:
  void Add(int64_t n) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void Set(int64_t n) { value_.store(n, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// A sentence about what happened last. Not for what happens often: it locks.
class Note {
 public:
  void Set(const std::string& text) {
    std::lock_guard<std::mutex> lock(mutex_);
    text_ = text;
  }
  std::string value() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
};

// Values counted into fixed buckets. `Bounds` is a constexpr std::array of inclusive upper bounds, ascending; one more bucket holds
// what is above the last.
template <const auto& Bounds>
class Histogram {
 public:
  static constexpr size_t kBuckets = Bounds.size() + 1;
  static constexpr double kPerUnit = 1;  // of what is observed in one of what is shown
  static std::span<const uint64_t> bounds() { return Bounds; }

  void Observe(uint64_t value) {
    size_t bucket = 0;
    while (bucket < Bounds.size() && value > Bounds[bucket]) ++bucket;
    buckets_[bucket].Add();
    sum_.Add(value);
  }
  // For counts that come from elsewhere.
  void Add(size_t bucket, uint64_t n) { buckets_[bucket].Add(n); }
  void AddSum(uint64_t sum) { sum_.Add(sum); }
  uint64_t bucket(size_t i) const { return buckets_[i].value(); }  // not cumulative
  uint64_t sum() const { return sum_.value(); }

 private:
  std::array<Counter, kBuckets> buckets_;
  Counter sum_;
};

// Of durations; bounds and sum are in nanoseconds.
template <const auto& Bounds>
class DurationHistogram : public Histogram<Bounds> {
 public:
  static constexpr double kPerUnit = 1e9;
  void Observe(Duration duration) {
    Histogram<Bounds>::Observe(duration.count() > 0 ? static_cast<uint64_t>(duration.count()) : 0);
  }
};

}  // namespace ringmain
