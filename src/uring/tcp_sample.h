// What the kernel tells of a TCP connection (TCP_INFO). Apart, since the header that has all of it does not go together with the C library's.
#pragma once

#include <optional>

#include "uring/io.h"

namespace ringmain {

// None if the kernel does not say. REQUIRES: a TCP socket.
std::optional<TcpSample> SampleTcp(int fd);

}  // namespace ringmain
