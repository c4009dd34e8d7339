// What both programs do at their start, and the timed wait of their loops.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "uring/features.h"
#include "uring/ring.h"

namespace ringmain::loadtest {

// Raises the soft limit of file descriptors to the hard one. Returns the limit now.
uint64_t RaiseFileLimit();

// ProbeFeatures with what the environment variable RINGMAIN_DISABLE names.
absl::StatusOr<Features> ProbeKernel();

// Submits what is queued and waits for a completion, a signal or `timeout`, whichever is first (IORING_ENTER_EXT_ARG,
// Linux 5.11).
void SubmitAndWait(Ring& ring, Duration timeout);

}  // namespace ringmain::loadtest
