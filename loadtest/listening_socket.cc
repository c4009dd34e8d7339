#include "loadtest/listening_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ringmain::loadtest {
namespace {

constexpr int kBacklog = 4096;

absl::Status Failed(const SocketAddress& address, int error) {
  return absl::UnavailableError(absl::StrCat("cannot listen on ", address.ToString(), ": ", strerror(error)));
}

bool SomebodyListens(const SocketAddress& address) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return connect(fd.get(), address.address(), address.length()) == 0 || errno != ECONNREFUSED;
}

// `reuse_port` lets several sockets share the address. `listen_now` false only binds.
absl::StatusOr<UniqueFd> Bind(const SocketAddress& address, bool reuse_port, bool listen_now) {
  UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Failed(address, errno);
  int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (!address.is_unix())
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // accepted sockets inherit it
  if (address.family() == AF_INET6) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  if (reuse_port) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
  int result = bind(fd.get(), address.address(), address.length());
  if (result != 0 && errno == EADDRINUSE && address.is_unix() && !SomebodyListens(address)) {
    unlink(address.unix_path().c_str());
    result = bind(fd.get(), address.address(), address.length());
  }
  if (result != 0 || (listen_now && listen(fd.get(), kBacklog) != 0)) return Failed(address, errno);
  return fd;
}

}  // namespace

absl::StatusOr<Listener> Listen(const SocketAddress& address, uint32_t threads) {
  const bool shared = address.is_unix() || threads == 1;
  // The first bind is without SO_REUSEPORT: it fails if another program has the port, which would otherwise share it
  // silently.
  absl::StatusOr<UniqueFd> first = Bind(address, false, shared);
  if (!first.ok()) return first.status();
  absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(first->get());
  if (!bound.ok()) return bound.status();
  Listener listener;
  listener.address = *bound;
  if (shared) {
    listener.sockets.push_back(*std::move(first));
    return listener;
  }
  first->reset();
  for (uint32_t i = 0; i < threads; ++i) {
    absl::StatusOr<UniqueFd> fd = Bind(*bound, true, true);
    if (!fd.ok()) return fd.status();
    listener.sockets.push_back(*std::move(fd));
  }
  return listener;
}

}  // namespace ringmain::loadtest
