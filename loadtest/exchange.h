// The bytes that ringmain-load sends and the check of what comes back. Pure: no I/O, no clock.
//
// A connection carries a sequence of operations: a request of `payload` bytes of the connection's BytePattern and its
// reply. Raw: request and reply are just these bytes, one stream echoed. Framed: each request is one frame of
// protocol/frame.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "loadtest/byte_pattern.h"
#include "protocol/frame.h"

namespace ringmain::loadtest {

struct ExchangeShape {
  uint64_t payload_bytes = 64;  // at least 1; framed: at most kMaxRequestPayload
  bool framed = false;

  uint64_t request_bytes() const { return payload_bytes + (framed ? kFrameHeaderBytes : 0); }
};

// Writes the bytes [offset, offset + out.size()) of the stream of requests.
void FillRequests(const ExchangeShape& shape, const BytePattern& pattern, uint64_t offset, std::span<char> out);

// Checks the stream of replies. Thread-compatible.
class ReplyChecker {
 public:
  ReplyChecker() = default;
  ReplyChecker(const ExchangeShape& shape, const BytePattern& pattern);

  enum class Result {
    kNeedMore,  // `data` is used up
    kReply,     // one reply is complete and right
    kBusy,      // one reply is complete: the server refused to handle the request (framed only)
    kWrong,     // see error(); the checker is of no more use
  };

  // Takes received bytes from the front of `data` up to the end of one reply. `requested` is how many bytes of requests
  // may have left by now: a reply to more than that is wrong too.
  Result Receive(std::span<const char>& data, uint64_t requested);
  const std::string& error() const { return error_; }

  uint64_t replies() const { return replies_; }  // complete ones, with the busy ones
  // True if everything that belongs to `requested` bytes of requests came back.
  bool Complete(uint64_t requested) const;

 private:
  Result ReceiveFrame(std::span<const char>& data, uint64_t requested);
  Result Wrong(std::string error);

  ExchangeShape shape_;
  BytePattern pattern_;
  uint64_t received_ = 0;  // bytes, raw only
  uint64_t replies_ = 0;
  std::optional<FrameDecoder> decoder_;
  std::string error_;
};

}  // namespace ringmain::loadtest
