// Ring: one io_uring instance. The only place that sets one up, submits to it and reaps from it.
//
// Thread-bound: the thread that calls Create submits and reaps, no other does (IORING_SETUP_SINGLE_ISSUER).
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "uring/features.h"
#include "uring/token.h"

namespace ringmain {

struct RingSize {
  uint32_t submissions = 512;
  uint32_t completions = 4096;
};

// The sizes for each of `rings` rings so that all of them fit into half of `memlock_bytes`, the limit that the kernel charges
// ring memory to without CAP_IPC_LOCK (the other half is for a second process of the same user during a takeover). Pure.
RingSize RingSizeForMemlock(uint64_t memlock_bytes, uint32_t rings);

class Ring {
 public:
  // ENOMEM is retried for 500 ms (the limit counts per user, and a process that just ended still counts), then with smaller rings.
  // Errors: FailedPrecondition with DescribeSetupError's text.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(RingSize size, const Features& features);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // A cleared submission entry; submits what is queued if the queue is full. Never null.
  io_uring_sqe* NextSqe();
  // Submits what is queued and waits until at least one completion can be reaped, or a signal arrives.
  void SubmitAndWait();
  // The same without waiting: completions that are due can be reaped after it.
  void SubmitAndPoll();
  // Submits what is queued without waiting.
  void Submit();

  // Calls `handle(const Completion&)` for every completion that is there, oldest first. The handler may queue submissions.
  template <typename Handler>
  unsigned Reap(Handler&& handle) {
    unsigned head, count = 0;
    io_uring_cqe* cqe;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      ++count;
      handle(Decode(*cqe));
    }
    io_uring_cq_advance(&ring_, count);
    completions_ += count;
    return count;
  }

  bool has_completions() const { return io_uring_cq_ready(&ring_) > 0; }

  // Cancels one armed operation by its user_data. The request's own completion is Op::kCancel; ignore it. Only the target's own
  // final completion retires the target.
  void Cancel(Token target);

  // ---- Operations of loops; those of sessions are in RingIo ----

  // Accepts connections on `fd`, non-blocking and close-on-exec: one completion each, until one without `more`. A multishot accept
  // takes all that wait at once; `single` takes one.
  void Accept(Token token, int fd, bool single);
  // Completes once, with the poll(2) events that are there, when one of `events` (or an error) is.
  void Poll(Token token, int fd, short events);

  const Features& features() const { return features_; }
  io_uring* raw() { return &ring_; }

  uint64_t enters() const { return enters_; }            // io_uring_enter calls
  uint64_t submissions() const { return submissions_; }  // entries that the kernel took
  uint64_t completions() const { return completions_; }  // entries reaped
  // The kernel holds completions that did not fit the queue; they arrive at the next wait.
  bool overflowed() const;

 private:
  Ring() = default;
  static Completion Decode(const io_uring_cqe& cqe) {
    return {Token::Unpack(cqe.user_data),
            cqe.res,
            (cqe.flags & IORING_CQE_F_MORE) != 0,
            (cqe.flags & IORING_CQE_F_BUFFER) != 0,
            (cqe.flags & IORING_CQE_F_SOCK_NONEMPTY) != 0,
            static_cast<uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT)};
  }

  void CountSubmitted(int result);

  io_uring ring_{};
  Features features_;
  uint64_t enters_ = 0;
  uint64_t submissions_ = 0;
  uint64_t completions_ = 0;
};

}  // namespace ringmain
