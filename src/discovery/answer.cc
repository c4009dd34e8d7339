#include "discovery/answer.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

namespace ringmain {
namespace {

// Resolvers that cannot tell "no such record" from "no such name" are common.
bool IsNone(LookupResult result) { return result == LookupResult::kNoRecords || result == LookupResult::kNoName; }

bool FoundAny(const FoundHost& found) {
  return std::any_of(found.begin(), found.end(), [](const FoundAddresses& one) { return !one.addresses.empty(); });
}

// Why a host has no addresses.
LookupResult FailureOf(const FoundHost& found) {
  for (const FoundAddresses& one : found)
    if (one.result == LookupResult::kNoName) return one.result;
  return found[0].result != LookupResult::kNoRecords ? found[0].result : found[1].result;
}

// REQUIRES: FoundAny(found).
HostAddresses MergeHost(const FoundHost& found, const HostAddresses& before) {
  HostAddresses after;
  for (size_t i = 0; i < after.size(); ++i)
    if (!found[i].addresses.empty())
      after[i] = found[i].addresses;
    else if (!IsNone(found[i].result))
      after[i] = before[i];
  return after;
}

// IPv4 first, then by the address and by the port.
bool Before(const SocketAddress& a, const SocketAddress& b) {
  if (a.family() != b.family()) return a.family() == AF_INET;
  SocketAddress x = a, y = b;
  x.set_port(0);
  y.set_port(0);
  // As sockaddr both keep the address in network order; flow and scope are 0.
  int order = std::memcmp(x.address(), y.address(), x.length());
  return order != 0 ? order < 0 : a.port() < b.port();
}

bool IsUsable(const SocketAddress& address) {
  return !address.is_wildcard() && !address.is_link_local() && address.port() != 0;
}

// Each address once: as what it is worth most as.
std::vector<FoundServer> SortedOnce(std::vector<FoundServer> servers) {
  std::sort(servers.begin(), servers.end(), [](const FoundServer& a, const FoundServer& b) {
    if (!(a.address == b.address)) return Before(a.address, b.address);
    return std::pair(a.backup, b.weight) < std::pair(b.backup, a.weight);
  });
  auto same = [](const FoundServer& a, const FoundServer& b) { return a.address == b.address; };
  servers.erase(std::unique(servers.begin(), servers.end(), same), servers.end());
  return servers;
}

// RFC 2782: 0 means a very small share.
uint32_t ScaledWeight(uint32_t weight, uint32_t largest) {
  if (largest > kMaxServerWeight) weight = (weight * kMaxServerWeight + largest / 2) / largest;
  return std::max(weight, 1u);
}

void AddServers(const HostAddresses& addresses, uint16_t port, uint32_t weight, bool backup, std::vector<FoundServer>& servers) {
  for (const auto& family : addresses)
    for (SocketAddress address : family) {
      address.set_port(port);
      if (IsUsable(address)) servers.push_back({address, weight, backup});
    }
}

}  // namespace

LookupResult Merge(const Found& found, Good& good) {
  if (found.srv_result != LookupResult::kSuccess) return found.srv_result;
  Good next{found.records, {}};
  LookupResult failure = LookupResult::kNoRecords;
  bool any = false;
  for (const auto& [host, one] : found.hosts) {
    auto before = good.hosts.find(host);
    if (FoundAny(one)) {
      next.hosts[host] = MergeHost(one, before != good.hosts.end() ? before->second : HostAddresses());
      any = true;
    } else {
      failure = FailureOf(one);
      if (before != good.hosts.end()) next.hosts[host] = before->second;
    }
  }
  if (!any) return failure;
  good = std::move(next);
  return LookupResult::kSuccess;
}

std::vector<FoundServer> ServersOf(const DnsNameConfig& name, const Good& good) {
  std::vector<FoundServer> servers;
  if (name.type != DnsType::kSrv) {
    for (const auto& [host, addresses] : good.hosts) AddServers(addresses, name.port, 0, false, servers);
    return SortedOnce(std::move(servers));
  }
  std::map<uint16_t, uint32_t> largest;  // by priority
  for (const SrvRecord& record : good.records) {
    uint32_t& weight = largest[record.priority];
    weight = std::max<uint32_t>(weight, record.weight);
  }
  for (const SrvRecord& record : good.records) {
    auto host = good.hosts.find(record.host);
    if (host == good.hosts.end()) continue;
    AddServers(host->second, record.port, ScaledWeight(record.weight, largest[record.priority]),
               record.priority != largest.begin()->first, servers);
  }
  return SortedOnce(std::move(servers));
}

Duration LookAgainAfter(LookupResult result, seconds ttl, bool ever_found, const DnsConfig& dns, double random) {
  constexpr milliseconds kWithoutAny(1000);  // clients are refused meanwhile
  Duration after = dns.min_ttl;
  if (result == LookupResult::kSuccess)
    after = std::max<Duration>(after, ttl < std::chrono::ceil<seconds>(dns.max_ttl) ? Duration(ttl) : Duration(dns.max_ttl));
  else if (!ever_found)
    after = std::min<Duration>(after, kWithoutAny);
  Duration least = std::min<Duration>(after, dns.min_ttl);
  return std::max(least, std::chrono::duration_cast<Duration>(after * (1 - random / 10)));
}

// ---- The wire form (RFC 1035, 4.1) ----

namespace {

class MessageReader {
 public:
  explicit MessageReader(std::span<const unsigned char> message) : rest_(message) {}

  std::optional<uint32_t> Number(size_t bytes) {
    if (rest_.size() < bytes) return std::nullopt;
    uint32_t number = 0;
    for (size_t i = 0; i < bytes; ++i) number = number << 8 | rest_[i];
    rest_ = rest_.subspan(bytes);
    return number;
  }
  bool Skip(size_t bytes) {
    if (rest_.size() < bytes) return false;
    rest_ = rest_.subspan(bytes);
    return true;
  }
  bool SkipName() {
    while (auto length = Number(1)) {
      if (*length == 0) return true;
      if ((*length & 0xc0) == 0xc0) return Skip(1);  // the rest stands elsewhere
      if ((*length & 0xc0) != 0 || !Skip(*length)) return false;
    }
    return false;
  }

 private:
  std::span<const unsigned char> rest_;
};

}  // namespace

seconds LeastTtl(std::span<const unsigned char> message) {
  MessageReader reader(message);
  if (!reader.Skip(4)) return seconds::max();
  auto questions = reader.Number(2), answers = reader.Number(2);
  if (!questions.has_value() || !answers.has_value() || !reader.Skip(4)) return seconds::max();
  for (uint32_t i = 0; i < *questions; ++i)
    if (!reader.SkipName() || !reader.Skip(4)) return seconds::max();
  seconds least = seconds::max();
  for (uint32_t i = 0; i < *answers; ++i) {
    if (!reader.SkipName() || !reader.Skip(4)) return seconds::max();
    auto ttl = reader.Number(4), length = reader.Number(2);
    if (!ttl.has_value() || !length.has_value() || !reader.Skip(*length)) return seconds::max();
    // RFC 2181, 8: with the highest bit set it is to be taken for 0.
    least = std::min(least, seconds(*ttl > INT32_MAX ? 0 : *ttl));
  }
  return least;
}

}  // namespace ringmain
