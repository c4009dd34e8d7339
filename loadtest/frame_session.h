// FrameSession: the requests and replies of one connection of `ringmain-echo --mode frames`. Pure: no I/O, no threads.
//
// Requests of a connection are handled side by side, but replies leave in the order of the requests: a reply that is
// ready early waits for those before it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>

#include "protocol/frame.h"

namespace ringmain::loadtest {

class FrameSession {
 public:
  // Starts the handling of a request, which Complete(number, ...) ends. False: it is refused, and answered busy.
  using Submit = std::function<bool(uint64_t number, std::string payload)>;

  // Limits of what one connection may have under way: beyond them it is not read until replies have left.
  static constexpr size_t kMaxReplies = 128;
  static constexpr size_t kMaxBytes = 4 << 20;

  FrameSession() : decoder_(kMaxRequestPayload) {}

  // Takes received bytes. False if a request is larger than allowed: the connection must be closed.
  bool Receive(std::span<const char> data, const Submit& submit);
  void Complete(uint64_t number, std::string payload);
  // Moves the replies that may leave now to `out`, as bytes. False if there are none. REQUIRES: out is empty.
  bool TakeOutput(std::string& out);

  bool full() const { return replies_.size() >= kMaxReplies || bytes_ >= kMaxBytes; }
  // Nothing is being handled and no reply waits to leave.
  bool idle() const { return replies_.empty(); }

 private:
  struct Reply {
    bool ready = false;
    FrameStatus status = FrameStatus::kOk;
    std::string payload;
    size_t bytes = 0;  // of the request
  };

  FrameDecoder decoder_;
  uint64_t first_ = 0;  // the number of the request that replies_.front() belongs to
  std::deque<Reply> replies_;
  size_t bytes_ = 0;  // of all requests in replies_
};

}  // namespace ringmain::loadtest
