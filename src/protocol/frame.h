// Frames: the length-prefixed protocol of `ringmain-echo --mode frames` and `ringmain-load --frames`. A pure codec.
//
//   frame    4 bytes, big-endian: length L of the payload, then L bytes of payload
//   request  a frame whose payload, 0 to 1 MiB, is what the server shall handle
//   reply    a frame whose payload is one status byte and then
//              0 (ok)    the payload of the request
//              1 (busy)  nothing: the server's queue was full and the request was not handled
//
// Replies of one connection come in the order of its requests, busy ones too, so no request number is needed. A request
// that claims more than 1 MiB is answered by closing the connection: past it, frame boundaries would be a guess.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ringmain {

inline constexpr size_t kFrameHeaderBytes = 4;
inline constexpr uint32_t kMaxRequestPayload = 1 << 20;
inline constexpr uint32_t kMaxReplyPayload = kMaxRequestPayload + 1;  // with the status byte

enum class FrameStatus : uint8_t { kOk = 0, kBusy = 1 };

// Writes the header of a frame with `length` payload bytes.
void EncodeFrameHeader(uint32_t length, std::span<char, kFrameHeaderBytes> out);
// Appends one whole request, or one whole reply. REQUIRES: payload.size() <= kMaxRequestPayload.
void AppendRequest(std::string_view payload, std::string& out);
void AppendReply(FrameStatus status, std::string_view payload, std::string& out);

// Splits a byte stream into frames, however the stream is cut. Thread-compatible. Memory grows with what has arrived,
// not with what a header claims.
class FrameDecoder {
 public:
  enum class Result {
    kNeedMore,  // `input` is used up
    kFrame,     // a frame is complete: TakePayload
    kTooLarge,  // a header claims more than the limit; the decoder is of no more use
  };

  explicit FrameDecoder(uint32_t max_payload) : max_payload_(max_payload) {}

  // Consumes bytes from the front of `input` until a frame is complete or nothing is left.
  Result Next(std::span<const char>& input);
  // The payload of the frame that Next completed; the next frame starts with an empty one.
  std::string TakePayload();
  // True if the stream may end here: no frame has begun.
  bool at_boundary() const { return header_bytes_ == 0; }

 private:
  uint32_t max_payload_;
  uint32_t header_bytes_ = 0;  // received of the current frame's header
  uint32_t length_ = 0;        // of the payload; final once header_bytes_ is kFrameHeaderBytes
  std::string payload_;
};

}  // namespace ringmain
