// LineSink: where the lines of the access log go: standard output, the journal or a file. It never waits for who reads them.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "config/config.h"

namespace ringmain {

// The socket of the journal (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
inline constexpr std::string_view kJournalSocket = "/run/systemd/journal/socket";

// Movable; used by one thread at a time.
class LineSink {
 public:
  // Errors: the file cannot be opened, or the journal does not run; one line that names it. A file is made if it is not there, and added to if
  // it is. A FIFO need not have a reader.
  static absl::StatusOr<LineSink> Open(const AccessLogConfig& config, std::string_view journal_socket = kJournalSocket);

  // Writes of `lines`, each with its newline, what is taken at once. Returns how many bytes that were; -EAGAIN if none are taken now, or another
  // -errno.
  ssize_t Write(std::string_view lines);
  // To poll for POLLOUT after -EAGAIN; -1 if that does not tell: ask again after a while.
  int pollable() const { return kind_ == Kind::kJournal ? -1 : fd_.get(); }

 private:
  enum class Kind { kFile, kSocket, kJournal, kOther };
  LineSink(Kind kind, UniqueFd fd, std::string journal) : kind_(kind), fd_(std::move(fd)), journal_(std::move(journal)) {}
  ssize_t SendToJournal(std::string_view line);

  Kind kind_;
  UniqueFd fd_;
  std::string journal_;  // the path of its socket
};

}  // namespace ringmain
