#include "rules.h"

#include <algorithm>
#include <cerrno>

#include "world.h"

namespace ringmain::sim {
namespace {

// Each of the checks within a timeout is late by at most a tick and the loop's own delay, and starts the next one.
constexpr Duration kLateness = (Sessions::kQuietChecks + 1) * (TimerWheel::kTick + milliseconds(2));

bool Refuses(CloseReason reason) {
  return reason == CloseReason::kNoServer || reason == CloseReason::kConnectFailed ||
         reason == CloseReason::kConnectTimeout || reason == CloseReason::kNoFiles ||
         reason == CloseReason::kQueueFull || reason == CloseReason::kQueueTimeout || reason == CloseReason::kClientLeft;
}

// What the timer and the loop add.
constexpr Duration kSlack = TimerWheel::kTick + milliseconds(2);

uint64_t Milliseconds(Duration duration) { return static_cast<uint64_t>(duration / milliseconds(1)); }

}  // namespace

// ---- What happens ----

void Rules::OnCompletion(const Completion& completion) {
  if (completion.token.op != Op::kConnect) return;
  const SimSession* session = world_.io().FindSession(completion.token);
  if (session == nullptr || session->closing || session->closed || session->established || session->gave_up) return;
  int error = -session->last_connect_result.value();
  ConnectFailure failure = session->connect_timed_out ? ConnectFailure::kTimeout : ConnectFailureFromErrno(error);
  // Without a port it goes on from another local address if there is one.
  if (failure == ConnectFailure::kNoLocalAddress) return;
  expected_failures_.resize(world_.options().servers);
  ++expected_failures_[session->server->server][static_cast<size_t>(failure)];
}

void Rules::OnConnectFailed(size_t server, ConnectFailure failure) {
  no_local_address_ |= failure == ConnectFailure::kNoLocalAddress;
  if (failure == ConnectFailure::kNoLocalAddress && !world_.options().transparent) {
    std::span<const SocketAddress> sources = world_.upstream().sources(server);
    for (const SocketAddress& source : sources)
      world_.report().Expect(world_.io().NoPort(server, source.host()) || world_.io().Missing(source.host()),
                             "no_local_address though ", source.host(), " was not tried");
    world_.report().Expect(!sources.empty() || world_.io().NoPort(server, ""), "no_local_address untried");
  }
  seen_failures_.resize(world_.options().servers);
  ++seen_failures_[server][static_cast<size_t>(failure)];
}

void Rules::OnClosed(CloseReason reason) {
  ++closed_[static_cast<size_t>(reason)];
  Report& report = world_.report();
  report.Trace("closed: ", std::string(ToString(reason)));
  SimSession* session = world_.io().last_closed();
  if (!report.Expect(session != nullptr && !session->closed, "OnClosed without a session that has just closed")) return;
  session->closed = true;
  if (world_.options().access_log.has_value()) {
    report.Expect(session->lines_at_end == 1 && session->reason_told == reason, "closed, with ", session->lines_at_end,
                  " lines of the access log, for ", std::string(ToString(session->reason_told)));
    report.Expect(session->lines_at_start == (world_.options().access_log->at_start ? 1 : 0), session->lines_at_start, " lines at the start");
  }
  report.Expect(session->client->closed, "the client's socket is not closed");
  const SimSocket* server = session->server;
  if (server != nullptr) report.Expect(server->closed, "the server's socket is not closed");
  if (server != nullptr && server->connected && !server->script.is_the_proxy)
    report.Expect(server->closed_with_reset == session->client->closed_with_reset, "one side reset, the other not");
  switch (reason) {
    case CloseReason::kClientClosed:
    case CloseReason::kServerClosed:
      if (session->replaced && !session->established) return CheckNotReplaced(*session, reason);
      CheckOrderlyEnd(*session, reason == CloseReason::kClientClosed);
      return;
    case CloseReason::kClientReset:
      CheckReset(*session, *session->client);
      return;
    case CloseReason::kServerReset:
      if (session->replaced && !session->established) return CheckNotReplaced(*session, reason);
      CheckReset(*session, *session->server);
      return;
    case CloseReason::kIdleTimeout:
      CheckCut(*session);
      CheckTimeout(*session, world_.options().idle_timeout);
      return;
    case CloseReason::kHalfClosedTimeout:
      CheckCut(*session);
      report.Expect(session->half_closed, "half_closed_timeout of a session that is not half closed");
      CheckTimeout(*session, world_.options().half_closed_timeout);
      return;
    case CloseReason::kClientIdleTimeout:
    case CloseReason::kServerIdleTimeout:
      CheckCut(*session);
      CheckSideTimeout(*session, reason == CloseReason::kClientIdleTimeout ? Direction::kToServer : Direction::kToClient);
      return;
    case CloseReason::kMaxLifetime:
      CheckCut(*session);
      CheckLifetime(*session);
      return;
    case CloseReason::kShutdown:
    case CloseReason::kDrainTimeout:
    case CloseReason::kServerRemoved:
      CheckCut(*session);
      return;
    case CloseReason::kProxyProtocol:
    case CloseReason::kProxyProtocolTimeout:
      CheckHeaderRefused(*session, reason);
      return;
    case CloseReason::kTakeoverFailed:
      report.Expect(session->client->closed_with_reset, "lost, and not reset");
      return;
    case CloseReason::kDrainIdle:
      CheckCut(*session);
      report.Expect(session->closing_at - session->last_received_at >= Sessions::kIdle, "closed as idle after ",
                    Milliseconds(session->closing_at - session->last_received_at), " ms");
      return;
    default:
      report.Expect(Refuses(reason), "closed for ", std::string(ToString(reason)));
      CheckRefused(*session, reason);
  }
}

// ---- The access log ----

// As it is told: the session is as it was then.
void Rules::OnLogged(const AccessRecord& record) {
  Report& report = world_.report();
  std::deque<SimSession>& sessions = world_.io().sessions();
  report.Trace("logged: ", std::string(ToString(record.event)), " of session ", record.number);
  if (!report.Expect(record.number > 0 && record.number <= sessions.size(), "no session has number ", record.number)) return;
  SimSession& session = sessions[record.number - 1];
  report.Expect(session.lines_at_end == 0 && !session.closed, "a line after the end of session ", record.number);
  if (record.event == AccessEvent::kStart) ++session.lines_at_start;
  if (record.event != AccessEvent::kEnd) return;
  ++session.lines_at_end;
  session.reason_told = record.reason;
  CheckLogged(session, record);
}

void Rules::CheckLogged(const SimSession& session, const AccessRecord& record) {
  Report& report = world_.report();
  const SimSocket& client = *session.client;
  const SimSocket* server = session.established ? session.server : nullptr;
  report.Expect(record.at == world_.io().now() && record.accepted_at == session.opened_at, "the times of session ", record.number);
  const ProxyHeader& header = client.header;
  // What comes while it closes is not looked into.
  bool read = (session.closing ? session.client_handled : client.received_handled) >= client.stripped;
  bool told = read && (header.source.has_value() || !header.tlvs.empty() || header.checksum);
  std::string peer = absl::StrCat("10.0.0.2:", client.fd);
  report.Expect(record.client.has_value() && record.client->ToString() == (told && header.source.has_value() ? header.source->ToString() : peer),
                "the client of session ", record.number);
  report.Expect(record.proxy.version == (told ? header.version : 0), "the header of session ", record.number, " is told as version ",
                uint32_t{record.proxy.version});
  if (told)
    report.Expect(record.proxy.from.has_value() && record.proxy.from->ToString() == peer && record.proxy.destination == header.destination,
                  "the header of session ", record.number);
  std::array<uint64_t, 2> bytes{server == nullptr ? 0 : server->sent_handled - server->lead_handled(), client.sent_handled};
  report.Expect(record.bytes == bytes, "the bytes of session ", record.number, " are told as ", record.bytes[0], " and ", record.bytes[1]);
  report.Expect(record.connect.has_value() == session.established, "the connect of session ", record.number);
  std::optional<Duration> first_byte;
  if (session.first_byte_at.has_value()) first_byte = *session.first_byte_at - session.opened_at;
  report.Expect(record.first_byte == first_byte, "the first byte of session ", record.number);
}

// ---- Why sessions close ----

void Rules::CheckOrderlyEnd(const SimSession& session, bool client_first) {
  Report& report = world_.report();
  if (!report.Expect(session.established, "an orderly end of a session that had no server")) return;
  for (const SimSocket* source : {session.client, session.server}) {
    const SimSocket& sink = *session.other(*source);
    report.Expect(!sink.closed_with_reset, "an orderly end by reset");
    report.Expect(source->eof_handled && !source->error_handled(), "an orderly end without FIN of fd ", source->fd);
    report.Expect(session.passed(sink) == source->arrived, "fd ", sink.fd, " got ", session.passed(sink), " of ", source->arrived,
                  " bytes and an orderly end");
  }
  report.Expect(session.client_ended_first == client_first, "the reason names the wrong side");
}

// A reset passes on as a reset, and what the broken side sent before still arrives.
void Rules::CheckReset(const SimSession& session, const SimSocket& broken) {
  Report& report = world_.report();
  if (!report.Expect(session.established, "a reset of a session that had no server")) return;
  const SimSocket& other = *session.other(broken);
  report.Expect(broken.error_handled(), "closed for a reset of fd ", broken.fd, " that did not happen");
  report.Expect(other.closed_with_reset, "the reset of fd ", broken.fd, " was not passed on");
  if (other.error_handled()) return;
  report.Expect(broken.taken == broken.arrived && session.passed(other) == broken.arrived, "fd ", other.fd, " got ",
                session.passed(other), " of ", broken.arrived, " bytes that were sent before the reset");
}

// A stream that is cut does not look complete.
void Rules::CheckCut(const SimSession& session) {
  if (!session.established) return;
  for (const SimSocket* source : {session.client, session.server}) {
    const SimSocket& sink = *session.other(*source);
    if (sink.closed_with_reset || source->error_handled() || sink.error_handled()) continue;
    world_.report().Expect(session.passed(sink) == source->arrived, "fd ", sink.fd, " was cut after ", session.passed(sink), " of ",
                           source->arrived, " bytes, without a reset");
  }
}

void Rules::CheckTimeout(const SimSession& session, Duration timeout) {
  Report& report = world_.report();
  report.Expect(timeout.count() != 0, "closed for a timeout that is off");
  report.Expect(session.timer_closed, "closed for a timeout, but not by a timer");
  report.Expect(session.closing_at - session.last_byte_at >= timeout, "closed after ",
                Milliseconds(session.closing_at - session.last_byte_at), " ms of quiet, too early");
}

// The side was there, nothing came from it for so long, and nothing that had come was on its way.
void Rules::CheckSideTimeout(const SimSession& session, Direction direction) {
  Report& report = world_.report();
  Duration timeout = world_.options().side_idle_timeouts[static_cast<size_t>(direction)];
  const SimSocket& source = direction == Direction::kToServer ? *session.client : *session.server;
  Duration quiet = session.closing_at - session.side_active_at[static_cast<size_t>(direction)];
  report.Expect(timeout.count() != 0, "closed for a timeout that is off");
  report.Expect(session.established && session.timer_closed, "closed for a timeout, but not by a timer");
  report.Expect(quiet >= timeout, "closed after ", Milliseconds(quiet), " ms without a byte of fd ", source.fd, ", too early");
  report.Expect(session.side_waits[static_cast<size_t>(direction)], "closed for the quiet of fd ", source.fd,
                ", which has ended its stream, or whose bytes were held back");
}

void Rules::CheckLifetime(const SimSession& session) {
  Report& report = world_.report();
  const WorldOptions& options = world_.options();
  Duration age = session.closing_at - session.opened_at;
  report.Expect(options.max_lifetime.count() != 0, "closed for its age, though there is no limit");
  report.Expect(session.timer_closed, "closed for its age, but not by a timer");
  report.Expect(age >= options.max_lifetime * (100 - options.lifetime_jitter_percent) / 100, "closed for its age after ",
                Milliseconds(age), " ms");
}

// A server was to take the place of one that had ended, and none could be had: the client sees that end.
void Rules::CheckNotReplaced(const SimSession& session, CloseReason reason) {
  Report& report = world_.report();
  report.Expect(reason == (session.replaced_after_reset ? CloseReason::kServerReset : CloseReason::kServerClosed),
                "a server could not be replaced, and the session is closed for ", std::string(ToString(reason)));
  const SimSocket& client = *session.client;
  report.Expect(client.closed_with_reset || !(session.replaced_after_reset || client.payload_handled() > 0), "a lost stream looks complete");
}

void Rules::CheckRefused(const SimSession& session, CloseReason reason) {
  Report& report = world_.report();
  const SimSocket& client = *session.client;
  report.Expect(client.closed_with_reset, "refused without a reset");
  report.Expect(!session.established, "refused after a server was connected");
  report.Expect(!session.replaced || reason == CloseReason::kClientLeft, "refused though it had a server");
  size_t candidates = world_.options().servers;
  bool all_tried = session.tried.size() == std::min<size_t>(world_.options().connect_tries, candidates);
  switch (reason) {
    case CloseReason::kNoServer:
      report.Expect(session.tried.empty() && world_.health_changed(), "no_server though servers are up");
      return;
    case CloseReason::kConnectFailed:
    case CloseReason::kConnectTimeout:
      if (world_.io().open_failed() || no_local_address_) return;
      report.Expect(session.last_connect_result.value_or(0) != 0, "closed for a connect that did not fail");
      if (reason == CloseReason::kConnectTimeout && session.closing_at >= LastConnectBy(session)) return;
      report.Expect((session.connect_timed_out || session.last_connect_result == -ETIMEDOUT) ==
                        (reason == CloseReason::kConnectTimeout),
                    "a wrong reason for the last try");
      report.Expect(all_tried || world_.health_changed(), "gave up after ", session.tried.size(), " tries");
      return;
    case CloseReason::kQueueFull:
    case CloseReason::kQueueTimeout:
      report.Expect(world_.options().server_max_connections.has_value(), "nobody ever has to wait");
      return;
    case CloseReason::kClientLeft:
      if (client.error_handled() || (world_.options().transparent && client.broken)) return;
      if (session.tried.empty() && world_.options().max_queue > 0) {
        report.Expect(client.fin_arrived && client.arrived == 0, "client_left though the client waits");
        return;
      }
      report.Expect(client.eof_handled && client.payload_taken() == 0, "client_left though the client is there");
      if (client.reads_header && client.taken == 0) return;  // a header is waited for, nothing else
      report.Expect(session.closing_at >= session.client_ended_at + Sessions::kLeaveGrace, "client_left too early");
      return;
    default:
      report.Expect(session.out_of_files, "no_files though there were");
  }
}

// What the proxy had of the client's stream when it refused it, or had waited for more in vain.
void Rules::CheckHeaderRefused(const SimSession& session, CloseReason reason) {
  Report& report = world_.report();
  const SimSocket& client = *session.client;
  report.Expect(client.closed_with_reset && session.tried.empty(), "a header is refused without a reset, or after a server was tried");
  if (!client.reads_header) {
    report.Expect(reason == CloseReason::kProxyProtocol && world_.RefusesUntrusted(), "a header is refused that was not waited for");
    return;
  }
  using Result = ParsedProxyHeader::Result;
  bool optional = world_.options().proxy_protocol.accept == ProxyProtocolAccept::kOptional;
  ParsedProxyHeader parsed = ParseProxyHeader(world_.io().StreamOf(client, std::min<uint64_t>(session.client_handled, kMostProxyHeader)));
  if (reason == CloseReason::kProxyProtocol) {
    bool cut_off = parsed.result == Result::kNeedsMore && session.client_handled > 0 && client.ended() && (parsed.begun || !optional || client.error_handled());
    report.Expect(parsed.result == Result::kMalformed || (parsed.result == Result::kNone && !optional) || cut_off,
                  "a header is refused with which nothing is wrong");
    return;
  }
  report.Expect(parsed.result == Result::kNeedsMore && (parsed.begun || !optional), "a header that was there is late");
  report.Expect(session.timer_closed && session.closing_at - session.opened_at >= world_.options().proxy_protocol.timeout,
                "a header is late after ", Milliseconds(session.closing_at - session.opened_at), " ms");
}

// ---- At all times ----

uint64_t Rules::Queued(const SimSocket& source, const SimSocket* sink) const {
  return source.payload_handled() + (sink != nullptr ? sink->lead.size() - sink->sent_handled : 0);
}

void Rules::AfterTurn() {
  Report& report = world_.report();
  CheckTotals();
  CheckPool();
  CheckPipes();
  CheckList();
  CheckBandwidth();
  for (const SimSession& session : world_.io().sessions()) {
    if (session.closed || session.closing) continue;
    // What it may still wait for is among the completions.
    report.Expect(!session.owes_another || world_.health_changed() || world_.io().completions() > 0, "the server of fd ",
                  session.client->fd, " is not replaced");
    CheckQueue(*session.client, session.established ? session.server : nullptr);
    if (session.established) CheckQueue(*session.server, session.client);
    CheckTimers(session);
  }
}

void Rules::CheckTotals() {
  Report& report = world_.report();
  SimIo& io = world_.io();
  int64_t open = 0;
  uint64_t to_server = 0, to_client = 0;
  std::vector<uint32_t> busy(world_.options().servers);
  for (const SimSession& session : io.sessions()) open += session.closed ? 0 : 1;
  for (const SimSocket& socket : io.sockets()) {
    (socket.is_client ? to_client : to_server) += socket.sent_handled;
    if (!socket.is_client && !socket.closed) ++busy[socket.server];
  }
  report.Expect(world_.sessions().size() == static_cast<size_t>(open), "sessions lost");
  report.Expect(world_.client_sources() == world_.sessions().size(), world_.client_sources(), " client sources are held");
  report.Expect(world_.worker_cells().sessions.value() == open, "the gauge of sessions is wrong");
  report.Expect(world_.listener_cells().active.value() == open, "the gauge of active connections is wrong");
  report.Expect(world_.listener_cells().bytes[0].value() == to_server, "bytes to the server are miscounted");
  report.Expect(world_.listener_cells().bytes[1].value() == to_client, "bytes to the client are miscounted");
  uint64_t active = 0;
  for (size_t i = 0; i < busy.size(); ++i) {
    report.Expect(world_.upstream().server(i).active() >= busy[i], "server ", i,
                  " has more connections than it counts");
    active += world_.upstream().server(i).active();
  }
  report.Expect(active <= static_cast<uint64_t>(open), "servers count more connections than there are sessions");
}

void Rules::OnBandwidthChanged() {
  unlimited_ = {};
  for (const SimSocket& socket : world_.io().sockets()) unlimited_[socket.is_client ? 0 : 1] += socket.payload_handled();
}

// Never more than the rate, what was saved up, and what each session may receive before it is paid for.
void Rules::CheckBandwidth() {
  double time = std::chrono::duration<double>(world_.io().now() - world_.limited_since()).count() + 1e-9 * kByteRateBurstNs;
  for (bool client : {true, false}) {
    const WorldOptions::ByteRates& rates = world_.options().bandwidth[client ? 0 : 1];
    if (!rates.on()) continue;
    double ahead = BandwidthQuantum(rates.listener, rates.per_session) + 1024;
    if (world_.options().proxy_protocol.accept != ProxyProtocolAccept::kOff) ahead += world_.options().buffers.buffer_bytes;
    if (unlimited_[client ? 0 : 1] > 0) ahead += world_.options().high_water;  // by receives that were armed then
    double all = 0, sessions = 0;
    for (const SimSocket& socket : world_.io().sockets()) {
      if (socket.is_client != client) continue;
      auto received = static_cast<double>(socket.payload_handled());
      all += received;
      ++sessions;
      world_.report().Expect(rates.per_session == 0 || received <= rates.per_session * time + ahead + unlimited_[client ? 0 : 1], received, " bytes of fd ", socket.fd, " at ", rates.per_session, "/s after ", time, " s");
    }
    all -= static_cast<double>(unlimited_[client ? 0 : 1]);
    world_.report().Expect(rates.listener == 0 || all <= rates.listener * time + ahead * sessions, all, " bytes of ", sessions, " sessions at ", rates.listener, "/s after ", time, " s");
  }
}

void Rules::CheckPool() {
  Report& report = world_.report();
  const BufferPool& pool = world_.pool();
  const WorldOptions& options = world_.options();
  report.Expect(pool.published() == world_.io().published() + world_.io().buffers_under_way(), "published buffers are ",
                world_.io().published(), " + ", world_.io().buffers_under_way(), ", not ", pool.published());
  report.Expect(pool.held() <= pool.max_total(), "more buffers held than exist");
  report.Expect(world_.worker_cells().buffers_held.value() == pool.held(), "the gauge of held buffers is wrong");
  // Idle directions hold nothing; two neighbours of a queue hold more than one buffer's worth.
  uint64_t most = 0;
  for (const SimSession& session : world_.io().sessions()) {
    if (session.closed) continue;
    for (const SimSocket* source : {session.client, session.server}) {
      if (source == nullptr) continue;
      uint64_t queued = Queued(*source, session.other(*source)) - world_.io().Piped(*source);
      most += queued == 0 ? 0 : 2 * (queued / options.buffers.buffer_bytes) + 3;
    }
  }
  report.Expect(pool.held() <= most, pool.held(), " buffers held for what fits into ", most);
}

// A pipe is lent while there are bytes in it, and no longer.
void Rules::CheckPipes() {
  world_.report().Expect(world_.io().taken_in_turn() <= world_.options().direct_turn_bytes, world_.io().taken_in_turn(),
                         " bytes moved directly in one turn");
  for (const SimPipe& pipe : world_.io().pipes()) {
    world_.report().Expect(!pipe.lent || pipe.bytes > 0, "a pipe is lent for nothing");
    world_.report().Expect(!pipe.lent || !pipe.source->session->closed, "a pipe is lent to a session that has ended");
  }
}

void Rules::CheckList() {
  Report& report = world_.report();
  const std::deque<SimSession>& sessions = world_.io().sessions();
  list_.clear();
  for (std::optional<uint32_t> slot = 0; slot.has_value();) slot = world_.sessions().List(*slot, 7, SIZE_MAX, list_);
  report.Expect(list_.size() == world_.sessions().size(), list_.size(), " sessions listed");
  std::array<int64_t, kRelayModes> modes{};
  for (const SessionRecord& record : list_) {
    if (!report.Expect(record.number > 0 && record.number <= sessions.size(), "no session has number ", record.number)) return;
    const SimSession& session = sessions[record.number - 1];
    report.Expect(!session.closed, "session ", record.number, " is listed and has ended");
    report.Expect((record.state == SessionState::kClosing) == session.closing, "session ", record.number, " is listed as ",
                  std::string(ToString(record.state)));
    if (session.closing) continue;
    report.Expect((record.state == SessionState::kEstablished) == session.established, "session ", record.number,
                  " is listed as ", std::string(ToString(record.state)));
    if (record.state == SessionState::kReadingHeader) {
      report.Expect(session.client->reads_header && session.tried.empty(), "session ", record.number, " reads no header");
      continue;
    }
    bool told = session.client->header.source.has_value();
    report.Expect(told ? record.client == session.client->header.source : record.client.has_value() != session.client->broken,
                  "the client of session ", record.number);
    CheckRelayRecord(record.relays[0], *session.client, session.established ? session.server : nullptr);
    if (!session.established) continue;
    CheckRelayRecord(record.relays[1], *session.server, session.client);
    for (const RelayRecord& relay : record.relays) ++modes[static_cast<size_t>(relay.mode)];
  }
  for (size_t i = 0; i < kRelayModes; ++i)
    report.Expect(world_.worker_cells().relays[i].value() == modes[i], "the gauge of ", std::string(kRelayModeNames[i]),
                  " relays is ", world_.worker_cells().relays[i].value(), ", not ", modes[i]);
}

void Rules::CheckRelayRecord(const RelayRecord& record, const SimSocket& source, const SimSocket* sink) {
  Report& report = world_.report();
  bool spliced = record.mode == RelayMode::kSpliced;
  ReceiveKind armed = !source.receive.has_value()  ? ReceiveKind::kNone
                      : source.receive->poll       ? ReceiveKind::kPoll
                      : source.receive->multishot ? ReceiveKind::kMultishot
                                                   : ReceiveKind::kSingle;
  // One that has ended is still armed for the proxy until it handles the completion.
  report.Expect(record.receive == armed || armed == ReceiveKind::kNone, "fd ", source.fd, " is listed with a ", std::string(ToString(record.receive)), " receive");
  // A poll without a pipe is for copies.
  bool copies = armed == ReceiveKind::kPoll && world_.io().did_without_pipe();
  report.Expect(armed == ReceiveKind::kNone || copies || spliced == (armed == ReceiveKind::kPoll), "fd ", source.fd,
                " is listed as ", std::string(ToString(record.mode)));
  report.Expect(spliced || world_.io().Piped(source) == 0, "fd ", source.fd, " is listed as buffered with bytes in a pipe");
  report.Expect(record.received == source.payload_handled(), "fd ", source.fd, " is listed with ", record.received,
                " bytes received, not ", source.payload_handled());
  report.Expect(record.sent == (sink == nullptr ? 0 : sink->sent_handled - sink->lead_handled()), "fd ", source.fd, " is listed with ", record.sent,
                " bytes sent");
  report.Expect(record.ended == source.ended(), "fd ", source.fd, " is listed as", record.ended ? "" : " not", " ended");
}

void Rules::CheckQueue(const SimSocket& source, const SimSocket* sink) {
  if (sink != nullptr && sink->error_handled()) return;
  Report& report = world_.report();
  const WorldOptions& options = world_.options();
  uint64_t queued = Queued(source, sink);
  bool unbounded = options.abilities.multishot_receive && !options.abilities.receive_credit;
  uint64_t piped = world_.io().Piped(source);
  report.Expect(piped == 0 || queued == piped, piped, " of ", queued, " queued bytes from fd ", source.fd,
                " are in a pipe");
  queued -= piped;
  uint64_t lead = sink != nullptr ? sink->lead.size() - sink->lead_handled() : 0;
  report.Expect(unbounded || queued <= options.high_water + lead, queued, " bytes queued from fd ", source.fd);
  if (unbounded && source.receive.has_value() && source.receive->multishot && queued > options.high_water / 4)
    report.Expect(source.receive->cancelled, queued, " bytes queued from fd ", source.fd,
                  " and its multishot receive goes on");
}

Duration Rules::QuietLimit(const SimSession& session) const {
  Duration idle = world_.options().idle_timeout, half_closed = world_.options().half_closed_timeout;
  if (!session.half_closed || half_closed.count() == 0) return idle;
  return idle.count() == 0 ? half_closed : std::min(idle, half_closed);
}

TimePoint Rules::LastConnectBy(const SimSession& session) const {
  Duration total = world_.options().connect_total_timeout;
  return total.count() != 0 ? session.connecting_since + total : TimePoint::max();
}

// A sweep notes what came, and the timer looks at that.
void Rules::CheckSideTimer(const SimSession& session, Direction direction, TimePoint now) {
  Duration timeout = world_.options().side_idle_timeouts[static_cast<size_t>(direction)];
  const SimSocket& source = direction == Direction::kToServer ? *session.client : *session.server;
  const SimSocket& sink = *session.other(source);
  bool counts = timeout.count() != 0 && source.receive.has_value() && !source.receive_ready() && !source.error_handled() && !sink.error_handled() && !source.ended() &&
                Queued(source, &sink) == 0 && !session.server->error_handled() && !session.server->ended();
  if (!counts) return;
  constexpr Duration kLate = Sessions::kSweepInterval + 2 * CoarseTime::kUnit + 3 * kSlack;
  // Before the receive was armed it may have waited for a buffer.
  TimePoint from = std::max({session.side_active_at[static_cast<size_t>(direction)], source.receive->armed_at, world_.thawed_at()});
  world_.report().Expect(now - from <= timeout + kLate, "no byte of fd ", source.fd, " for ", Milliseconds(now - from), " ms and not closed");
}

void Rules::CheckTimers(const SimSession& session) {
  Report& report = world_.report();
  TimePoint now = world_.io().now();
  if (session.established) {
    CheckSideTimer(session, Direction::kToServer, now);
    CheckSideTimer(session, Direction::kToClient, now);
    report.Expect(world_.options().max_lifetime.count() == 0 || now <= session.opened_at + world_.options().max_lifetime + kSlack,
                  "the session of fd ", session.client->fd, " lives on");
    report.Expect(session.server->kept_alive || world_.options().keepalive.count() == 0 ||
                      now <= std::max(session.connected_at, world_.thawed_at()) + Sessions::kSweepInterval + kSlack,
                  "no keep-alive of fd ", session.server->fd);
    Duration limit = QuietLimit(session);
    // Whether its server is to be replaced may not be known yet; the receive of a broken socket ends by itself.
    bool undecided = session.server->send_error_handled && session.server->accepted <= session.server->lead.size() && session.server->receive.has_value();
    TimePoint quiet_from = undecided ? now : std::max(session.last_byte_at, session.undecided_until);
    report.Expect(limit.count() == 0 || now - quiet_from <= limit + limit / 8 + kLateness, "quiet for ",
                  Milliseconds(now - session.last_byte_at), " ms and not closed");
    return;
  }
  if (session.client->received_handled < session.client->stripped) {
    TimePoint late_at = session.opened_at + world_.options().proxy_protocol.timeout;
    report.Expect(now <= std::max(late_at, world_.thawed_at()) + kSlack, "a header is waited for beyond its timeout");
  }
  // A cancelled connect is about to end, and what follows is decided then.
  if (session.server == nullptr || !session.server->connect.has_value() || session.server->connect->cancelled) return;
  report.Expect(now <= session.connect_started_at + world_.options().connect_timeout + kSlack,
                "a connect goes on beyond its timeout");
  report.Expect(now <= std::max(std::min(LastConnectBy(session), TimePoint::max() - kSlack), session.connect_started_at) + kSlack,
                "connects go on beyond their timeout");
  if (session.client->eof_handled && session.client->payload_taken() == 0) {
    TimePoint leaves_at = std::max({session.client_ended_at + Sessions::kLeaveGrace, session.connect_started_at, world_.thawed_at()});
    report.Expect(now <= leaves_at + kSlack, "a client that left is not noticed");
  }
}

// ---- When nothing can happen ----

void Rules::WhenQuiet() {
  Report& report = world_.report();
  for (const SimSession& session : world_.io().sessions()) {
    if (session.closed) continue;
    report.Expect(!session.closing, "the session of fd ", session.client->fd, " does not finish closing");
    CheckWaits(*session.client, session.established ? session.server : nullptr);
    if (session.established) CheckWaits(*session.server, session.client);
  }
}

void Rules::WhenOver() {
  for (const SimSocket& socket : world_.io().sockets())
    if (!socket.closed && socket.receive.has_value() && !socket.session->closed)
      world_.report().Expect(!socket.receive_ready(), "the end of fd ", socket.fd, " is never noticed");
}

void Rules::CheckWaits(const SimSocket& source, const SimSocket* sink) {
  if (sink != nullptr && sink->error_handled()) return;
  Report& report = world_.report();
  const BufferPool& pool = world_.pool();
  uint64_t queued = Queued(source, sink);
  if (sink != nullptr && queued > 0)
    report.Expect(sink->send.has_value(), queued, " bytes from fd ", source.fd, " wait and no send is armed");
  if (source.ended()) {
    if (sink == nullptr || queued > 0) return;
    report.Expect(!source.error_handled(), "the reset of fd ", source.fd, " is not passed on");
    report.Expect(sink->fin_sent, "FIN of fd ", source.fd, " is not passed on");
    return;
  }
  bool in_queue = source.is_client && source.session->tried.empty() && world_.options().max_queue > 0;  // nothing is read meanwhile
  if (source.receive.has_value() || in_queue) {
    report.Expect(!source.receive.has_value() || !in_queue, "fd ", source.fd, " waits for room and is received from");
    return;
  }
  if (world_.options().bandwidth[source.is_client ? 0 : 1].on() && world_.sessions().NextWakeUp().has_value()) return;
  // With bytes queued there is an event to come that decides anew: the send's completion, or the connect's.
  report.Expect(queued > 0 || pool.published() == 0, "fd ", source.fd, " is not received from, though ",
                pool.published(), " buffers are free");
  report.Expect(queued > 0 || pool.held() > 0, "no buffer is held and none is free");
}

void Rules::AtEnd() {
  Report& report = world_.report();
  AfterTurn();
  report.Expect(world_.sessions().size() == 0, "sessions are left");
  report.Expect(world_.pool().held() == 0, "buffers are held by nobody");
  for (const SimPipe& pipe : world_.io().pipes()) report.Expect(!pipe.lent, "a pipe is not given back");
  report.Expect(world_.pool().published() == world_.pool().ring_buffers(),
                "published buffers: ", world_.pool().published());
  report.Expect(!world_.sessions().NextWakeUp().has_value(), "timers are left");
  uint64_t closed = 0;
  for (size_t i = 0; i < kCloseReasons; ++i) {
    report.Expect(world_.listener_cells().closed[i].value() == closed_[i], "closed sessions are miscounted");
    closed += closed_[i];
  }
  report.Expect(closed == world_.io().sessions().size(), closed, " sessions closed");
  expected_failures_.resize(world_.options().servers);
  seen_failures_.resize(world_.options().servers);
  for (size_t server = 0; server < world_.options().servers; ++server) {
    expected_failures_[server][static_cast<size_t>(ConnectFailure::kLost)] = world_.io().replaced(server);
    report.Expect(world_.upstream().server(server).active() == 0, "connections of server ", server, " are left");
    for (size_t i = 0; i < kConnectFailures; ++i) {
      uint64_t counted = world_.server_cells(server).connect_failures[i].value();
      bool made =
          i != static_cast<size_t>(ConnectFailure::kNoFiles) && i != static_cast<size_t>(ConnectFailure::kOther) &&
          i != static_cast<size_t>(ConnectFailure::kNoLocalAddress);
      report.Expect(!made || counted == expected_failures_[server][i], "server ", server, " failed by ",
                    std::string(kConnectFailureNames[i]), " ", expected_failures_[server][i], " times, not ", counted);
      report.Expect(i == static_cast<size_t>(ConnectFailure::kNoFiles) || counted == seen_failures_[server][i],
                    "failed connects are not all reported");
    }
  }
  for (const SimSocket& socket : world_.io().sockets())
    report.Expect(socket.closed, "fd ", socket.fd, " is never closed");
}

}  // namespace ringmain::sim
