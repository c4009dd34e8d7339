// Listening sockets of ringmain-echo.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"

namespace ringmain::loadtest {

// Sockets that all listen on `address`, one for each of `threads` (TCP: SO_REUSEPORT, the kernel spreads connections
// over them; unix: one, which all share). Port 0 becomes the port the kernel chose; a stale unix path that nobody
// answers on is replaced. Errors name the address and the cause.
struct Listener {
  SocketAddress address;  // the bound one
  std::vector<UniqueFd> sockets;
};
absl::StatusOr<Listener> Listen(const SocketAddress& address, uint32_t threads);

}  // namespace ringmain::loadtest
