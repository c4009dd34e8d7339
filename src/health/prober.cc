#include "health/prober.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "uring/ring.h"
#include "uring/ring_io.h"
#include "uring/ring_timer.h"

namespace ringmain {
namespace {

// A full submission queue is submitted, and a full completion queue overflows into kernel memory.
constexpr RingSize kRingSize = {64, 512};
// Probes receive into memory of their own: the smallest pool there can be.
constexpr BufferPool::Options kNoBuffers = {4096, 1, 4096};

}  // namespace

class HealthThread::Loop {
 public:
  Loop(Ring& ring, RingIo& io, Mailbox& mailbox)
      : ring_(ring), mailbox_(mailbox), timer_(ring), probes_(io, std::random_device{}(), Clock::now()) {}

  // Returns once it was told to stop and nothing is armed any more.
  void Run() {
    WatchMailbox();
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
        return OpenMailbox(now);
      default:
        return;  // Op::kCancel
    }
  }

  void OpenMailbox(TimePoint now) {
    eventfd_t count;
    eventfd_read(mailbox_.wake.get(), &count);
    std::optional<std::vector<ProbeTarget>> targets;
    {
      std::lock_guard<std::mutex> lock(mailbox_.mutex);
      targets = std::exchange(mailbox_.targets, std::nullopt);
      stopping_ = mailbox_.stop;
    }
    if (stopping_) {
      probes_.Stop();
      timer_.Cancel();
      return;
    }
    if (targets.has_value()) probes_.Check(*std::move(targets), now);
    WatchMailbox();
  }

  void WatchMailbox() { ring_.Poll({Op::kWake, 0, 0}, mailbox_.wake.get(), POLLIN); }

  Ring& ring_;
  Mailbox& mailbox_;
  RingTimer timer_;
  Probes probes_;
  bool stopping_ = false;
};

void HealthThread::Run(const Features& features, Mailbox& mailbox, std::promise<absl::Status> started) {
  pthread_setname_np(pthread_self(), "rm-health");
  absl::StatusOr<std::unique_ptr<Ring>> ring = Ring::Create(kRingSize, features);
  if (!ring.ok()) return started.set_value(ring.status());
  absl::StatusOr<std::unique_ptr<RingIo>> io = RingIo::Create(**ring, kNoBuffers);
  started.set_value(io.status());
  if (io.ok()) Loop(**ring, **io, mailbox).Run();
}

absl::Status HealthThread::Start() {
  if (running()) return absl::OkStatus();
  mailbox_.wake.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!mailbox_.wake.valid())
    return absl::ResourceExhaustedError(absl::StrCat("health thread: eventfd: ", strerrordesc_np(errno)));
  std::promise<absl::Status> started;
  std::future<absl::Status> status = started.get_future();
  thread_ = std::thread(Run, std::cref(features_), std::ref(mailbox_), std::move(started));
  absl::Status result = status.get();
  if (!result.ok()) thread_.join();
  return result;
}

void HealthThread::Check(std::vector<ProbeTarget> targets) {
  if (!running()) {
    RINGMAIN_CHECK(targets.empty());
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mailbox_.mutex);
    mailbox_.targets = std::move(targets);
  }
  eventfd_write(mailbox_.wake.get(), 1);
}

HealthThread::~HealthThread() {
  if (!running()) return;
  {
    std::lock_guard<std::mutex> lock(mailbox_.mutex);
    mailbox_.stop = true;
  }
  eventfd_write(mailbox_.wake.get(), 1);
  thread_.join();
}

}  // namespace ringmain
