#include "log/line_sink.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

// Without waiting for a reader of a FIFO: there may be one later (fifo(7): Linux lets it be opened for both, which takes no reader).
UniqueFd OpenFile(const std::string& path) {
  constexpr int kFlags = O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  constexpr mode_t kMode = 0640;
  int fd = open(path.c_str(), O_WRONLY | kFlags, kMode);
  if (fd < 0 && errno == ENXIO) fd = open(path.c_str(), O_RDWR | kFlags, kMode);
  return UniqueFd(fd);
}

std::string Reason(int error) { return std::generic_category().message(error); }

sockaddr_un JournalAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  return address;
}

}  // namespace

absl::StatusOr<LineSink> LineSink::Open(const AccessLogConfig& config, std::string_view journal_socket) {
  std::string journal(journal_socket);
  if (config.to == AccessLogTarget::kJournald) {
    UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return absl::UnavailableError(absl::StrCat("access_log.to: no socket for the journal: ", Reason(errno)));
    if (access(journal.c_str(), W_OK) != 0)
      return absl::NotFoundError(absl::StrCat("access_log.to: ", journal, ": ", Reason(errno), "; is journald running? Write stdout or a path instead"));
    return LineSink(Kind::kJournal, std::move(fd), std::move(journal));
  }
  bool file = config.to == AccessLogTarget::kFile;
  UniqueFd fd = file ? OpenFile(config.path) : UniqueFd(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
  struct stat status {};
  if (!fd.valid() || fstat(fd.get(), &status) != 0)
    return absl::NotFoundError(absl::StrCat("access_log.to: ", file ? config.path : "stdout", ": ", Reason(errno)));
  Kind kind = S_ISREG(status.st_mode) ? Kind::kFile : S_ISSOCK(status.st_mode) ? Kind::kSocket : Kind::kOther;
  return LineSink(kind, std::move(fd), "");
}

ssize_t LineSink::Write(std::string_view lines) {
  ssize_t taken = 0;
  if (kind_ == Kind::kJournal) {
    taken = SendToJournal(lines.substr(0, lines.find('\n')));
  } else if (kind_ == Kind::kSocket) {
    taken = send(fd_.get(), lines.data(), lines.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } else {
    if (kind_ == Kind::kOther) {
      // Standard output may be a pipe whose other writers do not expect it to be non-blocking. One that is writable takes so much without waiting
      // (pipe(7), poll(2)).
      pollfd file{fd_.get(), POLLOUT, 0};
      if (poll(&file, 1, 0) <= 0) return -EAGAIN;
      lines = lines.substr(0, PIPE_BUF);
    }
    taken = write(fd_.get(), lines.data(), lines.size());
  }
  if (taken >= 0) return taken;
  return errno == EINTR ? -EAGAIN : -errno;
}

// A datagram is an entry: fields in lines, of which a value that holds no newline needs no other form.
ssize_t LineSink::SendToJournal(std::string_view line) {
  std::string entry = absl::StrCat("SYSLOG_IDENTIFIER=ringmain-access\nPRIORITY=6\nMESSAGE=", absl::string_view(line.data(), line.size()), "\n");
  sockaddr_un address = JournalAddress(journal_);
  if (sendto(fd_.get(), entry.data(), entry.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), sizeof(address)) >= 0)
    return static_cast<ssize_t>(line.size() + 1);
  // It is being started again; nobody tells when it is there.
  if (errno == ECONNREFUSED || errno == ENOENT || errno == ENOBUFS) errno = EAGAIN;
  return -1;
}

}  // namespace ringmain
