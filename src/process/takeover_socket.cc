#include "process/takeover_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "log/log.h"

namespace ringmain {
namespace {

// False if the path is too long for an address.
bool AddressOf(const std::string& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return true;
}

UniqueFd NewSocket() { return UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

absl::Status Failure(const std::string& path, std::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("takeover.socket ", path, ": ", std::string(why)));
}

}  // namespace

absl::Status TakeoverSocket::Open(const std::string& path) {
  if (path == path_) return absl::OkStatus();
  sockaddr_un address;
  std::string temporary = absl::StrCat(path, ".", getpid());
  if (!AddressOf(temporary, address)) return Failure(path, "the path is too long for a socket");
  UniqueFd fd = NewSocket();
  if (!fd.valid()) return Failure(path, std::strerror(errno));
  unlink(temporary.c_str());
  // Nobody else may connect at any moment: the mode is set by the mask, before the path exists.
  mode_t before = umask(0177);
  int bound = bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  int error = errno;
  umask(before);
  if (bound != 0) return Failure(path, std::strerror(error));
  if (listen(fd.get(), 4) != 0 || rename(temporary.c_str(), path.c_str()) != 0) {
    error = errno;
    unlink(temporary.c_str());
    return Failure(path, std::strerror(error));
  }
  Close();
  socket_ = std::move(fd);
  path_ = path;
  struct stat info {};
  if (stat(path.c_str(), &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
  return absl::OkStatus();
}

void TakeoverSocket::Close() {
  if (!socket_.valid()) return;
  LetGo();
  // A successor may have put its own in this place.
  struct stat info {};
  if (stat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) unlink(path_.c_str());
  path_.clear();
}

std::optional<Channel> TakeoverSocket::Accept() {
  UniqueFd fd(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd.valid()) return std::nullopt;
  Channel channel(std::move(fd));
  if (channel.peer_is_trusted()) return channel;
  if (std::optional<uint64_t> more = refused_.Admit(Clock::now()))
    Log(LogLevel::kWarn, "takeover refused: another user asked for it not_logged=", *more);
  return std::nullopt;
}

absl::StatusOr<Channel> ConnectForTakeover(const std::string& path) {
  sockaddr_un address;
  if (!AddressOf(path, address)) return Failure(path, "the path is too long for a socket");
  UniqueFd fd = NewSocket();
  if (!fd.valid()) return Failure(path, std::strerror(errno));
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return Channel(std::move(fd));
  if (errno == ENOENT || errno == ECONNREFUSED) return absl::NotFoundError(absl::StrCat("nobody answers at ", path));
  return Failure(path, std::strerror(errno));
}

}  // namespace ringmain
