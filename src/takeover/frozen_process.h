// FrozenProcess: what a process passes to its successor, apart from file descriptors: its sessions, and what it has counted and found out.
//
// Plain values. Things are called by their names, as in the configuration and in metrics, so that either process may know some that the
// other does not.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "takeover/frozen_session.h"

namespace ringmain {

using FrozenCounters = std::map<std::string, uint64_t>;  // by name

// Of a DurationHistogram: the counts of its buckets, not cumulative.
struct FrozenHistogram {
  std::vector<uint64_t> buckets;
  uint64_t sum_ns = 0;
};

struct FrozenListener {
  std::string name;
  std::string upstream;
  FrozenCounters counters;
  FrozenHistogram duration;
};

struct FrozenServer {
  std::string address;
  bool up = true;
  FrozenCounters counters;
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
  std::vector<Entry> sessions;  // their file descriptors are places in the list of all that are passed
};

// As CBOR (RFC 8949): a map, of which a reader skips what it does not know, so that versions may differ. Pure.
std::string Encode(const FrozenProcess& process);
// Errors: InvalidArgument, if `bytes` are not what Encode makes or do not name each of `fds` file descriptors once at most.
absl::StatusOr<FrozenProcess> DecodeProcess(std::string_view bytes, size_t fds);

}  // namespace ringmain
