#include "process/server_overrides.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

using Key = std::pair<std::string, std::string>;

ServerSettings SettingsOf(const ServerConfig& server) { return {server.state, server.weight, server.max_connections}; }

// `visit(key, server)` for each.
template <typename Config, typename Visit>
void ForEachServer(Config& config, Visit visit) {
  for (auto& upstream : config.upstreams)
    for (auto& server : upstream.servers) visit(Key{upstream.name, server.address.ToString()}, server);
}

std::map<Key, ServerSettings> AllSettings(const Config& config) {
  std::map<Key, ServerSettings> all;
  ForEachServer(config, [&](const Key& key, const ServerConfig& server) { all.emplace(key, SettingsOf(server)); });
  return all;
}

}  // namespace

absl::Status ServerOverrides::Add(const Config& configured, const ServerChange& change) {
  Key key{change.upstream, change.server};
  std::map<Key, ServerSettings> all = AllSettings(configured);
  auto found = all.find(key);
  if (found == all.end())
    return absl::NotFoundError(absl::StrCat("upstream ", change.upstream, " has no server ", change.server));
  if (change.reset) overrides_.erase(key);
  Override& one = overrides_.try_emplace(key, Override{found->second, found->second}).first->second;
  one.changed.state = change.state.value_or(one.changed.state);
  one.changed.weight = change.weight.value_or(one.changed.weight);
  one.changed.max_connections = change.max_connections.value_or(one.changed.max_connections);
  if (one.changed == found->second) overrides_.erase(key);
  return absl::OkStatus();
}

void ServerOverrides::KeepFor(const Config& configured) {
  std::map<Key, ServerSettings> all = AllSettings(configured);
  std::erase_if(overrides_, [&](const auto& one) {
    auto found = all.find(one.first);
    return found == all.end() || !(found->second == one.second.configured);
  });
}

std::shared_ptr<const Config> ServerOverrides::Apply(std::shared_ptr<const Config> configured) const {
  if (overrides_.empty()) return configured;
  auto config = std::make_shared<Config>(*configured);
  ForEachServer(*config, [&](const Key& key, ServerConfig& server) {
    auto found = overrides_.find(key);
    if (found == overrides_.end()) return;
    server.state = found->second.changed.state;
    server.weight = found->second.changed.weight;
    server.max_connections = found->second.changed.max_connections;
  });
  return config;
}

void ServerOverrides::Freeze(FrozenProcess& process) const {
  for (FrozenUpstream& upstream : process.upstreams)
    for (FrozenServer& server : upstream.servers)
      if (auto found = overrides_.find({upstream.name, server.address}); found != overrides_.end()) {
        server.configured = found->second.configured;
        server.changed = found->second.changed;
      }
}

ServerOverrides ServerOverrides::Inherit(const FrozenProcess& process) {
  ServerOverrides inherited;
  for (const FrozenUpstream& upstream : process.upstreams)
    for (const FrozenServer& server : upstream.servers)
      if (server.configured.has_value() && server.changed.has_value())
        inherited.overrides_.emplace(Key{upstream.name, server.address}, Override{*server.configured, *server.changed});
  return inherited;
}

}  // namespace ringmain
