#include "config/schema.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/nearest.h"
#include "config/schema_reader.h"

namespace ringmain {
namespace {

using std::chrono::hours;

constexpr uint64_t kMinBuffer = 16 << 10;
constexpr uint64_t kMaxBuffer = 64 << 20;
constexpr uint64_t kMinMemory = 1 << 20;
constexpr uint64_t kMaxMemory = 64ull << 40;
constexpr microseconds kMaxBusyPoll = seconds(1);
// sun_path has 108 bytes (man 7 unix), and a process binds its socket under a longer name first.
constexpr size_t kMaxTakeoverPath = 96;

}  // namespace

Config SchemaReader::Read(const YAML::Node& root) {
  config_.admin_listen = SocketAddress::Parse(kDefaultAdminAddress).value();
  MapReader map({root, PlaceOf(root.Mark()), "the file"}, errors_);
  map.NumberOr(kAuto, "workers", 1, kMaxWorkers, &config_.workers);
  map.MicrosecondsOrOff("busy_poll", microseconds(1), kMaxBusyPoll, &config_.busy_poll);
  if (const Value* value = map.Find("admin")) ReadAdmin(*value);
  if (const Value* value = map.Find("metrics")) ReadMetrics(*value);
  if (const Value* value = map.Find("log")) ReadLog(*value);
  if (const Value* value = map.Find("limits")) ReadLimits(*value);
  if (const Value* value = map.Find("drain")) ReadDrain(*value);
  if (const Value* value = map.Find("reload")) ReadReload(*value);
  if (const Value* value = map.Find("takeover")) ReadTakeover(*value);
  if (const Value* value = map.Find("listeners", Need::kRequired)) {
    for (const Value& item : Items(*value, "a listener", kMaxListeners, errors_)) ReadListener(item);
  }
  if (const Value* value = map.Find("upstreams", Need::kRequired)) {
    for (const Value& item : Items(*value, "an upstream", kMaxUpstreams, errors_)) ReadUpstream(item);
  }
  map.Finish();
  CheckReferences();
  CheckDefaultAdmin();
  return std::move(config_);
}

void SchemaReader::ReadAdmin(const Value& section) {
  MapReader map(section, errors_);
  if (const Value* value = map.Find("listen")) {
    admin_configured_ = true;
    if (auto address = ReadHttpAddress(*value)) config_.admin_listen = *address;
  }
  if (const Value* value = map.Find("token_file"); value != nullptr && CheckScalar(*value, errors_)) {
    config_.admin_token_file = value->text();
    CheckAbsolute(*value, "/etc/ringmain/token");
  }
  map.Finish();
}

void SchemaReader::ReadMetrics(const Value& section) {
  MapReader map(section, errors_);
  const Value* value = map.Find("listen");
  if (value != nullptr && !(value->node.IsScalar() && value->text() == kOff))
    config_.metrics_listen = ReadHttpAddress(*value);
  map.Finish();
}

void SchemaReader::ReadLog(const Value& section) {
  MapReader map(section, errors_);
  map.Choice("level", kLogLevelNames, &config_.log.level);
  map.Choice("format", kLogFormatNames, &config_.log.format);
  map.Finish();
}

void SchemaReader::ReadLimits(const Value& section) {
  MapReader map(section, errors_);
  LimitsConfig& limits = config_.limits;
  map.NumberOr(kAuto, "max_connections", 1, kMaxConnections, &limits.max_connections);
  map.Size("buffer_per_direction", kMinBuffer, kMaxBuffer, &limits.buffer_per_direction_bytes);
  map.SizeOr(kAuto, "memory", kMinMemory, kMaxMemory, &limits.memory_bytes);
  map.Finish();
}

void SchemaReader::ReadDrain(const Value& section) {
  MapReader map(section, errors_);
  map.Time("delay", milliseconds(0), hours(1), &config_.drain.delay);
  map.Time("timeout", milliseconds(0), hours(24 * 7), &config_.drain.timeout);
  map.TimeOrOff("close_idle", milliseconds(1), hours(24 * 7), &config_.drain.close_idle);
  map.Finish();
  if (config_.drain.close_idle > config_.drain.timeout)
    errors_.Add(section.place, "drain: close_idle is longer than timeout, after which no session is left; make it shorter or timeout longer");
}

void SchemaReader::ReadReload(const Value& section) {
  MapReader map(section, errors_);
  map.Choice("watch", kOnOffNames, &config_.reload.watch);
  map.Finish();
}

void SchemaReader::ReadTakeover(const Value& section) {
  MapReader map(section, errors_);
  if (const Value* value = map.Find("socket", Need::kRequired); value != nullptr && CheckScalar(*value, errors_)) {
    config_.takeover.socket = value->text();
    if (CheckAbsolute(*value, "/run/ringmain/takeover.sock") && config_.takeover.socket.size() > kMaxTakeoverPath)
      errors_.Add(value->place, absl::StrCat("socket: the path is longer than ", kMaxTakeoverPath, " bytes"));
  }
  map.Finish();
}

// REQUIRES: the value is a scalar.
bool SchemaReader::CheckAbsolute(const Value& path, std::string_view example) {
  if (path.text().starts_with('/')) return true;
  errors_.Add(path.place, absl::StrCat(path.name, ": ", Quote(path.text()), " is no absolute path; write one such as ", std::string(example)));
  return false;
}

std::optional<SocketAddress> SchemaReader::ReadHttpAddress(const Value& value) {
  auto address = ReadAddress(value, errors_);
  if (!address) return std::nullopt;
  if (address->is_unix()) {
    errors_.Add(value.place,
                absl::StrCat(value.name, ": ", Quote(value.text()), " is a unix address; write host:port such as ",
                             std::string(kDefaultAdminAddress)));
    return std::nullopt;
  }
  ClaimListenAddress(*address, value.place);
  return address;
}

// Port 0 stands for any free port, so it may repeat.
void SchemaReader::ClaimListenAddress(const SocketAddress& address, Place place) {
  if (address.is_unix() || address.port() != 0) listen_addresses_.Add("listen address", address.ToString(), place);
}

void SchemaReader::CheckReferences() {
  std::vector<std::string> known;
  for (const UpstreamConfig& upstream : config_.upstreams) {
    if (!upstream.name.empty()) known.push_back(upstream.name);
  }
  if (known.empty()) return;  // that is an error already
  for (const PlacedName& reference : references_) {
    if (std::find(known.begin(), known.end(), reference.name) != known.end()) continue;
    errors_.Add(reference.place, absl::StrCat("upstream ", Quote(reference.name), " does not exist; ",
                                              NearestHint(reference.name, known)));
  }
}

void SchemaReader::CheckDefaultAdmin() {
  auto place = listen_addresses_.Find(std::string(kDefaultAdminAddress));
  if (place && !admin_configured_)
    errors_.Add(*place, absl::StrCat("listen address ", Quote(kDefaultAdminAddress),
                                     " is that of the admin server; change it or admin.listen"));
}

Config ReadConfig(const YAML::Node& root, ErrorList& errors) { return SchemaReader(errors).Read(root); }

}  // namespace ringmain
