// Bandwidth: what the listener's configuration says of `bandwidth`, as its workers share it, and what one session remembers of it.
//
// A direction that is limited is held back where it receives: after bytes that are not paid for yet nothing is received until they are, so its
// source is slowed down by TCP itself and nothing is dropped. Once in that time it is told when to go on (byte_rate.h); no message of a listener
// without limits does more than look at a pointer that is null.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "base/byte_rate.h"
#include "base/clock.h"
#include "base/timer_wheel.h"

namespace ringmain {

struct Session;

// Thread-safe. Bytes a second, 0 is off; by Direction.
struct Bandwidth {
  struct Side {
    ByteRate listener;                      // all sessions together
    std::atomic<uint64_t> per_session{0};  // each
  };
  std::array<Side, 2> sides;
};

// Thread-bound; the timer is due when a direction that was held back may go on.
struct SessionBandwidth : TimerWheel::Timer {
  struct Side {
    uint64_t counted = 0;       // of what was received: so much is taken from the rates
    uint64_t prepaid = 0;       // taken from the rates and not received yet
    int64_t paid_until_ns = 0;  // of the session's own rate
    TimePoint go_on_at{};       // nothing is received before
  };
  explicit SessionBandwidth(Session& session_in) : session(session_in) {}
  Session& session;
  std::array<Side, 2> sides;  // by Direction
};

// What a limited direction receives at once: little enough that one session does not keep the others of its listener waiting, and that its own
// rate is even; at high rates enough to be worth a call. A rate of 0 is off.
inline uint32_t BandwidthQuantum(uint64_t listener_rate, uint64_t session_rate) {
  uint64_t quantum = 256 << 10;
  if (listener_rate != 0) quantum = std::clamp<uint64_t>(listener_rate / 1000, 4 << 10, quantum);
  if (session_rate != 0) quantum = std::min(quantum, std::max<uint64_t>(session_rate / 100, 1 << 10));
  return static_cast<uint32_t>(quantum);
}

}  // namespace ringmain
