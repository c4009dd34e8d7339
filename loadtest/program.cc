#include "loadtest/program.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/check.h"

namespace ringmain::loadtest {

uint64_t RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  rlimit raised = {limit.rlim_max, limit.rlim_max};
  return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

absl::StatusOr<Features> ProbeKernel() {
  const char* disabled = std::getenv("RINGMAIN_DISABLE");
  return ProbeFeatures(disabled == nullptr ? "" : disabled);
}

void SubmitAndWait(Ring& ring, Duration timeout) {
  timeout = std::max(timeout, Duration::zero());
  __kernel_timespec spec{};
  spec.tv_sec = timeout.count() / 1'000'000'000;
  spec.tv_nsec = timeout.count() % 1'000'000'000;
  io_uring_cqe* unused = nullptr;
  int result = io_uring_submit_and_wait_timeout(ring.raw(), &unused, 1, &spec, nullptr);
  RINGMAIN_CHECK(result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY || result == -EAGAIN ||
                 result == -ENOMEM);
}

}  // namespace ringmain::loadtest
