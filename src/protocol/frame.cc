#include "protocol/frame.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace ringmain {

void EncodeFrameHeader(uint32_t length, std::span<char, kFrameHeaderBytes> out) {
  for (size_t i = 0; i < kFrameHeaderBytes; ++i)
    out[i] = static_cast<char>(length >> (8 * (kFrameHeaderBytes - 1 - i)));
}

void AppendRequest(std::string_view payload, std::string& out) {
  RINGMAIN_CHECK(payload.size() <= kMaxRequestPayload);
  char header[kFrameHeaderBytes];
  EncodeFrameHeader(static_cast<uint32_t>(payload.size()), header);
  out.append(header, sizeof(header));
  out.append(payload);
}

void AppendReply(FrameStatus status, std::string_view payload, std::string& out) {
  RINGMAIN_CHECK(payload.size() <= kMaxRequestPayload);
  char header[kFrameHeaderBytes];
  EncodeFrameHeader(static_cast<uint32_t>(payload.size()) + 1, header);
  out.append(header, sizeof(header));
  out.push_back(static_cast<char>(status));
  out.append(payload);
}

FrameDecoder::Result FrameDecoder::Next(std::span<const char>& input) {
  while (header_bytes_ < kFrameHeaderBytes) {
    if (input.empty()) return Result::kNeedMore;
    length_ = length_ << 8 | static_cast<uint8_t>(input.front());
    ++header_bytes_;
    input = input.subspan(1);
  }
  if (length_ > max_payload_) return Result::kTooLarge;
  size_t take = std::min<size_t>(length_ - payload_.size(), input.size());
  payload_.append(input.data(), take);
  input = input.subspan(take);
  return payload_.size() == length_ ? Result::kFrame : Result::kNeedMore;
}

std::string FrameDecoder::TakePayload() {
  RINGMAIN_CHECK(header_bytes_ == kFrameHeaderBytes && payload_.size() == length_);
  header_bytes_ = 0;
  length_ = 0;
  return std::exchange(payload_, {});
}

}  // namespace ringmain
