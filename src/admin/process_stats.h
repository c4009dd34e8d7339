// What the kernel knows of this process, read when asked. Thread-safe.
#pragma once

#include <cstdint>

namespace ringmain {

// A value that cannot be read is 0.
struct ProcessStats {
  uint64_t open_fds = 0;
  uint64_t max_fds = 0;  // the soft limit
  uint64_t resident_bytes = 0;
  uint64_t virtual_bytes = 0;
  uint64_t threads = 0;
  double cpu_seconds = 0;  // user and system, all threads
};
ProcessStats ReadProcessStats();

}  // namespace ringmain
