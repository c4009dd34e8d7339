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
#include "uring/socket_options.h"

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
int Bind(const SocketAddress& address, bool reuse_port, const SocketOptions& options, bool mptcp, UniqueFd& result) {
  int opened = OpenStreamSocket(address.family(), mptcp && !address.is_unix());
  if (opened < 0) return -opened;
  UniqueFd fd(opened);
  if (!address.is_unix()) {
    OptionFailure failure = SetListeningOptions(fd.get(), address.family(), options);  // before the bind, for `interface`
    if (failure.key != nullptr) return failure.error;
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

absl::StatusOr<ListeningSockets> BindUnix(const SocketAddress& address) {
  UniqueFd fd;
  int error = RetryWhileOccupied([&] {
    int result = Bind(address, false, {}, false, fd);
    if (result != EADDRINUSE || !IsStale(address)) return result;
    unlink(address.unix_path().c_str());
    return Bind(address, false, {}, false, fd);
  });
  if (error != 0) return CannotListen(address, error);
  struct stat info {};
  if (stat(address.unix_path().c_str(), &info) != 0) return CannotListen(address, errno);
  ListeningSockets result{address, {}, info.st_dev, info.st_ino};
  result.sockets.push_back(std::make_shared<ListeningSocket>(std::move(fd)));
  return result;
}

// The address as bound, if nobody else has it.
absl::StatusOr<SocketAddress> CheckFree(const SocketAddress& address, const SocketOptions& options) {
  UniqueFd check;
  // Another process may be bound without listening yet; listen(2) finds that out.
  int error = RetryWhileOccupied([&] {
    int bound = Bind(address, false, options, false, check);
    return bound == 0 && listen(check.get(), 1) != 0 ? errno : bound;
  });
  if (error != 0) return CannotListen(address, error);
  return SocketAddress::OfSocket(check.get());
}

}  // namespace

void RemoveUnixPath(const ListeningSockets& sockets) {
  if (!sockets.address.is_unix()) return;
  std::string path = sockets.address.unix_path();
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && info.st_dev == sockets.device && info.st_ino == sockets.inode) unlink(path.c_str());
}

absl::StatusOr<ListeningSockets> BindListeningSockets(const SocketAddress& address, uint32_t workers, bool own_overlaps,
                                                      const SocketOptions& options) {
  if (address.is_unix()) return BindUnix(address);
  ListeningSockets result{address, {}};
  if (!own_overlaps) {
    absl::StatusOr<SocketAddress> bound = CheckFree(address, options);
    if (!bound.ok()) return bound.status();
    result.address = *bound;
  }
  absl::Status status = BindMore(result, workers, options);
  if (!status.ok()) return status;
  result.options = options;
  return result;
}

absl::Status BindMore(ListeningSockets& sockets, uint32_t workers, const SocketOptions& options) {
  if (sockets.address.is_unix()) return absl::OkStatus();
  bool mptcp = sockets.sockets.empty() ? options.mptcp : IsMptcp(sockets.sockets[0]->fd.get());
  while (sockets.sockets.size() < workers) {
    UniqueFd fd;
    int error = Bind(sockets.address, true, options, mptcp, fd);
    // Another user's, or made to be alone: the service manager's. All workers share it.
    if (error == EADDRINUSE && sockets.sockets.size() == 1) return absl::OkStatus();
    if (error != 0) return CannotListen(sockets.address, error);
    DisableSendDelay(fd.get());
    sockets.sockets.push_back(std::make_shared<ListeningSocket>(std::move(fd)));
  }
  return absl::OkStatus();
}

absl::Status Listen(ListeningSockets& sockets, uint32_t backlog, seconds keepalive, const SocketOptions& options) {
  bool tcp = !sockets.address.is_unix(), change = tcp && sockets.options != options;
  for (const auto& socket : sockets.sockets) {
    OptionFailure failure;
    if (change) failure = ReplaceListeningOptions(socket->fd.get(), sockets.address.family(), options);
    if (failure.key != nullptr) return absl::FailedPreconditionError(DescribeFailure(failure, options));
    if (tcp) SetKeepAlive(socket->fd.get(), keepalive, &options);
    if (listen(socket->fd.get(), static_cast<int>(backlog)) != 0) return CannotListen(sockets.address, errno);
  }
  sockets.options = options;
  return absl::OkStatus();
}

}  // namespace ringmain
