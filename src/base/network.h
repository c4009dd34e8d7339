// Network: a range of IP addresses that have their first bits in common, such as 10.0.0.0/8.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/socket_address.h"

namespace ringmain {

// A value. IPv4 and IPv6 are apart: an IPv4 address is in no IPv6 network, but an IPv4-mapped one (::ffff:a.b.c.d, RFC 4291) counts as the
// IPv4 address that it is. A unix address is in the network of all addresses only.
class Network {
 public:
  Network() = default;  // all addresses

  // `10.0.0.0/8`, `2001:db8::/32`, one address (`10.0.0.1`), or `all`. Errors: InvalidArgument with a sentence, also if bits behind the prefix
  // are set, with the network that may be meant.
  static absl::StatusOr<Network> Parse(std::string_view text);

  bool Contains(const SocketAddress& address) const;
  std::string ToString() const;  // the form that Parse takes

  bool operator==(const Network&) const = default;

 private:
  int family_ = 0;  // AF_INET, AF_INET6; 0: all addresses
  uint8_t prefix_ = 0;
  std::array<uint8_t, 16> bytes_{};
};

// The bytes of an IP address in network order: 4 or 16, 4 also of an IPv4-mapped one; 0 of a unix address.
struct HostBytes {
  std::array<uint8_t, 16> bytes{};
  size_t size = 0;
};
HostBytes HostBytesOf(const SocketAddress& address);
// The same in every process (base/hash.h); the port does not matter. All unix addresses have one.
uint64_t HashOfSource(const SocketAddress& address);

}  // namespace ringmain
