// Polls, pipes, what is spliced through them, and what is copied: the part of SimIo for a direct relay. Its calls are
// system calls, not ring operations, so the proxy knows at once what they did.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "pattern.h"
#include "sim_io.h"

namespace ringmain::sim {

// ---- Polls ----

void SimIo::Poll(Token token, int fd, short events) {
  SimSocket* socket = FindOwned(token, fd, "poll operation");
  if (socket == nullptr) return;
  if (IsReceive(token.op)) {
    report_.Expect((events & POLLIN) != 0, "a poll with a receive's token, but not for bytes");
    Arm(*socket, {.token = token, .poll = true, .waits = true});
    return;
  }
  report_.Expect((events & POLLOUT) != 0, "a poll with a send's token, but not for room");
  report_.Expect(!socket->send.has_value(), "a poll for room on fd ", fd, ", which has a send armed");
  report_.Expect(!socket->fin_sent, "a poll for room on fd ", fd, " after FIN");
  report_.Trace("  arm poll for room fd=", fd);
  socket->send = SendOp{.token = token, .mode = SendMode::kWait, .poll = true};
}

void SimIo::CarryOutReceivePoll(SimSocket& socket) {
  EndReceive(socket, POLLIN | (socket.fin_arrived ? POLLRDHUP : 0) | (socket.broken ? POLLERR | POLLHUP : 0));
}

void SimIo::CarryOutSendPoll(SimSocket& socket) { EndSend(socket, POLLOUT | (socket.broken ? POLLERR | POLLHUP : 0)); }

// ---- Pipes ----

std::optional<uint16_t> SimIo::AcquirePipe() {
  report_.Expect(options_.abilities.splice, "a pipe is wanted, but nothing can be spliced");
  auto found = std::find_if(pipes_.begin(), pipes_.end(), [](const SimPipe& pipe) { return !pipe.lent; });
  if (found == pipes_.end() || options_.pipe_refused()) {
    report_.Trace("  no pipe");
    ++refused_pipes_;
    return std::nullopt;
  }
  *found = {.size = found->size, .lent = true};
  auto number = static_cast<uint16_t>(found - pipes_.begin());
  report_.Trace("  pipe ", number, " lent");
  return number;
}

void SimIo::ReleasePipe(uint16_t pipe) {
  SimPipe* lent = Lent(pipe, "released");
  if (lent == nullptr) return;
  report_.Trace("  pipe ", pipe, " released");
  report_.Expect(lent->bytes == 0, "pipe ", pipe, " given back with ", lent->bytes, " bytes in it");
  *lent = {.size = lent->size};
}

void SimIo::DiscardPipe(uint16_t pipe) {
  SimPipe* lent = Lent(pipe, "discarded");
  if (lent == nullptr || phase_ == Phase::kFreeze) return;  // somebody has its ends
  report_.Trace("  pipe ", pipe, " discarded with ", lent->bytes, " bytes");
  *lent = {.size = lent->size};
}

uint16_t SimIo::AdoptPipe(int read_end, int) {
  SimPipe* from = Lent(static_cast<uint16_t>(read_end), "handed over");
  if (from == nullptr) return 0;
  SimPipe pipe = *from;
  *from = {.size = from->size};
  pipes_.push_back(pipe);
  report_.Trace("  pipe ", pipes_.size() - 1, " adopted with ", pipe.bytes, " bytes");
  return static_cast<uint16_t>(pipes_.size() - 1);
}

int SimIo::SpliceToPipe(int fd, uint16_t pipe, uint32_t max_bytes) {
  SimSocket* source = DirectSource(fd);
  SimPipe* lent = Lent(pipe, "filled");
  if (source == nullptr || lent == nullptr) return -EBADF;
  report_.Expect(options_.abilities.splice, "a splice, which the kernel cannot do");
  report_.Expect(lent->bytes == 0, "a splice into pipe ", pipe, ", which is not empty");
  report_.Expect(lent->source == nullptr || lent->source == source, "pipe ", pipe, " is used by two");
  report_.Expect(max_bytes > 0, "a splice of nothing");
  int result = TakeDirectly(*source, std::min(lent->size, max_bytes), "splice");
  if (result > 0) {
    lent->source = source;
    lent->position = source->taken - static_cast<uint64_t>(result);
    lent->bytes = static_cast<uint32_t>(result);
    source->splice_begins += std::exchange(source->spliced, true) ? 0 : 1;
  }
  return result;
}

int SimIo::SpliceFromPipe(uint16_t pipe, int fd, uint32_t bytes) {
  SimSocket* sink = DirectSink(fd);
  SimPipe* lent = Lent(pipe, "emptied");
  if (sink == nullptr || lent == nullptr) return -EBADF;
  const SimSocket* source = sink->session->other(*sink);
  report_.Expect(bytes > 0 && bytes <= lent->bytes, "a splice of ", bytes, " bytes from pipe ", pipe, ", which has ",
                 lent->bytes);
  report_.Expect(lent->source == source, "pipe ", pipe, " has bytes of another stream than fd ", fd, " is to get");
  uint64_t passed = sink->session->passed(*sink);
  report_.Expect(lent->position == passed, "a splice to fd ", fd, " of bytes at ", lent->position, ", not at ", passed);
  int result = GiveDirectly(*sink, bytes, "splice");
  if (result > 0) {
    lent->position += static_cast<uint64_t>(result);
    lent->bytes -= static_cast<uint32_t>(result);
  }
  return result;
}

// ---- Copies ----

int SimIo::ReceiveNow(int fd, std::span<const iovec> parts) {
  SimSocket* source = DirectSource(fd);
  if (source == nullptr) return -EBADF;
  uint64_t room = 0;
  for (const iovec& part : parts) {
    room += part.iov_len;
    const char* data = static_cast<const char*>(part.iov_base);
    for (const Buffer& buffer : buffers_)
      report_.Expect(!buffer.published || data + part.iov_len <= buffer.data || data >= buffer.data + options_.buffer_bytes,
                     "a receive into a buffer that is published");
  }
  report_.Expect(!parts.empty() && parts.size() <= kMaxParts && room > 0, "a receive into ", parts.size(), " parts and ",
                 room, " bytes");
  int result = TakeDirectly(*source, room, "receive");
  if (result <= 0) return result;
  uint64_t left = static_cast<uint64_t>(result), position = source->taken - left;
  for (const iovec& part : parts) {
    uint64_t length = std::min<uint64_t>(left, part.iov_len);
    FillStream(*source, position, static_cast<char*>(part.iov_base), length);
    position += length;
    left -= length;
  }
  ++source->copies;
  source->splice_ends += std::exchange(source->spliced, false) ? 1 : 0;
  return result;
}

int SimIo::SendNow(int fd, std::span<const iovec> parts) {
  SimSocket* sink = DirectSink(fd);
  if (sink == nullptr) return -EBADF;
  SendOp send{.parts = {parts.begin(), parts.end()}};
  for (const iovec& part : parts) send.length += static_cast<uint32_t>(part.iov_len);
  report_.Expect(!parts.empty() && parts.size() <= kMaxParts && send.length > 0, "a send of ", parts.size(), " parts and ",
                 send.length, " bytes");
  CheckPayload(*sink, send, "when it is carried out");
  return GiveDirectly(*sink, send.length, "send");
}

// ---- Helpers ----

SimPipe* SimIo::Lent(uint16_t pipe, const char* what) {
  bool lent = pipe < pipes_.size() && pipes_[pipe].lent;
  return report_.Expect(lent, "pipe ", pipe, " is ", what, " and was not lent") ? &pipes_[pipe] : nullptr;
}

SimSocket* SimIo::DirectSource(int fd) {
  SimSocket* source = Direct(fd, "a direct call from");
  if (source == nullptr) return nullptr;
  report_.Expect(!source->receive.has_value(), "a direct call from fd ", fd, ", which has a receive armed");
  report_.Expect(!source->ended(), "a direct call from fd ", fd, " after its end");
  return source;
}

SimSocket* SimIo::DirectSink(int fd) {
  SimSocket* sink = Direct(fd, "a direct call to");
  if (sink == nullptr) return nullptr;
  report_.Expect(!sink->send.has_value(), "a direct call to fd ", fd, ", which has a send armed");
  report_.Expect(!sink->fin_sent, "a direct call to fd ", fd, " after FIN");
  report_.Expect(!sink->error_handled(), "a direct call to fd ", fd, ", which has failed");
  return sink;
}

SimSocket* SimIo::Direct(int fd, const char* what) {
  SimSocket* socket = Usable(fd, what);
  if (socket == nullptr) return nullptr;
  bool open = socket->session != nullptr && socket->connected && !socket->session->closing;
  return report_.Expect(open, what, " fd ", fd, ", which is not connected or closes") ? socket : nullptr;
}

int SimIo::TakeDirectly(SimSocket& source, uint64_t room, const char* what) {
  // The end is told as it is; whatever comes before it may take a while.
  int limit = source.readable() > 0 ? options_.direct_limit() : INT_MAX;
  int result = -EAGAIN;
  if (source.readable() > 0 && limit > 0) {
    result = static_cast<int>(std::min<uint64_t>({source.readable(), static_cast<uint64_t>(limit), room}));
    source.taken += static_cast<uint64_t>(result);
    taken_in_turn_ += static_cast<uint32_t>(result);
  } else if (limit <= 0) {
    result = limit == 0 || limit == -ENOBUFS ? -EAGAIN : limit;
  } else if (source.pending_error != 0) {
    result = -std::exchange(source.pending_error, 0);
  } else if (source.fin_arrived || source.broken) {
    result = 0;
  }
  report_.Trace("  ", what, " from fd=", source.fd, ": ", result);
  // Whether an end is an orderly one, only a receive tells: its completion comes after those that are under way.
  if (result == -EAGAIN || result == -EINTR || result == 0) return result;
  OnReceiveHandled(source, result);
  if (result > 0) NoteByte(source);
  return result;
}

int SimIo::GiveDirectly(SimSocket& sink, uint32_t bytes, const char* what) {
  int limit = options_.direct_limit();
  int result = -EAGAIN;
  if (sink.broken) {
    result = sink.pending_error != 0 ? -std::exchange(sink.pending_error, 0) : -EPIPE;
  } else if (limit < 0) {
    result = limit;
  } else if (sink.send_room() > 0 && limit > 0) {
    result = static_cast<int>(std::min<uint64_t>({sink.send_room(), static_cast<uint64_t>(limit), bytes}));
    sink.accepted += static_cast<uint64_t>(result);
    sink.given_in_turn += static_cast<uint32_t>(result);
    most_given_ = std::max(most_given_, sink.given_in_turn);
  }
  report_.Trace("  ", what, " to fd=", sink.fd, " of ", bytes, ": ", result);
  if (result == -EAGAIN || result == -EINTR) return result;
  OnSendHandled(sink, result);
  if (result > 0) NoteByte(*sink.session->other(sink));
  return result;
}

uint64_t SimIo::Piped(const SimSocket& source) const {
  uint64_t bytes = 0;
  for (const SimPipe& pipe : pipes_) bytes += pipe.source == &source ? pipe.bytes : 0;
  return bytes;
}

void SimIo::set_phase(Phase phase) {
  phase_ = phase;
  if (phase != Phase::kFlush) return;
  taken_in_turn_ = 0;
  for (SimSocket& socket : sockets_) socket.given_in_turn = 0;
}

}  // namespace ringmain::sim
