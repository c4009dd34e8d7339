#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "config/schema_reader.h"

namespace ringmain {
namespace {

constexpr uint32_t kMaxKeepaliveCount = 127;  // MAX_TCP_KEEPCNT in include/net/tcp.h
constexpr milliseconds kMaxUserTimeout = std::chrono::hours(24);
constexpr seconds kMaxDeferAccept = std::chrono::hours(1);
constexpr uint32_t kMinSegment = 88;     // TCP_MIN_MSS
constexpr uint32_t kMaxSegment = 32767;  // MAX_TCP_WINDOW
constexpr uint32_t kMaxDscp = 63;        // six bits
constexpr uint32_t kMaxFastOpen = 65535;
// Of a network interface and of a congestion control: IFNAMSIZ and TCP_CA_NAME_MAX are 16, with the zero at the end.
constexpr size_t kMaxKernelName = 15;

bool IsKernelName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxKernelName && text != "." && text != ".." &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return absl::ascii_isgraph(c) && c != '/' && c != ':'; });
}

}  // namespace

void SchemaReader::ReadSocket(const Value& section, SocketOptions& options, bool listens) {
  MapReader map(section, errors_);
  auto name = [&](std::string_view key, std::string* out) {
    const Value* value = map.Find(key);
    if (value == nullptr || !CheckScalar(*value, errors_)) return;
    if (IsKernelName(value->text()))
      *out = value->text();
    else
      errors_.Add(value->place, absl::StrCat(value->name, ": ", Quote(value->text()), " is no name that the kernel takes; it has 1 to ",
                                             kMaxKernelName, " letters, digits and signs"));
  };
  map.Seconds("keepalive_interval", seconds(1), kMaxKeepalive, &options.keepalive_interval);
  map.Number("keepalive_count", 1, kMaxKeepaliveCount, &options.keepalive_count);
  map.Time("user_timeout", milliseconds(1), kMaxUserTimeout, &options.user_timeout);
  name("congestion_control", &options.congestion_control);
  map.Number("max_segment", kMinSegment, kMaxSegment, &options.max_segment);
  map.NumberOr(kOff, "mark", 1, UINT32_MAX, &options.mark);
  std::optional<uint32_t> dscp;
  map.NumberOr(kOff, "dscp", 0, kMaxDscp, &dscp);
  if (dscp.has_value()) options.dscp = static_cast<uint8_t>(*dscp);
  name("interface", &options.interface);
  map.Choice("mptcp", kOnOffNames, &options.mptcp);
  if (listens) {
    std::optional<uint32_t> queue;
    map.NumberOr(kOff, "fast_open", 1, kMaxFastOpen, &queue);
    options.fast_open = queue.value_or(0);
    map.SecondsOrOff("defer_accept", seconds(1), kMaxDeferAccept, &options.defer_accept);
  } else {
    bool fast_open = false;
    map.Choice("fast_open", kOnOffNames, &fast_open);
    options.fast_open = fast_open ? 1 : 0;
  }
  map.Finish();
}

}  // namespace ringmain
