#include "uring/pipe_pool.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace ringmain {

std::optional<PipePool::Pipe> PipePool::Open() {
  int fds[2];
  if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0) return std::nullopt;
  Pipe pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
  fcntl(fds[1], F_SETPIPE_SZ, static_cast<int>(kWantedBytes));  // what it got is what counts
  if (fcntl(fds[1], F_GETPIPE_SZ) < static_cast<int>(kLeastBytes)) return std::nullopt;
  return pipe;
}

std::optional<uint16_t> PipePool::Acquire() {
  if (!free_.empty()) {
    uint16_t pipe = free_.back();
    free_.pop_back();
    return pipe;
  }
  if (rest_ > 0) {
    --rest_;
    return std::nullopt;
  }
  if (closed_.empty() && pipes_.size() >= max_pipes_) return std::nullopt;
  std::optional<Pipe> opened = Open();
  if (!opened.has_value()) {
    rest_ = kRest;
    return std::nullopt;
  }
  return Keep(*std::move(opened));
}

uint16_t PipePool::Adopt(UniqueFd read_end, UniqueFd write_end) {
  return Keep({std::move(read_end), std::move(write_end)});
}

uint16_t PipePool::Keep(Pipe pipe) {
  if (!closed_.empty()) {
    uint16_t number = closed_.back();
    closed_.pop_back();
    pipes_[number] = std::move(pipe);
    return number;
  }
  pipes_.push_back(std::move(pipe));
  return static_cast<uint16_t>(pipes_.size() - 1);
}

void PipePool::Discard(uint16_t pipe) {
  pipes_[pipe] = {};
  closed_.push_back(pipe);
}

}  // namespace ringmain
