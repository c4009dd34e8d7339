#include "loadtest/frame_session.h"

#include <utility>

#include "base/check.h"

namespace ringmain::loadtest {

bool FrameSession::Receive(std::span<const char> data, const Submit& submit) {
  while (true) {
    FrameDecoder::Result result = decoder_.Next(data);
    if (result == FrameDecoder::Result::kNeedMore) return true;
    if (result == FrameDecoder::Result::kTooLarge) return false;
    std::string payload = decoder_.TakePayload();
    size_t bytes = payload.size();
    bytes_ += bytes;
    uint64_t number = first_ + replies_.size();
    replies_.push_back({.bytes = bytes});
    if (submit(number, std::move(payload))) continue;
    replies_.back().ready = true;
    replies_.back().status = FrameStatus::kBusy;
  }
}

void FrameSession::Complete(uint64_t number, std::string payload) {
  RINGMAIN_CHECK(number >= first_ && number - first_ < replies_.size() && !replies_[number - first_].ready);
  Reply& reply = replies_[number - first_];
  reply.payload = std::move(payload);
  reply.ready = true;
}

bool FrameSession::TakeOutput(std::string& out) {
  while (!replies_.empty() && replies_.front().ready) {
    AppendReply(replies_.front().status, replies_.front().payload, out);
    bytes_ -= replies_.front().bytes;
    replies_.pop_front();
    ++first_;
  }
  return !out.empty();
}

}  // namespace ringmain::loadtest
