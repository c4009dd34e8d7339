#include "loadtest/work_queue.h"

#include <utility>

namespace ringmain::loadtest {

WorkQueue::WorkQueue(uint32_t threads, uint32_t capacity) : capacity_(capacity) {
  for (uint32_t i = 0; i < threads; ++i) threads_.emplace_back([this] { RunThread(); });
}

WorkQueue::~WorkQueue() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkQueue::TryPush(Job job) {
  {
    std::lock_guard lock(mutex_);
    if (jobs_.size() >= capacity_) return false;
    jobs_.push_back(std::move(job));
  }
  changed_.notify_one();
  return true;
}

uint32_t WorkQueue::length() const {
  std::lock_guard lock(mutex_);
  return static_cast<uint32_t>(jobs_.size());
}

void WorkQueue::RunThread() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (stop_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
}

}  // namespace ringmain::loadtest
