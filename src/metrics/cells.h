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

// One T per worker, each on cache lines of its own, where it stays. One thread may add workers while others read: who sees the new size
// sees the new ones' T.
template <typename T>
class PerWorker {
 public:
  // REQUIRES: workers > 0.
  explicit PerWorker(size_t workers) : first_(workers), size_(workers) { blocks_[0] = std::make_unique<Slot[]>(workers); }
  size_t size() const { return size_.load(std::memory_order_acquire); }
  // Adds workers until there are so many. One thread at a time. REQUIRES: at most 2^15 times as many as at first.
  void Grow(size_t workers) {
    size_t room = first_;
    for (size_t i = 1; room < workers; room *= 2, ++i)
      if (blocks_.at(i) == nullptr) blocks_[i] = std::make_unique<Slot[]>(room);
    if (workers > size()) size_.store(workers, std::memory_order_release);
  }
  T& operator[](size_t worker) { return At(worker).value; }
  const T& operator[](size_t worker) const { return At(worker).value; }

 private:
  struct alignas(64) Slot {
    T value;
  };
  // The first block holds `first_`, and each one after it as many as all before it.
  Slot& At(size_t worker) const {
    if (worker < first_) return blocks_[0][worker];
    size_t before = first_, block = 1;
    for (; worker >= 2 * before; before *= 2) ++block;
    return blocks_[block][worker - before];
  }

  const size_t first_;
  std::atomic<size_t> size_;
  std::array<std::unique_ptr<Slot[]>, 16> blocks_;
};

}  // namespace ringmain
