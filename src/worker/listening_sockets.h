// Listening sockets: one per worker for each address.
#pragma once

#include <sys/types.h>

#include <vector>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "uring/io.h"

namespace ringmain {

struct ListeningSockets {
  SocketAddress address;          // bound: with the port the kernel chose where 0 was asked for
  std::vector<UniqueFd> sockets;  // one per worker, non-blocking
  // Of a unix address: what its path named after the bind.
  dev_t device = 0;
  ino_t inode = 0;
};

// Removes the path of a unix address, if it still is the one that was bound and not a successor's. Does nothing for others.
void RemoveUnixPath(const ListeningSockets& sockets);

// Binds `address` and listens. TCP: the first bind is made without SO_REUSEPORT, so that an occupied port is an error and not a share
// of another process's clients; then each worker gets a socket of its own on that port (SO_REUSEPORT spreads the connections). Unix: one
// socket that all share (AF_UNIX refuses SO_REUSEPORT); a path that nobody answers at is replaced. Accepted sockets inherit the keep-alive.
// An occupied address is tried again for a second: the kernel closes the sockets that an io_uring of a killed process still watched only
// some time after the process is gone, and a supervisor restarts it sooner.
// Errors: one sentence with the address and the cause.
absl::StatusOr<ListeningSockets> OpenListeningSockets(const SocketAddress& address, uint32_t workers, uint32_t backlog,
                                                      seconds keepalive);

}  // namespace ringmain
