#include "protocol/proxy_protocol.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

using Result = ParsedProxyHeader::Result;

std::string Hex(const std::string& text) { return absl::HexStringToBytes(text); }

// From memory of just that size, so that AddressSanitizer sees what is read beyond it.
ParsedProxyHeader Parse(std::string_view bytes) {
  std::unique_ptr<char[]> exact(new char[bytes.size()]);
  bytes.copy(exact.get(), bytes.size());
  return ParseProxyHeader({exact.get(), bytes.size()});
}

std::string Address(const std::optional<SocketAddress>& address) { return address.has_value() ? address->ToString() : "none"; }

constexpr char kSignature[] = "0d0a0d0a000d0a515549540a";

// `fixed` is version, command, family and protocol; the length is that of the rest.
std::string V2(const std::string& fixed, const std::string& rest) {
  return Hex(absl::StrCat(kSignature, fixed, absl::Hex(rest.size() / 2, absl::kZeroPad4), rest));
}

constexpr char kIpv4[] = "c0000201c63364079c4001bb";  // 192.0.2.1:40000 to 198.51.100.7:443
constexpr char kIpv6[] = "20010db800000000000000000000000120010db80000000000000000000000020001ffff";

TEST(ProxyProtocol, Crc32cIsThatOfRfc3720) {  // its appendix B.4
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string ascending;
  for (char i = 0; i < 32; ++i) ascending += i;
  EXPECT_EQ(Crc32c(ascending), 0x46dd794eu);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c("6789", Crc32c("12345")), 0xe3069283u);
}

// ---- What is right ----

struct Good {
  std::string bytes;
  int version;
  std::string source;
  std::string destination;
  std::string tlvs = "";
  bool local = false;
  bool checksum = false;
};

std::vector<Good> AllGood() {
  std::string longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
  std::string longest_unknown = "PROXY UNKNOWN" + longest.substr(10);
  longest_unknown.insert(13, kMostProxyHeaderV1 - longest_unknown.size(), ' ');
  std::string path_a = Hex("2f61") + std::string(106, '\0'), path_b = "/" + std::string(107, 'b');
  std::string abstract = std::string(1, '\0') + "name" + std::string(103, '\0');
  auto bytes_hex = [](const std::string& bytes) { return absl::BytesToHexString(bytes); };
  return {
      {"PROXY TCP4 192.0.2.1 198.51.100.7 40000 443\r\n", 1, "192.0.2.1:40000", "198.51.100.7:443"},
      {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", 1, "255.255.255.255:65535", "255.255.255.255:65535"},
      {"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", 1, "0.0.0.0:0", "0.0.0.0:0"},
      {"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", 1, "[2001:db8::1]:1", "[::1]:65535"},
      {longest, 1, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
      {"PROXY UNKNOWN\r\n", 1, "none", "none"},
      {"PROXY UNKNOWN \r\n", 1, "none", "none"},
      {"PROXY UNKNOWN ffff::1 2 whatever\r\n", 1, "none", "none"},
      {longest_unknown, 1, "none", "none"},
      {V2("2111", kIpv4), 2, "192.0.2.1:40000", "198.51.100.7:443"},
      {V2("2121", kIpv6), 2, "[2001:db8::1]:1", "[2001:db8::2]:65535"},
      {V2("2131", bytes_hex(path_a + path_b)), 2, "unix:/a", "unix:/" + std::string(107, 'b')},
      {V2("2131", bytes_hex(abstract + std::string(108, '\0'))), 2, "unix:", "unix:"},
      {V2("2100", ""), 2, "none", "none"},
      {V2("2100", absl::StrCat("0100026832", "040000", "02000461626364")), 2, "none", "none", Hex("010002683202000461626364")},
      {V2("2000", ""), 2, "none", "none", "", true},
      {V2("2011", kIpv4), 2, "none", "none", "", true},
      {V2("20ff", "000102"), 2, "none", "none", "", true},
      // ALPN h2, an empty authority, NOOP of 2 bytes, an unknown type, in this order
      {V2("2111", absl::StrCat(kIpv4, "0100026832", "020000", "0400020000", "ea0003616263")), 2, "192.0.2.1:40000", "198.51.100.7:443",
       Hex("0100026832020000ea0003616263")},
  };
}

TEST(ProxyProtocol, ReadsWhatIsRight) {
  for (const Good& good : AllGood()) {
    for (std::string payload : {"", "x", "PROXY TCP4", "\r\n"}) {
      ParsedProxyHeader parsed = Parse(good.bytes + payload);
      ASSERT_EQ(parsed.result, Result::kComplete) << absl::CHexEscape(good.bytes) << ": " << parsed.why;
      EXPECT_EQ(parsed.length, good.bytes.size());
      EXPECT_EQ(parsed.header.version, good.version);
      EXPECT_EQ(parsed.header.local, good.local);
      EXPECT_EQ(Address(parsed.header.source), good.source);
      EXPECT_EQ(Address(parsed.header.destination), good.destination);
      EXPECT_EQ(absl::BytesToHexString(parsed.header.tlvs), absl::BytesToHexString(good.tlvs));
      EXPECT_EQ(parsed.header.checksum, good.checksum);
    }
    // However it is split: all that is known before the end is how much is missing, at least.
    for (size_t size = 0; size < good.bytes.size(); ++size) {
      ParsedProxyHeader parsed = Parse(good.bytes.substr(0, size));
      ASSERT_EQ(parsed.result, Result::kNeedsMore) << absl::CHexEscape(good.bytes.substr(0, size)) << ": " << parsed.why;
      EXPECT_GE(parsed.needs, 1u);
      EXPECT_LE(parsed.needs, good.bytes.size() - size);
      EXPECT_EQ(parsed.begun, size >= (good.version == 1 ? 6u : 12u)) << size;
    }
  }
}

TEST(ProxyProtocol, AsLongAsItMayBe) {
  std::string tlv = absl::StrCat("e0", absl::Hex(4096 - 12 - 3, absl::kZeroPad4));
  std::string longest = V2("2111", absl::StrCat(kIpv4, tlv, std::string(2 * (4096 - 12 - 3), 'a')));
  ASSERT_EQ(longest.size(), kMostProxyHeader);
  EXPECT_EQ(Parse(longest).result, Result::kComplete);
  EXPECT_EQ(Parse(longest).header.tlvs.size(), 4096u - 12);
  std::string longer = Hex(absl::StrCat(kSignature, "21111001"));
  EXPECT_EQ(Parse(longer).result, Result::kMalformed) << "as soon as it says how long it is";
}

// ---- What is wrong ----

TEST(ProxyProtocol, RefusesWhatIsWrong) {
  struct {
    std::string bytes;
    const char* why;
  } cases[] = {
      {"PROXY TCP5 192.0.2.1 198.51.100.7 1 2\r\n", "neither TCP4 nor TCP6 nor UNKNOWN"},
      {"PROXY tcp4 192.0.2.1 198.51.100.7 1 2\r\n", "neither TCP4 nor TCP6 nor UNKNOWN"},
      {"PROXY UNKNOWNS\r\n", "neither TCP4 nor TCP6 nor UNKNOWN"},
      {"PROXY \r\n", "neither TCP4 nor TCP6 nor UNKNOWN"},
      {"PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n", "neither TCP4 nor TCP6 nor UNKNOWN"},
      {"PROXY TCP4\r\n", "neither TCP4 nor TCP6 nor UNKNOWN"},
      {"PROXY TCP4 \r\n", "fewer than two addresses"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n", "fewer than two addresses"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 1 \r\n", "destination"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n", "destination"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n", "destination"},
      {"PROXY TCP4 192.0.2.1  198.51.100.7 1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7  1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 00 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 -1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 +1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 1 65536\r\n", "destination"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 1 2x\r\n", "destination"},
      {"PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2 198.51.100.7 1 2\r\n", "source"},
      {"PROXY TCP4 192.0.2.1 ::1 1 2\r\n", "destination"},
      {"PROXY TCP6 192.0.2.1 ::1 1 2\r\n", "source"},
      {"PROXY TCP6 ::1 198.51.100.7 1 2\r\n", "destination"},
      {"PROXY TCP6 ::1 ::g 1 2\r\n", "destination"},
      {"PROXY TCP6 [::1] ::2 1 2\r\n", "source"},
      {"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", "source"},
      {"PROXY TCP6 unix:/x ::2 1 2\r\n", "source"},
      {std::string("PROXY TCP4 192.0.2.1\0 198.51.100.7 1 2\r\n", 40), "source"},
      {"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n", "does not end with"},
      {"PROXY UNKNOWN\n", "does not end with"},
      {"PROXY UNKNOWN\rx", "does not end it"},
      {"PROXY UNKNOWN \r\r\n", "does not end it"},
      {"PROXY UNKNOWN " + std::string(93, 'x'), "within 107 bytes"},
      {"PROXY UNKNOWN " + std::string(92, 'x') + "\r", "within 107 bytes"},
      {V2("1111", kIpv4), "another version"},
      {V2("3111", kIpv4), "another version"},
      {V2("2211", kIpv4), "neither LOCAL nor PROXY"},
      {V2("2f11", kIpv4), "neither LOCAL nor PROXY"},
      {V2("2112", kIpv4), "family or protocol"},
      {V2("2122", kIpv6), "family or protocol"},
      {V2("2110", kIpv4), "family or protocol"},
      {V2("2101", ""), "family or protocol"},
      {V2("2141", kIpv4), "family or protocol"},
      {V2("2111", std::string(kIpv4).substr(2)), "too short"},
      {V2("2121", kIpv4), "too short"},
      {V2("2131", kIpv6), "too short"},
      {V2("2111", absl::StrCat(kIpv4, "01")), "within the type and length"},
      {V2("2111", absl::StrCat(kIpv4, "0100")), "within the type and length"},
      {V2("2111", absl::StrCat(kIpv4, "010001")), "type 1 that is longer"},
      {V2("2111", absl::StrCat(kIpv4, "0100026832", "eeffff00")), "type 238 that is longer"},
      {V2("2111", absl::StrCat(kIpv4, "03000400000000")), "CRC32C that is wrong"},
      {V2("2111", absl::StrCat(kIpv4, "030003000000")), "not 4 bytes long"},
      {V2("2111", absl::StrCat(kIpv4, "0300050000000000")), "not 4 bytes long"},
  };
  for (const auto& c : cases) {
    ParsedProxyHeader parsed = Parse(c.bytes);
    EXPECT_EQ(parsed.result, Result::kMalformed) << absl::CHexEscape(c.bytes);
    EXPECT_NE(parsed.why.find(c.why), std::string::npos) << absl::CHexEscape(c.bytes) << ": " << parsed.why;
    EXPECT_EQ(Parse(c.bytes + "more").result, Result::kMalformed) << absl::CHexEscape(c.bytes);
  }
}

TEST(ProxyProtocol, KnowsWhatIsNone) {
  for (std::string bytes : {"G", "GET / HTTP/1.1\r\n", "PROXX", "PROXY\r\n", "P ", "\r\r", "\r\n\r\nx", "proxy TCP4", "\x16\x03\x01"})
    EXPECT_EQ(Parse(bytes).result, Result::kNone) << bytes;
  EXPECT_EQ(Parse("").result, Result::kNeedsMore);
  EXPECT_FALSE(Parse("PROXY").begun);
}

// ---- Composing ----

ProxyHeader Header(int version, const std::string& source, const std::string& destination) {
  ProxyHeader header{.version = static_cast<uint8_t>(version)};
  header.source = SocketAddress::Parse(source).value();
  header.destination = SocketAddress::Parse(destination).value();
  return header;
}

TEST(ProxyProtocol, ComposesWhatTheSpecificationShows) {
  EXPECT_EQ(ComposeProxyHeader(Header(1, "192.0.2.1:40000", "198.51.100.7:443")), "PROXY TCP4 192.0.2.1 198.51.100.7 40000 443\r\n");
  EXPECT_EQ(ComposeProxyHeader(Header(1, "[2001:db8::1]:1", "[::1]:65535")), "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n");
  EXPECT_EQ(ComposeProxyHeader(Header(1, "unix:/a", "unix:/b")), "PROXY UNKNOWN\r\n");
  EXPECT_EQ(ComposeProxyHeader({.version = 1}), "PROXY UNKNOWN\r\n");
  EXPECT_EQ(ComposeProxyHeader(Header(2, "192.0.2.1:40000", "198.51.100.7:443")), V2("2111", kIpv4));
  EXPECT_EQ(ComposeProxyHeader(Header(2, "[2001:db8::1]:1", "[2001:db8::2]:65535")), V2("2121", kIpv6));
  EXPECT_EQ(ComposeProxyHeader({.version = 2}), V2("2100", ""));
  EXPECT_EQ(ComposeProxyHeader({.version = 2, .local = true}), V2("2000", ""));
}

// All that is read is composed again, with or without a checksum, and read as the same.
TEST(ProxyProtocol, WhatIsComposedIsReadAsItWas) {
  std::vector<ProxyHeader> headers;
  for (const Good& good : AllGood()) headers.push_back(Parse(good.bytes).header);
  sockaddr unnamed{};
  unnamed.sa_family = AF_UNIX;  // as getpeername(2) tells of a unix client
  headers.push_back({.version = 2});
  headers.back().source = headers.back().destination = SocketAddress::FromSockaddr(&unnamed, sizeof(unnamed.sa_family));
  for (ProxyHeader header : headers)
    for (bool checksum : {false, true}) {
      header.checksum = checksum && header.version == 2 && !header.local;
      std::string bytes = ComposeProxyHeader(header);
      ParsedProxyHeader parsed = Parse(bytes);
      ASSERT_EQ(parsed.result, Result::kComplete) << absl::CHexEscape(bytes) << ": " << parsed.why;
      EXPECT_EQ(parsed.length, bytes.size());
      EXPECT_EQ(Address(parsed.header.source), Address(header.source));
      EXPECT_EQ(Address(parsed.header.destination), Address(header.destination));
      EXPECT_EQ(parsed.header.tlvs, header.tlvs);
      EXPECT_EQ(parsed.header.local, header.local);
      EXPECT_EQ(parsed.header.checksum, header.checksum);
      EXPECT_EQ(ComposeProxyHeader(parsed.header), bytes);
    }
}

TEST(ProxyProtocol, AChecksumSeesEveryBit) {
  ProxyHeader header = Header(2, "192.0.2.1:40000", "198.51.100.7:443");
  header.tlvs = Hex("0100026832");
  header.checksum = true;
  std::string right = ComposeProxyHeader(header);
  ASSERT_EQ(Parse(right).result, Result::kComplete);
  for (size_t bit = 0; bit < 8 * right.size(); ++bit) {
    std::string wrong = right;
    wrong[bit / 8] = static_cast<char>(wrong[bit / 8] ^ 1 << (bit % 8));
    ParsedProxyHeader parsed = Parse(wrong + std::string(70'000, 'x'));
    // A LOCAL header is not looked into; a NOOP in place of the checksum has none.
    EXPECT_TRUE(parsed.result != Result::kComplete || parsed.header.local || !parsed.header.checksum) << bit;
  }
}

TEST(ProxyProtocol, TellsWhatTheClientAskedForAndHowItSpeaks) {
  ProxyHeader header;
  EXPECT_EQ(AuthorityOf(header), "");
  EXPECT_EQ(TlsVersionOf(header), "");
  header.tlvs = Hex("0100026832" "020006612e74657374" "20000f" "0700000000" "210007544c5376312e33");
  EXPECT_EQ(AuthorityOf(header), "a.test");
  EXPECT_EQ(TlsVersionOf(header), "TLSv1.3");
  header.tlvs = Hex("200004" "07000000");  // too short to hold its own fields
  EXPECT_EQ(TlsVersionOf(header), "");
  header.tlvs = Hex("20000a" "0700000000" "210007544c");  // what is within is longer than it
  EXPECT_EQ(TlsVersionOf(header), "");
  header.tlvs = Hex("020000" "020001" "61");  // the first counts
  EXPECT_EQ(AuthorityOf(header), "");
}

// A CRC32C may stand anywhere among the TLVs.
TEST(ProxyProtocol, AChecksumInTheMiddle) {
  std::string bytes = V2("2111", absl::StrCat(kIpv4, "03000400000000", "0100026832"));
  std::string crc = Hex(absl::StrCat(absl::Hex(Crc32c(bytes), absl::kZeroPad8)));
  bytes.replace(16 + 12 + 3, 4, crc);
  ParsedProxyHeader parsed = Parse(bytes);
  ASSERT_EQ(parsed.result, Result::kComplete) << parsed.why;
  EXPECT_TRUE(parsed.header.checksum);
  EXPECT_EQ(parsed.header.tlvs, Hex("0100026832"));
}

// Whatever comes: what is said of a beginning holds for the whole, and what is complete composes to what is complete.
TEST(ProxyProtocol, RandomMutations) {
  std::mt19937 random(1);
  auto below = [&](size_t n) { return random() % n; };
  std::vector<Good> seeds = AllGood();
  size_t complete = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = seeds[below(seeds.size())].bytes;
    for (size_t i = below(4); i > 0; --i) {
      size_t at = below(bytes.size() + 1);
      switch (below(4)) {
        case 0:
          bytes.insert(at, 1, static_cast<char>(random()));
          break;
        case 1:
          bytes.erase(at, 1 + below(3));
          break;
        default:
          if (at < bytes.size()) bytes[at] = static_cast<char>(below(2) ? random() : bytes[at] ^ 1);
      }
      if (bytes.empty()) break;
    }
    ParsedProxyHeader whole = Parse(bytes);
    complete += whole.result == Result::kComplete ? 1 : 0;
    size_t size = below(bytes.size() + 1);
    ParsedProxyHeader part = Parse(bytes.substr(0, size));
    if (part.result != Result::kNeedsMore) {
      EXPECT_EQ(part.result, whole.result) << absl::CHexEscape(bytes) << " " << size;
    } else if (whole.result == Result::kComplete) {
      EXPECT_GE(whole.length, size + part.needs) << absl::CHexEscape(bytes) << " " << size;
    }
    if (whole.result != Result::kComplete) continue;
    EXPECT_EQ(Parse(ComposeProxyHeader(whole.header)).result, Result::kComplete) << absl::CHexEscape(bytes);
  }
  EXPECT_GT(complete, 4000u);
}

}  // namespace
}  // namespace ringmain
