#include "top/status_client.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "top/http.h"

namespace ringmain::top {
namespace {

absl::Status BadAddress(std::string_view admin, std::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("--admin: '", Printable(admin), "' ", std::string(why), "; write host:port, such as 127.0.0.1:9900"));
}

absl::StatusOr<std::vector<SocketAddress>> LookUp(const std::string& admin) {
  size_t colon = admin.rfind(':');
  std::string host = admin.substr(0, colon), port = colon == std::string::npos ? "" : admin.substr(colon + 1);
  uint16_t number = 0;
  auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number == 0) return BadAddress(admin, "has no port");
  constexpr std::string_view kOfNames = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  if (host.empty() || host.find_first_not_of(kOfNames) != std::string::npos) return BadAddress(admin, "is no address");
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (int result = getaddrinfo(host.c_str(), port.c_str(), &hints, &list); result != 0)
    return absl::UnavailableError(absl::StrCat("cannot look up ", host, ": ", gai_strerror(result)));
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> found(list, &freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* one = list; one != nullptr; one = one->ai_next)
    addresses.push_back(SocketAddress::FromSockaddr(one->ai_addr, one->ai_addrlen));
  return addresses;
}

absl::StatusOr<std::string> ReadToken(const std::string& file) {
  errno = 0;
  std::ifstream stream(file);
  std::string contents((std::istreambuf_iterator<char>(stream)), {});
  if (!stream.is_open() || stream.bad()) return absl::NotFoundError(absl::StrCat("--token-file: cannot read ", Printable(file), ": ", strerror(errno)));
  return TokenOf(contents, "--token-file " + Printable(file));
}

}  // namespace

absl::StatusOr<StatusClient> StatusClient::Create(std::string admin, std::string token_file) {
  absl::StatusOr<SocketAddress> address = SocketAddress::Parse(admin);
  if (address.ok() && address->is_unix()) return BadAddress(admin, "is a unix address");
  if (address.ok() && address->port() == 0) return BadAddress(admin, "has port 0");
  if (address.ok()) return StatusClient(std::move(admin), std::move(token_file), {*address});
  absl::StatusOr<std::vector<SocketAddress>> addresses = LookUp(admin);
  if (!addresses.ok()) return addresses.status();
  return StatusClient(std::move(admin), std::move(token_file), *std::move(addresses));
}

void StatusClient::Ask(uint32_t sessions, TimePoint now) {
  std::string token;
  begun_ = absl::OkStatus();
  if (!token_file_.empty()) {
    absl::StatusOr<std::string> read = ReadToken(token_file_);
    if (read.ok())
      token = *std::move(read);
    else
      begun_ = read.status();
  }
  request_ = StatusRequest(admin_, sessions, token);
  address_ = 0;
  state_ = State::kConnecting;
  if (begun_.ok()) begun_ = Connect(now);
  if (!begun_.ok()) deadline_ = now;
}

// Those that fail at once are passed over.
absl::Status StatusClient::Connect(TimePoint now) {
  for (;; ++address_) {
    const SocketAddress& address = addresses_[address_];
    fd_.reset(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    deadline_ = now + kTimeout;
    if (fd_.valid() && (connect(fd_.get(), address.address(), address.length()) == 0 || errno == EINPROGRESS)) return absl::OkStatus();
    if (address_ + 1 == addresses_.size()) return Failure(errno);
  }
}

absl::Status StatusClient::ConnectNext(absl::Status failure, TimePoint now) {
  if (address_ + 1 == addresses_.size()) return failure;
  ++address_;
  return Connect(now);
}

absl::Status StatusClient::Failure(int error) const {
  if (error == ECONNREFUSED)
    return absl::UnavailableError(
        absl::StrCat("nothing listens at ", admin_, ": is ringmain running, and is this its admin.listen? --admin names another address"));
  if (error != ETIMEDOUT) return absl::UnavailableError(absl::StrCat(admin_, ": ", strerror(error)));
  return absl::UnavailableError(absl::StrCat(admin_, state_ == State::kConnecting ? " cannot be reached" : " accepts connections but does not answer", ": nothing came for ",
                                             kTimeout / seconds(1), " s"));
}

short StatusClient::events() const { return state_ == State::kReceiving ? POLLIN : POLLOUT; }

std::optional<absl::StatusOr<Sample>> StatusClient::Proceed(TimePoint now) {
  if (!busy()) return std::nullopt;
  absl::StatusOr<bool> complete = begun_.ok() ? Step(now) : absl::StatusOr<bool>(begun_);
  if (complete.ok() && !*complete) {
    if (now < deadline_) return std::nullopt;
    complete = Failure(ETIMEDOUT);
  }
  state_ = State::kIdle;
  fd_.reset();
  if (!complete.ok()) return complete.status();
  absl::StatusOr<std::string_view> body = BodyOf(response_);
  absl::StatusOr<Json> status = body.ok() ? ParseStatus(*body) : absl::StatusOr<Json>(body.status());
  std::string().swap(response_);
  if (!status.ok()) return absl::Status(status.status().code(), absl::StrCat(admin_, ": ", status.status().message()));
  return Sample{*std::move(status), asked_at_};
}

// True once the answer is all here.
absl::StatusOr<bool> StatusClient::Step(TimePoint now) {
  if (state_ == State::kConnecting) {
    pollfd writable{fd_.get(), POLLOUT, 0};
    if (poll(&writable, 1, 0) <= 0) {
      if (now < deadline_) return false;
      absl::Status status = ConnectNext(Failure(ETIMEDOUT), now);
      return status.ok() ? absl::StatusOr<bool>(false) : status;
    }
    int error = 0;
    socklen_t length = sizeof(error);
    (void)getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      absl::Status status = ConnectNext(Failure(error), now);
      return status.ok() ? absl::StatusOr<bool>(false) : status;
    }
    state_ = State::kSending;
    sent_ = 0;
    asked_at_ = now;
  }
  return state_ == State::kSending ? Send(now) : Receive(now);
}

absl::StatusOr<bool> StatusClient::Send(TimePoint now) {
  ssize_t n = send(fd_.get(), request_.data() + sent_, request_.size() - sent_, MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n < 0) return Failure(errno);
  sent_ += static_cast<size_t>(n);
  deadline_ = now + kTimeout;
  if (sent_ == request_.size()) state_ = State::kReceiving;
  return false;
}

absl::StatusOr<bool> StatusClient::Receive(TimePoint now) {
  std::array<char, 64 << 10> buffer;
  while (true) {
    ssize_t n = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    // A reset after the answer: the server did not read all that was sent. Whether it is complete, its length tells.
    if (n < 0 && (errno != ECONNRESET || response_.empty())) return Failure(errno);
    if (n <= 0) return true;
    response_.append(buffer.data(), static_cast<size_t>(n));
    deadline_ = now + kTimeout;
    if (response_.size() > kMostBytes) return absl::OutOfRangeError(absl::StrCat(admin_, ": the answer is longer than any status of ringmain"));
  }
}

}  // namespace ringmain::top
