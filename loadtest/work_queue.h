// WorkQueue: a pool of threads that handle framed requests behind a bounded queue. A request that finds the queue full
// is refused at once, so that overload shows as busy replies and not as ever longer waiting.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ringmain::loadtest {

// Thread-safe.
class WorkQueue {
 public:
  using Job = std::function<void()>;

  // REQUIRES: threads >= 1.
  WorkQueue(uint32_t threads, uint32_t capacity);
  // Waits for the jobs being handled; those still waiting are dropped.
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // False, and nothing done, if `capacity` jobs wait already. Jobs start in the order of the calls.
  bool TryPush(Job job);
  // Jobs that wait for a thread.
  uint32_t length() const;

 private:
  void RunThread();

  const uint32_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;  // guarded by mutex_, and so is stop_
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace ringmain::loadtest
