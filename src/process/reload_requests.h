// ReloadRequests: where other threads ask the process thread for a reload, or a change of a server, and wait for its result.
#pragma once

#include <sys/eventfd.h>

#include <future>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "admin/admin_server.h"
#include "base/unique_fd.h"

namespace ringmain {

class ReloadRequests {
 public:
  // Readable while somebody may be waiting.
  int wake_fd() const { return wake_.get(); }

  struct Request {
    std::optional<ServerChange> change;  // none: a reload
    std::promise<ReloadResult> answer;
  };

  // Any thread. Waits.
  ReloadResult Ask(std::optional<ServerChange> change = std::nullopt) {
    std::future<ReloadResult> answer;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (closed_) return Ending();
      answer = waiting_.emplace_back(Request{std::move(change), {}}).answer.get_future();
    }
    eventfd_write(wake_.get(), 1);
    return answer.get();
  }

  // The process thread. One reload serves all who ask for one and are taken together.
  std::vector<Request> Take() {
    eventfd_t count;
    eventfd_read(wake_.get(), &count);
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(waiting_, {});
  }
  // Nobody waits any more, now or until Open.
  void Close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    for (Request& one : waiting_) one.answer.set_value(Ending());
    waiting_.clear();
  }

  void Open() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = false;
  }

  static ReloadResult Ending() {
    return {.outcome = ReloadResult::Outcome::kRefused, .errors = {"the process is ending: nothing is reloaded"}};
  }

 private:
  const UniqueFd wake_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex_;
  std::vector<Request> waiting_;
  bool closed_ = false;
};

}  // namespace ringmain
