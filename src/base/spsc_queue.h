// SpscQueue: a bounded queue from one thread to one other, without locks.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

#include "base/check.h"

namespace ringmain {

// One thread pushes, one pops; neither ever waits. It has no memory until Allocate.
template <typename T>
class SpscQueue {
 public:
  // Makes room for so many; does nothing if there is some already. Before any thread uses it. REQUIRES: a power of two.
  void Allocate(size_t room) {
    RINGMAIN_CHECK(room > 0 && (room & (room - 1)) == 0);
    if (slots_ != nullptr) return;
    slots_ = std::make_unique<T[]>(room);
    room_ = room;
  }

  // False if it is full; then `value` stays as it is. The pushing thread.
  bool Push(T& value) {
    size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - seen_head_ == room_) {
      seen_head_ = head_.load(std::memory_order_acquire);
      if (tail - seen_head_ == room_) return false;
    }
    slots_[tail & (room_ - 1)] = std::move(value);
    tail_.store(tail + 1, std::memory_order_seq_cst);
    return true;
  }

  // False if it is empty. What was popped leaves a moved-from T behind. The popping thread.
  bool Pop(T& value) {
    size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_seq_cst)) return false;
    value = std::move(slots_[head & (room_ - 1)]);
    head_.store(head + 1, std::memory_order_release);
    return true;
  }
  bool empty() const { return head_.load(std::memory_order_relaxed) == tail_.load(std::memory_order_seq_cst); }

 private:
  std::unique_ptr<T[]> slots_;
  size_t room_ = 0;
  // Apart, so that neither thread takes the other's cache line but to see how far it is. They only grow. Sequentially consistent where
  // whoever pops may go to sleep: it says so and looks again, whoever pushes pushes and looks whether it sleeps, and one of them sees the
  // other.
  alignas(64) std::atomic<size_t> tail_{0};  // written by the pushing thread
  size_t seen_head_ = 0;                     // the pushing thread's own
  alignas(64) std::atomic<size_t> head_{0};  // written by the popping thread
};

}  // namespace ringmain
