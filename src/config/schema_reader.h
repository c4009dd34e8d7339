// SchemaReader: the keys of a configuration file, section by section; what each may be, and what has to fit together.
//
// The folder's own: schema.h is what others use. Its parts: schema.cc (the process), schema_listener.cc, schema_upstream.cc,
// schema_socket.cc, schema_health_check.cc.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/reader.h"

namespace ringmain {

// The longest timeout of a session.
inline constexpr milliseconds kMaxIdle = std::chrono::hours(24 * 365);
inline constexpr uint32_t kMaxJitterPercent = 50;
// The kernel allows 32767 s (MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL in include/net/tcp.h).
inline constexpr seconds kMaxKeepalive = std::chrono::hours(9);

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

  Config Read(const YAML::Node& root);

 private:
  // ---- The process (schema.cc) ----

  void ReadAdmin(const Value& section);
  void ReadMetrics(const Value& section);
  void ReadLog(const Value& section);
  void ReadLimits(const Value& section);
  void ReadDrain(const Value& section);
  void ReadReload(const Value& section);
  void ReadTakeover(const Value& section);
  std::optional<SocketAddress> ReadHttpAddress(const Value& value);
  void ClaimListenAddress(const SocketAddress& address, Place place);
  void CheckReferences();
  void CheckDefaultAdmin();
  bool CheckAbsolute(const Value& path, std::string_view example);

  // ---- Listeners (schema_listener.cc) ----

  void ReadListener(const Value& item);
  void ReadListen(const Value& value, ListenerConfig& listener);
  void ReadAccess(const Value& list, ListenerConfig& listener);
  void ReadAccessRule(const Value& item, ListenerConfig& listener);
  void ReadPerSource(const Value& section, PerSourceConfig& per_source);
  void ReadBandwidth(const Value& section, BandwidthConfig& bandwidth);
  void ReadProxyProtocol(MapReader& map, ProxyProtocolConfig& proxy_protocol);

  // ---- Upstreams (schema_upstream.cc) ----

  void ReadUpstream(const Value& item);
  void ReadBalancing(MapReader& map, UpstreamConfig& upstream);
  void ReadEjection(const Value& value, UpstreamConfig& upstream);
  void ReadRetryBudget(MapReader& upstream_map, const Value& value, UpstreamConfig& upstream);
  void ReadSources(const Value& list, UpstreamConfig& upstream);
  void CheckSource(const Value& value, const SocketAddress& server, const UpstreamConfig& upstream);
  void ReadServers(const Value& list, UpstreamConfig& upstream);
  void ReadAddressOfServer(const Value& value, ServerConfig server, Distinct& addresses, UpstreamConfig& upstream);
  void ReadName(MapReader& map, const Value& value, const ServerConfig& each, Distinct& names, UpstreamConfig& upstream);
  void ReadDns(const Value& section, DnsConfig& dns);

  // ---- Sockets of either (schema_socket.cc) ----

  void ReadSocket(const Value& section, SocketOptions& options, bool listens);

  // ---- Health checks (schema_health_check.cc) ----

  // REQUIRES: source addresses and servers of the upstream were read.
  void ReadHealthCheck(const Value& section, UpstreamConfig& upstream);
  void ReadWhatIsChecked(MapReader& map, HealthCheckConfig& check, const UpstreamConfig& upstream);
  const Value* FindOfType(MapReader& map, std::string_view key, HealthCheckType type, const HealthCheckConfig& check);
  void ReadSendExpect(const Value& section, MapReader& map, HealthCheckConfig& check);
  std::string ReadBytes(const Value& value, std::string* pattern);
  std::string ReadHex(const Value& value);
  std::string ReadPattern(const Value& value);
  void ReadHttp(MapReader& map, HealthCheckConfig& check);
  void ReadStatuses(const Value& value, HealthCheckConfig& check);

  ErrorList& errors_;
  Config config_;
  bool admin_configured_ = false;
  Distinct listen_addresses_;
  Distinct listener_names_;
  Distinct upstream_names_;
  std::vector<PlacedName> references_;  // of listeners, to upstreams
  uint32_t servers_ = 0;
};

}  // namespace ringmain
