#include "base/probe.h"

#if RINGMAIN_PROBES

#define RINGMAIN_SEMAPHORE(name) volatile unsigned short ringmain_##name##_semaphore __attribute__((section(".probes"), used)) = 0

extern "C" {
RINGMAIN_SEMAPHORE(accept);
RINGMAIN_SEMAPHORE(connect);
RINGMAIN_SEMAPHORE(connect_failed);
RINGMAIN_SEMAPHORE(close);
RINGMAIN_SEMAPHORE(mode);
}

#endif
