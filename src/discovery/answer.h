// What lookups find, and what servers are made of it. Pure.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/socket_address.h"
#include "config/config.h"
#include "metrics/reasons.h"

namespace ringmain {

// ---- What one lookup has found ----

// One type of record of one host.
struct FoundAddresses {
  LookupResult result = LookupResult::kNoRecords;  // also if it was not asked for
  std::vector<SocketAddress> addresses;            // with port 0; some, if and only if the result is kSuccess
};
using FoundHost = std::array<FoundAddresses, 2>;  // by A and AAAA

struct SrvRecord {
  std::string host;
  uint16_t port = 0;
  uint16_t priority = 0;
  uint16_t weight = 0;
  friend auto operator<=>(const SrvRecord&, const SrvRecord&) = default;
};

struct Found {
  LookupResult srv_result = LookupResult::kSuccess;  // of DnsType::kSrv
  std::vector<SrvRecord> records;
  std::map<std::string, FoundHost> hosts;  // each that `records` name; of any other type, the name itself
  seconds ttl = seconds::max();            // the least of all records
};

// ---- What holds ----

using HostAddresses = std::array<std::vector<SocketAddress>, 2>;  // by A and AAAA, with port 0

// The last good answer for a name, by its parts.
struct Good {
  std::vector<SrvRecord> records;
  std::map<std::string, HostAddresses> hosts;
};

// Puts into `good` what was found. Where a part of a lookup failed (of the two types, or of the hosts of SRV records), what was known of that
// part stays; where nothing at all was found everything stays, and the result says why.
LookupResult Merge(const Found& found, Good& good);

// A server found by a name.
struct FoundServer {
  SocketAddress address;
  uint32_t weight = 0;  // 0: the configured one
  bool backup = false;
  friend bool operator==(const FoundServer&, const FoundServer&) = default;
};

// The servers, each address once, in an order that depends on nothing but their addresses. Of SRV records those of the lowest priority are the
// servers and others are backup; weights are scaled within a priority so that the largest is 256 at most and the least 1. Addresses that no
// connection can go to are left out: wildcards, link-local ones and a port 0.
std::vector<FoundServer> ServersOf(const DnsNameConfig& name, const Good& good);

// ---- When to ask again ----

// `random` in [0, 1) spreads lookups over the last tenth of the time, but not below min_ttl.
Duration LookAgainAfter(LookupResult result, seconds ttl, bool ever_found, const DnsConfig& dns, double random);

// The least TTL of the records in the answer section of a DNS message; seconds::max() if there are none, or what comes is not understood.
seconds LeastTtl(std::span<const unsigned char> message);

}  // namespace ringmain
