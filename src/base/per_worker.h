// PerWorker: one value for each worker, that others may read.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>

namespace ringmain {

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
