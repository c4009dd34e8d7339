#include "session/relay.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "session/bulk.h"

namespace ringmain {
namespace {

// After so many single receives in a row whose sink kept up, a multishot one is worth arming.
constexpr uint8_t kCalmReceives = 16;

}  // namespace

RelayEvent Relay::OnReceive(const Completion& completion) {
  RINGMAIN_CHECK(receiving_);
  if (!completion.more) receiving_ = leaving_multishot_ = false;
  if (direct_) return RelayEvent::kNone;  // the poll's events; the direct calls themselves say what there is
  if (completion.has_buffer) {
    env_->buffers.Take(completion.buffer, completion.result > 0 ? static_cast<uint32_t>(completion.result) : 0);
    if (completion.result > 0) {
      poll_first_ = !completion.socket_nonempty;
      readable_ = completion.socket_nonempty;
      Enqueue(completion.buffer);
      return received_ == static_cast<uint32_t>(completion.result) ? RelayEvent::kFirstBytes : RelayEvent::kNone;
    }
    env_->buffers.Release(completion.buffer);
  }
  switch (-completion.result) {
    case 0:
      ended_ = true;
      return source_broken_ ? RelayEvent::kSourceReset : RelayEvent::kSourceEnded;
    case ENOBUFS:
      // A receive that did not wait for readiness ends like this on an idle socket too. It waits the next time, which takes no
      // buffer; only one that is known to have something to read starves.
      poll_first_ = true;
      UseSingleReceives();
      if (!readable_) return RelayEvent::kNone;
      starved_ = !discarding_;
      return starved_ ? RelayEvent::kStarved : RelayEvent::kNone;
    case ECANCELED:
    case EINTR:
    case EAGAIN:
      return RelayEvent::kNone;
    default:
      ended_ = true;
      source_broken_ = true;
      return RelayEvent::kSourceReset;
  }
}

RelayEvent Relay::OnSend(const Completion& completion, Counter& bytes) {
  RINGMAIN_CHECK(sending_ && !completion.more);
  sending_ = false;
  RelayEvent event = RelayEvent::kNone;
  if (direct_) {
    if (discarding_) DropQueue();
    return event;
  }
  if (completion.result > 0) {
    auto taken = static_cast<uint32_t>(completion.result);
    RINGMAIN_CHECK(taken <= send_length_);
    sent_ += taken;
    bytes.Add(taken);
    Consume(taken);
    blocked_ = queued_ > 0 && (blocked_ || taken < send_length_);
  } else {
    switch (-completion.result) {
      case EAGAIN:
      case ENOBUFS:
        blocked_ = true;
        break;
      case EINTR:
      case ECANCELED:
        break;
      default:
        event = RelayEvent::kSinkFailed;
    }
  }
  if (discarding_)
    DropQueue();
  else if (blocked_)
    KeepAll();
  return event;
}

RelayEvent Relay::Pump(Counter& bytes) {
  if (direct_ || BecomeDirect()) return MoveDirectly(bytes);
  if (queued_ > 0 && !sending_ && sink_ >= 0 && !discarding_) ArmSend();
  if (WantsReceive())
    ArmReceive();
  else if (!env_->io.abilities().receive_credit && (filled_ || AboveLowWater()))
    LeaveMultishot();
  else if (queued_ > 0 && env_->buffers.tight())
    LeaveMultishot();
  return RelayEvent::kNone;
}

bool Relay::Feed() {
  if (!starved_) return false;
  starved_ = false;
  if (!WantsReceive()) return false;
  ArmReceive();
  return true;
}

void Relay::Allow(uint32_t bytes) {
  allowed_kib_ = bytes == kUnlimited ? kNoLimit : static_cast<uint16_t>(std::min<uint32_t>(bytes >> 10, kNoLimit - 1));
  if (limited()) LeaveMultishot();
}

void Relay::Discard() {
  discarding_ = true;
  starved_ = false;
  if (!sending_) DropQueue();
}

void Relay::LoseSink() {
  sink_ = -1;
  if (!sending_) KeepAll();
}

void Relay::Cancel() {
  if (receiving_) env_->io.Cancel(receive_token());
  if (sending_) env_->io.Cancel(send_token());
}

void Relay::Stop() {
  Cancel();
  Discard();
}

void Relay::Enqueue(uint16_t buffer) {
  uint32_t length = env_->buffers.header(buffer).length;
  received_ += length;
  ++env_->messages;
  if (discarding_) {
    env_->buffers.Release(buffer);
    return;
  }
  bool full = length == env_->buffers.buffer_bytes();
  filled_ |= full;
  run_ = full ? std::min(run_ + 1, 255) : 0;
  calm_ = queued_ > 0 || (filled_ && !env_->io.abilities().receive_credit) ? 0 : calm_ + 1;
  if (calm_ >= kCalmReceives) single_ = false;
  queued_ += length;
  if (blocked_ || (sink_ < 0 && !sending_))
    Keep(buffer);
  else
    Link(buffer);
}

// Puts a buffer at the end of the queue for longer than this turn: its bytes move into the last buffer if they fit, so that two
// neighbours in the queue always hold more than one buffer's worth, however small the pieces that arrive.
void Relay::Keep(uint16_t buffer) {
  BufferPool& buffers = env_->buffers;
  BufferPool::Header& header = buffers.header(buffer);
  if (tail_ != BufferPool::kNone) {
    BufferPool::Header& last = buffers.header(tail_);
    uint32_t end = last.offset + last.length;
    if (last.held && header.length <= buffers.buffer_bytes() - end) {
      std::memcpy(buffers.data(tail_) + end, buffers.data(buffer) + header.offset, header.length);
      last.length += header.length;
      buffers.Release(buffer);
      return;
    }
  }
  if (!header.held) buffers.Hold(buffer);
  Link(buffer);
}

void Relay::KeepAll() {
  RINGMAIN_CHECK(!sending_);
  if (head_ == BufferPool::kNone || env_->buffers.header(tail_).held) return;  // a held last buffer means that all are
  uint16_t buffer = head_;
  head_ = tail_ = BufferPool::kNone;
  while (buffer != BufferPool::kNone) {
    uint16_t next = env_->buffers.header(buffer).next;
    Keep(buffer);
    buffer = next;
  }
}

void Relay::Link(uint16_t buffer) {
  env_->buffers.header(buffer).next = BufferPool::kNone;
  if (tail_ == BufferPool::kNone)
    head_ = buffer;
  else
    env_->buffers.header(tail_).next = buffer;
  tail_ = buffer;
}

void Relay::Consume(uint32_t bytes) {
  queued_ -= bytes;
  while (bytes > 0) {
    BufferPool::Header& header = env_->buffers.header(head_);
    uint32_t part = std::min(bytes, header.length);
    header.offset += part;
    header.length -= part;
    bytes -= part;
    if (header.length > 0) return;
    uint16_t done = head_;
    head_ = header.next;
    if (head_ == BufferPool::kNone) tail_ = BufferPool::kNone;
    env_->buffers.Release(done);
  }
}

void Relay::DropQueue() {
  if (pipe_ != BufferPool::kNone) {
    env_->io.DiscardPipe(pipe_);
    pipe_ = BufferPool::kNone;
  }
  queued_ = 0;
  blocked_ = false;
  while (head_ != BufferPool::kNone) {
    uint16_t buffer = head_;
    head_ = env_->buffers.header(buffer).next;
    env_->buffers.Release(buffer);
  }
  tail_ = BufferPool::kNone;
}

void Relay::Peek(size_t most, std::string& to) const {
  for (uint16_t b = head_; b != BufferPool::kNone && most > 0; b = env_->buffers.header(b).next) {
    const BufferPool::Header& header = env_->buffers.header(b);
    size_t part = std::min<size_t>(most, header.length);
    to.append(env_->buffers.data(b) + header.offset, part);
    most -= part;
  }
}

void Relay::Withdraw(uint32_t bytes) {
  RINGMAIN_CHECK(!sending_ && bytes <= queued_ && pipe_ == BufferPool::kNone);
  UseSingleReceives();
  Consume(bytes);
  received_ -= bytes;
}

bool Relay::Prepend(std::string_view bytes) {
  RINGMAIN_CHECK(!sending_ && pipe_ == BufferPool::kNone);
  BufferPool& pool = env_->buffers;
  while (!bytes.empty()) {
    std::optional<uint16_t> buffer = pool.Borrow(/*though_tight=*/true);
    if (!buffer.has_value()) return false;
    auto length = static_cast<uint32_t>(std::min<size_t>(bytes.size(), pool.buffer_bytes()));
    std::memcpy(pool.data(*buffer), bytes.data() + bytes.size() - length, length);
    bytes.remove_suffix(length);
    pool.header(*buffer).length = length;
    pool.header(*buffer).next = head_;
    head_ = *buffer;
    if (tail_ == BufferPool::kNone) tail_ = head_;
    queued_ += length;
    received_ += length;
  }
  return true;
}

void Relay::ForgetLead(uint32_t lead) {
  RINGMAIN_CHECK(sent_ <= lead);
  Withdraw(lead - static_cast<uint32_t>(sent_));
  received_ -= std::exchange(sent_, 0);
  blocked_ = false;
}

bool Relay::WantsReceive() const {
  if (receiving_ || ended_ || discarding_ || starved_ || source_ < 0 || allowed_kib_ == 0) return false;
  if (IsBulk() && queued_ > 0) return false;  // to be moved directly once that is sent
  if (queued_ > env_->high_water / 2) return false;
  return queued_ == 0 || !env_->buffers.scarce();
}

void Relay::ArmReceive() {
  const Io::Abilities& abilities = env_->io.abilities();
  // The last completion of a credit may overshoot it by less than a buffer.
  uint32_t room = env_->high_water - env_->buffers.buffer_bytes() - queued_;
  if ((!abilities.receive_credit && AboveLowWater()) || env_->buffers.tight()) UseSingleReceives();
  multishot_ = abilities.multishot_receive && !single_ && !limited();
  receiving_ = true;
  filled_ = false;
  readable_ |= poll_first_ && !multishot_;
  if (multishot_)
    env_->io.ReceiveMultishot(receive_token(), source_, room);
  else
    env_->io.ReceiveOnce(receive_token(), source_, std::min({room, env_->buffers.buffer_bytes(), allowed()}), poll_first_);
}

void Relay::ArmSend() {
  Parts parts;
  size_t count = QueueParts(parts);
  send_length_ = 0;
  for (size_t i = 0; i < count; ++i) send_length_ += static_cast<uint32_t>(parts[i].iov_len);
  sending_ = true;
  env_->io.Send(send_token(), sink_, {parts.data(), count}, blocked_ ? Io::SendMode::kWait : Io::SendMode::kTry);
}

// The front of the queue; returns how many parts it is.
size_t Relay::QueueParts(Parts& parts) const {
  size_t count = 0;
  for (uint16_t b = head_; b != BufferPool::kNone && count < parts.size(); b = env_->buffers.header(b).next) {
    const BufferPool::Header& header = env_->buffers.header(b);
    parts[count++] = {env_->buffers.data(b) + header.offset, header.length};
  }
  return count;
}

// Kernels before 6.17 know no receive credit: a multishot receive goes on whatever is queued. Above the low-water mark single
// receives take over; what one burst brings until the cancel is carried out (32 buffers at most, MULTISHOT_MAX_RETRY in
// io_uring/net.c) is held beyond the high-water mark.
void Relay::LeaveMultishot() {
  if (!receiving_ || !multishot_ || leaving_multishot_) return;
  leaving_multishot_ = true;
  UseSingleReceives();
  env_->io.Cancel(receive_token());
}

bool Relay::IsBulk() const { return run_ >= kBulkReceives; }

bool Relay::BecomeDirect() {
  if (!IsBulk() || receiving_ || sending_ || queued_ > 0 || source_ < 0 || sink_ < 0 || ended_ || discarding_) return false;
  run_ = 0;
  direct_ = true;
  multishot_ = starved_ = false;
  return true;
}

void Relay::UseSingleReceives() {
  single_ = true;
  calm_ = 0;
}

}  // namespace ringmain
