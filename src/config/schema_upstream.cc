#include "config/schema_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "config/dns_name.h"
#include "config/units.h"

namespace ringmain {
namespace {

using std::chrono::hours;

constexpr uint16_t kDnsPort = 53;
constexpr milliseconds kMaxTtl = hours(24);
constexpr uint32_t kMaxLookupTries = 10;

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
  ReadBalancing(map, upstream);
  map.TimeOrOff("connect_total_timeout", milliseconds(1), kMaxConnectTries * hours(1), &upstream.connect_total_timeout);
  map.Choice("send_proxy_protocol", kProxyProtocolSendNames, &upstream.send_proxy_protocol);
  const Value* health_check = map.Find("health_check");
  map.TimeOrOff("close_removed_after", milliseconds(1), kMaxIdle, &upstream.close_removed_after);
  map.Choice("transparent", kOnOffNames, &upstream.transparent);
  if (const Value* value = map.Find("source_addresses")) {
    ReadSources(*value, upstream);
    if (upstream.transparent)
      errors_.Add(value->place, "source_addresses: connections come from the clients' addresses (transparent: on); leave out one of the two");
  }
  if (const Value* value = map.Find("socket")) ReadSocket(*value, upstream.socket, /*listens=*/false);
  if (const Value* value = map.Find("servers", Need::kRequired)) ReadServers(*value, upstream);
  if (const Value* value = map.Find("dns")) ReadDns(*value, upstream.dns);
  if (health_check != nullptr) {
    ReadHealthCheck(*health_check, upstream);
    if (upstream.health_check->send_proxy_protocol && upstream.send_proxy_protocol == ProxyProtocolSend::kOff)
      errors_.Add(health_check->place, "health_check: send_proxy_protocol is on, but the upstream sends none; set the upstream's to v1 or v2");
  }
  map.Finish();
  config_.upstreams.push_back(std::move(upstream));
}

// What becomes of clients when servers are new, full or failing.
void SchemaReader::ReadBalancing(MapReader& map, UpstreamConfig& upstream) {
  map.TimeOrOff("slow_start", milliseconds(1), hours(24), &upstream.slow_start);
  map.Number("max_queue", 0, kMaxConnections, &upstream.max_queue);
  map.TimeOrOff("queue_timeout", milliseconds(1), kMaxIdle, &upstream.queue_timeout);
  map.PercentOrOff("panic_threshold", 1, 100, &upstream.panic_threshold_percent);
  if (const Value* value = map.Find("ejection")) ReadEjection(*value, upstream);
  if (const Value* value = map.Find("retry_budget")) ReadRetryBudget(map, *value, upstream);
}

void SchemaReader::ReadEjection(const Value& value, UpstreamConfig& upstream) {
  if (value.node.IsScalar() && value.text() == kOff) return;
  EjectionConfig& ejection = upstream.ejection.emplace();
  if (value.node.IsScalar() && value.text() == kOn) return;
  if (!value.node.IsMap()) {
    errors_.Add(value.place, "ejection: write on, off, or a map such as { consecutive_failures: 5, time: 10s }");
    return;
  }
  MapReader map(value, errors_);
  map.Number("consecutive_failures", 1, 1000, &ejection.consecutive_failures);
  map.Choice("count_early_ends", kOnOffNames, &ejection.count_early_ends);
  map.Time("time", milliseconds(1), hours(24), &ejection.time);
  map.Time("max_time", milliseconds(1), hours(24), &ejection.max_time);
  map.Percent("max_ejected", 1, 100, &ejection.max_ejected_percent);
  map.Finish();
  if (ejection.max_time < ejection.time)
    errors_.Add(value.place, "ejection: max_time is shorter than time; make it as long at least");
}

void SchemaReader::ReadRetryBudget(MapReader& upstream_map, const Value& value, UpstreamConfig& upstream) {
  if (value.node.IsScalar() && value.text() == kOff) return;
  RetryBudgetConfig& budget = upstream.retry_budget.emplace();
  if (!value.node.IsMap()) return upstream_map.Percent("retry_budget", 0, 100, &budget.percent);
  MapReader map(value, errors_);
  map.Percent("percent", 0, 100, &budget.percent);
  map.Number("per_second", 0, 1'000'000, &budget.per_second);
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
  Distinct addresses(errors_), names(errors_);
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
    map.Choice("backup", kOnOffNames, &server.backup);
    map.NumberOr(kOff, "max_connections", 1, kMaxConnections, &server.max_connections);
    map.Choice("state", kServerStateNames, &server.state);
    const Value* name = map.Find("dns");
    const Value* address = map.Find("address", name == nullptr ? Need::kRequired : Need::kOptional);
    if (name != nullptr && address != nullptr)
      errors_.Add(address->place, "a server has either address or dns; make two of it");
    else if (name != nullptr)
      ReadName(map, *name, server, names, upstream);
    else if (address != nullptr)
      ReadAddressOfServer(*address, std::move(server), addresses, upstream);
    map.Finish();
  }
}

void SchemaReader::ReadAddressOfServer(const Value& value, ServerConfig server, Distinct& addresses, UpstreamConfig& upstream) {
  if (value.node.IsScalar() && ParseDnsName(value.text(), DnsType::kAny).ok() && !SocketAddress::Parse(value.text()).ok()) {
    errors_.Add(value.place, absl::StrCat("address: ", Quote(value.text()), " is a host name; write dns: ", value.text(),
                                          " to have it looked up"));
    return;
  }
  auto address = ReadAddress(value, errors_);
  if (!address) return;
  if (!address->is_unix() && address->port() == 0)
    errors_.Add(value.place, absl::StrCat("address: ", Quote(value.text()), " has port 0; write 1 to 65535"));
  addresses.Add("server address", address->ToString(), value.place);
  CheckSource(value, *address, upstream);
  server.address = *address;
  upstream.servers.push_back(std::move(server));
}

// ---- Names (DNS) ----

void SchemaReader::ReadName(MapReader& map, const Value& value, const ServerConfig& each, Distinct& names, UpstreamConfig& upstream) {
  DnsType type = DnsType::kAny;
  map.Choice("type", kDnsTypeNames, &type);
  const Value* weight = map.Find("weight");
  if (type == DnsType::kSrv && weight != nullptr)
    errors_.Add(weight->place, "weight: SRV records say the weight of each server; leave it out");
  if (!CheckScalar(value, errors_)) return;
  absl::StatusOr<DnsNameConfig> name = ParseDnsName(value.text(), type);
  if (!name.ok()) {
    errors_.Add(value.place, absl::StrCat("dns: ", name.status().message()));
    return;
  }
  name->each = each;
  names.Add("name", name->ToString(), value.place);
  upstream.names.push_back(*std::move(name));
}

void SchemaReader::ReadDns(const Value& section, DnsConfig& dns) {
  MapReader map(section, errors_);
  if (const Value* list = map.Find("resolvers")) {
    Distinct addresses(errors_);
    for (const Value& item : Items(*list, "a resolver", kMaxResolvers, errors_)) {
      if (!CheckScalar(item, errors_)) continue;
      absl::StatusOr<SocketAddress> address = SocketAddress::ParseHost(item.text());
      if (address.ok()) address->set_port(kDnsPort);
      else address = SocketAddress::Parse(item.text());
      if (!address.ok() || address->is_unix() || address->port() == 0 || address->is_wildcard()) {
        errors_.Add(item.place, absl::StrCat("a resolver: ", Quote(item.text()), " is not the address of one; write 127.0.0.53:53, "
                                             "10.0.0.2 or [::1]:53"));
        continue;
      }
      addresses.Add("resolver", address->ToString(), item.place);
      dns.resolvers.push_back(*address);
    }
  }
  map.Time("min_ttl", milliseconds(100), kMaxTtl, &dns.min_ttl);
  map.Time("max_ttl", milliseconds(100), kMaxTtl, &dns.max_ttl);
  map.Time("timeout", milliseconds(10), std::chrono::minutes(1), &dns.timeout);
  map.Number("tries", 1, kMaxLookupTries, &dns.tries);
  map.Finish();
  if (dns.min_ttl > dns.max_ttl)
    errors_.Add(section.place, absl::StrCat("dns: min_ttl, ", FormatDuration(dns.min_ttl), ", is longer than max_ttl, ",
                                            FormatDuration(dns.max_ttl), "; make it shorter or max_ttl longer"));
}

}  // namespace ringmain
