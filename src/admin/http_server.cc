#include "admin/http_server.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "log/log.h"

namespace ringmain {
namespace {

constexpr int kBacklog = 128;
constexpr size_t kMostUnread = 256 << 10;          // bytes taken from a client that got its response
constexpr Duration kAcceptRetry = milliseconds(100);  // after want of file descriptors or memory
constexpr Duration kStopLimit = seconds(1);

struct Connection {
  enum class Phase {
    kReading,   // the request
    kHandling,  // the handler's threads use it, nobody else
    kWriting,   // the response
    kClosing,   // our side is shut down; what still comes is discarded: closing a socket with unread bytes resets it, and the client might
                // lose the response
  };

  void Enter(Phase next, TimePoint now) {
    phase = next;
    since = now;
    done = 0;
  }
  TimePoint EndsAt() const;       // by its phase's limit
  TimePoint MakesRoomFrom() const;  // by its phase's grace

  UniqueFd fd;
  Phase phase = Phase::kReading;
  TimePoint since;        // it is in its phase
  std::string bytes;      // reading: of the request; handling and writing: the response
  size_t done = 0;        // reading: of `bytes`, known to hold no whole head; writing: sent; closing: discarded
  HttpHead head;          // once it is there
  size_t head_bytes = 0;  // 0: it is not there yet
};

TimePoint Connection::EndsAt() const {
  switch (phase) {
    case Phase::kReading: return since + kReadLimit;
    case Phase::kHandling: return TimePoint::max();
    case Phase::kWriting: return since + kWriteLimit;
    case Phase::kClosing: return since + kCloseLimit;
  }
  return TimePoint::max();
}

TimePoint Connection::MakesRoomFrom() const {
  switch (phase) {
    case Phase::kReading: return since + kReadGrace;
    case Phase::kHandling: return TimePoint::max();
    case Phase::kWriting: return since + kWriteGrace;
    case Phase::kClosing: return since;
  }
  return TimePoint::max();
}

class Server final : public HttpServer {
 public:
  Server(std::string section, std::string setting, const SocketAddress& listen, Handler handler)
      : section_(std::move(section)), setting_(std::move(setting)), address_(listen), handler_(std::move(handler)) {}
  ~Server() override;

  absl::Status Start();
  const SocketAddress& address() const override { return address_; }

 private:
  using Phase = Connection::Phase;
  using Connections = std::list<Connection>;

  absl::Status Listen();

  // ---- The waiting thread ----
  void Serve();
  void Wait(TimePoint now);
  bool Finished(TimePoint now);
  void TakeAnswered(TimePoint now);
  void Accept(TimePoint now);
  bool MakeRoom(TimePoint now);
  void Continue(Connection& connection, TimePoint now);
  void Receive(Connection& connection, TimePoint now);
  void ReadHead(Connection& connection, TimePoint now);
  void Answer(Connection& connection, const HttpResponse& response, TimePoint now);
  void Send(Connection& connection, TimePoint now);
  void Discard(Connection& connection);
  void CutUnsent();
  void Warn(std::string_view what);

  // ---- The handler's threads ----
  void Work();
  std::string Handled(const Connection& connection);

  const std::string section_;
  const std::string setting_;
  SocketAddress address_;  // as bound, once started
  const Handler handler_;
  LogLimiter limiter_;

  // The waiting thread's. One whose fd is closed is gone, and leaves the list at the end of the turn.
  UniqueFd listening_;
  Connections connections_;
  TimePoint accept_from_{};  // not before
  std::vector<pollfd> polled_;

  const UniqueFd wake_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex_;  // guards the rest
  std::condition_variable work_;
  std::deque<Connection*> to_handle_;
  std::vector<Connection*> answered_;
  bool stopping_ = false;  // accept no more
  bool ended_ = false;     // no more work will come
  std::thread waiter_;
  std::vector<std::thread> workers_;
};

// ---- Starting and ending ----

absl::Status Server::Listen() {
  std::string where = absl::StrCat(section_, ": ", address_.ToString());
  std::string setting = absl::StrCat("; set ", setting_, " to ");
  if (address_.is_unix()) return absl::InvalidArgumentError(absl::StrCat(where, " must be an IP address and a port"));
  listening_.reset(socket(address_.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listening_.valid() || !wake_.valid()) return absl::ErrnoToStatus(errno, absl::StrCat(where, ": socket"));
  int on = 1;
  (void)setsockopt(listening_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address_.family() == AF_INET6) (void)setsockopt(listening_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  if (bind(listening_.get(), address_.address(), address_.length()) == 0 && listen(listening_.get(), kBacklog) == 0) {
    absl::StatusOr<SocketAddress> bound = SocketAddress::OfSocket(listening_.get());
    if (!bound.ok()) return bound.status();
    address_ = *bound;
    return absl::OkStatus();
  }
  switch (errno) {
    case EADDRINUSE:
      return absl::AlreadyExistsError(absl::StrCat(where, " is already in use", setting, "a free address"));
    case EACCES:
      return absl::PermissionDeniedError(absl::StrCat(where, " needs privilege (CAP_NET_BIND_SERVICE) for port ",
                                                      address_.port(), setting, "a port above 1023"));
    case EADDRNOTAVAIL:
      return absl::FailedPreconditionError(
          absl::StrCat(where, " is not an address of this machine", setting, "one that is"));
    default:
      return absl::InternalError(
          absl::StrCat(where, " cannot be bound: ", strerror(errno), setting, "another address"));
  }
}

absl::Status Server::Start() {
  if (absl::Status status = Listen(); !status.ok()) return status;
  try {
    for (int i = 0; i < kHttpThreads; ++i) workers_.emplace_back(&Server::Work, this);
    waiter_ = std::thread(&Server::Serve, this);
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat(section_, ": cannot start a thread: ", error.what(),
                                                     "; raise the limit of processes (ulimit -u, the container's pids limit)"));
  }
  return absl::OkStatus();
}

Server::~Server() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_.get(), 1);
  if (waiter_.joinable()) waiter_.join();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
  }
  work_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

// ---- The waiting thread ----

void Server::Serve() {
  pthread_setname_np(pthread_self(), absl::StrCat("rm-", section_).c_str());
  for (TimePoint now = Clock::now(); !Finished(now); now = Clock::now()) {
    Wait(now);
    now = Clock::now();
    TakeAnswered(now);
    // In the order of Wait; those that are accepted in this turn come after.
    size_t place = 2;
    for (auto connection = connections_.begin(); place < polled_.size(); ++connection, ++place)
      if (polled_[place].revents != 0) Continue(*connection, now);
    CutUnsent();
    connections_.remove_if([&](const Connection& one) { return !one.fd.valid() || one.EndsAt() <= now; });
    if (polled_[1].revents != 0) Accept(now);
  }
}

void Server::Wait(TimePoint now) {
  TimePoint until = TimePoint::max();
  TimePoint room_from = connections_.size() < kHttpConnections ? TimePoint::min() : TimePoint::max();
  polled_.assign({{wake_.get(), POLLIN, 0}, {-1, POLLIN, 0}});
  for (const Connection& connection : connections_) {
    bool handled = connection.phase == Phase::kHandling;
    short events = connection.phase == Phase::kWriting ? POLLOUT : POLLIN;
    polled_.push_back({handled ? -1 : connection.fd.get(), events, 0});
    until = std::min(until, connection.EndsAt());
    room_from = std::min(room_from, connection.MakesRoomFrom());
  }
  TimePoint accept_from = std::max(room_from, accept_from_);
  if (accept_from <= now)
    polled_[1].fd = listening_.get();
  else
    until = std::min(until, accept_from);
  if (!listening_.valid()) until = std::min(until, now + milliseconds(20));  // to be Finished
  int timeout = -1;
  if (until != TimePoint::max()) timeout = static_cast<int>(std::clamp<int64_t>(std::chrono::ceil<milliseconds>(until - now).count(), 0, 60'000));
  if (poll(polled_.data(), polled_.size(), timeout) <= 0)
    for (pollfd& one : polled_) one.revents = 0;
  if (polled_[0].revents != 0) {
    eventfd_t count;
    eventfd_read(wake_.get(), &count);
  }
}

// Once it is to stop: those who have not sent their request go, the others are given a moment.
bool Server::Finished(TimePoint now) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!stopping_) return false;
  }
  if (listening_.valid()) {
    listening_.reset();
    accept_from_ = TimePoint::max();
  }
  connections_.remove_if([](const Connection& one) { return one.phase == Phase::kReading; });
  return std::none_of(connections_.begin(), connections_.end(), [&](const Connection& one) {
    return one.phase == Phase::kHandling || (one.phase == Phase::kWriting && now < one.since + kStopLimit);
  });
}

void Server::TakeAnswered(TimePoint now) {
  std::vector<Connection*> answered;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    answered.swap(answered_);
  }
  for (Connection* connection : answered) {
    connection->Enter(Phase::kWriting, now);
    Send(*connection, now);
  }
}

void Server::Accept(TimePoint now) {
  while (connections_.size() < kHttpConnections || MakeRoom(now)) {
    UniqueFd fd(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        Warn(absl::StrCat("cannot accept: ", strerror(errno)));
        accept_from_ = now + kAcceptRetry;
      }
      return;  // nobody else waits, or one has gone again: poll knows
    }
    Connection& connection = connections_.emplace_back();
    connection.fd = std::move(fd);
    connection.Enter(Phase::kReading, now);
  }
}

bool Server::MakeRoom(TimePoint now) {
  auto oldest = connections_.end();
  for (auto one = connections_.begin(); one != connections_.end(); ++one)
    if (one->MakesRoomFrom() <= now && (oldest == connections_.end() || one->since < oldest->since)) oldest = one;
  if (oldest == connections_.end()) return false;
  connections_.erase(oldest);
  return true;
}

void Server::Continue(Connection& connection, TimePoint now) {
  switch (connection.phase) {
    case Phase::kReading: return Receive(connection, now);
    case Phase::kHandling: return;
    case Phase::kWriting: return Send(connection, now);
    case Phase::kClosing: return Discard(connection);
  }
}

void Server::Receive(Connection& connection, TimePoint now) {
  char piece[16 << 10];
  ssize_t n = recv(connection.fd.get(), piece, sizeof(piece), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return connection.fd.reset();  // who has sent half a request is owed nothing
  connection.bytes.append(piece, static_cast<size_t>(n));
  if (connection.head_bytes == 0) ReadHead(connection, now);
  HttpHead& head = connection.head;
  if (connection.phase != Phase::kReading || connection.head_bytes == 0 || connection.bytes.size() - connection.head_bytes < head.body_bytes) return;
  head.request.body = connection.bytes.substr(connection.head_bytes, head.body_bytes);
  head.request.bound = address_;
  connection.Enter(Phase::kHandling, now);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    to_handle_.push_back(&connection);
  }
  work_.notify_one();
}

void Server::ReadHead(Connection& connection, TimePoint now) {
  size_t length = HttpHeadLength(connection.bytes, connection.done);
  if ((length == 0 ? connection.bytes.size() : length) > kMostHead)
    return Answer(connection, {.status = 431, .body = absl::StrCat("the request and its headers are longer than ", kMostHead, " bytes\n")}, now);
  connection.done = connection.bytes.size();
  if (length == 0) return;
  if (auto refusal = ReadHttpHead(std::string_view(connection.bytes).substr(0, length), connection.head)) return Answer(connection, *refusal, now);
  connection.head_bytes = length;
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  if (connection.head.expects_continue && connection.bytes.size() - length < connection.head.body_bytes)
    (void)send(connection.fd.get(), kContinue.data(), kContinue.size(), MSG_NOSIGNAL);
}

void Server::Answer(Connection& connection, const HttpResponse& response, TimePoint now) {
  connection.bytes = WriteHttpResponse(response, true);
  connection.Enter(Phase::kWriting, now);
  Send(connection, now);
}

void Server::Send(Connection& connection, TimePoint now) {
  while (connection.done < connection.bytes.size()) {
    ssize_t n = send(connection.fd.get(), connection.bytes.data() + connection.done, connection.bytes.size() - connection.done, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return connection.fd.reset();
    connection.done += static_cast<size_t>(n);
  }
  connection.bytes = {};
  connection.Enter(Phase::kClosing, now);
  (void)shutdown(connection.fd.get(), SHUT_WR);
}

void Server::Discard(Connection& connection) {
  char piece[16 << 10];
  ssize_t n = recv(connection.fd.get(), piece, sizeof(piece), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) connection.done += static_cast<size_t>(n);
  if (n <= 0 || connection.done > kMostUnread) connection.fd.reset();
}

void Server::CutUnsent() {
  while (true) {
    size_t unsent = 0;
    Connection* oldest = nullptr;
    for (Connection& one : connections_) {
      if (one.phase != Phase::kWriting || !one.fd.valid()) continue;
      unsent += one.bytes.size();
      if (oldest == nullptr || one.since < oldest->since) oldest = &one;
    }
    if (unsent <= kMostUnsent) return;
    oldest->fd.reset();
  }
}

void Server::Warn(std::string_view what) {
  if (auto held_back = limiter_.Admit(Clock::now()))
    Log(LogLevel::kWarn, section_, ": ", std::string(what), *held_back == 0 ? "" : absl::StrCat(" (and ", *held_back, " more)"));
}

// ---- The handler's threads ----

void Server::Work() {
  pthread_setname_np(pthread_self(), absl::StrCat("rm-", section_, "-work").c_str());  // 15 characters at most
  while (true) {
    Connection* connection;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      work_.wait(lock, [this] { return ended_ || !to_handle_.empty(); });
      if (to_handle_.empty()) return;
      connection = to_handle_.front();
      to_handle_.pop_front();
    }
    connection->bytes = Handled(*connection);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      answered_.push_back(connection);
    }
    eventfd_write(wake_.get(), 1);
  }
}

std::string Server::Handled(const Connection& connection) {
  const HttpRequest& request = connection.head.request;
  try {
    return WriteHttpResponse(handler_(request), request.method != "HEAD");
  } catch (const std::exception& error) {  // out of memory
    Warn(error.what());
    return WriteHttpResponse({.status = 500, .body = "internal error\n"}, true);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& section, const std::string& setting,
                                                              const SocketAddress& listen, Handler handler) {
  auto server = std::make_unique<Server>(section, setting, listen, std::move(handler));
  if (absl::Status status = server->Start(); !status.ok()) return status;
  return server;
}

}  // namespace ringmain
