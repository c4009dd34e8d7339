#include "process/topology.h"

#include <algorithm>
#include <map>
#include <utility>

#include "balance/make_balancer.h"
#include "base/check.h"
#include "protocol/proxy_protocol.h"
#include "takeover/frozen_metrics.h"

namespace ringmain {
namespace {

// Whether a connect to the server may be given the server's own port to connect from, and reach itself. A server elsewhere never, but
// which addresses are this machine's may change at any time. The range may, too; so loopback does not depend on it.
bool MayMeetItself(const SocketAddress& server, PortRange local_ports) {
  if (server.is_unix()) return false;
  return server.is_loopback() || server.is_wildcard() || local_ports.Contains(server.port());
}

template <typename Entry, typename Name>
const Entry* Find(const std::vector<Entry>& entries, const std::string& name, Name name_of) {
  auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return name_of(entry) == name; });
  return found == entries.end() ? nullptr : &*found;
}

const std::string& NameOf(const Topology::UpstreamEntry& entry) { return entry.metrics->name; }
const std::string& NameOf(const Topology::ListenerEntry& entry) { return entry.metrics->name; }

// The entry of that name, or the draining one.
template <typename Entry>
const Entry* FindEither(const std::vector<Entry>& entries, const std::vector<Entry>& draining, const std::string& name) {
  auto name_of = [](const Entry& entry) { return NameOf(entry); };
  const Entry* found = Find(entries, name, name_of);
  return found != nullptr ? found : Find(draining, name, name_of);
}

constexpr std::string_view kAllow = "allow ";
constexpr std::string_view kDeny = "deny ";

// Rules as Freeze writes them. One that is not understood lets nobody in.
AccessRules ReadAccess(const std::vector<std::string>& texts) {
  AccessRules rules;
  for (std::string_view text : texts) {
    bool allow = text.starts_with(kAllow);
    absl::StatusOr<Network> network = Network::Parse(text.substr(std::min(text.size(), allow ? kAllow.size() : kDeny.size())));
    rules.push_back(network.ok() ? AccessRule{allow, *network} : AccessRule{false, {}});
  }
  return rules;
}

// How the admin side sees a listener's table of sources; null if per_source is off.
std::function<SourceUse()> SourcesOf(const Topology::ListenerEntry& entry) {
  if (!entry.config.per_source.on() || entry.shared->sources == nullptr) return nullptr;
  return [table = entry.shared->sources] { return SourceUse{table->sources(), table->entries(), table->no_entry()}; };
}

void Grow(const Topology::UpstreamEntry& entry, size_t workers) {
  entry.metrics->cells.Grow(workers);
  if (entry.queue != nullptr) entry.queue->Grow(workers);
  for (const auto* servers : {&entry.servers, &entry.draining})
    for (const Topology::ServerEntry& server : *servers) server.metrics->cells.Grow(workers);
}

FrozenServer FreezeServer(const Topology::ServerEntry& entry) {
  FrozenServer frozen = Freeze(*entry.metrics);
  frozen.up = entry.server->up();
  frozen.ejected_until = entry.server->ejected_until();
  frozen.ejections = entry.server->ejections();
  return frozen;
}

// Whether the server was configured, and enabled.
bool TookConnections(const Topology::UpstreamEntry& entry, const std::string& server) {
  const std::vector<ServerConfig>& configured = entry.upstream->config().servers;
  for (size_t i = 0; i < entry.servers.size(); ++i)
    if (entry.servers[i].metrics->name == server) return configured[i].state == ServerState::kEnabled;
  return false;
}

}  // namespace

Topology::Topology(const Config& config, const Topology& before, size_t workers, TimePoint now)
    : draining_listeners_(before.draining_listeners_),
      draining_upstreams_(before.draining_upstreams_),
      next_number_(before.next_number_) {
  auto named = [](const std::string& name) { return [&name](const auto& entry) { return NameOf(entry) == name; }; };
  for (const UpstreamConfig& upstream : config.upstreams) {
    const UpstreamEntry* old = FindEither(before.upstreams_, before.draining_upstreams_, upstream.name);
    upstreams_.push_back(NextUpstream(upstream, old, workers, now));
    std::erase_if(draining_upstreams_, named(upstream.name));
  }
  for (const ListenerConfig& listener : config.listeners) {
    const ListenerEntry* old = FindEither(before.listeners_, before.draining_listeners_, listener.name);
    listeners_.push_back(NextListener(listener, old, workers));
    std::erase_if(draining_listeners_, named(listener.name));
  }
  for (const UpstreamEntry& old : before.upstreams_)
    if (std::none_of(upstreams_.begin(), upstreams_.end(), named(NameOf(old)))) DrainUpstream(old, now);
  for (const ListenerEntry& old : before.listeners_) {
    if (std::any_of(listeners_.begin(), listeners_.end(), named(NameOf(old)))) continue;
    draining_listeners_.push_back(old);
    draining_listeners_.back().left_at = now;
  }
}

Topology::UpstreamEntry Topology::NextUpstream(const UpstreamConfig& config, const UpstreamEntry* before, size_t workers,
                                               TimePoint now) {
  UpstreamEntry next;
  std::map<std::string, ServerEntry> old;  // what is not among the new ones drains
  if (before != nullptr) {
    next.metrics = before->metrics;
    for (const ServerEntry& server : before->draining) old.emplace(server.metrics->name, server);
    for (const ServerEntry& server : before->servers) old.emplace(server.metrics->name, server).first->second.left_at = now;
  } else {
    next.metrics = std::make_shared<UpstreamMetrics>(config.name, workers);
  }
  if (NeedsQueue(config))
    next.queue = before != nullptr && before->queue != nullptr ? before->queue : std::make_shared<ConnectQueue>(workers);
  Upstream::Servers servers;
  for (const ServerConfig& server : config.servers) {
    std::string name = server.address.ToString();
    auto found = old.find(name);
    if (found != old.end()) {
      next.servers.push_back({found->second.server, found->second.metrics});
      old.erase(found);
    } else {
      next.servers.push_back({std::make_shared<Server>(server.address), std::make_shared<ServerMetrics>(name, workers)});
      // Before any worker sees it: the first check may come later than the first client.
      if (config.health_check.has_value() && !config.health_check->start_up) next.servers.back().server->set_up(false);
    }
    if (before != nullptr && !TookConnections(*before, name) && server.state == ServerState::kEnabled)
      next.servers.back().server->set_started_at(now);
    servers.push_back(next.servers.back().server);
  }
  for (auto& [name, server] : old) next.draining.push_back(std::move(server));
  if (before != nullptr && before->upstream->config() == config && before->upstream->servers() == servers) {
    next.upstream = before->upstream;
    return next;
  }
  next.upstream = std::make_shared<Upstream>(config, MakeBalancer(config), std::move(servers), next.queue);
  if (before != nullptr) next.upstream->ContinueAfter(*before->upstream);
  return next;
}

Topology::ListenerEntry Topology::NextListener(const ListenerConfig& config, const ListenerEntry* before, size_t workers) {
  ListenerEntry next;
  next.config = config;
  uint32_t most = config.max_connections.value_or(UINT32_MAX);
  if (before != nullptr) {
    next.shared = before->shared;
    next.metrics = before->metrics;
  } else {
    next.shared = std::make_shared<SharedListener>(config.name, next_number_++, most);
    next.metrics = std::make_shared<ListenerMetrics>(config.name, workers);
  }
  auto upstream = std::find_if(upstreams_.begin(), upstreams_.end(),
                               [&](const UpstreamEntry& entry) { return entry.upstream->name() == config.upstream; });
  RINGMAIN_CHECK(upstream != upstreams_.end());
  next.upstream = static_cast<size_t>(upstream - upstreams_.begin());
  auto names = std::make_shared<RouteNames>();
  names->listener = config.name;
  names->upstream = config.upstream;
  for (const ServerEntry& server : upstream->servers) names->servers.push_back(server.metrics->name);
  next.names = std::move(names);
  if (!config.access.empty()) next.access = std::make_shared<const AccessRules>(config.access);
  return next;
}

void Topology::DrainUpstream(UpstreamEntry entry, TimePoint now) {
  for (ServerEntry& server : entry.servers) {
    server.left_at = now;
    entry.draining.push_back(std::move(server));
  }
  entry.servers.clear();
  draining_upstreams_.push_back(std::move(entry));
}

const Topology::ListenerEntry& Topology::listener(const std::string& name) const {
  const ListenerEntry* found = Find(listeners_, name, [](const ListenerEntry& entry) { return entry.config.name; });
  RINGMAIN_CHECK(found != nullptr);
  return *found;
}

// ---- What others are to do ----

std::unique_ptr<ListenerRoute> Topology::MakeRoute(const ListenerEntry& listener, uint32_t worker, PortRange local_ports) const {
  const UpstreamEntry& upstream = upstreams_[listener.upstream];
  return RouteOf(listener, upstream.upstream, upstream.metrics, upstream.servers, worker, local_ports);
}

std::unique_ptr<ListenerRoute> Topology::RouteOf(const ListenerEntry& listener, const std::shared_ptr<Upstream>& upstream,
                                                 const std::shared_ptr<UpstreamMetrics>& metrics,
                                                 const std::vector<ServerEntry>& servers, uint32_t worker, PortRange local_ports) {
  auto route = std::make_unique<ListenerRoute>();
  route->shared = listener.shared;
  route->listener_metrics = listener.metrics;
  route->upstream_owner = upstream;
  route->upstream_metrics = metrics;
  route->names = listener.names;
  route->upstream = upstream.get();
  route->listener_cells = &listener.metrics->cells[worker];
  route->upstream_cells = &metrics->cells[worker];
  for (size_t i = 0; i < servers.size(); ++i) {
    const ServerEntry& server = servers[i];
    route->server_metrics.push_back(server.metrics);
    route->servers.push_back({&server.metrics->cells[worker], SourceTurns(upstream->sources(i).size()),
                              MayMeetItself(server.server->address(), local_ports)});
  }
  route->access = listener.access;
  if (listener.config.per_source.on()) route->sources = listener.shared->sources.get();
  if (listener.config.bandwidth.on()) route->bandwidth = &listener.shared->bandwidth;
  route->bandwidth_config = listener.config.bandwidth;
  if (upstream->config().socket != SocketOptions()) route->socket = &upstream->config().socket;
  route->transparent = upstream->config().transparent;
  route->keepalive = listener.config.keepalive;
  route->idle_timeout = listener.config.idle_timeout;
  route->half_closed_timeout = listener.config.half_closed_timeout;
  route->side_idle_timeouts = {listener.config.client_idle_timeout, listener.config.server_idle_timeout};
  route->max_lifetime = listener.config.max_lifetime;
  route->lifetime_jitter_percent = listener.config.lifetime_jitter_percent;
  route->proxy_protocol = listener.config.proxy_protocol;
  route->send_proxy_protocol = upstream->config().send_proxy_protocol;
  route->connect_timeout = upstream->config().connect_timeout;
  route->connect_total_timeout = upstream->config().connect_total_timeout;
  route->connect_tries = upstream->config().connect_tries;
  route->queue_timeout = upstream->config().queue_timeout;
  route->max_queue = upstream->config().max_queue;
  return route;
}

bool Topology::SameRoute(const ListenerEntry& listener, const Topology& before) const {
  for (const ListenerEntry& old : before.listeners_)
    if (old.shared == listener.shared)
      return old.config == listener.config && before.upstreams_[old.upstream].upstream == upstreams_[listener.upstream].upstream;
  return false;
}

std::vector<ProbeTarget> Topology::ProbeTargets() const {
  std::vector<ProbeTarget> targets;
  for (const UpstreamEntry& entry : upstreams_) {
    const std::optional<HealthCheckConfig>& check = entry.upstream->config().health_check;
    for (size_t i = 0; check.has_value() && i < entry.servers.size(); ++i) {
      const UpstreamConfig& config = entry.upstream->config();
      if (config.servers[i].state == ServerState::kDisabled) continue;
      const ServerEntry& server = entry.servers[i];
      SocketAddress address = Exchange::AddressOf(*check, server.server->address());
      std::span<const SocketAddress> sources = entry.upstream->SourcesOf(address.family());
      // The upstream owns its configuration.
      targets.push_back({entry.upstream->name(), server.server, server.metrics, entry.metrics,
                         std::shared_ptr<const HealthCheckConfig>(entry.upstream, &*check), {sources.begin(), sources.end()}, config.socket});
      if (check->send_proxy_protocol) {
        ProxyHeader header;
        header.version = config.send_proxy_protocol == ProxyProtocolSend::kV1 ? 1 : 2;
        header.local = true;
        targets.back().prologue = ComposeProxyHeader(header);
      }
      // A connect that sends nothing would not even begin.
      if (check->type == HealthCheckType::kTcp) targets.back().socket.fast_open = 0;
    }
  }
  return targets;
}

void Topology::GrowTo(size_t workers) {
  for (const auto* entries : {&upstreams_, &draining_upstreams_})
    for (const UpstreamEntry& entry : *entries) Grow(entry, workers);
  for (const auto* entries : {&listeners_, &draining_listeners_})
    for (const ListenerEntry& entry : *entries) entry.metrics->cells.Grow(workers);
}

// ---- Takeover (what becomes of it: hand_over.cc, take_over.cc) ----

Topology Topology::Inherit(const FrozenProcess& process, size_t workers, TimePoint now) {
  Config config;
  for (const FrozenUpstream& frozen : process.upstreams) {
    UpstreamConfig& upstream = config.upstreams.emplace_back();
    upstream.name = frozen.name;
    for (const FrozenServer& server : frozen.servers)
      if (auto address = SocketAddress::Parse(server.address); address.ok()) upstream.servers.push_back({*address, 1});
  }
  for (const FrozenListener& frozen : process.listeners) {
    if (config.upstreams.empty()) break;
    bool known = std::any_of(config.upstreams.begin(), config.upstreams.end(),
                             [&](const UpstreamConfig& upstream) { return upstream.name == frozen.upstream; });
    ListenerConfig& listener = config.listeners.emplace_back();
    listener.name = frozen.name;
    listener.upstream = known ? frozen.upstream : config.upstreams[0].name;
    listener.access = ReadAccess(frozen.access);
  }
  Topology topology(config, {}, workers, now);
  for (size_t i = 0; i < topology.listeners_.size(); ++i) Add(process.listeners[i], topology.listeners_[i].metrics->cells[0]);
  for (const FrozenUpstream& frozen : process.upstreams) {
    auto entry = std::find_if(topology.upstreams_.begin(), topology.upstreams_.end(),
                              [&](const UpstreamEntry& one) { return NameOf(one) == frozen.name; });
    if (entry == topology.upstreams_.end()) continue;
    Add(frozen, *entry->metrics);
    for (const FrozenServer& server : frozen.servers)
      for (ServerEntry& own : entry->servers) {
        if (own.metrics->name != server.address) continue;
        Add(server, *own.metrics);
        own.server->set_up(server.up);
        own.server->SetEjected(server.ejected_until, server.ejections);
      }
  }
  return topology;
}

void Topology::GoOnFrom(const FrozenProcess& process, TimePoint now) const {
  for (const FrozenListener& frozen : process.listeners)
    if (const ListenerEntry* entry = FindEither(listeners_, draining_listeners_, frozen.name)) entry->shared->GoOnFrom(frozen, now);
}

void Topology::Freeze(FrozenProcess& process, TimePoint now) const {
  for (const auto* entries : {&listeners_, &draining_listeners_})
    for (const ListenerEntry& entry : *entries) {
      FrozenListener& listener = process.listeners.emplace_back(ringmain::Freeze(*entry.metrics));
      listener.upstream = entry.config.upstream;
      for (const AccessRule& rule : entry.config.access)
        listener.access.push_back(std::string(rule.allow ? kAllow : kDeny) + rule.network.ToString());
      entry.shared->Freeze(listener, now);
    }
  for (const auto* entries : {&upstreams_, &draining_upstreams_})
    for (const UpstreamEntry& entry : *entries) {
      FrozenUpstream& upstream = process.upstreams.emplace_back(ringmain::Freeze(*entry.metrics));
      for (const auto* servers : {&entry.servers, &entry.draining})
        for (const ServerEntry& server : *servers)
          upstream.servers.push_back(FreezeServer(server));
    }
}

std::string Topology::UpstreamOf(const std::string& listener) const {
  const ListenerEntry* found = FindEither(listeners_, draining_listeners_, listener);
  return found != nullptr ? found->config.upstream : "";
}

std::unique_ptr<ListenerRoute> Topology::MakeAdoptedRoute(const FrozenRoute& frozen, uint32_t worker, PortRange local_ports) const {
  const ListenerEntry* listener = FindEither(listeners_, draining_listeners_, frozen.listener);
  const UpstreamEntry* upstream = FindEither(upstreams_, draining_upstreams_, frozen.upstream);
  if (listener == nullptr || upstream == nullptr) return nullptr;
  std::vector<ServerEntry> servers;
  if (frozen.server.empty()) {
    // A server is still to be chosen: by the configuration that holds now, as far as it goes.
    for (const ListenerEntry& configured : listeners_)
      if (&configured == listener) return MakeRoute(configured, worker, local_ports);
    servers = upstream->servers.empty() ? upstream->draining : upstream->servers;
  } else {
    for (const auto* list : {&upstream->servers, &upstream->draining})
      for (const ServerEntry& server : *list)
        if (server.metrics->name == frozen.server) servers.push_back(server);
  }
  if (servers.empty() && !frozen.server.empty()) return nullptr;
  UpstreamConfig config = upstream->upstream->config();
  config.servers.clear();
  Upstream::Servers shared;
  auto names = std::make_shared<RouteNames>();
  *names = {frozen.listener, frozen.upstream, {}};
  for (const ServerEntry& server : servers) {
    config.servers.push_back({server.server->address(), 1});
    shared.push_back(server.server);
    names->servers.push_back(server.metrics->name);
  }
  if (!frozen.server.empty()) {  // nobody chooses by this one
    config.balance = BalanceMethod::kRoundRobin;
    config.ejection.reset();
  }
  auto own = std::make_shared<Upstream>(config, MakeBalancer(config), std::move(shared), upstream->queue);
  std::unique_ptr<ListenerRoute> route = RouteOf(*listener, own, upstream->metrics, servers, worker, local_ports);
  route->names = std::move(names);
  route->idle_timeout = frozen.idle_timeout;
  route->half_closed_timeout = frozen.half_closed_timeout;
  route->side_idle_timeouts = {frozen.client_idle_timeout, frozen.server_idle_timeout};
  route->max_lifetime = frozen.max_lifetime;
  route->lifetime_jitter_percent = frozen.lifetime_jitter_percent;
  route->keepalive = frozen.keepalive;
  return route;
}

// ---- What is draining ----

bool Topology::has_draining() const {
  return !draining_listeners_.empty() || !draining_upstreams_.empty() ||
         std::any_of(upstreams_.begin(), upstreams_.end(), [](const UpstreamEntry& entry) { return !entry.draining.empty(); });
}

std::vector<uint32_t> Topology::DropDrained(TimePoint now) {
  std::vector<uint32_t> gone;
  auto server_drained = [now](const ServerEntry& entry) {
    return now >= entry.left_at + kLeastDraining && entry.server->active() == 0;
  };
  for (UpstreamEntry& entry : upstreams_) std::erase_if(entry.draining, server_drained);
  for (UpstreamEntry& entry : draining_upstreams_) std::erase_if(entry.draining, server_drained);
  std::erase_if(draining_upstreams_, [](const UpstreamEntry& entry) { return entry.draining.empty(); });
  std::erase_if(draining_listeners_, [&](const ListenerEntry& entry) {
    bool drained = now >= entry.left_at + kLeastDraining && entry.shared->limit.active() == 0;
    if (drained) gone.push_back(entry.shared->number);
    return drained;
  });
  return gone;
}

std::vector<std::shared_ptr<const Server>> Topology::Overdue(TimePoint now) const {
  std::vector<std::shared_ptr<const Server>> overdue;
  for (const auto* entries : {&upstreams_, &draining_upstreams_})
    for (const UpstreamEntry& entry : *entries) {
      milliseconds after = entry.upstream->config().close_removed_after;
      for (const ServerEntry& server : entry.draining)
        if (after.count() != 0 && now >= server.left_at + after && server.server->active() > 0) overdue.push_back(server.server);
    }
  return overdue;
}

// ---- For the admin side ----

std::shared_ptr<Layout> Topology::MakeLayout(const std::vector<std::vector<SocketAddress>>& addresses) const {
  auto layout = std::make_shared<Layout>();
  for (size_t i = 0; i < listeners_.size(); ++i)
    layout->listeners.push_back({listeners_[i].config, addresses.at(i), listeners_[i].metrics, false, SourcesOf(listeners_[i])});
  for (const ListenerEntry& entry : draining_listeners_)
    layout->listeners.push_back({entry.config, {}, entry.metrics, true, SourcesOf(entry)});
  for (const auto* entries : {&upstreams_, &draining_upstreams_})
    for (const UpstreamEntry& entry : *entries) {
      UpstreamLayout& upstream = layout->upstreams.emplace_back();
      upstream.upstream = entry.upstream;
      upstream.metrics = entry.metrics;
      for (size_t i = 0; i < entry.servers.size(); ++i)
        upstream.servers.push_back({entry.servers[i].server, entry.servers[i].metrics, entry.upstream->config().servers[i], false});
      for (const ServerEntry& server : entry.draining) upstream.servers.push_back({server.server, server.metrics, {server.server->address(), 0}, true});
    }
  return layout;
}

}  // namespace ringmain
