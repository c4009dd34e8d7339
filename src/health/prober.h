// HealthThread: the thread that checks the servers of all upstreams with a health_check.
#pragma once

#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "health/probes.h"
#include "uring/features.h"

namespace ringmain {

// One thread ("rm-health") with a ring of its own. It alone writes Server::set_up and HealthCells; a flip is logged once. Used by one
// thread at a time.
class HealthThread {
 public:
  explicit HealthThread(const Features& features) : features_(features) {}
  // Cancels what is armed and joins the thread; takes some milliseconds.
  ~HealthThread();
  HealthThread(const HealthThread&) = delete;
  HealthThread& operator=(const HealthThread&) = delete;

  // Starts the thread, if it does not run. Errors: the ring cannot be created.
  absl::Status Start();
  bool running() const { return thread_.joinable(); }
  // Probes::Check, soon. REQUIRES: running() or targets.empty().
  void Check(std::vector<ProbeTarget> targets);

 private:
  struct Mailbox {
    UniqueFd wake;  // an eventfd
    std::mutex mutex;
    std::optional<std::vector<ProbeTarget>> targets;  // new ones
    bool stop = false;
  };
  class Loop;
  static void Run(const Features& features, Mailbox& mailbox, std::promise<absl::Status> started);

  const Features features_;
  Mailbox mailbox_;
  std::thread thread_;
};

}  // namespace ringmain
