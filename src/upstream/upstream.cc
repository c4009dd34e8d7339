#include "upstream/upstream.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/check.h"

namespace ringmain {

namespace {

Upstream::Servers NewServers(const UpstreamConfig& config) {
  Upstream::Servers servers;
  for (const ServerConfig& server : config.servers) servers.push_back(std::make_shared<Server>(server.address));
  return servers;
}

std::vector<uint16_t> SequenceOf(std::span<const Upstream::Terms> terms, bool backups) {
  std::vector<uint32_t> weights;
  std::vector<uint16_t> servers;
  for (size_t i = 0; i < terms.size(); ++i) {
    if (!terms[i].enabled || terms[i].backup != backups) continue;
    weights.push_back(terms[i].weight);
    servers.push_back(static_cast<uint16_t>(i));
  }
  if (servers.empty()) return {};
  std::vector<uint16_t> sequence = SmoothWeightedSequence(weights);
  for (uint16_t& entry : sequence) entry = servers[entry];
  return sequence;
}

}  // namespace

Upstream::Upstream(const UpstreamConfig& config, std::unique_ptr<const Balancer> balancer)
    : Upstream(config, std::move(balancer), NewServers(config)) {}

bool NeedsQueue(const UpstreamConfig& config) {
  return config.max_queue > 0 && std::any_of(config.servers.begin(), config.servers.end(),
                                             [](const ServerConfig& server) { return server.max_connections.has_value(); });
}

Upstream::Upstream(const UpstreamConfig& config, std::unique_ptr<const Balancer> balancer, Servers servers,
                   std::shared_ptr<ConnectQueue> queue)
    : config_(config),
      balancer_(std::move(balancer)),
      sources_(config.source_addresses),
      servers_(std::move(servers)),
      queue_(std::move(queue)),
      retry_budget_(config.retry_budget.has_value() ? std::make_unique<RetryBudget>(*config.retry_budget) : nullptr) {
  RINGMAIN_CHECK(servers_.size() <= kMaxServers && servers_.size() == config_.servers.size());
  auto ipv4 = [](const SocketAddress& source) { return source.family() == AF_INET; };
  ipv4_sources_ = static_cast<size_t>(std::stable_partition(sources_.begin(), sources_.end(), ipv4) - sources_.begin());
  for (const ServerConfig& server : config_.servers)
    terms_.push_back({server.weight, server.max_connections.value_or(UINT32_MAX), server.state == ServerState::kEnabled, server.backup});
  for (bool backups : {false, true}) sequences_[backups ? 1 : 0] = SequenceOf(terms_, backups);
  has_backups_ = !sequences_[1].empty();
}

PickResult Upstream::Pick(const PickRequest& request) {
  bool ignore_health = Panics(request.now);
  for (bool backups : {false, true}) {
    if (backups && !has_backups_) break;
    Candidates candidates(*this, request, backups, ignore_health);
    if (std::optional<uint16_t> server = balancer_->Pick(*this, candidates)) return {server};
    if (candidates.AnyUsable()) return {std::nullopt, /*full=*/true};
  }
  return {};
}

bool Upstream::MayPick(const PickRequest& request) {
  bool ignore_health = Panics(request.now);
  for (bool backups : {false, true})
    if (Candidates(*this, request, backups, ignore_health).AnyUsable()) return true;
  return false;
}

bool Upstream::Panics(TimePoint now) const {
  if (config_.panic_threshold_percent == 0) return false;
  size_t enabled = 0, up = 0;
  for (size_t i = 0; i < size(); ++i) {
    if (!terms_[i].enabled) continue;
    ++enabled;
    up += servers_[i]->InService(now) ? 1 : 0;
  }
  return up * 100 < enabled * config_.panic_threshold_percent;
}

std::span<const SocketAddress> Upstream::SourcesOf(int family) const {
  std::span<const SocketAddress> sources(sources_);
  switch (family) {
    case AF_INET:
      return sources.first(ipv4_sources_);
    case AF_INET6:
      return sources.subspan(ipv4_sources_);
    default:
      return {};
  }
}

// At turn t a server stands at t * weight - picks * total, and the highest serves; the lowest index among equals.
// Servers of one weight differ by their picks only, so they take turns in the order of their index, and only one
// candidate of each distinct weight needs a look: 256 at most, which keeps the largest sequence (4096 servers, a
// million entries) below a second.
std::vector<uint16_t> SmoothWeightedSequence(std::span<const uint32_t> weights) {
  struct Group {
    int64_t weight;
    int64_t standing;  // of the next one
    size_t next;       // whose turn it is, in servers
    std::vector<uint16_t> servers;
  };
  RINGMAIN_CHECK(weights.size() <= UINT16_MAX);
  if (weights.empty()) return {};
  uint32_t divisor = 0;
  std::map<uint32_t, Group> by_weight;
  int64_t total = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    RINGMAIN_CHECK(weights[i] > 0);
    divisor = std::gcd(divisor, weights[i]);
    total += weights[i];
    by_weight[weights[i]].servers.push_back(static_cast<uint16_t>(i));
  }
  total /= divisor;
  std::vector<Group> groups;
  for (auto& [weight, group] : by_weight) groups.push_back({weight / divisor, 0, 0, std::move(group.servers)});

  std::vector<uint16_t> sequence;
  sequence.reserve(total);
  while (sequence.size() < static_cast<size_t>(total)) {
    Group* best = nullptr;
    for (Group& group : groups) {
      group.standing += group.weight;
      bool ahead = best == nullptr || group.standing > best->standing ||
                   (group.standing == best->standing && group.servers[group.next] < best->servers[best->next]);
      if (ahead) best = &group;
    }
    sequence.push_back(best->servers[best->next]);
    // The next of the group has one pick less, until all of them have had their turn.
    if (++best->next == best->servers.size()) {
      best->next = 0;
      best->standing -= total;
    }
  }
  return sequence;
}

}  // namespace ringmain
