// ReloadRequests: where other threads ask the process thread for what only it may do (a reload, a change of a server, closing a session, a drain)
// and wait for what comes of it.
#pragma once

#include <sys/eventfd.h>

#include <future>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "admin/admin_server.h"
#include "base/unique_fd.h"

namespace ringmain {

class ReloadRequests {
 public:
  // Readable while somebody may be waiting.
  int wake_fd() const { return wake_.get(); }

  struct Reload {
    std::optional<ServerChange> change;  // none: a reload of the file
    std::promise<ReloadResult> answer;
  };
  struct Closing {
    uint64_t session = 0;
    std::promise<ClosingResult> answer;
  };
  struct Drain {
    std::promise<DrainOutcome> answer;
  };
  using Request = std::variant<Reload, Closing, Drain>;

  // Any thread. They wait.
  ReloadResult Ask(std::optional<ServerChange> change = std::nullopt) { return Wait<ReloadResult>(Reload{std::move(change), {}}); }
  ClosingResult AskToClose(uint64_t session) { return Wait<ClosingResult>(Closing{session, {}}); }
  DrainOutcome AskToDrain() { return Wait<DrainOutcome>(Drain{}); }

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
    for (Request& one : waiting_) std::visit([](auto& request) { request.answer.set_value(Ending(request)); }, one);
    waiting_.clear();
  }

  void Open() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = false;
  }

  // What is answered while the process is ending.
  static ReloadResult Ending(const Reload&) {
    return {.outcome = ReloadResult::Outcome::kRefused, .errors = {"the process is ending: nothing is reloaded"}};
  }
  static ClosingResult Ending(const Closing&) { return {.outcome = ClosingResult::Outcome::kRefused}; }
  static DrainOutcome Ending(const Drain&) { return DrainOutcome::kAlready; }

 private:
  template <typename Answer, typename Kind>
  Answer Wait(Kind request) {
    std::future<Answer> answer = request.answer.get_future();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (closed_) return Ending(request);
      waiting_.emplace_back(std::move(request));
    }
    eventfd_write(wake_.get(), 1);
    return answer.get();
  }

  const UniqueFd wake_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex_;
  std::vector<Request> waiting_;
  bool closed_ = false;
};

}  // namespace ringmain
