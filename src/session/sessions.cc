#include "session/sessions.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/probe.h"

namespace ringmain {

Sessions::Sessions(Io& io, BufferPool& buffers, uint32_t high_water, WorkerCells& cells, SessionObserver& observer,
                   uint32_t direct_turn_bytes, uint64_t first_number)
    : io_(io),
      env_{io, buffers, high_water, cells.relays},
      direct_turn_bytes_(direct_turn_bytes),
      first_number_(first_number),
      cells_(cells),
      observer_(observer),
      timers_(io.Now()),
      bandwidth_timers_(io.Now()) {
  RINGMAIN_CHECK(high_water > 2 * buffers.buffer_bytes());
}

void Sessions::Open(int client, Route& route, uint32_t client_source) {
  Session& session = pool_.Create(env_, route, client, client_source);
  cells_.opened.Add();
  session.number = first_number_ + cells_.opened.value();
  ++route.sessions;
  session.accepted_at = session.connecting_since = session.last_byte_at = io_.Now();
  route.listener_cells->active.Add(1);
  cells_.sessions.Add(1);
  session.relay(Direction::kToServer).SetSource(client);
  session.relay(Direction::kToClient).SetSink(client);
  Touch(session);
  RINGMAIN_PROBE(accept, session.number, client, route.names->listener.c_str());
  if (route.proxy_protocol.accept == ProxyProtocolAccept::kOff || !ExpectHeader(session)) StartConnect(session, CloseReason::kNoServer);
}

void Sessions::Handle(const Completion& completion) {
  Session* session = pool_.Find(completion.token.index, completion.token.generation);
  if (session == nullptr) [[unlikely]] {
    // A session is freed only when nothing is armed, so this cannot be one of ours; a buffer must not be lost all the same.
    if (completion.has_buffer) {
      env_.buffers.Take(completion.buffer, 0);
      env_.buffers.Release(completion.buffer);
    }
    return;
  }
  Direction direction = Direction::kToServer;
  RelayEvent event = RelayEvent::kNone;
  switch (completion.token.op) {
    case Op::kReceiveFromServer:
      direction = Direction::kToClient;
      [[fallthrough]];
    case Op::kReceiveFromClient:
      event = session->relay(direction).OnReceive(completion);
      break;
    case Op::kSendToClient:
      direction = Direction::kToClient;
      [[fallthrough]];
    case Op::kSendToServer:
      event = session->relay(direction)
                  .OnSend(completion, session->route->listener_cells->bytes[static_cast<size_t>(direction)]);
      break;
    case Op::kConnect:
      OnConnect(*session, completion.result);
      return;
    default:
      RINGMAIN_CHECK(false);
  }
  if (session->state != SessionState::kEstablished) {
    if (session->state == SessionState::kClosing) {
      FinishClose(*session);
      return;
    }
    if (session->state == SessionState::kReadingHeader && !ReadHeader(*session)) return;
  }
  Touch(*session);
  if (event != RelayEvent::kNone || session->server_lost) OnRelayEvent(*session, direction, event);
}

void Sessions::Flush() {
  if (!frozen_) PumpAll();
  if (serve_queues_) ServeQueues();
  const BufferPool& buffers = env_.buffers;
  cells_.buffers_held.Set(buffers.held());
  cells_.buffers.Set(buffers.total());
  cells_.spliced_bytes.Add(std::exchange(env_.spliced_bytes, 0));
  cells_.buffer_bytes.Set(static_cast<int64_t>(buffers.total()) * buffers.buffer_bytes());
}

void Sessions::PumpAll() {
  env_.direct_budget = direct_turn_bytes_;
  for (size_t left = dirty_.size(); left > 0 && !dirty_.empty(); --left) {
    Session* session = dirty_.PopFront();
    if (session->state == SessionState::kClosing || session->state == SessionState::kQueued) continue;
    if (session->route->bandwidth != nullptr) [[unlikely]] LimitBandwidth(*session);
    for (Direction direction : {Direction::kToServer, Direction::kToClient}) {
      if (session->server_lost && direction == Direction::kToClient) continue;
      Counter& bytes = session->route->listener_cells->bytes[static_cast<size_t>(direction)];
      RelayEvent event = session->relay(direction).Pump(bytes);
      if (event != RelayEvent::kNone) OnRelayEvent(*session, direction, event);
    }
    PassEnds(*session);
  }
  FeedStarved();
}

void Sessions::CloseAll(CloseReason reason) {
  pool_.ForEach([&](Session& session) { Close(session, reason); });
}

void Sessions::CloseThoseOf(const Server& server, CloseReason reason) {
  pool_.ForEach([&](Session& session) {
    if (session.has_server && &session.route->upstream->server(session.server()) == &server) Close(session, reason);
  });
}

void Sessions::SetHighWater(uint32_t bytes) { env_.high_water = std::max(bytes, 2 * env_.buffers.buffer_bytes() + 1); }

std::optional<TimePoint> Sessions::NextWakeUp() const {
  if (frozen_) return std::nullopt;
  std::optional<TimePoint> next = timers_.NextWakeUp();
  if (std::optional<TimePoint> at = bandwidth_timers_.NextWakeUp()) next = std::min(next.value_or(*at), *at);
  if (!lively_.empty()) next = std::min(next.value_or(sweep_at_), sweep_at_);
  if (idle_walk_.has_value() && size() > 0) next = std::min(next.value_or(idle_walk_->step_at), idle_walk_->step_at);
  return next;
}

void Sessions::RunTimers(TimePoint now) {
  if (frozen_) return;
  if (!lively_.empty() && now >= sweep_at_) Sweep(now);
  if (idle_walk_.has_value() && now >= idle_walk_->step_at) CloseDueIdle(now);
  while (TimerWheel::Timer* timer = bandwidth_timers_.PopDue(now)) Touch(static_cast<SessionBandwidth&>(*timer).session);
  while (TimerWheel::Timer* timer = timers_.PopDue(now)) OnTimer(static_cast<Session&>(*timer), now);
}

void Sessions::Touch(Session& session) {
  if (!session.dirty.linked) dirty_.PushBack(session);
  if (session.lively.linked) return;
  if (lively_.empty()) sweep_at_ = io_.Now() + kSweepInterval;
  lively_.PushBack(session);
}

// First in, first out, and no more receives than there are buffers: the others would only starve again. Every receive that counts is
// one that will complete, so the turn that feeds the next comes.
void Sessions::FeedStarved() {
  if (starved_.empty()) return;
  env_.buffers.WidenRing();
  for (uint32_t fed = 0; fed < env_.buffers.published() && !starved_.empty();)
    for (Relay& relay : starved_.PopFront()->relays) fed += relay.Feed() ? 1 : 0;
}

// ---- Connecting ----

void Sessions::StartConnect(Session& session, CloseReason last_failure) {
  if (frozen_) return;  // Thaw comes back to it
  TimePoint now = io_.Now();
  const Route& route = *session.route;
  const ConnectQueue* queue = route.upstream->queue().get();
  std::span<const uint16_t> tried{session.tried.data(), session.tries};
  bool others_wait = queue != nullptr && queue->waiting() > 0;  // they came before
  PickResult picked;
  if (others_wait)
    picked.full = route.upstream->MayPick({tried, 0, now});
  else
    picked = PickServer(session, route, tried, now);
  if (picked.server.has_value())
    ConnectTo(session, *picked.server, now);
  else if (picked.full)
    Queue(session, now);
  else
    WithoutServer(session, last_failure);
}

PickResult Sessions::PickServer(const Session& session, const Route& route, std::span<const uint16_t> tried, TimePoint now) {
  PickRequest request{tried, 0, now};
  if (route.upstream->balancer().needs_source())
    if (std::optional<SocketAddress> client = ClientAddress(session)) request.source = HashOfSource(*client);
  return route.upstream->Pick(request);
}

// REQUIRES: a connection is reserved on the server.
void Sessions::ConnectTo(Session& session, uint16_t server, TimePoint now) {
  session.state = SessionState::kConnecting;
  session.tried[session.tries++] = server;
  session.has_server = true;
  session.connect_timed_out = false;
  session.connect_started_at = now;
  RetryBudget* budget = session.route->upstream->retry_budget();
  if (budget != nullptr && session.tries == 1 && session.lost_reason == CloseReason::kError) budget->OnFirstConnect();
  ConnectFromNextSource(session, now);
}

void Sessions::ConnectFromNextSource(Session& session, TimePoint now) {
  Route& route = *session.route;
  RouteServer& shared = route.servers[session.server()];
  const Server& server = route.upstream->server(session.server());
  std::optional<SocketAddress> client;
  if (route.transparent && !server.address().is_unix()) {
    client = ClientAddress(session);
    if (!client.has_value()) return Close(session, CloseReason::kClientLeft);
  }
  int fd = client.has_value() && !client->is_unix() ? OpenFromClientsAddress(session, server, *client)
                                                    : OpenFromNextSource(session, server, now);
  if (fd == -EMFILE || fd == -ENFILE) {
    shared.cells->connect_failures[static_cast<size_t>(ConnectFailure::kNoFiles)].Add();
    observer_.OnOutOfFiles();
    WithoutServer(session, CloseReason::kNoFiles);
    return;
  }
  if (fd < 0) {
    ConnectTryFailed(session, ConnectFailureFromErrno(-fd), -fd);
    return;
  }
  session.server_fd = fd;
  session.connect_armed = true;
  io_.Connect({Op::kConnect, session.generation, session.index}, fd, server.address());
  ScheduleConnectTimer(session);
}

// Source addresses that this machine does not have are passed over at once.
int Sessions::OpenFromNextSource(Session& session, const Server& server, TimePoint now) {
  Route& route = *session.route;
  std::span<const SocketAddress> sources = route.upstream->sources(session.server());
  int fd = -EADDRNOTAVAIL;
  while (std::optional<uint16_t> source = route.servers[session.server()].sources.Next(now)) {
    session.source = *source;
    fd = io_.OpenSocket(server.address().family(), sources.empty() ? nullptr : &sources[*source], route.socket);
    if (fd != -EADDRNOTAVAIL) break;
    SourceFailed(session, /*missing=*/true, now);
  }
  return fd;
}

// To a server of another family the client has no address; to show the proxy's own instead would give it what only the proxy may.
int Sessions::OpenFromClientsAddress(Session& session, const Server& server, const SocketAddress& client) {
  session.source = Session::kClientsAddress;
  if (client.family() != server.address().family()) return -EADDRNOTAVAIL;
  SocketAddress source = client;
  source.set_port(0);
  return io_.OpenSocket(source.family(), &source, session.route->socket, /*transparent=*/true);
}

void Sessions::SourceFailed(Session& session, bool missing, TimePoint now) {
  Route& route = *session.route;
  route.servers[session.server()].sources.Rest(session.source, now);
  std::span<const SocketAddress> sources = route.upstream->sources(session.server());
  if (!sources.empty()) observer_.OnSourceFailed(route, session.server(), sources[session.source], missing);
}

void Sessions::OnConnect(Session& session, int result) {
  session.connect_armed = false;
  if (session.state == SessionState::kClosing) {
    FinishClose(session);
    return;
  }
  if (frozen_ && (result == -ECANCELED || result == -EADDRNOTAVAIL) && !session.connect_timed_out) {
    GiveUpConnect(session);
    return;
  }
  if (result == 0 && ConnectedToItself(session)) {
    // Nobody listens there. A reset, so that nothing stays behind that would keep the server from its port.
    io_.CloseWithReset(std::exchange(session.server_fd, -1));
    result = -ECONNREFUSED;
  }
  if (result == 0)
    Establish(session);
  else if (session.connect_timed_out)
    ConnectTryFailed(session, ConnectFailure::kTimeout, ETIMEDOUT);
  else if (result == -EADDRNOTAVAIL)
    OnNoPort(session);
  else
    ConnectTryFailed(session, ConnectFailureFromErrno(-result), -result);
}

bool Sessions::ConnectedToItself(const Session& session) {
  const Route& route = *session.route;
  return route.servers[session.server()].may_meet_itself &&
         io_.ConnectedToItself(session.server_fd, route.upstream->server(session.server()).address());
}

// Every port of this source address is taken towards the server; another address has ports of its own.
void Sessions::OnNoPort(Session& session) {
  if (session.source == Session::kClientsAddress) return ConnectTryFailed(session, ConnectFailure::kNoLocalAddress, EADDRNOTAVAIL);
  TimePoint now = io_.Now();
  SourceFailed(session, /*missing=*/false, now);
  io_.Close(std::exchange(session.server_fd, -1));
  ConnectFromNextSource(session, now);
}

void Sessions::ConnectTryFailed(Session& session, ConnectFailure failure, int error) {
  const Route& route = *session.route;
  RINGMAIN_PROBE(connect_failed, session.number, route.names->upstream.c_str(), route.names->servers[session.server()].c_str(), ToString(failure).data(), error);
  session.connect_timed_out = failure == ConnectFailure::kTimeout;
  route.servers[session.server()].cells->connect_failures[static_cast<size_t>(failure)].Add();
  observer_.OnConnectFailed(route, session.server(), failure, error);
  TimePoint now = io_.Now();
  if (failure != ConnectFailure::kNoLocalAddress && failure != ConnectFailure::kNoFiles) NoteFailure(session, now);
  ReleaseServer(session);
  if (session.server_fd >= 0) io_.Close(session.server_fd);
  session.server_fd = -1;
  CloseReason reason =
      failure == ConnectFailure::kTimeout ? CloseReason::kConnectTimeout : CloseReason::kConnectFailed;
  if (session.tries >= route.connect_tries)
    WithoutServer(session, reason);
  else if (route.connect_total_timeout.count() != 0 && now >= LastConnectBy(session))
    WithoutServer(session, CloseReason::kConnectTimeout);
  else if (!MayRetry(route, now))
    WithoutServer(session, reason);
  else
    StartConnect(session, reason);
}

// No server is to be had. A client whose server was to be replaced sees that one's end, as if nothing had been tried.
void Sessions::WithoutServer(Session& session, CloseReason reason) {
  session.reset |= session.lost_reason == CloseReason::kServerReset;
  Close(session, session.lost_reason != CloseReason::kError ? session.lost_reason : reason);
}

void Sessions::Establish(Session& session) {
  const Route& route = *session.route;
  TimePoint now = io_.Now();
  route.upstream_cells->connect_duration.Observe(now - session.connect_started_at);
  route.servers[session.server()].cells->connects.Add();
  if (route.upstream->balancer().needs_latency())
    route.upstream->server(session.server()).ObserveConnect(now - session.connect_started_at, now);
  if (!route.upstream->counts_early_ends()) route.upstream->Succeeded(session.server(), now);
  session.state = SessionState::kEstablished;
  session.last_byte_at = now;
  for (Session::Swept& swept : session.swept) swept.active_at = CoarseTime(now);
  for (const Relay& relay : session.relays) env_.modes[static_cast<size_t>(relay.mode())].Add(1);
  session.relay(Direction::kToServer).SetSink(session.server_fd);
  session.relay(Direction::kToClient).SetSource(session.server_fd);
  StartQuietTimer(session, now);
  Touch(session);
  RINGMAIN_PROBE(connect, session.number, session.server_fd, route.names->upstream.c_str(),
                 route.names->servers[session.server()].c_str(), std::chrono::floor<microseconds>(now - session.connect_started_at).count());
  if (route.send_proxy_protocol != ProxyProtocolSend::kOff) SendHeader(session);
}

void Sessions::ReleaseServer(Session& session) {
  if (!session.has_server) return;
  session.has_server = false;
  Upstream& upstream = *session.route->upstream;
  upstream.server(session.server()).Release();
  if (upstream.queue() == nullptr) return;
  std::optional<uint32_t> next = upstream.queue()->Next();
  if (!next.has_value()) return;
  if (*next == worker())
    serve_queues_ = true;
  else
    observer_.OnTurnInQueue(*next);
}

// ---- Ends of streams ----

void Sessions::OnRelayEvent(Session& session, Direction direction, RelayEvent event) {
  if (!DealWithLostServer(session, direction, event)) ActOn(session, direction, event);
}

void Sessions::ActOn(Session& session, Direction direction, RelayEvent event) {
  switch (event) {
    case RelayEvent::kNone:
      return;
    case RelayEvent::kSourceEnded:
      OnSourceEnded(session, direction, /*reset=*/false);
      return;
    case RelayEvent::kSourceReset:
      OnSourceEnded(session, direction, /*reset=*/true);
      return;
    case RelayEvent::kSinkFailed:
      OnSinkFailed(session, direction);
      return;
    case RelayEvent::kDeferred:
      if (!session.dirty.linked) dirty_.PushBack(session);
      return;
    case RelayEvent::kStarved:
      cells_.receive_starvations.Add();
      if (!session.starved.linked) starved_.PushBack(session);
      return;
  }
}

void Sessions::OnSourceEnded(Session& session, Direction direction, bool reset) {
  bool client = direction == Direction::kToServer;
  if (session.state == SessionState::kReadingHeader) {
    OnHeaderCutOff(session, reset);
    return;
  }
  if (session.without_server()) {
    // Only the client has a relay that receives yet.
    if (reset) {
      Close(session, CloseReason::kClientLeft);
    } else {
      SettleReason(session, CloseReason::kClientClosed);
      if (session.relay(direction).received() == 0) {
        session.leave_at = io_.Now() + kLeaveGrace;
        ScheduleConnectTimer(session);
      }
    }
    return;
  }
  if (!reset) {
    SettleReason(session, client ? CloseReason::kClientClosed : CloseReason::kServerClosed);
    StartQuietTimer(session, io_.Now());
    return;
  }
  SettleReason(session, client ? CloseReason::kClientReset : CloseReason::kServerReset);
  session.reset = true;
  session.relay(Opposite(direction)).Discard();  // its sink is the socket that is gone
  StartQuietTimer(session, io_.Now());
}

void Sessions::OnSinkFailed(Session& session, Direction direction) {
  SettleReason(session, direction == Direction::kToServer ? CloseReason::kServerReset : CloseReason::kClientReset);
  session.reset = true;
  session.relay(direction).Discard();
  // What the failed side sent before may still be in its socket; its end is a reset, however it shows.
  session.relay(Opposite(direction)).BreakSource();
  StartQuietTimer(session, io_.Now());
}

// The first end gives the reason, but for a reset, which outranks an orderly end.
void Sessions::SettleReason(Session& session, CloseReason reason) {
  bool resets = reason == CloseReason::kClientReset || reason == CloseReason::kServerReset;
  if (session.ending && (session.reset || !resets)) return;
  session.ending = true;
  session.reason = reason;
}

// Passes on the end of each direction whose last byte was sent; closes the session when both are through.
void Sessions::PassEnds(Session& session) {
  if (session.state != SessionState::kEstablished || !session.ending || session.server_lost) return;
  Relay* passed = nullptr;
  for (Relay& relay : session.relays)
    if (relay.drained() && !relay.complete()) {
      relay.Finish();
      passed = &relay;
    }
  if (session.relays[0].complete() && session.relays[1].complete()) {
    Close(session, session.reason);
  } else if (passed != nullptr) {
    if (!session.reset) io_.ShutdownSend(passed == &session.relays[0] ? session.server_fd : session.client_fd);
    StartQuietTimer(session, io_.Now());
  }
}

}  // namespace ringmain
