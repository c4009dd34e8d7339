// PipePool: kernel pipes that a worker moves bulk through, from socket to socket without a copy (splice(2)).
//
// A pipe is lent to one direction of a session while bytes are in it and goes back when it is empty, so a few serve all flows that keep
// up. Thread-bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/unique_fd.h"

namespace ringmain {

class PipePool {
 public:
  // Below this a pipe moves so little at once that copying is cheaper (8 KiB is what an unprivileged user gets once its pipes hold
  // /proc/sys/fs/pipe-user-pages-soft, 64 of 1 MiB).
  static constexpr uint32_t kLeastBytes = 256 << 10;
  static constexpr uint32_t kWantedBytes = 1 << 20;  // /proc/sys/fs/pipe-max-size allows this much without privilege

  // At most `max_pipes` exist at once; each is two file descriptors.
  explicit PipePool(uint16_t max_pipes) : max_pipes_(max_pipes) {}

  // The number of a free pipe; none if all are lent, or the kernel gives no (or too small a) pipe. It is not asked again for some time
  // then, for each refusal costs several system calls.
  std::optional<uint16_t> Acquire();
  // Makes a pipe of another worker's, or another process's, one that is lent. It is one more than max_pipes, if need be.
  uint16_t Adopt(UniqueFd read_end, UniqueFd write_end);
  // Takes an empty pipe back.
  void Release(uint16_t pipe) { free_.push_back(pipe); }
  // Takes a pipe back with what is in it, which is dropped.
  void Discard(uint16_t pipe);

  int read_end(uint16_t pipe) const { return pipes_[pipe].read_end.get(); }
  int write_end(uint16_t pipe) const { return pipes_[pipe].write_end.get(); }
  size_t total() const { return pipes_.size() - closed_.size(); }
  size_t lent() const { return total() - free_.size(); }

 private:
  struct Pipe {
    UniqueFd read_end;
    UniqueFd write_end;
  };
  static constexpr uint32_t kRest = 1024;  // calls of Acquire
  static std::optional<Pipe> Open();
  uint16_t Keep(Pipe pipe);

  const uint16_t max_pipes_;
  std::vector<Pipe> pipes_;
  std::vector<uint16_t> free_;
  std::vector<uint16_t> closed_;  // numbers without a pipe, after Discard
  uint32_t rest_ = 0;             // so often the kernel is not asked, since it gave none or too small a one
};

}  // namespace ringmain
