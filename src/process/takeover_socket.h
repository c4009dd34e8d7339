// TakeoverSocket: where a process answers its successor.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "log/log.h"
#include "takeover/channel.h"

namespace ringmain {

// Process thread only. The path is the owner's alone (mode 0600).
class TakeoverSocket {
 public:
  TakeoverSocket() = default;
  // As Close.
  ~TakeoverSocket() { Close(); }
  TakeoverSocket(const TakeoverSocket&) = delete;
  TakeoverSocket& operator=(const TakeoverSocket&) = delete;

  // Answers at `path` from now on, in place of whoever answered there: it is bound under another name and renamed over it, so that there is
  // always one. Errors: one sentence.
  absl::Status Open(const std::string& path);
  // Answers no more, and removes the path.
  void Close();
  // Answers no more; the path is a successor's.
  void LetGo() { socket_.reset(); }
  const std::string& path() const { return path_; }
  // Readable when a successor has come; not valid if it does not answer.
  int fd() const { return socket_.get(); }
  // The one who has come; none if there is none, or it may not be trusted.
  std::optional<Channel> Accept();

 private:
  UniqueFd socket_;
  std::string path_;
  // What the path named then.
  dev_t device_ = 0;
  ino_t inode_ = 0;
  LogLimiter refused_;
};

// A channel to the process that answers at `path`. Errors: NotFound if there is none.
absl::StatusOr<Channel> ConnectForTakeover(const std::string& path);

}  // namespace ringmain
