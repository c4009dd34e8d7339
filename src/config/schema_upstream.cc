#include "config/schema_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

using std::chrono::hours;

constexpr uint32_t kMaxRiseFall = 100;

}  // namespace

void SchemaReader::ReadUpstream(const Value& item) {
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
  map.Choice("send_proxy_protocol", kProxyProtocolSendNames, &upstream.send_proxy_protocol);
  if (const Value* value = map.Find("health_check")) {
    ReadHealthCheck(*value, upstream.health_check.emplace());
    if (upstream.health_check->send_proxy_protocol && upstream.send_proxy_protocol == ProxyProtocolSend::kOff)
      errors_.Add(value->place, "health_check: send_proxy_protocol is on, but the upstream sends none; set the upstream's to v1 or v2");
  }
  map.TimeOrOff("close_removed_after", milliseconds(1), kMaxIdle, &upstream.close_removed_after);
  if (const Value* value = map.Find("source_addresses")) ReadSources(*value, upstream);
  if (const Value* value = map.Find("servers", Need::kRequired)) ReadServers(*value, upstream);
  map.Finish();
  config_.upstreams.push_back(std::move(upstream));
}

void SchemaReader::ReadHealthCheck(const Value& section, HealthCheckConfig& check) {
  MapReader map(section, errors_);
  map.Choice("type", kHealthCheckTypeNames, &check.type);
  map.Time("interval", milliseconds(10), hours(24), &check.interval);
  map.Time("timeout", milliseconds(1), hours(1), &check.timeout);
  map.Number("rise", 1, kMaxRiseFall, &check.rise);
  map.Number("fall", 1, kMaxRiseFall, &check.fall);
  map.Choice("send_proxy_protocol", kOnOffNames, &check.send_proxy_protocol);
  map.Finish();
}

void SchemaReader::ReadSources(const Value& list, UpstreamConfig& upstream) {
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

void SchemaReader::CheckSource(const Value& value, const SocketAddress& server, const UpstreamConfig& upstream) {
  if (upstream.source_addresses.empty() || server.is_unix()) return;
  for (const SocketAddress& source : upstream.source_addresses)
    if (source.family() == server.family()) return;
  errors_.Add(value.place, absl::StrCat("address: ", Quote(value.text()), " has no source address of its family; add an IPv",
                                        server.family() == AF_INET ? 4 : 6, " address to source_addresses"));
}

void SchemaReader::ReadServers(const Value& list, UpstreamConfig& upstream) {
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

}  // namespace ringmain
