// FrozenSession: everything about a session that another worker, in this process or in its successor, needs to go on with it.
//
// Plain values. Nothing is armed for a frozen session, and nobody reads or writes its sockets. Times are of the steady clock, which is the
// machine's (CLOCK_MONOTONIC), so they mean the same in another process.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "metrics/reasons.h"

namespace ringmain {

// One direction. received = sent + what is queued + discarded.
struct FrozenRelay {
  uint64_t received = 0;
  uint64_t sent = 0;
  bool ended = false;
  bool source_broken = false;
  bool discarding = false;
  bool finished = false;
  // What is queued: bytes in memory, or, if there are ends of a kernel pipe, so many bytes in that.
  std::string bytes;
  uint32_t in_pipe = 0;
  int pipe_read = -1;
  int pipe_write = -1;
};

// What a session with bandwidth limits owes in one direction; times in nanoseconds. 0: nothing.
struct FrozenBandwidth {
  int64_t paid_until_ns = 0;
  int64_t go_on_at_ns = 0;
  uint64_t counted = 0;  // of what was received: so much is taken from the rates
  uint64_t prepaid = 0;  // taken from them, and not received yet
  bool operator==(const FrozenBandwidth&) const = default;
};

struct FrozenSession {
  uint64_t number = 0;
  bool established = false;  // else a server is still to be connected
  bool ending = false;
  bool reset = false;
  bool kept_alive = false;
  bool passed = false;  // before, to another that did not take it over, and may have its files open still
  CloseReason reason = CloseReason::kError;  // if `ending`
  CloseReason lost_reason = CloseReason::kError;  // how a server had ended that is to be replaced, if one is
  // The PROXY protocol header of the client: what has come of it, if it is still being read (`check_at` is when it is late), or one that says
  // what it said; empty if there is none.
  std::string header;
  bool reading_header = false;
  bool header_optional = false;
  uint16_t lead = 0;  // bytes of the header for the server, which the first relay counts as the client's
  int client_fd = -1;
  int server_fd = -1;  // if established
  TimePoint accepted_at{};
  TimePoint last_byte_at{};
  TimePoint first_byte_at{};  // when the first byte from the server came; the epoch: none has, or it is not known
  // What the kernel had counted of the server's connection when it was last asked.
  uint32_t sampled_segments = 0;
  uint32_t sampled_retransmits = 0;
  TimePoint leave_at = TimePoint::max();
  TimePoint queued_at = TimePoint::max();  // since when it waits for room on a server, if it does
  std::optional<TimePoint> connecting_since;  // none: `accepted_at`
  std::array<std::optional<TimePoint>, 2> active_at;  // of either side, by Direction; none: `last_byte_at`
  // Of the timeouts without a byte: bytes moved until the last check, checks in a row that saw none, and when the next is due, if at all.
  uint64_t quiet_bytes = 0;
  uint8_t quiet_checks = 0;
  TimePoint check_at = TimePoint::max();
  std::array<FrozenRelay, 2> relays;  // by Direction
  std::array<FrozenBandwidth, 2> bandwidth;  // by Direction
};

// `visit(int&)` for each file descriptor of the session, in the order in which they are passed.
template <typename Session, typename Visit>
void ForEachFile(Session& session, Visit visit) {
  visit(session.client_fd);
  if (session.established) visit(session.server_fd);
  for (auto& relay : session.relays) {
    if (relay.in_pipe == 0) continue;
    visit(relay.pipe_read);
    visit(relay.pipe_write);
  }
}

}  // namespace ringmain
