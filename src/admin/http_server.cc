#include "admin/http_server.h"

#include <civetweb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/unique_fd.h"
#include "log/log.h"

namespace ringmain {
namespace {

constexpr unsigned kCivetwebIpv6 = 8;            // MG_FEATURES_IPV6; Debian 12 builds civetweb without it
constexpr size_t kWriteChunk = 64 << 10;         // between two looks at the clock
constexpr std::chrono::seconds kWriteLimit{30};  // for a whole response

class CivetwebServer final : public HttpServer {
 public:
  CivetwebServer(std::string section, std::string setting, const SocketAddress& listen, Handler handler)
      : section_(std::move(section)), setting_(std::move(setting)), listen_(listen), address_(listen), handler_(std::move(handler)) {}
  ~CivetwebServer() override;

  absl::Status Start();
  const SocketAddress& address() const override { return address_; }

 private:
  static CivetwebServer& Of(const mg_connection* connection) {
    return *static_cast<CivetwebServer*>(mg_get_user_data(mg_get_context(connection)));
  }
  static int OnRequest(mg_connection* connection);
  static int OnHttpError(mg_connection* connection, int status, const char* message);
  static int OnLogMessage(const mg_connection* connection, const char* message);

  absl::Status CheckAddress() const;
  HttpResponse Handle(mg_connection* connection) const;
  void TakeLogMessage(const char* message);

  const std::string section_;
  const std::string setting_;
  const SocketAddress listen_;  // as configured; civetweb's threads read it
  SocketAddress address_;       // as bound; written by Start, while civetweb's threads run already
  const Handler handler_;
  mg_context* context_ = nullptr;

  LogLimiter limiter_;
  std::mutex mutex_;         // guards the two below
  bool starting_ = true;     // messages are causes of a failed start, not log lines
  std::string start_error_;  // the first of them
};

// False if the client did not take it all. In pieces, because civetweb's timeout counts from the last progress: a client that takes a
// byte now and then would hold the thread.
bool Write(mg_connection* connection, std::string_view bytes, std::chrono::steady_clock::time_point deadline) {
  while (!bytes.empty() && std::chrono::steady_clock::now() < deadline) {
    int n = mg_write(connection, bytes.data(), std::min(kWriteChunk, bytes.size()));
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return bytes.empty();
}

void Send(mg_connection* connection, const HttpResponse& response, bool with_body) {
  std::string header =
      absl::StrCat("HTTP/1.1 ", response.status, " ", mg_get_response_code_text(connection, response.status),
                   "\r\nContent-Type: ", response.content_type, "\r\nContent-Length: ", response.body.size(),
                   "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
  if (!response.allow.empty()) absl::StrAppend(&header, "Allow: ", response.allow, "\r\n");
  if (!response.policy.empty()) absl::StrAppend(&header, "Content-Security-Policy: ", response.policy, "\r\nReferrer-Policy: no-referrer\r\n");
  absl::StrAppend(&header, "Connection: close\r\n\r\n");
  auto deadline = std::chrono::steady_clock::now() + kWriteLimit;
  if (Write(connection, header, deadline) && with_body) Write(connection, response.body, deadline);
}

absl::Status CivetwebServer::CheckAddress() const {
  std::string where = absl::StrCat(section_, ": ", address_.ToString());
  std::string setting = absl::StrCat("; set ", setting_, " to ");
  if (address_.is_unix()) return absl::InvalidArgumentError(absl::StrCat(where, " must be an IP address and a port"));
  if (address_.family() == AF_INET6 && mg_check_feature(kCivetwebIpv6) == 0) {
    return absl::UnimplementedError(absl::StrCat(where, " cannot be served: this build of civetweb (", mg_version(),
                                                 ") has no IPv6", setting, "an IPv4 address"));
  }
  // civetweb reports a failed bind vaguely, and by log only. So bind once before it does, as it does, for the precise
  // cause.
  UniqueFd probe(socket(address_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return absl::ErrnoToStatus(errno, absl::StrCat(where, ": socket"));
  int on = 1;
  (void)setsockopt(probe.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address_.family() == AF_INET6) (void)setsockopt(probe.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  if (bind(probe.get(), address_.address(), address_.length()) == 0) return absl::OkStatus();
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

absl::Status CivetwebServer::Start() {
  static const unsigned initialized = mg_init_library(MG_FEATURES_DEFAULT);  // never undone: once a process
  (void)initialized;
  if (absl::Status status = CheckAddress(); !status.ok()) return status;

  std::string listen = address_.ToString();
  std::string threads = absl::StrCat(kHttpThreads);
  std::string timeout = absl::StrCat(std::chrono::milliseconds(kHttpTimeout).count());
  std::string queue = absl::StrCat(kHttpQueue);
  const char* options[] = {"listening_ports",
                           listen.c_str(),
                           "num_threads",
                           threads.c_str(),
                           "request_timeout_ms",
                           timeout.c_str(),
                           "connection_queue",
                           queue.c_str(),
                           "enable_keep_alive",
                           "no",
                           "max_request_size",
                           "16384",
                           "tcp_nodelay",
                           "1",
                           nullptr};
  mg_callbacks callbacks{};
  callbacks.begin_request = &OnRequest;
  callbacks.http_error = &OnHttpError;
  callbacks.log_message = &OnLogMessage;
  context_ = mg_start(&callbacks, this, options);

  std::lock_guard<std::mutex> lock(mutex_);
  starting_ = false;
  if (context_ == nullptr) {
    return absl::InternalError(absl::StrCat(
        section_, ": ", listen, " cannot be served: ", start_error_.empty() ? "civetweb did not start" : start_error_));
  }
  mg_server_port port{};
  RINGMAIN_CHECK(mg_get_server_ports(context_, 1, &port) == 1);
  address_.set_port(static_cast<uint16_t>(port.port));
  return absl::OkStatus();
}

CivetwebServer::~CivetwebServer() {
  if (context_ == nullptr) return;
  // mg_stop waits for the accepting thread, which looks at the stop flag only every 2 s, or after a connection. So
  // connect until it ended.
  std::atomic<bool> stopped{false};
  std::thread stopper;
  try {
    stopper = std::thread([this, &stopped] {
      mg_stop(context_);
      stopped.store(true, std::memory_order_release);
    });
  } catch (const std::system_error&) {  // no thread to be had
    mg_stop(context_);
    return;
  }
  while (!stopped.load(std::memory_order_acquire)) {
    UniqueFd poke(socket(address_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (poke.valid()) (void)connect(poke.get(), address_.address(), address_.length());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  stopper.join();
}

// Takes the body off the connection.
void ReadBody(mg_connection* connection, HttpRequest& request) {
  request.body.resize(kMostBody + 1);
  size_t length = 0;
  while (length < request.body.size()) {
    int n = mg_read(connection, request.body.data() + length, request.body.size() - length);
    if (n <= 0) break;
    length += static_cast<size_t>(n);
  }
  request.body.resize(length);
  request.body_too_long = length > kMostBody;
}

HttpResponse CivetwebServer::Handle(mg_connection* connection) const {
  const mg_request_info* info = mg_get_request_info(connection);
  auto header = [&](const char* name) {
    const char* value = mg_get_header(connection, name);
    return std::string(value == nullptr ? "" : value);
  };
  HttpRequest request{.method = info->request_method,
                      .path = info->local_uri,
                      .query = info->query_string == nullptr ? "" : info->query_string,
                      .host = header("Host"),
                      .content_type = header("Content-Type"),
                      .body = "",
                      .bound = listen_};
  request.bound.set_port(static_cast<uint16_t>(info->server_port));
  if (request.method == "POST") ReadBody(connection, request);
  return handler_(request);
}

int CivetwebServer::OnRequest(mg_connection* connection) {
  CivetwebServer& server = Of(connection);
  HttpResponse response;
  try {
    response = server.Handle(connection);
  } catch (const std::exception& error) {  // out of memory; it must not unwind through civetweb
    server.TakeLogMessage(error.what());
    response = {.status = 500, .body = "internal error\n"};
  }
  Send(connection, response, std::strcmp(mg_get_request_info(connection)->request_method, "HEAD") != 0);
  // Take the start of a body that nobody asked for: closing a socket with unread bytes resets it, and the response
  // would be lost.
  char unread[16 << 10];
  (void)mg_read(connection, unread, sizeof(unread));
  return response.status;
}

int CivetwebServer::OnHttpError(mg_connection* connection, int status, const char* message) {
  Send(connection, {.status = status, .body = absl::StrCat(message, "\n")}, true);
  return 0;  // handled
}

int CivetwebServer::OnLogMessage(const mg_connection* connection, const char* message) {
  Of(connection).TakeLogMessage(message);
  return 1;  // handled: civetweb writes nothing itself
}

void CivetwebServer::TakeLogMessage(const char* message) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (starting_) {
      if (start_error_.empty()) start_error_ = message;
      return;
    }
  }
  if (auto held_back = limiter_.Admit(Clock::now())) {
    Log(LogLevel::kWarn, section_, ": ", message, *held_back == 0 ? "" : absl::StrCat(" (and ", *held_back, " more)"));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& section, const std::string& setting,
                                                              const SocketAddress& listen, Handler handler) {
  auto server = std::make_unique<CivetwebServer>(section, setting, listen, std::move(handler));
  if (absl::Status status = server->Start(); !status.ok()) return status;
  return server;
}

}  // namespace ringmain
