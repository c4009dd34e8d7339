// CHECK: aborts, in every build type, when our own state is wrong. Never for what a peer or a user sent: malformed input
// is handled, not asserted.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace ringmain {
[[noreturn]] inline void CheckFailed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
  std::abort();
}
}  // namespace ringmain

#define RINGMAIN_CHECK(condition)                                              \
  do {                                                                         \
    if (!(condition)) [[unlikely]]                                             \
      ::ringmain::CheckFailed(__FILE__, __LINE__, #condition);                 \
  } while (false)
