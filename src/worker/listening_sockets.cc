#include "worker/listening_sockets.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"

namespace ringmain {
namespace {

absl::Status CannotListen(const SocketAddress& address, int error) {
  std::string text = absl::StrCat("cannot listen on ", address.ToString(), ": ");
  switch (error) {
    case EADDRINUSE:
      absl::StrAppend(&text, "the address is in use by another process");
      break;
    case EADDRNOTAVAIL:
      absl::StrAppend(&text, "no interface of this machine has that address");
      break;
    case EACCES:
    case EPERM:
      absl::StrAppend(&text, "permission denied",
                      address.is_unix() ? "" : " (ports below 1024 need CAP_NET_BIND_SERVICE)");
      break;
    case EMFILE:
    case ENFILE:
      absl::StrAppend(&text, "no file descriptor left; raise the limit (ulimit -n)");
      break;
    default:
      absl::StrAppend(&text, std::strerror(error));
  }
  return absl::FailedPreconditionError(text);
}

void Enable(int fd, int level, int option) {
  int on = 1;
  setsockopt(fd, level, option, &on, sizeof(on));
}

// 0 or a positive errno.
int Bind(const SocketAddress& address, bool reuse_port, UniqueFd& result) {
  UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno;
  if (!address.is_unix()) {
    Enable(fd.get(), SOL_SOCKET, SO_REUSEADDR);
    if (reuse_port) Enable(fd.get(), SOL_SOCKET, SO_REUSEPORT);
  }
  if (address.family() == AF_INET6) Enable(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY);
  if (bind(fd.get(), address.address(), address.length()) != 0) return errno;
  result = std::move(fd);
  return 0;
}

// A path left behind by a process that is gone: it is a socket, and connecting is refused.
bool IsStale(const SocketAddress& address) {
  struct stat info {};
  if (stat(address.unix_path().c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  return fd.valid() && connect(fd.get(), address.address(), address.length()) != 0 && errno == ECONNREFUSED;
}

constexpr Duration kOccupiedRetry = milliseconds(100);
constexpr int kOccupiedTries = 11;

// Calls `bind`, which gives 0 or a positive errno, until the address is not in use any more.
template <typename BindCall>
int RetryWhileOccupied(BindCall bind) {
  int error = bind();
  for (int tries = 1; error == EADDRINUSE && tries < kOccupiedTries; ++tries) {
    std::this_thread::sleep_for(kOccupiedRetry);
    error = bind();
  }
  return error;
}

absl::StatusOr<ListeningSockets> OpenUnix(const SocketAddress& address, uint32_t workers, uint32_t backlog) {
  UniqueFd first;
  int error = RetryWhileOccupied([&] {
    int result = Bind(address, false, first);
    if (result != EADDRINUSE || !IsStale(address)) return result;
    unlink(address.unix_path().c_str());
    return Bind(address, false, first);
  });
  if (error == 0 && listen(first.get(), static_cast<int>(backlog)) != 0) error = errno;
  if (error != 0) return CannotListen(address, error);
  ListeningSockets result{address, {}};
  struct stat info {};
  if (stat(address.unix_path().c_str(), &info) != 0) return CannotListen(address, errno);
  result.device = info.st_dev;
  result.inode = info.st_ino;
  for (uint32_t i = 1; i < workers; ++i) {
    UniqueFd copy(fcntl(first.get(), F_DUPFD_CLOEXEC, 0));
    if (!copy.valid()) return CannotListen(address, errno);
    result.sockets.push_back(std::move(copy));
  }
  result.sockets.push_back(std::move(first));
  return result;
}

}  // namespace

void RemoveUnixPath(const ListeningSockets& sockets) {
  if (!sockets.address.is_unix()) return;
  std::string path = sockets.address.unix_path();
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && info.st_dev == sockets.device && info.st_ino == sockets.inode) unlink(path.c_str());
}

absl::StatusOr<ListeningSockets> OpenListeningSockets(const SocketAddress& address, uint32_t workers, uint32_t backlog,
                                                      seconds keepalive) {
  if (address.is_unix()) return OpenUnix(address, workers, backlog);
  ListeningSockets result{address, {}};
  {
    UniqueFd check;
    // Another process may be bound without listening yet; listen(2) finds that out.
    int error = RetryWhileOccupied([&] {
      int bound = Bind(address, false, check);
      return bound == 0 && listen(check.get(), 1) != 0 ? errno : bound;
    });
    if (error != 0) return CannotListen(address, error);
    absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(check.get());
    if (!bound.ok()) return bound.status();
    result.address = *bound;
  }
  // All are bound before the first listens, so that no connection is hashed to a group that still grows.
  for (uint32_t i = 0; i < workers; ++i) {
    UniqueFd fd;
    if (int error = Bind(result.address, true, fd); error != 0) return CannotListen(result.address, error);
    DisableSendDelay(fd.get());
    EnableKeepAlive(fd.get(), keepalive);
    result.sockets.push_back(std::move(fd));
  }
  for (const UniqueFd& fd : result.sockets)
    if (listen(fd.get(), static_cast<int>(backlog)) != 0) return CannotListen(result.address, errno);
  return result;
}

}  // namespace ringmain
