#include "base/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"

namespace ringmain {
namespace {

constexpr std::string_view kAll = "all";

bool SamePrefix(const uint8_t* a, const uint8_t* b, unsigned bits) {
  if (std::memcmp(a, b, bits / 8) != 0) return false;
  unsigned rest = bits % 8;
  return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

void ClearBehind(std::array<uint8_t, 16>& bytes, unsigned bits) {
  for (unsigned bit = bits; bit < 128; ++bit) bytes[bit / 8] &= static_cast<uint8_t>(~(0x80u >> (bit % 8)));
}

absl::Status Malformed(std::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat("\"", std::string(text), "\" is no network; write one such as 10.0.0.0/8, 2001:db8::/32, "
                                                 "one address, or all"));
}

}  // namespace

HostBytes HostBytesOf(const SocketAddress& address) {
  HostBytes host;
  if (address.family() == AF_INET) {
    host.size = 4;
    std::memcpy(host.bytes.data(), &reinterpret_cast<const sockaddr_in*>(address.address())->sin_addr, 4);
  } else if (address.family() == AF_INET6) {
    const in6_addr& ip = reinterpret_cast<const sockaddr_in6*>(address.address())->sin6_addr;
    host.size = IN6_IS_ADDR_V4MAPPED(&ip) ? 4 : 16;
    std::memcpy(host.bytes.data(), ip.s6_addr + (16 - host.size), host.size);
  }
  return host;
}

uint64_t HashOfSource(const SocketAddress& address) {
  HostBytes host = HostBytesOf(address);
  return HashOf({reinterpret_cast<const char*>(host.bytes.data()), host.size});
}

absl::StatusOr<Network> Network::Parse(std::string_view text) {
  Network network;
  if (text == kAll) return network;
  size_t slash = text.find('/');
  absl::StatusOr<SocketAddress> address = SocketAddress::ParseHost(text.substr(0, slash));
  if (!address.ok()) return Malformed(text);
  HostBytes host = HostBytesOf(*address);
  auto most = static_cast<unsigned>(8 * host.size);
  unsigned prefix = most;
  if (slash != std::string_view::npos) {
    std::string_view digits = text.substr(slash + 1);
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), prefix);
    if (error != std::errc() || end != digits.data() + digits.size() || prefix > most) return Malformed(text);
  }
  network.family_ = host.size == 4 ? AF_INET : AF_INET6;
  network.prefix_ = static_cast<uint8_t>(prefix);
  network.bytes_ = host.bytes;
  ClearBehind(network.bytes_, prefix);
  if (network.bytes_ != host.bytes)
    return absl::InvalidArgumentError(absl::StrCat("\"", std::string(text), "\" has bits behind its prefix; ", network.ToString(),
                                                   " is the network that it is in"));
  return network;
}

bool Network::Contains(const SocketAddress& address) const {
  if (family_ == 0) return true;
  HostBytes host = HostBytesOf(address);
  return host.size == (family_ == AF_INET ? 4u : 16u) && SamePrefix(host.bytes.data(), bytes_.data(), prefix_);
}

std::string Network::ToString() const {
  if (family_ == 0) return std::string(kAll);
  char text[INET6_ADDRSTRLEN];
  inet_ntop(family_, bytes_.data(), text, sizeof(text));
  return absl::StrCat(text, "/", prefix_);
}

}  // namespace ringmain
