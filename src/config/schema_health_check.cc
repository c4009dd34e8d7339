#include <algorithm>
#include <cctype>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "config/pattern.h"
#include "config/schema_reader.h"
#include "config/units.h"

namespace ringmain {
namespace {

using std::chrono::hours;

constexpr uint32_t kMaxRiseFall = 100;
// A fourth of what is looked at of an answer (Exchange::kMaxAnswer).
constexpr size_t kMaxBytes = 4096;
constexpr size_t kMaxPattern = 1024;
constexpr size_t kMaxMethod = 32;
constexpr size_t kMaxPath = 2048;
constexpr size_t kMaxHost = 255;
constexpr size_t kMaxStatuses = 64;
constexpr uint32_t kFirstStatus = 100;
constexpr uint32_t kLastStatus = 599;

// A token of HTTP (RFC 9110, 5.6.2).
bool IsToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

// Without spaces, controls and bytes beyond ASCII: nothing that could end a line or a part of one.
bool IsVisible(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return absl::ascii_isgraph(c); });
}

std::optional<HealthCheckConfig::StatusRange> ParseStatuses(std::string_view text) {
  size_t dash = text.find('-');
  std::optional<uint64_t> first = ParseNumber(text.substr(0, dash));
  std::optional<uint64_t> last = dash == std::string_view::npos ? first : ParseNumber(text.substr(dash + 1));
  if (!first || !last || *first < kFirstStatus || *last > kLastStatus || *first > *last) return std::nullopt;
  return HealthCheckConfig::StatusRange{static_cast<uint32_t>(*first), static_cast<uint32_t>(*last)};
}

std::optional<int> HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = absl::ascii_tolower(static_cast<unsigned char>(c));
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return std::nullopt;
}

// Pairs of digits, with spaces between pairs as one likes.
std::optional<std::string> ParseHex(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') continue;
    std::optional<int> high = HexDigit(text[i]);
    std::optional<int> low = i + 1 < text.size() ? HexDigit(text[++i]) : std::nullopt;
    if (!high || !low) return std::nullopt;
    bytes += static_cast<char>(*high * 16 + *low);
  }
  return bytes;
}

}  // namespace

void SchemaReader::ReadHealthCheck(const Value& section, UpstreamConfig& upstream) {
  HealthCheckConfig& check = upstream.health_check.emplace();
  MapReader map(section, errors_);
  map.Choice("type", kHealthCheckTypeNames, &check.type);
  map.Time("interval", milliseconds(10), hours(24), &check.interval);
  map.Time("fast_interval", milliseconds(10), hours(24), &check.fast_interval);
  map.Time("timeout", milliseconds(1), hours(1), &check.timeout);
  map.Number("rise", 1, kMaxRiseFall, &check.rise);
  map.Number("fall", 1, kMaxRiseFall, &check.fall);
  map.Choice("send_proxy_protocol", kOnOffNames, &check.send_proxy_protocol);
  map.Percent("jitter", 0, kMaxJitterPercent, &check.jitter_percent);
  map.Choice("start", kUpDownNames, &check.start_up);
  ReadWhatIsChecked(map, check, upstream);
  ReadSendExpect(section, map, check);
  ReadHttp(map, check);
  map.Finish();
  if (check.fast_interval > check.interval)
    errors_.Add(section.place, "health_check: fast_interval is longer than interval; make it shorter or leave it out");
}

void SchemaReader::ReadWhatIsChecked(MapReader& map, HealthCheckConfig& check, const UpstreamConfig& upstream) {
  const Value* address = map.Find("address");
  if (address != nullptr) check.address = ReadAddress(*address, errors_);
  if (check.address.has_value()) {
    if (!check.address->is_unix() && check.address->port() == 0)
      errors_.Add(address->place, absl::StrCat("address: ", Quote(address->text()), " has port 0; write 1 to 65535"));
    CheckSource(*address, *check.address, upstream);
  }
  uint32_t port = 0;
  map.Number("port", 1, UINT16_MAX, &port);
  if (port == 0) return;
  check.port = static_cast<uint16_t>(port);
  const Value& value = *map.Find("port");
  if (address != nullptr)
    errors_.Add(value.place, "port: address says the port already; keep one of them");
  for (const ServerConfig& server : upstream.servers) {
    if (!server.address.is_unix()) continue;
    errors_.Add(value.place, absl::StrCat("port: server ", Quote(server.address.ToString()),
                                          " is a unix socket, which has no port; leave port out"));
    return;
  }
}

const Value* SchemaReader::FindOfType(MapReader& map, std::string_view key, HealthCheckType type,
                                      const HealthCheckConfig& check) {
  const Value* value = map.Find(key);
  if (value == nullptr || check.type == type) return value;
  errors_.Add(value->place, absl::StrCat(value->name, " is for checks of type ", std::string(ToString(type)),
                                         "; set that type or leave the key out"));
  return nullptr;
}

// ---- send_expect ----

void SchemaReader::ReadSendExpect(const Value& section, MapReader& map, HealthCheckConfig& check) {
  const Value* send = FindOfType(map, "send", HealthCheckType::kSendExpect, check);
  const Value* expect = FindOfType(map, "expect", HealthCheckType::kSendExpect, check);
  if (send != nullptr) check.send = ReadBytes(*send, nullptr);
  if (expect != nullptr) check.expect = ReadBytes(*expect, &check.expect_pattern);
  if (check.type == HealthCheckType::kSendExpect && send == nullptr && expect == nullptr)
    errors_.Add(section.place, "health_check: type send_expect needs expect, send or both");
}

std::string SchemaReader::ReadBytes(const Value& value, std::string* pattern) {
  std::string bytes;
  if (value.node.IsMap()) {
    MapReader map(value, errors_);
    const Value* hex = map.Find("hex");
    const Value* expression = pattern != nullptr ? map.Find("pattern") : nullptr;
    map.Finish();
    if ((hex != nullptr) == (expression != nullptr))
      errors_.Add(value.place, absl::StrCat(value.name, pattern != nullptr ? " takes either hex or pattern" : " takes hex",
                                            ", or text in place of the map"));
    else if (hex != nullptr)
      bytes = ReadHex(*hex);
    else
      *pattern = ReadPattern(*expression);
  } else if (CheckScalar(value, errors_)) {
    bytes = value.text();
    if (bytes.empty()) errors_.Add(value.place, absl::StrCat(value.name, " is empty; give it bytes or leave the key out"));
  }
  if (bytes.size() > kMaxBytes)
    errors_.Add(value.place, absl::StrCat(value.name, " has ", bytes.size(), " bytes; at most ", kMaxBytes, " are allowed"));
  return bytes;
}

std::string SchemaReader::ReadHex(const Value& value) {
  if (!CheckScalar(value, errors_)) return "";
  std::optional<std::string> bytes = ParseHex(value.text());
  if (bytes.has_value() && !bytes->empty()) return *bytes;
  errors_.Add(value.place, absl::StrCat("hex: ", Quote(value.text()), " is not valid; write two digits for each byte, such as 0d0a"));
  return "";
}

std::string SchemaReader::ReadPattern(const Value& value) {
  if (!CheckScalar(value, errors_)) return "";
  const std::string& text = value.text();
  if (text.empty() || text.size() > kMaxPattern) {
    errors_.Add(value.place, absl::StrCat("pattern has ", text.size(), " bytes; write 1 to ", kMaxPattern));
    return "";
  }
  if (auto compiled = Pattern::Compile(text); !compiled.ok()) {
    errors_.Add(value.place, absl::StrCat("pattern: ", Quote(text), " is not valid: ", compiled.status().message()));
    return "";
  }
  return text;
}

// ---- http ----

void SchemaReader::ReadHttp(MapReader& map, HealthCheckConfig& check) {
  auto read = [&](std::string_view key, size_t max, auto fits, const char* form, std::string* out) {
    const Value* value = FindOfType(map, key, HealthCheckType::kHttp, check);
    if (value == nullptr || !CheckScalar(*value, errors_)) return;
    if (value->text().size() <= max && fits(value->text()))
      *out = value->text();
    else
      errors_.Add(value->place, absl::StrCat(value->name, ": ", Quote(value->text()), " is not valid; write ", form));
  };
  // What a server answers to CONNECT begins a tunnel.
  auto is_method = [](std::string_view text) { return IsToken(text) && text != "CONNECT"; };
  auto is_path = [](std::string_view text) { return IsVisible(text) && (text[0] == '/' || text == "*"); };
  read("method", kMaxMethod, is_method, "a method of HTTP such as GET, HEAD or OPTIONS", &check.method);
  read("path", kMaxPath, is_path, "a path such as /health, without spaces", &check.path);
  read("host", kMaxHost, IsVisible, "a host such as example.org", &check.host);
  if (const Value* value = FindOfType(map, "status", HealthCheckType::kHttp, check)) ReadStatuses(*value, check);
}

void SchemaReader::ReadStatuses(const Value& value, HealthCheckConfig& check) {
  std::vector<Value> items{value};
  if (value.node.IsSequence()) items = Items(value, "status", kMaxStatuses, errors_);
  check.statuses.clear();
  for (const Value& item : items) {
    if (!CheckScalar(item, errors_)) continue;
    if (auto range = ParseStatuses(item.text()))
      check.statuses.push_back(*range);
    else
      errors_.Add(item.place, absl::StrCat("status: ", Quote(item.text()), " is not valid; write such as 200 or 200-299, within ",
                                           kFirstStatus, " to ", kLastStatus));
  }
}

}  // namespace ringmain
