// Source hash: clients of one address get the same server for as long as it can be chosen.
#pragma once

#include <vector>

#include "upstream/upstream.h"

namespace ringmain {

// Weighted rendezvous hashing (Thaler and Ravishankar, 1998; weights by the logarithm method of Schindelhauer and Schomaker, 2005): of all
// candidates the one whose score for this client is highest. A server that leaves takes along only its own clients, which spread over the
// others by weight; they come back with it. Scores depend on the servers' addresses, not on their order, so every ringmain with the same
// servers chooses alike. A pick computes a logarithm for each server: for hundreds of servers maglev is cheaper. slow_start does not apply.
class SourceHash final : public Balancer {
 public:
  explicit SourceHash(const UpstreamConfig& config);
  std::optional<uint16_t> Pick(Upstream& upstream, const Candidates& candidates) const override;
  bool needs_source() const override { return true; }

 private:
  std::vector<uint64_t> hashes_;  // of the servers' addresses
};

}  // namespace ringmain
