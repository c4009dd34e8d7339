#include "process/activation.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

constexpr int kFirst = 3;  // SD_LISTEN_FDS_START in sd-daemon.h

int NumberIn(const char* variable) {
  const char* text = std::getenv(variable);
  int number = 0;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : 0;
}

bool Listens(int fd) {
  int type = 0, listens = 0;
  socklen_t size = sizeof(type);
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0;
}

const ListenerConfig* ListenerAt(const Config& config, const SocketAddress& address) {
  for (const ListenerConfig& listener : config.listeners)
    for (const SocketAddress& own : listener.listen)
      if (own == address) return &listener;
  return nullptr;
}

}  // namespace

std::vector<ListenTable::Entry> TakeActivationSockets(const Config& config, std::vector<std::string>& warnings) {
  std::vector<ListenTable::Entry> entries;
  int count = NumberIn("LISTEN_PID") == getpid() ? NumberIn("LISTEN_FDS") : 0;
  for (int number = kFirst; number < kFirst + count; ++number) {
    UniqueFd fd(number);
    fcntl(number, F_SETFD, FD_CLOEXEC);
    if (!Listens(number)) {
      warnings.push_back(absl::StrCat("file descriptor ", number, " of the service manager is no stream socket that listens"));
      continue;
    }
    absl::StatusOr<SocketAddress> address = SocketAddress::OfSocket(number);
    const ListenerConfig* listener = address.ok() ? ListenerAt(config, *address) : nullptr;
    if (listener == nullptr) {
      warnings.push_back(absl::StrCat("no listener is configured with the address of the service manager's socket, ",
                                      address.ok() ? address->ToString() : std::string("which is unknown")));
      continue;
    }
    fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK);
    ListenTable::Entry& entry = entries.emplace_back(listener->name, *address, ListeningSockets{*address, {}});
    entry.sockets.sockets.push_back(std::make_shared<ListeningSocket>(std::move(fd)));
  }
  return entries;
}

}  // namespace ringmain
