#include "uring/ring_timer.h"

namespace ringmain {

void RingTimer::FireBy(std::optional<TimePoint> deadline) {
  if (!deadline.has_value() || (armed_ && at_ <= *deadline)) return;
  Duration since_epoch = deadline->time_since_epoch();  // CLOCK_MONOTONIC, as the kernel counts
  timespec_ = {since_epoch / seconds(1), (since_epoch % seconds(1)).count()};
  io_uring_sqe* sqe = ring_.NextSqe();
  if (armed_) {
    // Fails if the timeout has just ended; its completion is here then, and the next turn arms a new one.
    io_uring_prep_timeout_update(sqe, &timespec_, kToken.Pack(), IORING_TIMEOUT_ABS);
    io_uring_sqe_set_data64(sqe, Token{Op::kCancel, 0, 0}.Pack());
  } else {
    io_uring_prep_timeout(sqe, &timespec_, 0, IORING_TIMEOUT_ABS);
    io_uring_sqe_set_data64(sqe, kToken.Pack());
  }
  armed_ = true;
  at_ = *deadline;
}

void RingTimer::Cancel() {
  if (armed_) ring_.Cancel(kToken);
}

}  // namespace ringmain
