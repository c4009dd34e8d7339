#include "config/schema_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

// The kernel cuts a backlog down to net.core.somaxconn.
constexpr uint32_t kMaxBacklog = 65535;
// Each is looked at for each client.
constexpr size_t kMaxNetworks = 256;

}  // namespace

void SchemaReader::ReadListener(const Value& item) {
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
  map.TimeOrOff("client_idle_timeout", milliseconds(1), kMaxIdle, &listener.client_idle_timeout);
  map.TimeOrOff("server_idle_timeout", milliseconds(1), kMaxIdle, &listener.server_idle_timeout);
  map.TimeOrOff("max_lifetime", milliseconds(1), kMaxIdle, &listener.max_lifetime);
  map.Percent("lifetime_jitter", 0, kMaxJitterPercent, &listener.lifetime_jitter_percent);
  map.SecondsOrOff("keepalive", seconds(1), kMaxKeepalive, &listener.keepalive);
  map.Number("backlog", 1, kMaxBacklog, &listener.backlog);
  if (const Value* value = map.Find("access")) ReadAccess(*value, listener);
  map.RateOr(kOff, "accept_rate", &listener.accept_rate);
  if (const Value* value = map.Find("per_source")) ReadPerSource(*value, listener.per_source);
  if (const Value* value = map.Find("bandwidth")) ReadBandwidth(*value, listener.bandwidth);
  if (const Value* value = map.Find("socket")) {
    ReadSocket(*value, listener.socket, /*listens=*/true);
    if (listener.keepalive.count() == 0 && (listener.socket.keepalive_interval.count() != 0 || listener.socket.keepalive_count != 0))
      errors_.Add(value->place, "socket: keepalive_interval and keepalive_count mean nothing while keepalive is off");
  }
  ReadProxyProtocol(map, listener.proxy_protocol);
  map.Choice("access_log", kOnOffNames, &listener.access_log);
  map.Finish();
  config_.listeners.push_back(std::move(listener));
}

void SchemaReader::ReadListen(const Value& value, ListenerConfig& listener) {
  std::vector<Value> items{value};
  if (value.node.IsSequence()) items = Items(value, "listen", kMaxListenAddresses, errors_);
  for (const Value& item : items) {
    auto address = ReadAddress(item, errors_);
    if (!address) continue;
    ClaimListenAddress(*address, item.place);
    listener.listen.push_back(*address);
  }
}

// A rule of several networks becomes one rule for each.
void SchemaReader::ReadAccess(const Value& list, ListenerConfig& listener) {
  std::optional<Place> last;
  for (const Value& item : Items(list, "an access rule", kMaxAccessNetworks, errors_)) {
    if (errors_.full()) return;
    if (last.has_value()) {
      errors_.Add(item.place, absl::StrCat("this access rule never decides: that of line ", last->line,
                                           " is for all; put it before that one or take it out"));
      return;
    }
    ReadAccessRule(item, listener);
    if (!listener.access.empty() && listener.access.back().network == Network()) last = item.place;
  }
  if (listener.access.size() > kMaxAccessNetworks)
    errors_.Add(list.place, absl::StrCat("access has ", listener.access.size(), " networks; at most ", kMaxAccessNetworks, " are allowed"));
}

void SchemaReader::ReadAccessRule(const Value& item, ListenerConfig& listener) {
  MapReader map(item, errors_);
  const Value* allow = map.Find("allow");
  const Value* deny = map.Find("deny");
  map.Finish();
  if (!item.node.IsMap()) return;
  if ((allow == nullptr) == (deny == nullptr)) {
    if (allow != nullptr || item.node.size() == 0)
      errors_.Add(item.place, "an access rule is either allow or deny; write such as { allow: 10.0.0.0/8 }");
    return;
  }
  const Value& value = allow != nullptr ? *allow : *deny;
  std::vector<Value> networks{value};
  if (value.node.IsSequence()) networks = Items(value, value.name, kMaxAccessNetworks, errors_);
  for (const Value& one : networks) {
    if (errors_.full()) return;
    if (auto network = ReadNetwork(one, errors_)) listener.access.push_back({allow != nullptr, *network});
  }
}

void SchemaReader::ReadPerSource(const Value& section, PerSourceConfig& per_source) {
  MapReader map(section, errors_);
  map.NumberOr(kOff, "max_connections", 1, kMaxConnections, &per_source.max_connections);
  map.RateOr(kOff, "accept_rate", &per_source.accept_rate);
  map.Number("ipv6_prefix", 1, 128, &per_source.ipv6_prefix);
  map.Finish();
}

void SchemaReader::ReadBandwidth(const Value& section, BandwidthConfig& bandwidth) {
  MapReader map(section, errors_);
  auto read = [](MapReader& rates_map, BandwidthConfig::Rates& rates) {
    rates_map.ByteRateOrOff("to_server", &rates.to_server);
    rates_map.ByteRateOrOff("to_client", &rates.to_client);
  };
  read(map, bandwidth.listener);
  if (const Value* value = map.Find("per_session")) {
    MapReader per_session(*value, errors_);
    read(per_session, bandwidth.per_session);
    per_session.Finish();
  }
  map.Finish();
}

// A word, or a map with the word in it.
void SchemaReader::ReadProxyProtocol(MapReader& map, ProxyProtocolConfig& proxy_protocol) {
  const Value* value = map.Find("proxy_protocol");
  if (value == nullptr) return;
  if (value->node.IsMap()) {
    MapReader rules(*value, errors_);
    rules.Choice("accept", kProxyProtocolAcceptNames, &proxy_protocol.accept, Need::kRequired);
    if (const Value* from = rules.Find("from")) {
      std::vector<Value> networks{*from};
      if (from->node.IsSequence()) networks = Items(*from, from->name, kMaxNetworks, errors_);
      for (const Value& one : networks)
        if (auto network = ReadNetwork(one, errors_)) proxy_protocol.from.push_back(*network);
      if (proxy_protocol.from.empty()) return;  // what is wrong with them has been said
    }
    rules.Time("timeout", milliseconds(1), std::chrono::hours(1), &proxy_protocol.timeout);
    rules.Finish();
  } else {
    map.Choice("proxy_protocol", kProxyProtocolAcceptNames, &proxy_protocol.accept);
  }
  if (proxy_protocol.accept == ProxyProtocolAccept::kOptional && proxy_protocol.from.empty())
    errors_.Add(value->place,
                "proxy_protocol: optional needs from, the networks of the proxies that may send a header, or anybody could claim any "
                "address; write such as { accept: optional, from: [10.0.0.0/8] }");
}

}  // namespace ringmain
