#include "uring/ring.h"

#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <thread>

#include "absl/status/status.h"
#include "base/check.h"
#include "base/clock.h"

namespace ringmain {
namespace {

constexpr RingSize kSmallest = {64, 256};

// 64 bytes a submission entry and 4 its index, 16 a completion (io_uring/io_uring.c, rings_size); 4 KiB rounding is in the slack.
uint64_t RingBytes(RingSize size) { return 68ull * size.submissions + 16ull * size.completions + 8192; }

unsigned SetupFlags(const Features& features) {
  unsigned flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SINGLE_ISSUER;
  return flags | (features.defer_taskrun ? IORING_SETUP_DEFER_TASKRUN : IORING_SETUP_COOP_TASKRUN);
}

RingSize Halve(RingSize size) {
  return {std::max(size.submissions / 2, kSmallest.submissions), std::max(size.completions / 2, kSmallest.completions)};
}

}  // namespace

RingSize RingSizeForMemlock(uint64_t memlock_bytes, uint32_t rings) {
  RingSize size;
  uint64_t each = memlock_bytes / 2 / std::max(rings, 1u);
  while (RingBytes(size) > each && size.completions > kSmallest.completions) size = Halve(size);
  return size;
}

absl::StatusOr<std::unique_ptr<Ring>> Ring::Create(RingSize size, const Features& features) {
  std::unique_ptr<Ring> ring(new Ring);
  ring->features_ = features;
  TimePoint give_up = Clock::now() + kSetupPatience;
  while (true) {
    io_uring_params params{};
    params.flags = SetupFlags(features);
    params.cq_entries = size.completions;
    int result = io_uring_queue_init_params(size.submissions, &ring->ring_, &params);
    if (result == 0) break;
    ring->ring_ = {};
    if (result == -ENOMEM && Clock::now() < give_up) {
      std::this_thread::sleep_for(milliseconds(20));
      continue;
    }
    if (result == -ENOMEM && size.completions > kSmallest.completions) {
      size = Halve(size);
      continue;
    }
    return absl::FailedPreconditionError(DescribeSetupError(-result));
  }
  if (features.registered_ring) io_uring_register_ring_fd(&ring->ring_);  // only saves a look-up: failing is no error
  return ring;
}

Ring::~Ring() {
  if (ring_.ring_fd > 0) io_uring_queue_exit(&ring_);
}

io_uring_sqe* Ring::NextSqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (sqe == nullptr) [[unlikely]] {
    Submit();
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

// EINTR: a signal. EBUSY: completions must be reaped before more is submitted. EAGAIN, ENOMEM: no memory for requests; the rest
// stays queued and goes with the next call.
void Ring::CountSubmitted(int result) {
  RINGMAIN_CHECK(result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN || result == -ENOMEM);
  if (result > 0) submissions_ += static_cast<uint32_t>(result);
}

void Ring::SubmitAndWait() {
  ++enters_;
  CountSubmitted(io_uring_submit_and_wait(&ring_, 1));
}

void Ring::SubmitAndPoll() {
  ++enters_;
  CountSubmitted(io_uring_submit_and_get_events(&ring_));
}

void Ring::Submit() {
  ++enters_;
  CountSubmitted(io_uring_submit(&ring_));
}

void Ring::Cancel(Token target) {
  io_uring_sqe* sqe = NextSqe();
  io_uring_prep_cancel64(sqe, target.Pack(), 0);
  io_uring_sqe_set_data64(sqe, Token{Op::kCancel, 0, 0}.Pack());
}

void Ring::Accept(Token token, int fd, bool single) {
  io_uring_sqe* sqe = NextSqe();
  if (features_.multishot_accept && !single)
    io_uring_prep_multishot_accept(sqe, fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  else
    io_uring_prep_accept(sqe, fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  io_uring_sqe_set_data64(sqe, token.Pack());
}

void Ring::Poll(Token token, int fd, short events) {
  io_uring_sqe* sqe = NextSqe();
  io_uring_prep_poll_add(sqe, fd, static_cast<unsigned>(events));
  io_uring_sqe_set_data64(sqe, token.Pack());
}

bool Ring::overflowed() const { return io_uring_cq_has_overflow(&ring_); }

}  // namespace ringmain
