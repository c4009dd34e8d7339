#include "upstream/upstream.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace ringmain {

namespace {

Upstream::Servers NewServers(const UpstreamConfig& config) {
  Upstream::Servers servers;
  for (const ServerConfig& server : config.servers) servers.push_back(std::make_shared<Server>(server.address));
  return servers;
}

}  // namespace

Upstream::Upstream(const UpstreamConfig& config, std::unique_ptr<const Balancer> balancer)
    : Upstream(config, std::move(balancer), NewServers(config)) {}

Upstream::Upstream(const UpstreamConfig& config, std::unique_ptr<const Balancer> balancer, Servers servers)
    : config_(config), balancer_(std::move(balancer)), sources_(config.source_addresses), servers_(std::move(servers)) {
  RINGMAIN_CHECK(!servers_.empty() && servers_.size() <= kMaxServers && servers_.size() == config_.servers.size());
  auto ipv4 = [](const SocketAddress& source) { return source.family() == AF_INET; };
  ipv4_sources_ = static_cast<size_t>(std::stable_partition(sources_.begin(), sources_.end(), ipv4) - sources_.begin());
  std::vector<uint32_t> weights;
  for (const ServerConfig& server : config_.servers) weights.push_back(server.weight);
  sequence_ = SmoothWeightedSequence(weights);
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
  RINGMAIN_CHECK(!weights.empty() && weights.size() <= UINT16_MAX);
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
