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
      : ring_(ring), stop_fd_(stop_fd), probes_(targets, io, std::random_device{}(), Clock::now()) {}

  // Returns once stop_fd became readable and nothing is armed any more.
  void Run() {
    WatchStop();
    while (!stopping_ || timer_armed_ || probes_.armed() > 0) {
      if (!stopping_) SetTimer();
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
        timer_armed_ = false;
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
    if (timer_armed_) ring_.Cancel(kTimer);
  }

  void WatchStop() {
    io_uring_sqe* sqe = ring_.NextSqe();
    io_uring_prep_poll_add(sqe, stop_fd_, POLLIN);
    io_uring_sqe_set_data64(sqe, Token{Op::kWake, 0, 0}.Pack());
  }

  // One timeout is armed, for the next wake-up. It is moved when an earlier one is needed; one too early does no harm.
  void SetTimer() {
    std::optional<TimePoint> wake_up = probes_.NextWakeUp();
    if (!wake_up.has_value() || (timer_armed_ && timer_at_ <= *wake_up)) return;
    Duration since_epoch = wake_up->time_since_epoch();  // CLOCK_MONOTONIC, as the kernel counts
    timespec_ = {since_epoch / seconds(1), (since_epoch % seconds(1)).count()};
    io_uring_sqe* sqe = ring_.NextSqe();
    if (timer_armed_) {
      // Fails if the timeout has just ended; its completion is here then, and the next turn arms a new one.
      io_uring_prep_timeout_update(sqe, &timespec_, kTimer.Pack(), IORING_TIMEOUT_ABS);
      io_uring_sqe_set_data64(sqe, Token{Op::kCancel, 0, 0}.Pack());
    } else {
      io_uring_prep_timeout(sqe, &timespec_, 0, IORING_TIMEOUT_ABS);
      io_uring_sqe_set_data64(sqe, kTimer.Pack());
    }
    timer_armed_ = true;
    timer_at_ = *wake_up;
  }

  static constexpr Token kTimer = {Op::kTimer, 0, 0};

  Ring& ring_;
  const int stop_fd_;
  Probes probes_;
  bool stopping_ = false;
  bool timer_armed_ = false;  // its completion is still to come
  TimePoint timer_at_;
  __kernel_timespec timespec_{};  // the kernel reads it when the entry is submitted
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
