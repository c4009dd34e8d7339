// The PROXY protocol, by which a proxy tells whom a connection comes from: a header before the first byte of payload. A pure codec of its
// versions 1 and 2 as HAProxy's specification has them (doc/proxy-protocol.txt, 2020).
//
//   version 1   one line of text, at most 107 bytes: PROXY TCP4 192.0.2.1 198.51.100.7 40000 443\r\n
//   version 2   12 bytes of signature, 1 of version and command, 1 of family and protocol, 2 of length (big-endian); then, in that length,
//               the addresses and TLVs: 1 byte of type, 2 of length, the value
//
// A header that speaks of the sender's own connection (LOCAL), or of one of which it knows no addresses (UNKNOWN, UNSPEC), has none: those
// of the connection itself count then.
//
// Stricter than some others are: single spaces, no leading zeros, \r\n; addresses of the family that is named; only streams; TLVs that fill
// what is left exactly; a CRC32C that is right, if there is one; and at most kMostProxyHeader bytes, so that whoever claims more is not waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/socket_address.h"

namespace ringmain {

inline constexpr size_t kMostProxyHeaderV1 = 107;      // bytes, \r\n included
inline constexpr size_t kMostProxyHeader = 16 + 4096;  // of either version; addresses take 216 at most, certificates in TLVs some thousand

struct ProxyHeader {
  uint8_t version = 2;  // 1 or 2
  bool local = false;   // version 2: the connection is the sender's own, such as a health check
  // Both or none, of one family; unix ones may have no path.
  std::optional<SocketAddress> source;
  std::optional<SocketAddress> destination;
  std::string tlvs;       // version 2, as they came, but without CRC32C and NOOP
  bool checksum = false;  // version 2: it had a CRC32C
};

// What the beginning of a stream is.
struct ParsedProxyHeader {
  enum class Result : uint8_t {
    kNeedsMore,  // it may be a header, which is not complete: `needs` more bytes at least
    kNone,       // nothing that begins like this is a header
    kMalformed,  // it begins like a header and is none: `why`
    kComplete,   // `header`; payload begins after `length` bytes
  };
  Result result = Result::kNone;
  bool begun = false;  // kNeedsMore: the signature is there, so nothing but a header begins like this
  size_t needs = 0;
  std::string why;
  size_t length = 0;
  ProxyHeader header;
};

// Reads nothing past `bytes`. Whatever is said of some bytes, but for kNeedsMore, is true of all that begin with them.
ParsedProxyHeader ParseProxyHeader(std::span<const char> bytes);

// The bytes of a header. Version 1 has neither TLVs nor `local`, and what it cannot say (unix addresses) is UNKNOWN. With `checksum` version
// 2 gets a CRC32C of its own. REQUIRES: `tlvs` are such as ParseProxyHeader gives, and no more than 65,000 bytes.
std::string ComposeProxyHeader(const ProxyHeader& header);

// The host name that the client asked the sender for (PP2_TYPE_AUTHORITY; of TLS its SNI), and the version of TLS that the client speaks with
// it (PP2_SUBTYPE_SSL_VERSION); empty if the header does not say. Parts of `header.tlvs`, as they came: they may hold any bytes.
std::string_view AuthorityOf(const ProxyHeader& header);
std::string_view TlsVersionOf(const ProxyHeader& header);

// CRC32C (Castagnoli), as RFC 3720 has it. `before` is that of what comes before.
uint32_t Crc32c(std::string_view bytes, uint32_t before = 0);

}  // namespace ringmain
