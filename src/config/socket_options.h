// What may be asked of sockets beside their addresses. Zero, empty or none: as the kernel has it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"

namespace ringmain {

struct SocketOptions {
  seconds keepalive_interval{0};  // between probes (TCP_KEEPINTVL)
  uint32_t keepalive_count = 0;   // probes without an answer until the connection is dead (TCP_KEEPCNT)
  milliseconds user_timeout{0};   // how long sent bytes may stay without an acknowledgement (TCP_USER_TIMEOUT)
  std::string congestion_control;
  uint32_t max_segment = 0;  // bytes (TCP_MAXSEG)
  std::optional<uint32_t> mark;  // SO_MARK, for routing and firewall rules
  std::optional<uint8_t> dscp;   // 0 to 63
  std::string interface;         // SO_BINDTODEVICE
  bool mptcp = false;            // where the kernel has it
  // Listeners: connections in the handshake that may bring data with their SYN (TCP_FASTOPEN); upstreams: any number, to send so.
  uint32_t fast_open = 0;
  seconds defer_accept{0};  // listeners: accepted only with the first bytes, or after so long (TCP_DEFER_ACCEPT)
  bool operator==(const SocketOptions&) const = default;
};

}  // namespace ringmain
