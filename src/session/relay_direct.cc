// Bulk, which a relay moves by direct calls (relay.h).
#include <algorithm>
#include <array>
#include <cerrno>

#include "base/probe.h"
#include "session/bulk.h"
#include "session/relay.h"

namespace ringmain {
namespace {

// What one direction moves in one turn: what a pipe holds, for each call into the kernel has a price of its own.
constexpr uint32_t kRoundBytes = 1 << 20;
// With less than this left of the turn's budget it is not worth a call.
constexpr uint32_t kLeastRound = 16 << 10;

}  // namespace

// One round: until the source has no more, the sink takes no more, or others should have their turn.
RelayEvent Relay::MoveDirectly(Counter& bytes) {
  if (receiving_ || sending_ || discarding_) return RelayEvent::kNone;
  if (queued_ == 0 && !ended_) {
    if (allowed_kib_ == 0) return RelayEvent::kNone;
    if (env_->direct_budget < kLeastRound) return RelayEvent::kDeferred;
    ChooseCarrier();
  }
  uint32_t moved = 0;
  bool emptied = false;
  while (true) {
    if (queued_ > 0) {
      int sent = GiveOut();
      if (sent < 0 && sent != -EAGAIN && sent != -EINTR && sent != -ENOBUFS) return RelayEvent::kSinkFailed;
      if (sent > 0) {
        sent_ += static_cast<uint32_t>(sent);
        moved += static_cast<uint32_t>(sent);
        bytes.Add(static_cast<uint32_t>(sent));
      }
      if (queued_ > 0) {
        sending_ = true;
        env_->io.Poll(send_token(), sink_, POLLOUT);
        return RelayEvent::kNone;
      }
    }
    if (ended_ || emptied || moved >= kRoundBytes || env_->direct_budget < kLeastRound || allowed_kib_ == 0) break;
    uint32_t wanted = std::min({env_->direct_budget, allowed(), pipe_ != BufferPool::kNone ? kRoundBytes : MostCopied()});
    int received = TakeIn(wanted);
    if (received > 0) {
      queued_ = static_cast<uint32_t>(received);
      received_ += queued_;
      env_->direct_budget -= queued_;
      if (limited()) UseUp(queued_);
      // A pipe has so many slots, and small pieces may fill them all with less.
      emptied = queued_ < (pipe_ != BufferPool::kNone ? std::min(wanted, kRoundBytes / 4) : wanted);
      continue;
    }
    if (received == -EAGAIN || received == -EINTR) break;
    ReleasePipe();
    if (received == 0 || received == -ENOBUFS) {
      LeaveDirect();
      return RelayEvent::kNone;
    }
    ended_ = true;
    source_broken_ = true;
    return RelayEvent::kSourceReset;
  }
  ReleasePipe();
  if (!ended_) EndRound(moved);
  return RelayEvent::kNone;
}

void Relay::UseUp(uint32_t bytes) {
  uint32_t kib = (bytes + 1023) >> 10;
  allowed_kib_ = static_cast<uint16_t>(allowed_kib_ - std::min<uint32_t>(kib, allowed_kib_));
}

void Relay::EndRound(uint32_t moved) {
  run_ = moved < kSmallRound ? run_ + 1 : 0;
  if (run_ < kSmallRounds) {
    receiving_ = true;
    env_->io.Poll(receive_token(), source_, POLLIN | POLLRDHUP);
    return;
  }
  LeaveDirect();
}

// The end of a stream is left to a receive, too: a completion that is still to come may hold a send's failure on the same socket, after
// which the end of a broken stream looks like an orderly one. Completions come in order; direct calls would overtake them.
void Relay::LeaveDirect() {
  run_ = 0;
  direct_ = false;
  ShowMode(RelayMode::kBuffered);
  poll_first_ = true;  // what the last receive said about the source is long past
  UseSingleReceives();
  ArmReceive();
}

// ---- What carries the bytes ----

void Relay::ChooseCarrier() {
  std::optional<uint16_t> pipe;
  if (env_->io.abilities().splice) pipe = env_->io.AcquirePipe();
  pipe_ = pipe.value_or(BufferPool::kNone);
  ShowMode(pipe.has_value() ? RelayMode::kSpliced : RelayMode::kBuffered);
}

void Relay::ShowMode(RelayMode mode) {
  if (mode == this->mode()) return;
  env_->modes[static_cast<size_t>(this->mode())].Add(-1);
  spliced_ = mode == RelayMode::kSpliced;
  env_->modes[static_cast<size_t>(mode)].Add(1);
  RINGMAIN_PROBE(mode, source_, sink_, receive_op_ == Op::kReceiveFromClient ? 1 : 0, spliced_ ? 1 : 0);
}

void Relay::ReleasePipe() {
  if (pipe_ == BufferPool::kNone) return;
  env_->io.ReleasePipe(pipe_);
  pipe_ = BufferPool::kNone;
}

int Relay::TakeIn(uint32_t max_bytes) {
  return pipe_ != BufferPool::kNone ? env_->io.SpliceToPipe(source_, pipe_, max_bytes) : CopyIn(max_bytes);
}

int Relay::GiveOut() {
  if (pipe_ == BufferPool::kNone) {
    Parts parts;
    int sent = env_->io.SendNow(sink_, {parts.data(), QueueParts(parts)});
    if (sent > 0) Consume(static_cast<uint32_t>(sent));
    return sent;
  }
  int sent = env_->io.SpliceFromPipe(pipe_, sink_, queued_);
  if (sent > 0) {
    queued_ -= static_cast<uint32_t>(sent);
    env_->spliced_bytes += static_cast<uint32_t>(sent);
  }
  return sent;
}

// What one call receives at most: as much as a direction may hold.
uint32_t Relay::MostCopied() const {
  return static_cast<uint32_t>(std::min<uint64_t>(env_->high_water, uint64_t{kMaxParts} * env_->buffers.buffer_bytes()));
}

// Receives into several buffers at once, and queues them. The pool hands out first what was last given back, so a sink that keeps up
// leaves its buffers in the processor's cache for whoever is next. -ENOBUFS if there are none to spare.
int Relay::CopyIn(uint32_t max_bytes) {
  BufferPool& pool = env_->buffers;
  uint32_t size = pool.buffer_bytes();
  uint32_t room = max_bytes;
  Parts parts;
  std::array<uint16_t, kMaxParts> borrowed;
  size_t count = 0;
  while (count < parts.size() && room > 0) {
    std::optional<uint16_t> buffer = pool.Borrow();
    if (!buffer.has_value()) break;
    borrowed[count] = *buffer;
    parts[count] = {pool.data(*buffer), std::min(room, size)};
    room -= static_cast<uint32_t>(parts[count++].iov_len);
  }
  if (count == 0) return -ENOBUFS;
  int received = env_->io.ReceiveNow(source_, {parts.data(), count});
  uint32_t left = received > 0 ? static_cast<uint32_t>(received) : 0;
  size_t filled = (left + size - 1) / size;
  while (count > filled) pool.Release(borrowed[--count]);
  for (size_t i = 0; i < filled; ++i) {
    pool.header(borrowed[i]).length = std::min(left, size);
    left -= pool.header(borrowed[i]).length;
    Link(borrowed[i]);
  }
  return received;
}

}  // namespace ringmain
