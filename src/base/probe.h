// Trace probes (USDT): points of the program that bpftrace, perf and SystemTap attach to while it runs.
//
// RINGMAIN_PROBE(name, arguments...) is one load of a counter that attaching increments, and a jump; its arguments are evaluated only while
// somebody is attached. Without sys/sdt.h (meson option `probes`) it is nothing. Not for what happens per message, all the same.
// Arguments are integers and pointers, six at most (bpftrace reads no more); strings end with a zero byte. Names and the order of arguments are a contract: deploy/REFERENCE.md.
#pragma once

#if RINGMAIN_PROBES

#define SDT_USE_VARIADIC
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

// Their names are sdt.h's. In probe.cc; each probe has one.
extern "C" {
extern volatile unsigned short ringmain_accept_semaphore;
extern volatile unsigned short ringmain_connect_semaphore;
extern volatile unsigned short ringmain_connect_failed_semaphore;
extern volatile unsigned short ringmain_close_semaphore;
extern volatile unsigned short ringmain_mode_semaphore;
}

#define RINGMAIN_PROBE(name, ...)                                                                            \
  do {                                                                                                       \
    if (ringmain_##name##_semaphore != 0) [[unlikely]] STAP_PROBEV(ringmain, name, __VA_ARGS__);             \
  } while (false)

#else

#define RINGMAIN_PROBE(name, ...) \
  do {                            \
  } while (false)

#endif

namespace ringmain {
inline constexpr bool kHasProbes = RINGMAIN_PROBES;
}  // namespace ringmain
