#include "protocol/proxy_protocol.h"

#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace ringmain {
namespace {

constexpr std::string_view kSignatureV1("PROXY ");
constexpr std::string_view kSignatureV2("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::string_view kShortestV1("PROXY UNKNOWN\r\n");
constexpr size_t kFixedV2 = 16;

// Version 2, byte 13: the version above, the command below.
constexpr uint8_t kVersion2 = 0x20;
constexpr uint8_t kLocal = 0x0;
constexpr uint8_t kProxy = 0x1;
// Byte 14: the family above, the protocol below.
constexpr uint8_t kUnspecified = 0x00;
constexpr uint8_t kTcpOverIpv4 = 0x11;
constexpr uint8_t kTcpOverIpv6 = 0x21;
constexpr uint8_t kUnixStream = 0x31;
constexpr size_t kUnixBytes = 108;

constexpr uint8_t kTlvAuthority = 0x02;
constexpr uint8_t kTlvCrc32c = 0x03;
constexpr uint8_t kTlvNoop = 0x04;
constexpr uint8_t kTlvSsl = 0x20;
constexpr uint8_t kTlvSslVersion = 0x21;  // within that one, which has fixed fields of kSslFixed bytes first
constexpr size_t kTlvFixed = 3;
constexpr size_t kSslFixed = 1 + 4;

using Result = ParsedProxyHeader::Result;

ParsedProxyHeader Malformed(std::string why) { return {.result = Result::kMalformed, .why = std::move(why)}; }

ParsedProxyHeader NeedsMore(size_t bytes, bool begun) { return {.result = Result::kNeedsMore, .begun = begun, .needs = bytes}; }

uint32_t Big(std::string_view bytes) {
  uint32_t number = 0;
  for (char byte : bytes) number = number << 8 | static_cast<uint8_t>(byte);
  return number;
}

std::string Big(uint32_t number, size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(number >> (8 * (size - 1 - i)));
  return bytes;
}

bool MayBegin(std::string_view bytes, std::string_view signature) {
  size_t common = std::min(bytes.size(), signature.size());
  return bytes.substr(0, common) == signature.substr(0, common);
}

// ---- Version 1 ----

bool ParsePort(std::string_view text, uint16_t& port) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size();
}

std::optional<SocketAddress> ParseAddress(std::string_view host, std::string_view port, int family) {
  absl::StatusOr<SocketAddress> address = SocketAddress::ParseHost(host);
  uint16_t number = 0;
  if (!address.ok() || address->family() != family || !ParsePort(port, number)) return std::nullopt;
  address->set_port(number);
  return *address;
}

// `line` is what is between the signature and the end of the line.
ParsedProxyHeader ParseLine(std::string_view line, size_t length) {
  ParsedProxyHeader read{.result = Result::kComplete, .length = length, .header = {.version = 1}};
  if (line == "UNKNOWN" || line.starts_with("UNKNOWN ")) return read;  // whatever follows is to be ignored
  int family = line.starts_with("TCP4 ") ? AF_INET : line.starts_with("TCP6 ") ? AF_INET6 : AF_UNSPEC;
  if (family == AF_UNSPEC) return Malformed("version 1 has neither TCP4 nor TCP6 nor UNKNOWN");
  std::array<std::string_view, 4> words;
  std::string_view rest = line.substr(5);
  for (size_t i = 0; i < words.size(); ++i) {
    size_t end = i + 1 < words.size() ? rest.find(' ') : rest.size();
    if (end == std::string_view::npos) return Malformed("version 1 has fewer than two addresses and two ports");
    words[i] = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  read.header.source = ParseAddress(words[0], words[2], family);
  if (!read.header.source.has_value()) return Malformed("version 1 has a source that is not an address of its family with a port");
  read.header.destination = ParseAddress(words[1], words[3], family);
  if (!read.header.destination.has_value())
    return Malformed("version 1 has a destination that is not an address of its family with a port");
  return read;
}

ParsedProxyHeader ParseV1(std::string_view bytes) {
  std::string_view most = bytes.substr(0, kMostProxyHeaderV1);
  size_t end = most.find('\n');
  if (end != std::string_view::npos) {
    if (most[end - 1] != '\r') return Malformed("version 1 does not end with \\r\\n");
    most = most.substr(0, end + 1);
  }
  size_t carriage = most.find('\r');
  if (carriage != std::string_view::npos && carriage + 1 < most.size() && most[carriage + 1] != '\n')
    return Malformed("version 1 has a \\r that does not end it");
  if (end != std::string_view::npos)
    return ParseLine(most.substr(kSignatureV1.size(), end - 1 - kSignatureV1.size()), end + 1);
  if (most.size() == kMostProxyHeaderV1) return Malformed("version 1 does not end within 107 bytes");
  size_t least = most.ends_with('\r') ? 1 : 2;
  if (most.size() < kShortestV1.size()) least = std::max(least, kShortestV1.size() - most.size());
  return NeedsMore(least, most.size() >= kSignatureV1.size());
}

// ---- Version 2 ----

SocketAddress Ipv4(std::string_view host, std::string_view port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  std::memcpy(&address.sin_addr, host.data(), sizeof(address.sin_addr));
  std::memcpy(&address.sin_port, port.data(), sizeof(address.sin_port));
  return SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

SocketAddress Ipv6(std::string_view host, std::string_view port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  std::memcpy(&address.sin6_addr, host.data(), sizeof(address.sin6_addr));
  std::memcpy(&address.sin6_port, port.data(), sizeof(address.sin6_port));
  return SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

// A path ends with a zero byte, if it does not fill the field. One that begins with it is an abstract name, which has no end (man 7 unix).
SocketAddress Unix(std::string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  static_assert(sizeof(address.sun_path) == kUnixBytes);
  size_t length = path[0] == '\0' ? kUnixBytes : std::min(path.find('\0'), kUnixBytes - 1) + 1;
  std::memcpy(address.sun_path, path.data(), length);
  return SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

size_t AddressBytes(uint8_t family) {
  switch (family) {
    case kTcpOverIpv4:
      return 2 * (4 + 2);
    case kTcpOverIpv6:
      return 2 * (16 + 2);
    case kUnixStream:
      return 2 * kUnixBytes;
    default:
      return 0;
  }
}

void ReadAddresses(uint8_t family, std::string_view bytes, ProxyHeader& header) {
  switch (family) {
    case kTcpOverIpv4:
      header.source = Ipv4(bytes.substr(0, 4), bytes.substr(8, 2));
      header.destination = Ipv4(bytes.substr(4, 4), bytes.substr(10, 2));
      return;
    case kTcpOverIpv6:
      header.source = Ipv6(bytes.substr(0, 16), bytes.substr(32, 2));
      header.destination = Ipv6(bytes.substr(16, 16), bytes.substr(34, 2));
      return;
    case kUnixStream:
      header.source = Unix(bytes.substr(0, kUnixBytes));
      header.destination = Unix(bytes.substr(kUnixBytes));
      return;
    default:
      return;
  }
}

// `whole` is the header, `at` where its TLVs begin. What is wrong with them; empty if nothing is.
std::string ReadTlvs(std::string_view whole, size_t at, ProxyHeader& header) {
  while (at < whole.size()) {
    if (whole.size() - at < kTlvFixed) return "version 2 ends within the type and length of a TLV";
    auto type = static_cast<uint8_t>(whole[at]);
    size_t length = Big(whole.substr(at + 1, 2));
    if (length > whole.size() - at - kTlvFixed)
      return absl::StrCat("version 2 has a TLV of type ", type, " that is longer than what is left");
    std::string_view value = whole.substr(at + kTlvFixed, length);
    if (type == kTlvCrc32c) {
      if (length != 4 || header.checksum) return "version 2 has a CRC32C that is not 4 bytes long, or a second one";
      header.checksum = true;
      // Over the whole header, with zeros in its own place.
      uint32_t crc = Crc32c(whole.substr(0, at + kTlvFixed));
      crc = Crc32c(std::string_view("\0\0\0\0", 4), crc);
      crc = Crc32c(whole.substr(at + kTlvFixed + 4), crc);
      if (crc != Big(value)) return "version 2 has a CRC32C that is wrong";
    } else if (type != kTlvNoop) {
      header.tlvs.append(whole.substr(at, kTlvFixed + length));
    }
    at += kTlvFixed + length;
  }
  return "";
}

ParsedProxyHeader ParseV2(std::string_view bytes) {
  bool begun = bytes.size() >= kSignatureV2.size();
  // What is wrong is said as soon as it is there.
  if (bytes.size() > 12) {
    auto command = static_cast<uint8_t>(bytes[12]);
    if (command != (kVersion2 | kLocal) && command != (kVersion2 | kProxy))
      return Malformed("version 2 has another version, or a command that is neither LOCAL nor PROXY");
  }
  uint8_t family = kUnspecified;
  bool local = bytes.size() > 12 && (bytes[12] & 0xf) == kLocal;
  if (bytes.size() > 13 && !local) {
    family = static_cast<uint8_t>(bytes[13]);
    if (family != kUnspecified && AddressBytes(family) == 0)
      return Malformed("version 2 has a family or protocol that is none of IPv4, IPv6 and unix streams");
  }
  if (bytes.size() < kFixedV2) return NeedsMore(kFixedV2 - bytes.size(), begun);
  size_t length = kFixedV2 + Big(bytes.substr(14, 2));
  if (length > kMostProxyHeader) return Malformed(absl::StrCat("version 2 is ", length, " bytes long, more than ", kMostProxyHeader));
  size_t addresses = AddressBytes(family);
  if (length < kFixedV2 + addresses) return Malformed("version 2 is too short for its addresses");
  if (bytes.size() < length) return NeedsMore(length - bytes.size(), begun);
  ParsedProxyHeader read{.result = Result::kComplete, .length = length, .header = {.version = 2, .local = local}};
  if (local) return read;  // whatever it says besides is to be ignored
  ReadAddresses(family, bytes.substr(kFixedV2, addresses), read.header);
  std::string wrong = ReadTlvs(bytes.substr(0, length), kFixedV2 + addresses, read.header);
  if (!wrong.empty()) return Malformed(std::move(wrong));
  return read;
}

// The value of the first TLV of that type; empty if there is none.
std::string_view FindTlv(std::string_view tlvs, uint8_t type) {
  while (tlvs.size() >= kTlvFixed) {
    size_t length = Big(tlvs.substr(1, 2));
    if (length > tlvs.size() - kTlvFixed) break;
    if (static_cast<uint8_t>(tlvs[0]) == type) return tlvs.substr(kTlvFixed, length);
    tlvs.remove_prefix(kTlvFixed + length);
  }
  return {};
}

// ---- Composing ----

std::string ComposeV1(const ProxyHeader& header) {
  if (header.local || !header.source.has_value() || header.source->is_unix()) return std::string(kShortestV1);
  return absl::StrCat("PROXY ", header.source->family() == AF_INET ? "TCP4 " : "TCP6 ", header.source->host(), " ",
                      header.destination->host(), " ", header.source->port(), " ", header.destination->port(), "\r\n");
}

std::string HostAndPort(const SocketAddress& address, bool port) {
  if (address.family() == AF_INET) {
    const auto* in4 = reinterpret_cast<const sockaddr_in*>(address.address());
    return port ? Big(address.port(), 2) : std::string(reinterpret_cast<const char*>(&in4->sin_addr), sizeof(in4->sin_addr));
  }
  const auto* in6 = reinterpret_cast<const sockaddr_in6*>(address.address());
  return port ? Big(address.port(), 2) : std::string(reinterpret_cast<const char*>(&in6->sin6_addr), sizeof(in6->sin6_addr));
}

// Without a path (an unnamed socket) it is all zeros.
std::string UnixField(const SocketAddress& address) {
  std::string field(reinterpret_cast<const sockaddr_un*>(address.address())->sun_path, address.length() - offsetof(sockaddr_un, sun_path));
  field.resize(kUnixBytes, '\0');
  return field;
}

std::string ComposeV2(const ProxyHeader& header) {
  std::string bytes(kSignatureV2);
  bool known = !header.local && header.source.has_value();
  bytes += static_cast<char>(kVersion2 | (header.local ? kLocal : kProxy));
  std::string rest;
  uint8_t family = kUnspecified;
  if (known && header.source->is_unix()) {
    family = kUnixStream;
    rest = UnixField(*header.source) + UnixField(*header.destination);
  } else if (known) {
    family = header.source->family() == AF_INET ? kTcpOverIpv4 : kTcpOverIpv6;
    for (bool port : {false, true}) rest += HostAndPort(*header.source, port) + HostAndPort(*header.destination, port);
  }
  if (!header.local) rest += header.tlvs;
  bool checksum = header.checksum && !header.local;
  if (checksum) rest += static_cast<char>(kTlvCrc32c) + Big(4, 2) + Big(0, 4);
  RINGMAIN_CHECK(rest.size() <= UINT16_MAX);
  bytes += static_cast<char>(family);
  bytes += Big(static_cast<uint32_t>(rest.size()), 2) + rest;
  if (checksum) bytes.replace(bytes.size() - 4, 4, Big(Crc32c(bytes), 4));
  return bytes;
}

// By the polynomial 0x1EDC6F41 (RFC 3720, section 12.1), its bits reversed: the lowest is sent first.
constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = MakeCrcTable();

}  // namespace

ParsedProxyHeader ParseProxyHeader(std::span<const char> span) {
  std::string_view bytes(span.data(), span.size());
  if (bytes.empty()) return NeedsMore(kShortestV1.size(), false);
  if (MayBegin(bytes, kSignatureV1)) return ParseV1(bytes);
  if (MayBegin(bytes, kSignatureV2)) return ParseV2(bytes);
  return {.result = Result::kNone};
}

std::string ComposeProxyHeader(const ProxyHeader& header) {
  RINGMAIN_CHECK(header.source.has_value() == header.destination.has_value() &&
                 (!header.source.has_value() || header.source->family() == header.destination->family()));
  return header.version == 1 ? ComposeV1(header) : ComposeV2(header);
}

std::string_view AuthorityOf(const ProxyHeader& header) { return FindTlv(header.tlvs, kTlvAuthority); }

std::string_view TlsVersionOf(const ProxyHeader& header) {
  std::string_view ssl = FindTlv(header.tlvs, kTlvSsl);
  return ssl.size() < kSslFixed ? std::string_view() : FindTlv(ssl.substr(kSslFixed), kTlvSslVersion);
}

uint32_t Crc32c(std::string_view bytes, uint32_t before) {
  uint32_t crc = ~before;
  for (char byte : bytes) crc = crc >> 8 ^ kCrcTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

}  // namespace ringmain
