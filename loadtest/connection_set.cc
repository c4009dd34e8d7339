#include "loadtest/connection_set.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "loadtest/program.h"

namespace ringmain::loadtest {
namespace {

constexpr uint64_t kMaxBuffer = 128 << 10;  // two of them stay in a level 2 cache
constexpr uint64_t kMinBuffer = 64;

// A closed loop has one payload under way; an open one may have to catch up, and gets room for several. Small, since a
// test may hold ten thousand connections.
uint32_t SendBufferBytes(const LoadOptions& options) {
  if (options.mode == Mode::kBulk) return kMaxBuffer;
  uint64_t wanted = options.shape.request_bytes();
  if (options.mode == Mode::kRate) wanted = std::max<uint64_t>(wanted, 1024);
  return static_cast<uint32_t>(std::clamp(wanted, kMinBuffer, kMaxBuffer));
}

uint32_t ReceiveBufferBytes(const LoadOptions& options) {
  return options.one_way ? kMinBuffer : std::max<uint32_t>(SendBufferBytes(options), kMinBuffer);
}

ErrorKind KindOf(int error) {
  if (error == ECONNRESET || error == EPIPE) return ErrorKind::kReset;
  return error == ETIMEDOUT ? ErrorKind::kTimeout : ErrorKind::kOther;
}

}  // namespace

ConnectionSet::ConnectionSet(const LoadOptions& options, uint32_t count, uint64_t seed, uint64_t first_number,
                             Ring& ring, LoadStats& stats, ErrorPrinter& errors, Events& events)
    : options_(options),
      ring_(ring),
      stats_(stats),
      errors_(errors),
      events_(events),
      seed_(seed),
      next_number_(first_number),
      send_buffer_bytes_(SendBufferBytes(options)),
      receive_buffer_bytes_(ReceiveBufferBytes(options)),
      now_(Clock::now()),
      connections_(count) {
  for (uint32_t i = 0; i < count; ++i) connections_[i].index = i;
}

ConnectionSet::~ConnectionSet() { RINGMAIN_CHECK(in_use_ == 0); }

void ConnectionSet::Wait(Duration timeout) {
  SubmitAndWait(ring_, timeout);
  now_ = Clock::now();
  ring_.Reap([this](const Completion& completion) { Handle(completion); });
}

std::string ConnectionSet::Name(const Connection& connection) const {
  return absl::StrCat("connection to ", to(connection).ToString());
}

// ---- Opening ----

int ConnectionSet::OpenSocket(Connection& connection) {
  int fd = socket(to(connection).family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  int on = 1;
  if (!to(connection).is_unix()) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (options_.source_addresses.empty()) return fd;
  const SocketAddress& source = options_.source_addresses[connection.index % options_.source_addresses.size()];
  // The port is chosen at connect, when the destination is known, so that one port serves several destinations
  // (Linux 4.2).
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
  if (bind(fd, source.address(), source.length()) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

void ConnectionSet::Open(Connection& connection) {
  RINGMAIN_CHECK(connection.state == Connection::State::kClosed);
  connection.state = Connection::State::kConnecting;
  connection.failed = connection.half_closed = connection.reset = false;
  connection.requested = connection.sent = 0;
  connection.send_begin = connection.send_end = 0;
  connection.pattern = BytePattern(seed_, next_number_++);
  connection.checker = ReplyChecker(options_.shape, connection.pattern);
  connection.progress = connection.began = now_;
  ++connecting_;
  ++in_use_;
  connection.fd = OpenSocket(connection);
  if (connection.fd < 0) {
    int error = -std::exchange(connection.fd, -1);
    Fail(connection, ErrorKind::kConnectFailed,
         absl::StrCat("connect to ", to(connection).ToString(), ": ", strerror(error)));
    return;
  }
  io_uring_sqe* sqe = ring_.NextSqe();
  io_uring_prep_connect(sqe, connection.fd, to(connection).address(), to(connection).length());
  io_uring_sqe_set_data64(sqe, TokenOf(Op::kConnect, connection).Pack());
  connection.connect_armed = true;
}

void ConnectionSet::HandleConnect(Connection& connection, int result) {
  connection.connect_armed = false;
  if (connection.state == Connection::State::kClosing) return FinishClose(connection);
  if (result < 0)
    return Fail(connection, ErrorKind::kConnectFailed,
                absl::StrCat("connect to ", to(connection).ToString(), ": ", strerror(-result)));
  --connecting_;
  connection.state = Connection::State::kOpen;
  connection.progress = now_;
  Add(stats_.connects, 1);
  Add(stats_.connections, 1);
  if (connection.send_buffer == nullptr) {
    connection.send_buffer.reset(new char[send_buffer_bytes_]);
    connection.receive_buffer.reset(new char[receive_buffer_bytes_]);
  }
  events_.OnOpen(connection);
  if (connection.state == Connection::State::kOpen) ArmReceive(connection, true);
}

// ---- Moving bytes ----

void ConnectionSet::Request(Connection& connection, uint64_t requested) {
  RINGMAIN_CHECK(connection.state == Connection::State::kOpen && requested >= connection.issued());
  if (Idle(connection)) connection.progress = now_;
  connection.requested = requested;
  ArmSend(connection);
}

bool ConnectionSet::Idle(const Connection& connection) const {
  if (connection.sent != connection.requested || connection.send_armed) return false;
  return options_.one_way || connection.checker.Complete(connection.requested);
}

void ConnectionSet::ArmSend(Connection& connection) {
  if (connection.send_armed || connection.state != Connection::State::kOpen) return;
  if (connection.send_begin == connection.send_end) {
    uint64_t size = std::min<uint64_t>(connection.requested - connection.sent, send_buffer_bytes_);
    if (size == 0) return;
    FillRequests(options_.shape, connection.pattern, connection.sent, {connection.send_buffer.get(), size});
    connection.send_begin = 0;
    connection.send_end = static_cast<uint32_t>(size);
  }
  io_uring_sqe* sqe = ring_.NextSqe();
  io_uring_prep_send(sqe, connection.fd, connection.send_buffer.get() + connection.send_begin,
                     connection.send_end - connection.send_begin, MSG_NOSIGNAL);
  io_uring_sqe_set_data64(sqe, TokenOf(Op::kSendToServer, connection).Pack());
  connection.send_armed = true;
}

void ConnectionSet::HandleSend(Connection& connection, int result) {
  connection.send_armed = false;
  if (connection.state == Connection::State::kClosing) return FinishClose(connection);
  if (result < 0) return Fail(connection, KindOf(-result), absl::StrCat(Name(connection), ": ", strerror(-result)));
  if (recording_) Add(stats_.bytes_sent, result);
  events_.OnSent(connection, result);
  connection.sent += result;
  connection.send_begin += result;
  connection.progress = now_;
  ArmSend(connection);
  if (Idle(connection)) events_.OnIdle(connection);
}

void ConnectionSet::ArmReceive(Connection& connection, bool poll_first) {
  io_uring_sqe* sqe = ring_.NextSqe();
  io_uring_prep_recv(sqe, connection.fd, connection.receive_buffer.get(), receive_buffer_bytes_, 0);
  // Nothing is there yet, so a first try would only cost (Linux 5.19).
  if (poll_first) sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
  io_uring_sqe_set_data64(sqe, TokenOf(Op::kReceiveFromServer, connection).Pack());
  connection.receive_armed = true;
}

void ConnectionSet::HandleReceive(Connection& connection, const Completion& completion) {
  connection.receive_armed = false;
  if (connection.state == Connection::State::kClosing) return FinishClose(connection);
  int result = completion.result;
  if (result == 0) return HandleEndOfStream(connection);
  if (result < 0) return Fail(connection, KindOf(-result), absl::StrCat(Name(connection), ": ", strerror(-result)));
  if (recording_) Add(stats_.bytes_received, result);
  connection.progress = now_;
  if (!CheckReplies(connection, {connection.receive_buffer.get(), static_cast<size_t>(result)})) return;
  ArmReceive(connection, !completion.socket_nonempty);
  if (Idle(connection)) events_.OnIdle(connection);
}

// False if the connection is not open any more.
bool ConnectionSet::CheckReplies(Connection& connection, std::span<const char> data) {
  while (connection.state == Connection::State::kOpen) {
    ReplyChecker::Result result = connection.checker.Receive(data, options_.one_way ? 0 : connection.issued());
    if (result == ReplyChecker::Result::kNeedMore) return true;
    if (result == ReplyChecker::Result::kWrong) {
      Fail(connection, ErrorKind::kMismatch, absl::StrCat(Name(connection), ": ", connection.checker.error()));
      return false;
    }
    events_.OnReply(connection, result == ReplyChecker::Result::kBusy);
  }
  return false;
}

void ConnectionSet::HandleEndOfStream(Connection& connection) {
  if (connection.half_closed && Idle(connection)) return Close(connection, false);
  Fail(connection, ErrorKind::kClosedEarly, absl::StrCat(Name(connection), ": closed by the peer too early"));
}

// ---- Closing ----

void ConnectionSet::HalfClose(Connection& connection) {
  RINGMAIN_CHECK(connection.state == Connection::State::kOpen && Idle(connection));
  connection.half_closed = true;
  connection.progress = now_;
  shutdown(connection.fd, SHUT_WR);
}

void ConnectionSet::Close(Connection& connection, bool reset) {
  RINGMAIN_CHECK(connection.state != Connection::State::kClosed);
  if (connection.state == Connection::State::kClosing) return;
  if (connection.state == Connection::State::kConnecting) --connecting_;
  if (connection.state == Connection::State::kOpen) Add(stats_.connections, -1);
  connection.state = Connection::State::kClosing;
  connection.reset = reset;
  if (connection.connect_armed) ring_.Cancel(TokenOf(Op::kConnect, connection));
  if (connection.send_armed) ring_.Cancel(TokenOf(Op::kSendToServer, connection));
  if (connection.receive_armed) ring_.Cancel(TokenOf(Op::kReceiveFromServer, connection));
  FinishClose(connection);
}

void ConnectionSet::Fail(Connection& connection, ErrorKind kind, const std::string& what) {
  if (connection.state == Connection::State::kClosing) return;
  connection.failed = true;
  Add(stats_.errors[static_cast<size_t>(kind)], 1);
  errors_.Print(what);
  Close(connection, false);
}

void ConnectionSet::FinishClose(Connection& connection) {
  if (connection.connect_armed || connection.send_armed || connection.receive_armed) return;
  if (connection.fd >= 0) {
    if (connection.reset) {
      linger now = {1, 0};
      setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    close(connection.fd);
    connection.fd = -1;
  }
  connection.state = Connection::State::kClosed;
  --in_use_;
  events_.OnClosed(connection);
}

void ConnectionSet::CheckTimeouts() {
  for (Connection& connection : connections_) {
    Duration waited = now_ - connection.progress;
    if (connection.state == Connection::State::kConnecting && waited > options_.connect_timeout)
      Fail(connection, ErrorKind::kConnectFailed,
           absl::StrCat("connect to ", to(connection).ToString(), ": timed out"));
    bool owed = connection.half_closed || (connection.state == Connection::State::kOpen && !Idle(connection));
    if (connection.state == Connection::State::kOpen && owed && waited > options_.reply_timeout)
      Fail(connection, ErrorKind::kTimeout, absl::StrCat(Name(connection), ": no progress while a reply is missing"));
  }
}

void ConnectionSet::Handle(const Completion& completion) {
  if (completion.token.op == Op::kCancel) return;
  Connection& connection = connections_[completion.token.index];
  switch (completion.token.op) {
    case Op::kConnect:
      return HandleConnect(connection, completion.result);
    case Op::kSendToServer:
      return HandleSend(connection, completion.result);
    case Op::kReceiveFromServer:
      return HandleReceive(connection, completion);
    default:
      RINGMAIN_CHECK(false);
  }
}

}  // namespace ringmain::loadtest
