// Asks a running ringmain whether it is ready: `ringmain health`, for health checks of containers, whose images have no HTTP client.
#pragma once

#include "base/socket_address.h"

namespace ringmain {

// GET /readyz of the admin (or metrics) address `address`, with two seconds of patience. Writes one line; returns an exit code: 0 if it
// listens and does not drain.
int AskReady(const SocketAddress& address);

}  // namespace ringmain
