#include "config/dns_name.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ringmain {
namespace {

// RFC 1035, 2.3.4: 63 bytes of a label, and 255 of a name with the length bytes around its labels.
constexpr size_t kMaxLabel = 63;
constexpr size_t kMaxName = 253;

absl::Status Invalid(std::string_view text, std::string_view what, DnsType type) {
  constexpr size_t kMaxQuoted = 80;
  return absl::InvalidArgumentError(absl::StrCat("'", std::string(text.substr(0, kMaxQuoted)), text.size() > kMaxQuoted ? "...' " : "' ",
                                                 std::string(what), "; write ",
                                                 type == DnsType::kSrv ? "_pg._tcp.example.org" : "db.example.org:5432"));
}

// What is wrong with the name of a host or a service; null: nothing.
const char* WrongWith(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  if (host.empty()) return "has no host name";
  if (host.size() > kMaxName) return "is longer than 253 characters";
  absl::string_view last;
  for (absl::string_view label : absl::StrSplit(absl::string_view(host.data(), host.size()), '.')) {
    if (label.empty()) return "has an empty part between its dots";
    if (label.size() > kMaxLabel) return "has a part longer than 63 characters";
    for (unsigned char c : label)
      if (!absl::ascii_isalnum(c) && c != '-' && c != '_')
        return c >= 0x80 ? "is not ASCII (write the xn-- form of an international name)"
                         : "is no host name, which has letters, digits, '-', '_' and dots";
    last = label;
  }
  // RFC 3696, 2: no top-level domain is a number. 10.0.0.1 is an address, and 10.0.0.300 was meant to be one.
  if (std::all_of(last.begin(), last.end(), absl::ascii_isdigit)) return "is an IP address or a number, not a host name";
  return nullptr;
}

}  // namespace

absl::StatusOr<DnsNameConfig> ParseDnsName(std::string_view text, DnsType type) {
  DnsNameConfig name;
  name.type = type;
  std::string_view host = text;
  size_t colon = text.rfind(':');
  if (type == DnsType::kSrv) {
    if (colon != std::string_view::npos) return Invalid(text, "has a port, which SRV records say", type);
  } else {
    if (colon == std::string_view::npos) return Invalid(text, "has no port", type);
    host = text.substr(0, colon);
    std::string_view port = text.substr(colon + 1);
    auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), name.port);
    if (error != std::errc() || end != port.data() + port.size() || name.port == 0)
      return Invalid(text, "has no valid port (1 to 65535)", type);
  }
  if (const char* wrong = WrongWith(host)) return Invalid(text, wrong, type);
  name.host = host;
  return name;
}

std::string DnsNameConfig::ToString() const { return type == DnsType::kSrv ? host : absl::StrCat(host, ":", port); }

}  // namespace ringmain
