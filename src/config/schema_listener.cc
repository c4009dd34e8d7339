#include "config/schema_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

// The kernel cuts a backlog down to net.core.somaxconn.
constexpr uint32_t kMaxBacklog = 65535;

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
  if (const Value* value = map.Find("socket")) {
    ReadSocket(*value, listener.socket, /*listens=*/true);
    if (listener.keepalive.count() == 0 && (listener.socket.keepalive_interval.count() != 0 || listener.socket.keepalive_count != 0))
      errors_.Add(value->place, "socket: keepalive_interval and keepalive_count mean nothing while keepalive is off");
  }
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

}  // namespace ringmain
