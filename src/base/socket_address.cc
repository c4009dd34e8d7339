#include "base/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace ringmain {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";

absl::Status Invalid(std::string_view text, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("address '", std::string(text), "' ", std::string(what),
                                                 "; write 127.0.0.1:8080, [::1]:8080 or unix:/run/x.sock"));
}

}  // namespace

absl::StatusOr<SocketAddress> SocketAddress::Parse(std::string_view text) {
  SocketAddress result;
  if (text.empty()) return Invalid(text, "is empty");
  // C strings would end there: the kernel would get another address than the one written.
  if (text.find('\0') != std::string_view::npos) return Invalid(text, "has a zero byte");
  if (text.starts_with(kUnixPrefix)) {
    std::string_view path = text.substr(kUnixPrefix.size());
    auto* un = reinterpret_cast<sockaddr_un*>(&result.storage_);
    if (path.empty()) return Invalid(text, "has no path");
    if (path.size() >= sizeof(un->sun_path)) return Invalid(text, "has a path longer than 107 bytes");
    un->sun_family = AF_UNIX;
    std::memcpy(un->sun_path, path.data(), path.size());
    result.length_ = offsetof(sockaddr_un, sun_path) + path.size() + 1;
    return result;
  }
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Invalid(text, "has no port");
  std::string_view port_text = text.substr(colon + 1);
  unsigned port = 0;
  auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (error != std::errc() || end != port_text.data() + port_text.size() || port > 65535)
    return Invalid(text, "has no valid port (0 to 65535)");

  std::string host(text.substr(0, colon));
  if (host.empty()) return Invalid(text, "has no host (0.0.0.0 or [::] is every one)");
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&result.storage_);
    if (inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &in6->sin6_addr) != 1)
      return Invalid(text, "is not a valid IPv6 address");
    in6->sin6_family = AF_INET6;
    result.length_ = sizeof(sockaddr_in6);
  } else {
    auto* in4 = reinterpret_cast<sockaddr_in*>(&result.storage_);
    if (host.find(':') != std::string::npos) return Invalid(text, "needs brackets around an IPv6 address");
    if (inet_pton(AF_INET, host.c_str(), &in4->sin_addr) != 1)
      return Invalid(text, "is not a valid IPv4 address (host names are not supported)");
    in4->sin_family = AF_INET;
    result.length_ = sizeof(sockaddr_in);
  }
  result.set_port(static_cast<uint16_t>(port));
  return result;
}

absl::StatusOr<SocketAddress> SocketAddress::ParseHost(std::string_view text) {
  std::string host(text);
  bool is_ipv6 = host.find(':') != std::string::npos;
  absl::StatusOr<SocketAddress> address = Parse(is_ipv6 ? absl::StrCat("[", host, "]:0") : host + ":0");
  if (address.ok() && !address->is_unix()) return address;
  return absl::InvalidArgumentError(absl::StrCat("'", host, "' is not an IP address; write it like 127.0.0.2 or ::1"));
}

SocketAddress SocketAddress::FromSockaddr(const sockaddr* address, socklen_t length) {
  SocketAddress result;
  RINGMAIN_CHECK(length <= sizeof(result.storage_));
  std::memcpy(&result.storage_, address, length);
  result.length_ = length;
  return result;
}

absl::StatusOr<SocketAddress> SocketAddress::OfSocket(int fd) {
  SocketAddress result;
  result.length_ = sizeof(result.storage_);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&result.storage_), &result.length_) != 0)
    return absl::ErrnoToStatus(errno, "getsockname");
  return result;
}

absl::StatusOr<SocketAddress> SocketAddress::OfPeer(int fd) {
  SocketAddress result;
  result.length_ = sizeof(result.storage_);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&result.storage_), &result.length_) != 0)
    return absl::ErrnoToStatus(errno, "getpeername");
  return result;
}

bool SocketAddress::is_loopback() const {
  if (family() == AF_INET)
    return (ntohl(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr.s_addr) >> 24) == 127;
  if (family() == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr);
  return is_unix();
}

bool SocketAddress::is_wildcard() const {
  if (family() == AF_INET) return reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr.s_addr == INADDR_ANY;
  return family() == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr);
}

bool SocketAddress::is_link_local() const {
  return family() == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr);
}

uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port);
  if (family() == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_port);
  return 0;
}

void SocketAddress::set_port(uint16_t port) {
  RINGMAIN_CHECK(family() == AF_INET || family() == AF_INET6);
  if (family() == AF_INET)
    reinterpret_cast<sockaddr_in*>(&storage_)->sin_port = htons(port);
  else
    reinterpret_cast<sockaddr_in6*>(&storage_)->sin6_port = htons(port);
}

std::string SocketAddress::unix_path() const {
  RINGMAIN_CHECK(is_unix());
  const auto* un = reinterpret_cast<const sockaddr_un*>(&storage_);
  size_t length = length_ - offsetof(sockaddr_un, sun_path);
  return std::string(un->sun_path, strnlen(un->sun_path, length));
}

std::string SocketAddress::host() const {
  RINGMAIN_CHECK(family() == AF_INET || family() == AF_INET6);
  char buffer[INET6_ADDRSTRLEN];
  if (family() == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr, buffer, sizeof(buffer));
  else
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr, buffer, sizeof(buffer));
  return buffer;
}

std::string SocketAddress::ToString() const {
  switch (family()) {
    case AF_INET:
      return absl::StrCat(host(), ":", port());
    case AF_INET6:
      return absl::StrCat("[", host(), "]:", port());
    case AF_UNIX:
      return absl::StrCat(std::string(kUnixPrefix), unix_path());
    default:
      return "unset";
  }
}

bool operator==(const SocketAddress& a, const SocketAddress& b) {
  return a.length_ == b.length_ && std::memcmp(&a.storage_, &b.storage_, a.length_) == 0;
}

}  // namespace ringmain
