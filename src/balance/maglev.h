// Maglev: clients of one address get the same server, by one look into a table.
#pragma once

#include <array>
#include <vector>

#include "upstream/upstream.h"

namespace ringmain {

// The consistent hashing of Google's load balancer (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
// section 3.4), with weights. The table is that of all enabled servers: one that is down, full or tried already keeps its places, and a client
// who meets one looks at further places, in an order of his own; so those of a server that fails spread over all others, and nobody else
// moves. A server that leaves the configuration moves few besides its own: of N servers, all together 1.5 / N of the clients at most, as long
// as there are 500 or fewer. The table depends on the servers' addresses, not on their order. slow_start does not apply.
class Maglev final : public Balancer {
 public:
  explicit Maglev(const UpstreamConfig& config);
  std::optional<uint16_t> Pick(Upstream& upstream, const Candidates& candidates) const override;
  bool needs_source() const override { return true; }

 private:
  std::array<std::vector<uint16_t>, 2> tables_;  // without and of backups; empty if there are none
};

}  // namespace ringmain
