// SocketAddress: an IPv4, IPv6 or unix-domain stream address, as users write it and as the kernel wants it.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace ringmain {

// A value; immutable after construction but for set_port. Forms: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/x.sock`.
class SocketAddress {
 public:
  SocketAddress() = default;

  // Errors: InvalidArgument with a sentence that says what is wrong and shows a right form. Host names are refused.
  static absl::StatusOr<SocketAddress> Parse(std::string_view text);
  // An IP address alone, `127.0.0.1` or `::1`; the port is 0. Errors: as above.
  static absl::StatusOr<SocketAddress> ParseHost(std::string_view text);
  // REQUIRES: `length` bytes at `address` are a sockaddr of family AF_INET, AF_INET6 or AF_UNIX.
  static SocketAddress FromSockaddr(const sockaddr* address, socklen_t length);
  // The address a socket is bound to (getsockname).
  static absl::StatusOr<SocketAddress> OfSocket(int fd);
  // The address a socket is connected to (getpeername).
  static absl::StatusOr<SocketAddress> OfPeer(int fd);

  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t length() const { return length_; }
  int family() const { return storage_.ss_family; }
  bool is_unix() const { return family() == AF_UNIX; }
  bool is_loopback() const;            // a unix address counts as loopback
  bool is_wildcard() const;            // 0.0.0.0 or [::], with any port
  bool is_link_local() const;          // fe80::/10, which means nothing without an interface
  uint16_t port() const;               // 0 for unix
  void set_port(uint16_t port);        // REQUIRES: not unix
  std::string unix_path() const;       // REQUIRES: is_unix()
  std::string ToString() const;        // the form that Parse takes
  std::string host() const;            // the form that ParseHost takes; REQUIRES: not unix

  friend bool operator==(const SocketAddress& a, const SocketAddress& b);

 private:
  sockaddr_storage storage_{};
  socklen_t length_ = 0;
};

}  // namespace ringmain
