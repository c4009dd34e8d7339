// How sessions pass to another worker, here or in the process that takes over: nothing is armed any more, all that is known is written down,
// and the other goes on from there.
//
//   Freeze ─► (completions) ─► settled() ─► Save ─┬─► Thaw: they go on here
//                                                 └─► LetGo: they go on where Adopt and Thaw were called
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "base/check.h"
#include "session/sessions.h"

namespace ringmain {

void Sessions::Freeze() {
  frozen_ = true;
  pool_.ForEach([&](Session& session) {
    if (session.state == SessionState::kClosing) return;
    if (session.connect_armed && !session.connect_timed_out) io_.Cancel({Op::kConnect, session.generation, session.index});
    for (Relay& relay : session.relays) relay.Cancel();
  });
}

bool Sessions::settled() {
  bool settled = true;
  pool_.ForEach([&](Session& session) {
    settled &= session.state != SessionState::kClosing && !session.connect_armed && !session.relays[0].in_flight() &&
               !session.relays[1].in_flight();
  });
  return settled;
}

// The connect was ended because of the freeze: it begins anew with the thaw, here or elsewhere. Nothing was sent on that socket.
void Sessions::GiveUpConnect(Session& session) {
  io_.Close(std::exchange(session.server_fd, -1));
  ReleaseServer(session);
  --session.tries;
}

void Sessions::Save(const std::function<void(const FrozenSession&, const Route&, std::optional<uint16_t> server)>& take) {
  RINGMAIN_CHECK(frozen_ && settled());
  TimePoint now = io_.Now();
  pool_.ForEach([&](Session& session) {
    FrozenSession frozen;
    frozen.passed = std::exchange(session.passed, true);
    frozen.number = session.number;
    frozen.established = session.state == SessionState::kEstablished;
    frozen.ending = session.ending;
    frozen.reset = session.reset;
    frozen.kept_alive = session.kept_alive;
    frozen.reason = session.reason;
    if (!frozen.established) frozen.lost_reason = session.lost_reason;
    if (session.state == SessionState::kQueued) frozen.queued_at = session.connect_started_at;
    frozen.client_fd = session.client_fd;
    frozen.server_fd = session.server_fd;
    frozen.accepted_at = session.accepted_at;
    frozen.last_byte_at = session.last_byte_at;
    frozen.leave_at = session.leave_at;
    frozen.quiet_bytes = session.quiet_bytes;
    frozen.quiet_checks = session.quiet_checks;
    frozen.check_at = session.check_at;
    if (!frozen.established && session.connecting_since != session.accepted_at) frozen.connecting_since = session.connecting_since;
    if (session.has_header) SaveHeader(session, frozen);
    frozen.lead = session.lead;
    frozen.first_byte_at = session.first_byte_at;
    frozen.sampled_segments = session.sampled.segments;
    frozen.sampled_retransmits = session.sampled.retransmits;
    for (size_t i = 0; i < session.relays.size(); ++i) {
      frozen.relays[i] = session.relays[i].Save();
      const Session::Swept& swept = session.swept[i];
      bool received = session.relays[i].received() != swept.received;  // since the last sweep
      if (received) frozen.last_byte_at = now;
      if (!frozen.established || session.route->side_idle_timeouts[i].count() == 0) continue;
      frozen.active_at[i] = received || session.relays[i].held() || swept.held ? now : now - swept.active_at.Ago(now);
    }
    SaveBandwidth(session, frozen);
    take(frozen, *session.route, frozen.established ? std::optional(session.server()) : std::nullopt);
  });
}

// What was read of a header is written as another one that says the same.
void Sessions::SaveHeader(Session& session, FrozenSession& frozen) {
  const ClientHeader& client = headers_.at(session.index);
  frozen.reading_header = session.state == SessionState::kReadingHeader;
  frozen.header_optional = client.optional;
  if (frozen.reading_header) {
    frozen.check_at = session.deadline();
    frozen.header = client.bytes;
  } else {
    ProxyHeader header = client.header;
    header.version = 2;
    frozen.header = ComposeProxyHeader(header);
  }
}

void Sessions::RestoreHeader(Session& session, const FrozenSession& frozen) {
  ClientHeader client{.optional = frozen.header_optional};
  if (frozen.reading_header) {
    session.state = SessionState::kReadingHeader;
    if (ParseProxyHeader(frozen.header).result == ParsedProxyHeader::Result::kNeedsMore) client.bytes = frozen.header;
  } else {
    ParsedProxyHeader parsed = ParseProxyHeader(frozen.header);
    if (parsed.result != ParsedProxyHeader::Result::kComplete) return;
    client.header = std::move(parsed.header);
  }
  session.has_header = true;
  headers_[session.index] = std::move(client);
}

bool Sessions::Adopt(const FrozenSession& frozen, Route& route, uint16_t server, uint32_t client_source) {
  RINGMAIN_CHECK(frozen_);
  Session& session = pool_.Create(env_, route, frozen.client_fd, client_source);
  ++route.sessions;
  session.number = frozen.number;
  session.ending = frozen.ending;
  session.reset = frozen.reset;
  session.kept_alive = frozen.kept_alive;
  session.passed = frozen.passed;
  session.reason = frozen.reason;
  session.lost_reason = frozen.lost_reason;
  session.accepted_at = frozen.accepted_at;
  session.last_byte_at = frozen.last_byte_at;
  session.leave_at = frozen.leave_at;
  session.connecting_since = frozen.connecting_since.value_or(frozen.accepted_at);
  session.lead = frozen.lead;
  session.first_byte_at = frozen.first_byte_at;
  session.sampled = {frozen.sampled_segments, frozen.sampled_retransmits};
  if (frozen.reading_header || !frozen.header.empty()) RestoreHeader(session, frozen);
  session.relay(Direction::kToServer).SetSource(frozen.client_fd);
  session.relay(Direction::kToClient).SetSink(frozen.client_fd);
  if (frozen.queued_at != TimePoint::max()) {
    session.state = SessionState::kQueued;
    session.connect_started_at = frozen.queued_at;
  }
  route.listener_cells->active.Add(1);
  cells_.sessions.Add(1);
  bool whole = true;
  if (frozen.established) {
    session.state = SessionState::kEstablished;
    session.server_fd = frozen.server_fd;
    session.tried[session.tries++] = server;
    session.has_server = true;
    route.upstream->server(server).Reserve();
    session.relay(Direction::kToServer).SetSink(frozen.server_fd);
    session.relay(Direction::kToClient).SetSource(frozen.server_fd);
    for (const Relay& relay : session.relays) env_.modes[static_cast<size_t>(relay.mode())].Add(1);
  }
  for (size_t i = 0; i < session.relays.size(); ++i) {
    whole &= session.relays[i].Restore(frozen.relays[i]);
    session.swept[i].received = frozen.relays[i].received;
    session.swept[i].held = session.relays[i].held();
    session.swept[i].active_at = CoarseTime(frozen.active_at[i].value_or(frozen.last_byte_at));
  }
  RestoreBandwidth(session, frozen);
  session.quiet_bytes = frozen.quiet_bytes;
  session.quiet_checks = frozen.quiet_checks;
  session.check_at = frozen.check_at;
  if (frozen.established)
    ScheduleTimer(session, io_.Now());
  else if (frozen.reading_header)
    timers_.Schedule(session, frozen.check_at);
  return whole;
}

void Sessions::Thaw() {
  frozen_ = false;
  ThawQueues();
  pool_.ForEach([&](Session& session) {
    if (session.state == SessionState::kClosing) return;
    Touch(session);
    if (session.state == SessionState::kConnecting && !session.has_server)
      StartConnect(session, session.tries == 0          ? CloseReason::kNoServer
                            : session.connect_timed_out ? CloseReason::kConnectTimeout
                                                        : CloseReason::kConnectFailed);
  });
}

void Sessions::LetGo() {
  RINGMAIN_CHECK(frozen_ && settled());
  pool_.ForEach([&](Session& session) {
    if (session.state == SessionState::kEstablished)
      for (const Relay& relay : session.relays) env_.modes[static_cast<size_t>(relay.mode())].Add(-1);
    timers_.Cancel(session);
    starved_.Remove(session);
    if (session.waiting.linked) LeaveQueue(session);
    dirty_.Remove(session);
    lively_.Remove(session);
    ReleaseServer(session);
    for (Relay& relay : session.relays) relay.Discard();
    DropHeader(session);
    EndBandwidth(session);
    Route& route = *session.route;
    route.listener_cells->active.Add(-1);
    cells_.sessions.Add(-1);
    if (session.client_source != kNoClientSource) observer_.OnSourceLeft(route, session.client_source);
    pool_.Destroy(session.index);
    --route.sessions;
    observer_.OnLetGo(route);
  });
}

// ---- One direction ----

FrozenRelay Relay::Save() const {
  RINGMAIN_CHECK(!receiving_ && !sending_);
  FrozenRelay frozen;
  frozen.received = received_;
  frozen.sent = sent_;
  frozen.ended = ended_;
  frozen.source_broken = source_broken_;
  frozen.discarding = discarding_;
  frozen.finished = finished_;
  if (pipe_ != BufferPool::kNone) {
    frozen.in_pipe = queued_;
    std::array<int, 2> ends = env_->io.PipeEnds(pipe_);
    frozen.pipe_read = ends[0];
    frozen.pipe_write = ends[1];
    return frozen;
  }
  frozen.bytes.reserve(queued_);
  for (uint16_t b = head_; b != BufferPool::kNone; b = env_->buffers.header(b).next)
    frozen.bytes.append(env_->buffers.data(b) + env_->buffers.header(b).offset, env_->buffers.header(b).length);
  return frozen;
}

bool Relay::Restore(const FrozenRelay& frozen) {
  received_ = frozen.received;
  sent_ = frozen.sent;
  ended_ = frozen.ended;
  source_broken_ = frozen.source_broken;
  discarding_ = frozen.discarding;
  finished_ = frozen.finished;
  poll_first_ = false;
  if (frozen.in_pipe > 0) {
    pipe_ = env_->io.AdoptPipe(frozen.pipe_read, frozen.pipe_write);
    queued_ = frozen.in_pipe;
    direct_ = true;
    ShowMode(RelayMode::kSpliced);
    return true;
  }
  BufferPool& pool = env_->buffers;
  for (size_t done = 0; done < frozen.bytes.size(); done = queued_) {
    std::optional<uint16_t> buffer = pool.Borrow(/*though_tight=*/true);
    if (!buffer.has_value()) return false;
    auto length = static_cast<uint32_t>(std::min<size_t>(frozen.bytes.size() - done, pool.buffer_bytes()));
    std::memcpy(pool.data(*buffer), frozen.bytes.data() + done, length);
    pool.header(*buffer).length = length;
    Link(*buffer);
    queued_ += length;
  }
  blocked_ = queued_ > 0;
  return true;
}

}  // namespace ringmain
