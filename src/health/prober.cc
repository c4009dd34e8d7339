#include "health/prober.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <random>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "health/probes.h"
#include "uring/ring.h"
#include "uring/ring_io.h"
#include "uring/ring_timer.h"

namespace ringmain {
namespace {

// Few servers are in flight at once; a full submission queue is submitted, and a full completion queue overflows into
// kernel memory.
constexpr RingSize kRingSize = {64, 512};
// Probes receive nothing: the smallest pool there can be.
constexpr BufferPool::Options kNoBuffers = {4096, 1, 4096};

// The loop of the health thread.
class Loop {
 public:
  Loop(const std::vector<ProbeTarget>& targets, Ring& ring, RingIo& io, int stop_fd)
      : ring_(ring), stop_fd_(stop_fd), timer_(ring), probes_(targets, io, std::random_device{}(), Clock::now()) {}

  // Returns once stop_fd became readable and nothing is armed any more.
  void Run() {
    WatchStop();
    while (!stopping_ || timer_.armed() || probes_.armed() > 0) {
      if (!stopping_) timer_.FireBy(probes_.NextWakeUp());
      ring_.SubmitAndWait();
      TimePoint now = Clock::now();
      ring_.Reap([&](const Completion& completion) { Handle(completion, now); });
      if (!stopping_) probes_.RunTimers(now);
    }
  }

 private:
  void Handle(const Completion& completion, TimePoint now) {
    switch (completion.token.op) {
      case Op::kProbe:
        return probes_.Handle(completion, now);
      case Op::kTimer:
        timer_.OnFired();
        return;
      case Op::kWake:
        return completion.result >= 0 ? Stop() : WatchStop();
      default:
        return;  // Op::kCancel
    }
  }

  void Stop() {
    stopping_ = true;
    probes_.Stop();
    timer_.Cancel();
  }

  void WatchStop() { ring_.Poll({Op::kWake, 0, 0}, stop_fd_, POLLIN); }

  Ring& ring_;
  const int stop_fd_;
  RingTimer timer_;
  Probes probes_;
  bool stopping_ = false;
};

void RunThread(const std::vector<ProbeTarget>& targets, const Features& features, int stop_fd,
               std::promise<absl::Status> started) {
  pthread_setname_np(pthread_self(), "rm-health");
  absl::StatusOr<std::unique_ptr<Ring>> ring = Ring::Create(kRingSize, features);
  if (!ring.ok()) return started.set_value(ring.status());
  absl::StatusOr<std::unique_ptr<RingIo>> io = RingIo::Create(**ring, kNoBuffers);
  started.set_value(io.status());
  if (io.ok()) Loop(targets, **ring, **io, stop_fd).Run();
}

std::vector<ProbeTarget> TargetsOf(const std::vector<Upstream*>& upstreams, Board& board) {
  std::vector<ProbeTarget> targets;
  for (Upstream* upstream : upstreams) {
    if (!upstream->config().health_check.has_value()) continue;
    auto metrics = std::find_if(board.upstreams.begin(), board.upstreams.end(),
                                [&](const auto& candidate) { return candidate->name == upstream->name(); });
    RINGMAIN_CHECK(metrics != board.upstreams.end() && (*metrics)->servers.size() == upstream->size());
    for (size_t i = 0; i < upstream->size(); ++i) {
      targets.push_back(
          {upstream->name(), &upstream->server(i), &(*metrics)->servers[i]->health, *upstream->config().health_check});
    }
  }
  return targets;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HealthThread>> HealthThread::Start(std::vector<Upstream*> upstreams, Board& board,
                                                                  const Features& features) {
  std::unique_ptr<HealthThread> health(new HealthThread);
  std::vector<ProbeTarget> targets = TargetsOf(upstreams, board);
  if (targets.empty()) return health;
  health->stop_.reset(eventfd(0, EFD_CLOEXEC));
  if (!health->stop_.valid())
    return absl::ResourceExhaustedError(absl::StrCat("health thread: eventfd: ", strerrordesc_np(errno)));
  std::promise<absl::Status> started;
  std::future<absl::Status> status = started.get_future();
  health->thread_ = std::thread(RunThread, std::move(targets), features, health->stop_.get(), std::move(started));
  // On an error the thread has ended, and the destructor joins it.
  if (absl::Status result = status.get(); !result.ok()) return result;
  return health;
}

HealthThread::~HealthThread() {
  if (!thread_.joinable()) return;
  RINGMAIN_CHECK(eventfd_write(stop_.get(), 1) == 0);
  thread_.join();
}

}  // namespace ringmain
