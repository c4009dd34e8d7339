#include "sim_io.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "pattern.h"
#include "session/source_turns.h"

namespace ringmain::sim {
namespace {

uint64_t SessionKey(Token token) { return Token{Op::kNone, token.generation, token.index}.Pack(); }

const char* Side(const SimSocket& socket) { return socket.is_client ? " (client)" : " (server)"; }

}  // namespace

// ---- Io ----

void SimIo::ReceiveMultishot(Token token, int fd, uint32_t credit_bytes) {
  SimSocket* socket = FindOwned(token, fd, "multishot receive");
  if (socket == nullptr) return;
  report_.Expect(options_.abilities.multishot_receive, "a multishot receive, which the kernel does not have");
  report_.Expect(credit_bytes > 0, "a multishot receive with a credit of nothing");
  Arm(*socket,
      {.token = token, .multishot = true, .limit = options_.abilities.receive_credit ? credit_bytes : 0});
}

void SimIo::ReceiveOnce(Token token, int fd, uint32_t max_bytes, bool poll_first) {
  SimSocket* socket = FindOwned(token, fd, "receive");
  if (socket == nullptr) return;
  report_.Expect(max_bytes > 0 && max_bytes <= options_.buffer_bytes, "a receive of ", max_bytes, " bytes");
  Arm(*socket, {.token = token, .limit = max_bytes, .waits = poll_first});
}

void SimIo::Arm(SimSocket& socket, ReceiveOp operation) {
  socket.last_receive_multishot = operation.multishot;
  report_.Expect(IsReceive(operation.token.op), "a receive with another token");
  report_.Expect(!socket.receive.has_value(), "a second receive on fd ", socket.fd);
  report_.Expect(!socket.ended(), "a receive on fd ", socket.fd, " after its end");
  report_.Expect(socket.connected, "a receive on fd ", socket.fd, " before it is connected");
  report_.Trace("  arm receive fd=", socket.fd, Side(socket), " multishot=", operation.multishot,
                " limit=", operation.limit, " poll_first=", operation.waits);
  if (!operation.poll) socket.splice_ends += std::exchange(socket.spliced, false) ? 1 : 0;
  operation.armed_at = now_;
  socket.receive = operation;
}

void SimIo::Send(Token token, int fd, std::span<const iovec> parts, SendMode mode) {
  SimSocket* socket = FindOwned(token, fd, "send");
  if (socket == nullptr) return;
  SendOp send{.token = token, .mode = mode, .parts = {parts.begin(), parts.end()}};
  for (const iovec& part : parts) send.length += static_cast<uint32_t>(part.iov_len);
  report_.Expect(!IsReceive(token.op), "a send with another token");
  report_.Expect(!socket->send.has_value(), "a second send on fd ", fd);
  report_.Expect(!parts.empty() && parts.size() <= kMaxParts && send.length > 0, "a send of ", parts.size(),
                 " parts and ", send.length, " bytes");
  report_.Expect(!socket->fin_sent, "a send on fd ", fd, " after FIN");
  report_.Expect(socket->connected, "a send on fd ", fd, " before it is connected");
  report_.Trace("  arm send fd=", fd, Side(*socket), " bytes=", send.length, mode == SendMode::kTry ? " try" : " wait");
  CheckPayload(*socket, send, "when it is armed");
  socket->send = std::move(send);
}

void SimIo::Connect(Token token, int fd, const SocketAddress& address) {
  SimSocket* socket = Usable(fd, "connect");
  if (socket == nullptr) return;
  if (FindSession(token) == nullptr) {
    while (!expected_connects_.empty() && expected_connects_.front()->client->closed) expected_connects_.pop_front();
    if (opening_ == nullptr && !expected_connects_.empty()) opening_ = expected_connects_.front();
    if (!report_.Expect(opening_ != nullptr, "a connect of no session")) return;
    Bind(token, *std::exchange(opening_, nullptr));
  }
  SimSession& session = *FindSession(token);
  NoteNoHeader(*session.client);
  std::erase(expected_connects_, &session);
  report_.Expect(session.server == nullptr || session.server->closed, "a second connect of a session");
  report_.Expect(!session.closing, "a connect of a session that closes");
  size_t server = address.port();
  report_.Expect(socket->transparent || !NoPort(server, socket->source), "a connect from ", socket->source, ", which rests");
  bool goes_on = !session.tried.empty() && session.tried.back() == server && session.last_connect_result == -EADDRNOTAVAIL;
  report_.Expect(goes_on || std::find(session.tried.begin(), session.tried.end(), server) == session.tried.end(),
                 "a second try of server ", server);
  if (goes_on) {
    session.changed_source = true;
  } else {
    session.tried.push_back(server);
    session.connect_started_at = now_;
  }
  session.server = socket;
  session.gave_up = false;
  session.connect_timed_out = false;
  socket->session = &session;
  socket->server = server;
  socket->script = options_.server_script(server);
  socket->connect = ConnectOp{.token = token};
  report_.Trace("  connect fd=", fd, " server=", server, " from ", socket->source, " for client fd=", session.client->fd);
}

void SimIo::Cancel(Token target) {
  SimSession* found = FindSession(target);
  if (!report_.Expect(found != nullptr, "a cancel for an unknown session")) return;
  SimSession& session = *found;
  SimSocket* socket = SocketOf(session, target.op);
  if (!report_.Expect(socket != nullptr && !socket->closed, "a cancel on a closed socket")) return;
  report_.Trace("  cancel op=", static_cast<int>(target.op), " fd=", socket->fd);
  if (phase_ == Phase::kFreeze) {
    if (target.op == Op::kConnect && socket->connect.has_value()) socket->connect->cancelled = true;
    if (IsReceive(target.op) && socket->receive.has_value()) socket->receive->cancelled = true;
    if (target.op != Op::kConnect && !IsReceive(target.op) && socket->send.has_value()) socket->send->cancelled = true;
    return;
  }
  if (target.op == Op::kConnect) {
    bool leaves =
        session.client->ended() && session.client->payload_taken() == 0 && now_ >= session.client_ended_at + options_.leave_grace;
    leaves |= session.client->error_handled();
    leaves |= options_.max_lifetime.count() != 0 && now_ >= session.opened_at + options_.max_lifetime;
    bool timed_out = phase_ == Phase::kTimers && !leaves;
    if (!timed_out) NoteClosing(session);
    session.connect_timed_out |= timed_out;
    if (socket->connect.has_value()) socket->connect->cancelled = true;
    return;
  }
  // What the proxy cancels may have ended, unknown to it.
  bool multishot = IsReceive(target.op) && socket->last_receive_multishot;
  // The receive alone, while its bytes still have somewhere to go, is how a relay leaves multishot, for want of credits or of buffers.
  bool leaves_multishot = multishot && phase_ == Phase::kFlush &&
                          (session.other(*socket) == nullptr || !session.other(*socket)->error_handled());
  // And after a poll has found something, how a relay makes sure that its receive has not missed it.
  bool rechecks = multishot && phase_ == Phase::kTimers && std::exchange(socket->polled, false);
  if (!leaves_multishot && !rechecks) NoteClosing(session);
  if (IsReceive(target.op) && socket->receive.has_value()) socket->receive->cancelled = true;
  if (!IsReceive(target.op) && socket->send.has_value()) socket->send->cancelled = true;
}

int SimIo::OpenSocket(int, const SocketAddress* source, const SocketOptions* options, bool transparent) {
  int result = options_.open_result();
  open_failed_ |= result < 0;
  out_of_files_ = result == -EMFILE || result == -ENFILE;
  if (result < 0) {
    report_.Trace("  OpenSocket: ", result);
    return result;
  }
  std::string host = source != nullptr ? source->host() : "";
  if (source != nullptr && !transparent && !options_.has_source(host)) {
    report_.Trace("  OpenSocket: ", host, " is missing");
    missing_at_[host] = now_;
    return -EADDRNOTAVAIL;
  }
  SimSocket& socket = NewSocket(/*is_client=*/false, {});
  socket.source = host;
  socket.options = options;
  socket.transparent = transparent;
  report_.Expect(source == nullptr || source->port() == 0, "a port to connect from");
  return socket.fd;
}

void SimIo::KeepAlive(int fd, seconds idle, const SocketOptions* options) {
  SimSocket* socket = Usable(fd, "keep-alive");
  if (socket == nullptr) return;
  report_.Expect(idle.count() > 0, "keep-alive without a time");
  report_.Expect(!socket->is_client && socket->connected && !socket->kept_alive, "keep-alive of fd ", fd);
  report_.Expect(options == socket->options, "keep-alive of fd ", fd, " by other options than it was opened with");
  socket->kept_alive = true;
}

bool SimIo::ConnectedToItself(int fd, const SocketAddress&) {
  SimSocket* socket = Usable(fd, "look at the address");
  return socket != nullptr && report_.Expect(socket->connected, "a look at the address of an unconnected fd ", fd) &&
         socket->script.is_the_proxy;
}

bool SimIo::NoPort(size_t server, const std::string& source) const {
  auto found = no_port_at_.find({server, source});
  return found != no_port_at_.end() && now_ < found->second + SourceTurns::kRest;
}

bool SimIo::Missing(const std::string& source) const {
  auto found = missing_at_.find(source);
  return found != missing_at_.end() && now_ < found->second + SourceTurns::kRest;
}

void SimIo::ShutdownSend(int fd) {
  SimSocket* sink = Usable(fd, "shutdown");
  if (sink == nullptr || !report_.Expect(sink->session != nullptr, "a shutdown of a socket without a session")) return;
  const SimSocket& source = *sink->session->other(*sink);
  report_.Trace("  FIN to fd=", fd, Side(*sink));
  report_.Expect(!sink->fin_sent, "a second FIN on fd ", fd);
  report_.Expect(!sink->send.has_value(), "FIN on fd ", fd, " with a send armed");
  report_.Expect(source.eof_handled && source.fin_arrived, "FIN on fd ", fd, " without the source's FIN");
  uint64_t passed = sink->session->passed(*sink);
  report_.Expect(passed == source.arrived, "FIN on fd ", fd, " after ", passed, " of ", source.arrived,
                 " bytes");
  sink->fin_sent = true;
  NoteHalfClosed(*sink->session);
}

void SimIo::PollNow(std::span<pollfd> files) {
  for (pollfd& file : files) {
    SimSocket* socket = Usable(file.fd, "poll");
    if (socket == nullptr) continue;
    socket->polled = socket->receive_ready();
    int events = (socket->receive_ready() ? POLLIN : 0) | (socket->fin_arrived ? POLLRDHUP : 0);
    file.revents = static_cast<short>((events & file.events) | (socket->broken ? POLLERR | POLLHUP : 0));
    if ((file.events & POLLIN) != 0 || !socket->broken) continue;
    socket->send_error_handled = true;  // asked for nothing that a receive would tell
    NoteHalfClosed(*socket->session);
  }
}

bool SimIo::HasBytes(int fd) {
  const SimSocket* socket = Usable(fd, "question for bytes");
  return socket != nullptr && socket->readable() > 0;
}

// Its round trip takes as many milliseconds as its fd says, each byte is a segment, and each tenth is sent again.
std::optional<TcpSample> SimIo::SampleTcp(int fd) {
  SimSocket* socket = Usable(fd, "question how it fares");
  if (socket == nullptr) return std::nullopt;
  report_.Expect(!socket->is_client && socket->connected, "question how fd ", fd, " fares, which is no server's");
  ++samples_;
  auto segments = static_cast<uint32_t>(socket->accepted);
  return TcpSample{milliseconds(fd), segments, segments / 10};
}

// A client's port is its fd.
std::optional<SocketAddress> SimIo::PeerAddress(int fd) {
  SimSocket* socket = Usable(fd, "question for its peer");
  if (socket == nullptr || socket->broken) return std::nullopt;
  SocketAddress address = SocketAddress::Parse("10.0.0.2:1").value();
  address.set_port(static_cast<uint16_t>(fd));
  return address;
}

void SimIo::CloseSocket(int fd, bool reset) {
  SimSocket* socket = Usable(fd, "close");
  if (socket == nullptr) return;
  report_.Trace("  close fd=", fd, Side(*socket), reset ? " with reset" : "");
  report_.Expect(!socket->busy(), "fd ", fd, " closed with an operation armed");
  socket->closed = true;
  socket->closed_with_reset = reset;
  SimSession* session = socket->session;
  if (session == nullptr) return;
  // A connect that failed is no end of the session.
  if (!socket->is_client && !socket->connected) return;
  if (socket->script.is_the_proxy && !session->closing) {
    report_.Expect(reset, "a connection to itself closed without a reset");
    return;
  }
  if (!socket->is_client && session->established && !session->closing) {
    NoteReplaced(*session);
    return;
  }
  last_closed_ = session;
  NoteClosing(*session);
  const SimSocket* source = session->other(*socket);
  if (reset || socket->fin_sent || source == nullptr) return;
  report_.Expect(session->passed(*socket) == source->taken, "fd ", fd, " closed as if its stream were complete after ",
                 session->passed(*socket), " of ", source->taken, " bytes that were received");
}

// ---- Buffers ----

void SimIo::Publish(uint16_t buffer, char* data, uint32_t size) {
  if (buffer >= buffers_.size()) buffers_.resize(buffer + 1u);
  report_.Expect(!buffers_[buffer].published, "buffer ", buffer, " published twice");
  report_.Expect(size == options_.buffer_bytes, "buffer ", buffer, " published with ", size, " bytes");
  for (const SimSocket& socket : sockets_)
    if (socket.send.has_value())
      for (const iovec& part : socket.send->parts) {
        const char* begin = static_cast<const char*>(part.iov_base);
        report_.Expect(begin + part.iov_len <= data || begin >= data + size, "buffer ", buffer,
                       " given back while a send of fd ", socket.fd, " reads it");
      }
  buffers_[buffer] = {data, static_cast<uint8_t>(buffers_[buffer].poison + 89), true};
  std::memset(data, buffers_[buffer].poison, size);
  published_.push_back(buffer);
}

uint16_t SimIo::SelectBuffer() {
  uint16_t buffer = published_.front();
  published_.pop_front();
  CheckPoison(buffer);
  buffers_[buffer].published = false;
  return buffer;
}

void SimIo::PostWithBuffer(Token token) {
  Post({.token = token, .result = 1, .has_buffer = true, .buffer = SelectBuffer()});
}

void SimIo::Scribble(uint64_t random) {
  uint16_t buffer = published_[random % published_.size()];
  CheckPoison(buffer);
  buffers_[buffer].poison = static_cast<uint8_t>(random >> 32);
  std::memset(buffers_[buffer].data, buffers_[buffer].poison, options_.buffer_bytes);
}

void SimIo::CheckPoison(uint16_t buffer) {
  const Buffer& state = buffers_[buffer];
  bool whole = static_cast<uint8_t>(state.data[0]) == state.poison &&
               std::memcmp(state.data, state.data + 1, options_.buffer_bytes - 1) == 0;
  report_.Expect(whole, "buffer ", buffer, " was written to while it was published");
}

size_t SimIo::buffers_under_way() const {
  return static_cast<size_t>(
      std::count_if(posted_.begin(), posted_.end(), [](const Posted& posted) { return posted.completion.has_buffer; }));
}

// ---- What the kernel does ----

SimSocket& SimIo::AddClient(const PeerScript& script, bool reads_header) {
  SimSocket& socket = NewSocket(/*is_client=*/true, script);
  socket.connected = true;
  sessions_.push_back({.client = &socket, .opened_at = now_, .connecting_since = now_});
  out_of_files_ = false;
  socket.session = &sessions_.back();
  socket.reads_header = reads_header;
  socket.session->handed_over = reads_header;  // a receive tells its token
  opening_ = frozen_ || reads_header ? nullptr : socket.session;
  return socket;
}

void SimIo::CarryOutReceive(SimSocket& socket, uint32_t max_bytes, bool end_early) {
  ReceiveOp& operation = *socket.receive;
  operation.waits = true;
  // The kernel selects a buffer before it looks at the socket.
  if (published_.empty()) {
    EndReceive(socket, -ENOBUFS);
    return;
  }
  if (socket.readable() == 0) {
    if (socket.pending_error != 0)
      EndReceive(socket, -std::exchange(socket.pending_error, 0));
    else if (socket.fin_arrived || socket.broken)
      EndReceive(socket, 0);
    return;
  }
  uint64_t length = std::min<uint64_t>({socket.readable(), max_bytes, options_.buffer_bytes});
  if (!operation.multishot) length = std::min<uint64_t>(length, operation.limit);
  uint16_t buffer = SelectBuffer();
  FillStream(socket, socket.taken, buffers_[buffer].data, length);
  socket.taken += length;
  operation.received += length;
  bool more = operation.multishot && !end_early && (operation.limit == 0 || operation.received < operation.limit);
  report_.Trace("received fd=", socket.fd, Side(socket), " bytes=", length, " more=", more, " buffer=", buffer);
  Post({.token = operation.token,
        .result = static_cast<int32_t>(length),
        .more = more,
        .has_buffer = true,
        .socket_nonempty = socket.readable() > 0 || socket.fin_arrived,
        .buffer = buffer});
  if (!more) socket.receive.reset();
}

void SimIo::EndReceive(SimSocket& socket, int result) {
  report_.Trace("receive ended fd=", socket.fd, Side(socket), " result=", result);
  posted_.push_back({{.token = socket.receive->token, .result = result}, socket.receive->poll});
  socket.receive.reset();
}

void SimIo::CarryOutSend(SimSocket& socket, uint32_t max_bytes) {
  SendOp& send = *socket.send;
  CheckPayload(socket, send, "when it is carried out");
  if (socket.broken) {
    EndSend(socket, socket.pending_error != 0 ? -std::exchange(socket.pending_error, 0) : -EPIPE);
    return;
  }
  uint64_t length = std::min<uint64_t>({send.length, socket.send_room(), max_bytes});
  if (length > 0) {
    socket.accepted += length;
    EndSend(socket, static_cast<int>(length));
  } else if (send.mode == SendMode::kTry) {
    EndSend(socket, -EAGAIN);
  }
}

void SimIo::EndSend(SimSocket& socket, int result) {
  report_.Trace("send ended fd=", socket.fd, Side(socket), " result=", result);
  posted_.push_back({{.token = socket.send->token, .result = result}, socket.send->poll});
  socket.send.reset();
}

void SimIo::EndConnect(SimSocket& socket, int result) {
  report_.Trace("connect ended fd=", socket.fd, " result=", result);
  socket.connected = result == 0;
  Post({.token = socket.connect->token, .result = result});
  socket.connect.reset();
}

// ---- What the peer does ----

void SimIo::PeerSends(SimSocket& socket, uint64_t bytes) {
  report_.Trace("peer of fd=", socket.fd, Side(socket), " sends ", bytes);
  socket.arrived += bytes;
}

void SimIo::PeerFins(SimSocket& socket) {
  report_.Trace("peer of fd=", socket.fd, Side(socket), " sends FIN");
  socket.fin_arrived = true;
}

void SimIo::Break(SimSocket& socket, int error) {
  report_.Trace("connection of fd=", socket.fd, Side(socket), " breaks: ", error);
  socket.broken = true;
  socket.pending_error = error;
}

void SimIo::MissEnd(SimSocket& socket) {
  report_.Trace("the receive of fd=", socket.fd, Side(socket), " misses the end");
  socket.receive->missed_end = true;
}

void SimIo::PeerReads(SimSocket& socket, uint64_t bytes) { socket.read += bytes; }

// ---- Helpers ----

SimSocket& SimIo::NewSocket(bool is_client, const PeerScript& script) {
  int fd = static_cast<int>(sockets_.size());
  sockets_.push_back({.fd = fd, .is_client = is_client, .key = static_cast<uint64_t>(fd) + 1, .script = script});
  return sockets_.back();
}

SimSocket* SimIo::Usable(int fd, const char* what) {
  bool exists = fd >= 0 && static_cast<size_t>(fd) < sockets_.size();
  if (!report_.Expect(exists && !sockets_[static_cast<size_t>(fd)].closed, "a ", what, " on fd ", fd,
                      ", which is closed"))
    return nullptr;
  return &sockets_[static_cast<size_t>(fd)];
}

// The socket, if it is the one that the token's operation belongs on.
SimSocket* SimIo::FindOwned(Token token, int fd, const char* what) {
  SimSocket* socket = Usable(fd, what);
  if (socket == nullptr) return nullptr;
  SimSession* session = FindSession(token);
  if (session == nullptr && socket->session != nullptr && socket->session->handed_over) {
    session = socket->session;
    Bind(token, *session);
  }
  bool owned = session != nullptr && SocketOf(*session, token.op) == socket;
  if (!report_.Expect(owned, "a ", what, " on fd ", fd, ", which is not the session's")) return nullptr;
  report_.Expect(!session->closing, "a ", what, " of a session that closes");
  return socket;
}

SimSocket* SimIo::SocketOf(const SimSession& session, Op op) const {
  return op == Op::kReceiveFromClient || op == Op::kSendToClient ? session.client : session.server;
}

SimSession* SimIo::FindSession(Token token) const {
  auto found = by_token_.find(SessionKey(token));
  return found != by_token_.end() ? found->second : nullptr;
}

void SimIo::Bind(Token token, SimSession& session) {
  by_token_[SessionKey(token)] = &session;
  session.handed_over = false;
}

void SimIo::set_frozen(bool frozen) {
  frozen_ = frozen;
  for (SimSession& session : sessions_) session.owes_another = false;
}

void SimIo::ForgetTokens() {
  by_token_.clear();
  for (SimSession& session : sessions_) {
    session.handed_over = !session.closed;
    if (session.closed) continue;
    session.tried.clear();
    if (session.established) session.tried.push_back(session.server->server);
    if (session.established) continue;
    session.server = nullptr;
  }
}

void SimIo::ConnectLater() {
  if (opening_ != nullptr && !opening_->client->closed) expected_connects_.push_back(opening_);
  opening_ = nullptr;
}

void SimIo::ExpectConnects(const std::vector<int>& clients) {
  opening_ = nullptr;
  expected_connects_.clear();
  for (int client : clients) expected_connects_.push_back(sockets_[static_cast<size_t>(client)].session);
}

// Nothing went to the server of an established session, nothing came from it, and the proxy knows that it has ended.
bool SimIo::IsOfNoUse(const SimSession& session) const {
  const SimSocket& client = *session.client;
  const SimSocket& server = *session.server;
  bool client_left = client.error_handled() || (client.ended() && client.payload_handled() == 0);
  return server.ended() && server.accepted <= server.lead.size() && server.arrived == 0 && !server.fin_sent && !client_left;
}

void SimIo::NoteUseless(SimSession& session) {
  // Tries without a socket are not known here.
  bool all_known = !open_failed_ && missing_at_.empty() && no_port_at_.empty();
  bool others = all_known && session.tried.size() < std::min<size_t>(options_.servers, options_.connect_tries);
  session.owes_another = others && !frozen_ && !session.closing && session.established && !session.server->send.has_value() &&
                         !session.client->ended() && IsOfNoUse(session);
}

// The proxy has closed the server's socket alone.
void SimIo::NoteReplaced(SimSession& session) {
  report_.Trace("  the server is replaced");
  report_.Expect(IsOfNoUse(session), "a server is replaced that was of use, or has not ended");
  ++replaced_[session.server->server];
  session.established = session.owes_another = false;
  session.replaced = true;
  session.connecting_since = now_;
  session.replaced_after_reset = session.server->error_handled();
  session.half_closed = session.client->ended();
  session.server = nullptr;
  session.last_connect_result = -ECONNRESET;
}

uint64_t SimIo::replaced(size_t server) const {
  auto found = replaced_.find(server);
  return found != replaced_.end() ? found->second : 0;
}

void SimIo::FillStream(const SimSocket& source, uint64_t position, char* to, size_t size) {
  const std::string& prelude = source.script.prelude;
  size_t first = position < prelude.size() ? std::min<size_t>(size, prelude.size() - position) : 0;
  if (first > 0) prelude.copy(to, first, position);
  FillPattern(source.key, position + first, to + first, size - first);
}

std::string SimIo::StreamOf(const SimSocket& socket, size_t bytes) {
  std::string stream(bytes, '\0');
  FillStream(socket, 0, stream.data(), bytes);
  return stream;
}

// The proxy goes on: what has not come as a whole is no header.
void SimIo::NoteNoHeader(SimSocket& client) {
  if (client.received_handled >= client.stripped) return;
  client.stripped = 0;
  client.header = {};
}

// Whether these bytes are what is to be sent after so many that were.
bool SimIo::IsRight(const SimSocket& sink, uint64_t sent, const char* data, size_t size) {
  const SimSocket& source = *sink.session->other(sink);
  if (sink.lead.empty() && source.script.prelude.empty()) return MatchesPattern(source.key, sent, data, size);
  std::string right = sent < sink.lead.size() ? sink.lead.substr(sent, size) : "";
  size_t of_lead = right.size();
  right.resize(size);
  FillStream(source, sink.session->place(sink, sent + of_lead), right.data() + of_lead, size - of_lead);
  return right.compare(0, size, data, size) == 0;
}

void SimIo::CheckPayload(const SimSocket& sink, const SendOp& send, const char* when) {
  const SimSocket& source = *sink.session->other(sink);
  uint64_t position = sink.accepted;
  for (const iovec& part : send.parts) {
    bool right = IsRight(sink, position, static_cast<const char*>(part.iov_base), part.iov_len);
    if (!report_.Expect(right, "a send on fd ", sink.fd, " holds wrong bytes ", when, ", in the part at ", position))
      return;
    position += part.iov_len;
  }
  report_.Expect(sink.session->place(sink, position) <= std::max(source.received_handled, source.stripped), "a send on fd ", sink.fd, " of more than was received");
}

void SimIo::NoteClosing(SimSession& session) {
  if (session.closing) return;
  session.closing = true;
  session.owes_another = false;
  session.closing_at = now_;
  session.out_of_files = out_of_files_;
  session.timer_closed = phase_ == Phase::kTimers;
  session.client_handled = session.client->received_handled;
  for (const SimSocket* source : {session.client, session.server}) {
    if (source == nullptr || !session.established) continue;
    const SimSocket& sink = *session.other(*source);
    bool through = source->payload_handled() + sink.lead.size() == sink.sent_handled;
    session.side_waits[source->is_client ? 0 : 1] = through && !source->ended();
  }
}

}  // namespace ringmain::sim
