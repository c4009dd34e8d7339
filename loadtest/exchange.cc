#include "loadtest/exchange.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace ringmain::loadtest {
namespace {

std::string DescribeMismatch(uint64_t offset, uint8_t got, uint8_t expected) {
  char text[96];
  std::snprintf(text, sizeof(text), "byte %llu is 0x%02x, expected 0x%02x", static_cast<unsigned long long>(offset),
                got, expected);
  return text;
}

std::string CheckBytes(const BytePattern& pattern, uint64_t offset, std::span<const char> data) {
  size_t wrong = pattern.FindMismatch(offset, data);
  if (wrong == data.size()) return "";
  return DescribeMismatch(offset + wrong, static_cast<uint8_t>(data[wrong]), pattern.At(offset + wrong));
}

}  // namespace

void FillRequests(const ExchangeShape& shape, const BytePattern& pattern, uint64_t offset, std::span<char> out) {
  if (!shape.framed) {
    pattern.Fill(offset, out);
    return;
  }
  char header[kFrameHeaderBytes];
  EncodeFrameHeader(static_cast<uint32_t>(shape.payload_bytes), header);
  while (!out.empty()) {
    uint64_t request = offset / shape.request_bytes();
    uint64_t position = offset % shape.request_bytes();
    uint64_t take;
    if (position < kFrameHeaderBytes) {
      take = std::min<uint64_t>(kFrameHeaderBytes - position, out.size());
      std::copy_n(header + position, take, out.data());
    } else {
      take = std::min<uint64_t>(shape.request_bytes() - position, out.size());
      pattern.Fill(request * shape.payload_bytes + position - kFrameHeaderBytes, out.first(take));
    }
    offset += take;
    out = out.subspan(take);
  }
}

ReplyChecker::ReplyChecker(const ExchangeShape& shape, const BytePattern& pattern) : shape_(shape), pattern_(pattern) {
  if (shape.framed) decoder_.emplace(kMaxReplyPayload);
}

ReplyChecker::Result ReplyChecker::Wrong(std::string error) {
  error_ = std::move(error);
  return Result::kWrong;
}

ReplyChecker::Result ReplyChecker::Receive(std::span<const char>& data, uint64_t requested) {
  if (decoder_.has_value()) return ReceiveFrame(data, requested);
  if (data.empty()) return Result::kNeedMore;
  uint64_t missing = shape_.payload_bytes - received_ % shape_.payload_bytes;
  auto part = data.first(std::min<uint64_t>(missing, data.size()));
  if (received_ + part.size() > requested)
    return Wrong(absl::StrCat("received ", received_ + data.size(), " bytes, more than the ", requested, " sent"));
  if (std::string error = CheckBytes(pattern_, received_, part); !error.empty()) return Wrong(std::move(error));
  received_ += part.size();
  data = data.subspan(part.size());
  if (part.size() < missing) return Result::kNeedMore;
  ++replies_;
  return Result::kReply;
}

ReplyChecker::Result ReplyChecker::ReceiveFrame(std::span<const char>& data, uint64_t requested) {
  FrameDecoder::Result result = decoder_->Next(data);
  if (result == FrameDecoder::Result::kNeedMore) return Result::kNeedMore;
  if (result == FrameDecoder::Result::kTooLarge)
    return Wrong(absl::StrCat("reply ", replies_, " claims to be larger than 1 MiB"));
  std::string payload = decoder_->TakePayload();
  if ((replies_ + 1) * shape_.request_bytes() > requested)
    return Wrong(absl::StrCat("reply ", replies_, " came before its request was sent"));
  bool busy = payload.size() == 1 && payload[0] == static_cast<char>(FrameStatus::kBusy);
  if (!busy) {
    if (payload.size() != shape_.payload_bytes + 1 || payload[0] != static_cast<char>(FrameStatus::kOk))
      return Wrong(absl::StrCat("reply ", replies_, " has a wrong status or length"));
    std::string error =
        CheckBytes(pattern_, replies_ * shape_.payload_bytes, std::span<const char>(payload).subspan(1));
    if (!error.empty()) return Wrong(std::move(error));
  }
  ++replies_;
  return busy ? Result::kBusy : Result::kReply;
}

bool ReplyChecker::Complete(uint64_t requested) const {
  if (!decoder_.has_value()) return received_ == requested;
  return replies_ * shape_.request_bytes() == requested && decoder_->at_boundary();
}

}  // namespace ringmain::loadtest
