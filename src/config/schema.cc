#include "config/schema.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/nearest.h"

namespace ringmain {
namespace {

using std::chrono::hours;

constexpr uint64_t kMinBuffer = 16 << 10;
constexpr uint64_t kMaxBuffer = 64 << 20;
constexpr uint64_t kMinMemory = 1 << 20;
constexpr uint64_t kMaxMemory = 64ull << 40;
constexpr microseconds kMaxBusyPoll = seconds(1);
constexpr milliseconds kMaxIdle = hours(24 * 365);
// The kernel allows 32767 s (MAX_TCP_KEEPIDLE in include/net/tcp.h).
constexpr seconds kMaxKeepalive = hours(9);
// The kernel cuts a backlog down to net.core.somaxconn.
constexpr uint32_t kMaxBacklog = 65535;
constexpr uint32_t kMaxRiseFall = 100;
// sun_path has 108 bytes (man 7 unix), and a process binds its socket under a longer name first.
constexpr size_t kMaxTakeoverPath = 96;

// Names or addresses that must differ.
class Distinct {
 public:
  explicit Distinct(ErrorList& errors) : errors_(errors) {}
  void Add(const std::string& what, const std::string& text, Place place) {
    auto [it, inserted] = first_.emplace(text, place);
    if (!inserted)
      errors_.Add(place, absl::StrCat(what, " ", Quote(text), " is already used at line ", it->second.line));
  }
  std::optional<Place> Find(const std::string& text) const {
    auto it = first_.find(text);
    return it == first_.end() ? std::nullopt : std::optional(it->second);
  }

 private:
  ErrorList& errors_;
  std::map<std::string, Place> first_;
};

class SchemaReader {
 public:
  explicit SchemaReader(ErrorList& errors)
      : errors_(errors), listen_addresses_(errors), listener_names_(errors), upstream_names_(errors) {}

  Config Read(const YAML::Node& root) {
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

 private:
  void ReadAdmin(const Value& section) {
    MapReader map(section, errors_);
    if (const Value* value = map.Find("listen")) {
      admin_configured_ = true;
      if (auto address = ReadHttpAddress(*value)) config_.admin_listen = *address;
    }
    map.Finish();
  }

  void ReadMetrics(const Value& section) {
    MapReader map(section, errors_);
    const Value* value = map.Find("listen");
    if (value != nullptr && !(value->node.IsScalar() && value->text() == kOff))
      config_.metrics_listen = ReadHttpAddress(*value);
    map.Finish();
  }

  void ReadLog(const Value& section) {
    MapReader map(section, errors_);
    map.Choice("level", kLogLevelNames, &config_.log.level);
    map.Choice("format", kLogFormatNames, &config_.log.format);
    map.Finish();
  }

  void ReadLimits(const Value& section) {
    MapReader map(section, errors_);
    LimitsConfig& limits = config_.limits;
    map.NumberOr(kAuto, "max_connections", 1, kMaxConnections, &limits.max_connections);
    map.Size("buffer_per_direction", kMinBuffer, kMaxBuffer, &limits.buffer_per_direction_bytes);
    map.SizeOr(kAuto, "memory", kMinMemory, kMaxMemory, &limits.memory_bytes);
    map.Finish();
  }

  void ReadDrain(const Value& section) {
    MapReader map(section, errors_);
    map.Time("delay", milliseconds(0), hours(1), &config_.drain.delay);
    map.Time("timeout", milliseconds(0), hours(24 * 7), &config_.drain.timeout);
    map.TimeOrOff("close_idle", milliseconds(1), hours(24 * 7), &config_.drain.close_idle);
    map.Finish();
    if (config_.drain.close_idle > config_.drain.timeout)
      errors_.Add(section.place, "drain: close_idle is longer than timeout, after which no session is left; make it shorter or timeout longer");
  }

  void ReadReload(const Value& section) {
    MapReader map(section, errors_);
    map.Choice("watch", kOnOffNames, &config_.reload.watch);
    map.Finish();
  }

  void ReadTakeover(const Value& section) {
    MapReader map(section, errors_);
    if (const Value* value = map.Find("socket", Need::kRequired); value != nullptr && CheckScalar(*value, errors_)) {
      config_.takeover.socket = value->text();
      if (!config_.takeover.socket.starts_with('/'))
        errors_.Add(value->place, absl::StrCat("socket: ", Quote(value->text()), " is no absolute path; write one such as "
                                               "/run/ringmain/takeover.sock"));
      else if (config_.takeover.socket.size() > kMaxTakeoverPath)
        errors_.Add(value->place, absl::StrCat("socket: the path is longer than ", kMaxTakeoverPath, " bytes"));
    }
    map.Finish();
  }

  void ReadListener(const Value& item) {
    if (errors_.full()) return;
    ListenerConfig listener;
    MapReader map(item, errors_);
    if (auto name = map.Name("name")) {
      listener_names_.Add("listener name", name->name, name->place);
      listener.name = name->name;
    }
    if (const Value* value = map.Find("listen", Need::kRequired)) ReadListen(*value, listener);
    if (auto upstream = map.Name("upstream")) {
      listener.upstream = upstream->name;
      references_.push_back(*upstream);
    }
    map.NumberOr(kOff, "max_connections", 1, kMaxConnections, &listener.max_connections);
    map.TimeOrOff("idle_timeout", milliseconds(1), kMaxIdle, &listener.idle_timeout);
    map.TimeOrOff("half_closed_timeout", milliseconds(1), kMaxIdle, &listener.half_closed_timeout);
    map.SecondsOrOff("keepalive", seconds(1), kMaxKeepalive, &listener.keepalive);
    map.Number("backlog", 1, kMaxBacklog, &listener.backlog);
    map.Finish();
    config_.listeners.push_back(std::move(listener));
  }

  void ReadListen(const Value& value, ListenerConfig& listener) {
    std::vector<Value> items{value};
    if (value.node.IsSequence()) items = Items(value, "listen", kMaxListenAddresses, errors_);
    for (const Value& item : items) {
      auto address = ReadAddress(item, errors_);
      if (!address) continue;
      ClaimListenAddress(*address, item.place);
      listener.listen.push_back(*address);
    }
  }

  void ReadUpstream(const Value& item) {
    if (errors_.full()) return;
    UpstreamConfig upstream;
    MapReader map(item, errors_);
    if (auto name = map.Name("name")) {
      upstream_names_.Add("upstream name", name->name, name->place);
      upstream.name = name->name;
    }
    map.Choice("balance", kBalanceNames, &upstream.balance);
    map.Time("connect_timeout", milliseconds(1), hours(1), &upstream.connect_timeout);
    map.Number("connect_tries", 1, kMaxConnectTries, &upstream.connect_tries);
    if (const Value* value = map.Find("health_check")) ReadHealthCheck(*value, upstream.health_check.emplace());
    map.TimeOrOff("close_removed_after", milliseconds(1), kMaxIdle, &upstream.close_removed_after);
    if (const Value* value = map.Find("source_addresses")) ReadSources(*value, upstream);
    if (const Value* value = map.Find("servers", Need::kRequired)) ReadServers(*value, upstream);
    map.Finish();
    config_.upstreams.push_back(std::move(upstream));
  }

  void ReadHealthCheck(const Value& section, HealthCheckConfig& check) {
    MapReader map(section, errors_);
    map.Choice("type", kHealthCheckTypeNames, &check.type);
    map.Time("interval", milliseconds(10), hours(24), &check.interval);
    map.Time("timeout", milliseconds(1), hours(1), &check.timeout);
    map.Number("rise", 1, kMaxRiseFall, &check.rise);
    map.Number("fall", 1, kMaxRiseFall, &check.fall);
    map.Finish();
  }

  void ReadSources(const Value& list, UpstreamConfig& upstream) {
    Distinct addresses(errors_);
    for (const Value& item : Items(list, "a source address", kMaxSourceAddresses, errors_)) {
      if (errors_.full()) return;
      auto address = ReadHost(item, errors_);
      if (!address) continue;
      if (address->is_wildcard())
        errors_.Add(item.place, absl::StrCat(item.name, ": ", Quote(item.text()),
                                             " is no address of one machine; leave source_addresses out to connect from any"));
      if (address->is_link_local())
        errors_.Add(item.place, absl::StrCat(item.name, ": ", Quote(item.text()),
                                             " is link-local, which needs an interface; link-local addresses are not supported"));
      addresses.Add("source address", address->host(), item.place);
      upstream.source_addresses.push_back(*address);
    }
  }

  void CheckSource(const Value& value, const SocketAddress& server, const UpstreamConfig& upstream) {
    if (upstream.source_addresses.empty() || server.is_unix()) return;
    for (const SocketAddress& source : upstream.source_addresses)
      if (source.family() == server.family()) return;
    errors_.Add(value.place, absl::StrCat("address: ", Quote(value.text()), " has no source address of its family; add an IPv",
                                          server.family() == AF_INET ? 4 : 6, " address to source_addresses"));
  }

  void ReadServers(const Value& list, UpstreamConfig& upstream) {
    Distinct addresses(errors_);
    for (const Value& item : Items(list, "a server", kMaxServers, errors_)) {
      if (errors_.full()) return;
      if (++servers_ > kMaxAllServers) {
        if (servers_ == kMaxAllServers + 1)
          errors_.Add(list.place, absl::StrCat("too many servers; all upstreams together may have ", kMaxAllServers));
        return;
      }
      ServerConfig server;
      MapReader map(item, errors_);
      map.Number("weight", 1, kMaxServerWeight, &server.weight);
      const Value* value = map.Find("address", Need::kRequired);
      auto address = value != nullptr ? ReadAddress(*value, errors_) : std::nullopt;
      map.Finish();
      if (!address) continue;
      if (!address->is_unix() && address->port() == 0)
        errors_.Add(value->place, absl::StrCat("address: ", Quote(value->text()), " has port 0; write 1 to 65535"));
      addresses.Add("server address", address->ToString(), value->place);
      CheckSource(*value, *address, upstream);
      server.address = *address;
      upstream.servers.push_back(std::move(server));
    }
  }

  std::optional<SocketAddress> ReadHttpAddress(const Value& value) {
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
  void ClaimListenAddress(const SocketAddress& address, Place place) {
    if (address.is_unix() || address.port() != 0) listen_addresses_.Add("listen address", address.ToString(), place);
  }

  void CheckReferences() {
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

  void CheckDefaultAdmin() {
    auto place = listen_addresses_.Find(std::string(kDefaultAdminAddress));
    if (place && !admin_configured_)
      errors_.Add(*place, absl::StrCat("listen address ", Quote(kDefaultAdminAddress),
                                       " is that of the admin server; change it or admin.listen"));
  }

  ErrorList& errors_;
  Config config_;
  bool admin_configured_ = false;
  Distinct listen_addresses_;
  Distinct listener_names_;
  Distinct upstream_names_;
  std::vector<PlacedName> references_;  // of listeners, to upstreams
  uint32_t servers_ = 0;
};

}  // namespace

Config ReadConfig(const YAML::Node& root, ErrorList& errors) { return SchemaReader(errors).Read(root); }

}  // namespace ringmain
