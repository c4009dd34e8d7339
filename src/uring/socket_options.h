// What the configuration asks of sockets (config/socket_options.h), as system calls.
//
// An accepted socket needs no call of its own: on Linux it has all of these from its listening socket, as that was when the handshake ended
// (looked at with each of them on 6.18; tests/integration/test_socket_options.py).
#pragma once

#include <string>

#include "config/socket_options.h"

namespace ringmain {

// A call that failed, or none.
struct OptionFailure {
  const char* key = nullptr;  // as the configuration calls the option; null: none failed
  int error = 0;              // positive errno
};

// A non-blocking, close-on-exec stream socket, or -errno. With `mptcp` it speaks Multipath TCP, where the kernel has that.
int OpenStreamSocket(int family, bool mptcp);
bool HasMptcp(int family);
bool IsMptcp(int fd);

// The following are for TCP sockets, and stop at the first call that fails; keep-alive is SetKeepAlive's (io.h), MPTCP that of the opening.

// What is asked of a socket that listens or is about to.
OptionFailure SetListeningOptions(int fd, int family, const SocketOptions& options);
// The same, and what is not asked becomes what the kernel would have, as far as it lets us.
OptionFailure ReplaceListeningOptions(int fd, int family, const SocketOptions& options);
// What is asked of a socket that is about to connect, or to be bound for that.
OptionFailure SetConnectingOptions(int fd, int family, const SocketOptions& options);
// It may be bound to an address that is not this machine's (IP_TRANSPARENT).
OptionFailure SetTransparent(int fd, int family);

// The cause in words, with what helps: a capability, a name that is wrong, a setting of the kernel. REQUIRES: something failed.
std::string DescribeFailure(const OptionFailure& failure, const SocketOptions& options);

}  // namespace ringmain
