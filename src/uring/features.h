// What the running kernel's io_uring can do, found by trying, and the words to say when it can do nothing.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace ringmain {

// How long a set-up that gets ENOMEM is tried again.
inline constexpr Duration kSetupPatience = milliseconds(500);

// Every optional kernel feature ringmain uses. Required and not listed: Linux 6.1 (provided buffer rings, 5.19).
struct Features {
  bool defer_taskrun = false;      // IORING_SETUP_DEFER_TASKRUN, 6.1
  bool registered_ring = false;    // IORING_REGISTER_RING_FDS, 5.18
  bool multishot_accept = false;   // 5.19
  bool multishot_receive = false;  // 6.0
  bool optlen = false;             // total cap of a multishot receive, 6.17
  bool splice = false;             // splice(2) between sockets through pipes; any kernel, here to be turned off

  std::string ToString() const;  // "defer_taskrun multishot_accept ..." for the log
};

// Tries each feature on a small ring. `disabled` is a comma-separated list of the names above that are treated as missing
// (the environment variable RINGMAIN_DISABLE), for tests and for support.
// Errors: InvalidArgument for an unknown name; FailedPrecondition if io_uring itself is refused or too old, with the cause and the fix.
absl::StatusOr<Features> ProbeFeatures(std::string_view disabled);

// One sentence for a failed io_uring_setup: what refused it and what to do. `error` is a positive errno.
std::string DescribeSetupError(int error);

}  // namespace ringmain
