#include "config/schema_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

// The kernel allows 32767 s (MAX_TCP_KEEPIDLE in include/net/tcp.h).
constexpr seconds kMaxKeepalive = std::chrono::hours(9);
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
  map.SecondsOrOff("keepalive", seconds(1), kMaxKeepalive, &listener.keepalive);
  map.Number("backlog", 1, kMaxBacklog, &listener.backlog);
  ReadProxyProtocol(map, listener.proxy_protocol);
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
