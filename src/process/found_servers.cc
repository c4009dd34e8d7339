// How servers that are found by name come and go: as by a reload.
#include <algorithm>
#include <system_error>
#include <utility>

#include "config/diff.h"
#include "log/log.h"
#include "process/process.h"
#include "takeover/frozen_metrics.h"

namespace ringmain {
namespace {

// For the first answers. Without them there may be no server at all, and clients be refused.
constexpr Duration kFirstWithin = seconds(3);

}  // namespace

// Has the names of `configured` looked up, too, and waits for first answers, unless `interrupt` is readable.
absl::Status Process::LookUp(const Config& configured, int interrupt) {
  if (absl::Status status = discovery_.Add(configured); !status.ok()) return status;
  discovery_.WaitForFirst(Clock::now() + kFirstWithin, interrupt);
  (void)discovery_.Take();
  return absl::OkStatus();
}

std::shared_ptr<const Config> Process::WithFoundServers(std::shared_ptr<const Config> configured) const {
  EffectiveConfig effective = PutIn(std::move(configured), discovery_.answers());
  for (const std::string& sentence : effective.left_out) Log(LogLevel::kWarn, sentence);
  return std::move(effective.config);
}

// What was found by now comes into force.
void Process::UseFoundServers() {
  if (!discovery_.Take()) return;
  std::shared_ptr<const Config> next = overrides_.Apply(WithFoundServers(configured_));
  if (*next == *config_) return;
  ReloadResult result;
  try {
    result = BringIntoForce(std::move(next));
  } catch (const std::system_error& error) {  // std::thread: there may be more CPUs than there were
    result.errors.push_back(error.what());
  }
  for (const std::string& change : result.changes) Log(LogLevel::kInfo, "found: ", change);
  for (const std::string& error : result.errors) Log(LogLevel::kError, "servers that were found cannot be used: ", error);
}

void Process::TellMissing() const {
  for (const NameKey& key : discovery_.Missing(*configured_))
    Log(LogLevel::kWarn, "name is not found yet: its servers are missing upstream=", key.first, " name=", key.second);
}

void Process::ShowNames(Layout& layout) const {
  for (UpstreamLayout& upstream : layout.upstreams)
    for (const DnsNameConfig& name : upstream.upstream->config().names)
      if (auto metrics = discovery_.metrics({upstream.metrics->name, name.ToString()}); metrics != nullptr)
        upstream.names.push_back(std::move(metrics));
}

// ---- Takeover ----

void Process::FreezeNames(FrozenProcess& process) const {
  for (FrozenUpstream& upstream : process.upstreams)
    for (const UpstreamConfig& config : configured_->upstreams) {
      if (config.name != upstream.name) continue;
      for (const DnsNameConfig& name : config.names) {
        NameKey key{upstream.name, name.ToString()};
        FrozenName& frozen = upstream.names.emplace_back(Freeze(*discovery_.metrics(key)));
        auto answer = discovery_.answers().find(key);
        if (answer == discovery_.answers().end()) continue;
        for (const FoundServer& server : answer->second)
          frozen.found.push_back({server.address.ToString(), server.weight, server.backup});
      }
    }
}

// A name that could not be looked up yet goes on with what the other process had found.
void Process::InheritNames(const FrozenProcess& process) {
  for (const FrozenUpstream& upstream : process.upstreams)
    for (const FrozenName& frozen : upstream.names) {
      NameKey key{upstream.name, frozen.name};
      auto metrics = discovery_.metrics(key);
      if (metrics == nullptr) continue;
      Add(frozen, metrics->cells[1]);
      std::vector<FoundServer> servers;
      for (const FrozenName::Found& found : frozen.found)
        if (auto address = SocketAddress::Parse(found.address); address.ok() && !address->is_unix())
          servers.push_back({*address, std::min(found.weight, kMaxServerWeight), found.backup});
      discovery_.Inherit(key, std::move(servers));
    }
}

}  // namespace ringmain
