// HealthThread: the thread that checks the servers of all upstreams with a health_check.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "metrics/board.h"
#include "upstream/upstream.h"
#include "uring/features.h"

namespace ringmain {

// Owns one thread ("rm-health") with a ring of its own. It alone writes Server::set_up and the HealthCells of the
// board; a flip is logged once. Create and destroy it on any one thread.
class HealthThread {
 public:
  // Starts the thread, unless nothing is to be checked. What is passed outlives the result; the board has the
  // upstreams' names. Errors: the ring cannot be created.
  static absl::StatusOr<std::unique_ptr<HealthThread>> Start(std::vector<Upstream*> upstreams, Board& board,
                                                             const Features& features);
  // Cancels what is armed and joins the thread; takes some milliseconds.
  ~HealthThread();
  HealthThread(const HealthThread&) = delete;
  HealthThread& operator=(const HealthThread&) = delete;

  // False if nothing is to be checked.
  bool running() const { return thread_.joinable(); }

 private:
  HealthThread() = default;

  UniqueFd stop_;  // an eventfd; written once
  std::thread thread_;
};

}  // namespace ringmain
