// Listening sockets: one per worker for each address.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "uring/io.h"
#include "worker/update.h"

namespace ringmain {

struct ListeningSockets {
  SocketAddress address;  // bound: with the port the kernel chose where 0 was asked for
  // All non-blocking. TCP: as many as there ever were workers; SO_REUSEPORT spreads connections over them. Unix: one that all workers
  // share (AF_UNIX refuses SO_REUSEPORT).
  std::vector<std::shared_ptr<ListeningSocket>> sockets;
  // Of a unix address: what its path named after the bind.
  dev_t device = 0;
  ino_t inode = 0;
  // What is asked of all sockets that listen; none: not known, they come from another process.
  std::optional<SocketOptions> options{};
};

// Removes the path of a unix address, if it still is the one that was bound and not a successor's. Does nothing for others.
void RemoveUnixPath(const ListeningSockets& sockets);

// Binds sockets for so many workers to `address`; nobody can connect before Listen. TCP: the first bind is made without SO_REUSEPORT, so that
// an occupied port is an error and not a share of another process's clients, unless `own_overlaps`: this process has bound the port with
// another host, the wildcard or one that it covers. Unix: a path that nobody answers at is replaced.
// An occupied address is tried again for a second: the kernel closes the sockets that an io_uring of a killed process still watched only
// some time after the process is gone, and a supervisor restarts it sooner.
// `options` are for TCP sockets. Errors: one sentence with the address and the cause.
absl::StatusOr<ListeningSockets> BindListeningSockets(const SocketAddress& address, uint32_t workers, bool own_overlaps = false,
                                                      const SocketOptions& options = {});
// Binds those that are missing for so many workers; they speak MPTCP if the others do. One alone that no other can be bound beside, as it is of
// another user, stays alone. Errors: as above; the new ones are to be dropped then.
absl::Status BindMore(ListeningSockets& sockets, uint32_t workers, const SocketOptions& options = {});
// Lets clients connect, or sets another backlog and keep-alive and other options, all of which accepted sockets inherit. What `options` do not ask
// for any more is undone, but for MPTCP, which stays as it is.
absl::Status Listen(ListeningSockets& sockets, uint32_t backlog, seconds keepalive, const SocketOptions& options = {});

}  // namespace ringmain
