#include "config/schema_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ringmain {
void SchemaReader::ReadUpstream(const Value& item) {
  if (errors_.full()) return;
  UpstreamConfig upstream;
  MapReader map(item, errors_);
  if (auto name = map.Name("name")) {
    upstream_names_.Add("upstream name", name->name, name->place);
    upstream.name = name->name;
  }
  map.Choice("balance", kBalanceNames, &upstream.balance);
  map.Time("connect_timeout", milliseconds(1), std::chrono::hours(1), &upstream.connect_timeout);
  map.Number("connect_tries", 1, kMaxConnectTries, &upstream.connect_tries);
  const Value* health_check = map.Find("health_check");
  map.TimeOrOff("close_removed_after", milliseconds(1), kMaxIdle, &upstream.close_removed_after);
  if (const Value* value = map.Find("source_addresses")) ReadSources(*value, upstream);
  if (const Value* value = map.Find("servers", Need::kRequired)) ReadServers(*value, upstream);
  if (health_check != nullptr) ReadHealthCheck(*health_check, upstream);
  map.Finish();
  config_.upstreams.push_back(std::move(upstream));
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
