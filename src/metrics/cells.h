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
#include <vector>

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

// The last times at which something went up or down. One thread writes it, any thread reads.
class FlipHistory {
 public:
  static constexpr size_t kKept = 16;
  struct Flip {
    int64_t epoch_ms = 0;  // milliseconds since the epoch
    bool up = false;
  };

  void Note(int64_t epoch_ms, bool up) {
    uint64_t count = count_.value();
    flips_[count % kKept].Set(epoch_ms * 2 + (up ? 1 : 0));
    count_.Add();
  }
  uint64_t count() const { return count_.value(); }
  // The oldest first. While one is noted, the oldest may be it instead.
  std::vector<Flip> Read() const {
    std::vector<Flip> flips;
    uint64_t count = count_.value();
    for (uint64_t i = count > kKept ? count - kKept : 0; i < count; ++i) {
      int64_t flip = flips_[i % kKept].value();
      flips.push_back({flip / 2, flip % 2 != 0});
    }
    return flips;
  }

 private:
  Counter count_;
  std::array<Gauge, kKept> flips_;
};

// Durations counted into fixed buckets. `Bounds` is a constexpr std::array of inclusive upper bounds in nanoseconds, ascending;
// one more bucket holds what is above the last.
template <const auto& Bounds>
class DurationHistogram {
 public:
  static constexpr size_t kBuckets = Bounds.size() + 1;
  static std::span<const uint64_t> bounds() { return Bounds; }

  void Observe(Duration duration) {
    uint64_t ns = duration.count() > 0 ? static_cast<uint64_t>(duration.count()) : 0;
    size_t bucket = 0;
    while (bucket < Bounds.size() && ns > Bounds[bucket]) ++bucket;
    buckets_[bucket].Add();
    sum_.Add(ns);
  }
  // For counts that come from elsewhere.
  void Add(size_t bucket, uint64_t n) { buckets_[bucket].Add(n); }
  void AddSum(uint64_t ns) { sum_.Add(ns); }
  uint64_t bucket(size_t i) const { return buckets_[i].value(); }  // not cumulative
  uint64_t sum_ns() const { return sum_.value(); }

 private:
  std::array<Counter, kBuckets> buckets_;
  Counter sum_;
};

}  // namespace ringmain
