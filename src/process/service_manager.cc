#include "process/service_manager.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/unique_fd.h"

namespace ringmain {

void NotifyServiceManager(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  size_t length = std::strlen(path);
  if (length >= sizeof(address.sun_path)) return;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract address
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const timeval patience{1, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  (void)sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
               static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

void NotifyReady() { NotifyServiceManager("READY=1"); }

void NotifyMainProcess() { NotifyServiceManager(absl::StrCat("MAINPID=", getpid())); }

void NotifyReloading() {
  auto now = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch());
  NotifyServiceManager(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=", now.count()));
}

void NotifyStopping() { NotifyServiceManager("STOPPING=1"); }

void NotifyAlive() { NotifyServiceManager("WATCHDOG=1"); }

Watchdog::Watchdog(const char* microseconds, TimePoint now) {
  int64_t within = 0;
  if (microseconds == nullptr || !absl::SimpleAtoi(microseconds, &within) || within <= 0) return;
  interval_ = std::max<Duration>(std::chrono::microseconds(within / 4), milliseconds(1));
  next_ = now + interval_;
}

bool Watchdog::Due(TimePoint now) {
  if (interval_ == Duration::zero() || now < next_) return false;
  next_ = now + interval_;
  return true;
}

std::optional<TimePoint> Watchdog::Sooner(std::optional<TimePoint> deadline) const {
  if (interval_ == Duration::zero()) return deadline;
  return std::min(deadline.value_or(next_), next_);
}

}  // namespace ringmain
