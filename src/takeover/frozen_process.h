// FrozenProcess: what a process passes to its successor, apart from file descriptors: its sessions, and what it has counted and found out.
//
// Plain values. Things are called by their names, as in the configuration and in metrics, so that either process may know some that the
// other does not.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/token_bucket.h"
#include "config/config.h"
#include "takeover/frozen_session.h"

namespace ringmain {

using FrozenCounters = std::map<std::string, uint64_t>;  // by name

// The counts of the buckets, not cumulative.
struct FrozenHistogram {
  std::vector<uint64_t> buckets;
  uint64_t sum = 0;  // in nanoseconds or bytes
};
using FrozenHistograms = std::map<std::string, FrozenHistogram>;  // by name

struct FrozenListener {
  std::string name;
  std::string upstream;
  FrozenCounters counters;
  FrozenHistogram duration;
  FrozenHistograms histograms;  // the others
  // For clients that still wait at an address which the successor's configuration does not have: such as `allow 10.0.0.0/8`.
  std::vector<std::string> access;
  // What the rates remember (base/token_bucket.h), if there are any; of sources as SourceTable::SavePace tells it.
  Pace accept_pace;
  int64_t accept_paid_until_ns = 0;
  std::array<int64_t, 2> bandwidth_paid_until_ns{};  // of what all sessions may move together, by Direction; 0: nothing
  Pace source_pace;
  std::string sources;
};

struct FrozenServer {
  std::string address;
  bool up = true;
  FrozenCounters counters;
  // What an operator has changed of it, and what it was before; both or none.
  std::optional<ServerSettings> configured;
  std::optional<ServerSettings> changed;
  // Left out because it failed in use: until when, how often in a row. The epoch: it is not, and was not lately.
  TimePoint ejected_until{};
  uint32_t ejections = 0;
};

// A name whose addresses are servers, and those that were found last.
struct FrozenName {
  struct Found {
    std::string address;
    uint32_t weight = 0;
    bool backup = false;
  };
  std::string name;
  FrozenCounters counters;
  int64_t last_success_epoch = 0;  // in milliseconds
  std::vector<Found> found;
};

struct FrozenUpstream {
  std::string name;
  FrozenHistogram connect_duration;
  FrozenHistograms histograms;  // the others
  uint64_t retries_denied = 0;
  std::vector<FrozenServer> servers;
  std::vector<FrozenName> names;
};

struct FrozenWorker {
  FrozenCounters counters;
  FrozenHistogram loop_turn;
};

// Where sessions go, and the rules that they began with.
struct FrozenRoute {
  std::string listener;
  std::string upstream;
  std::string server;  // an address; empty: none is connected yet
  milliseconds idle_timeout{};
  milliseconds half_closed_timeout{};
  seconds keepalive{};
  milliseconds client_idle_timeout{};
  milliseconds server_idle_timeout{};
  milliseconds max_lifetime{};
  uint32_t lifetime_jitter_percent = 0;
};

struct FrozenProcess {
  std::vector<FrozenListener> listeners;
  std::vector<FrozenUpstream> upstreams;
  std::vector<FrozenWorker> workers;
  std::vector<FrozenRoute> routes;
  struct Entry {
    size_t route = 0;  // index in routes
    FrozenSession session;
  };
  FrozenCounters reloads;
  std::vector<Entry> sessions;  // their file descriptors are places in the list of all that are passed
};

// As CBOR (RFC 8949): a map, of which a reader skips what it does not know, so that versions may differ. Pure.
std::string Encode(const FrozenProcess& process);
// Errors: InvalidArgument, if `bytes` are not what Encode makes or do not name each of `fds` file descriptors once at most.
absl::StatusOr<FrozenProcess> DecodeProcess(std::string_view bytes, size_t fds);

}  // namespace ringmain
