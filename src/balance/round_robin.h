// Weighted round robin: servers take turns, each in proportion to its weight.
#pragma once

#include "upstream/upstream.h"

namespace ringmain {

// Each pick takes a ticket, and the ticket names a place in Upstream::sequence(). Tickets are unique over all workers,
// so counts are exactly proportional over each whole period. A server that cannot be picked uses up its turn: the pick
// takes another ticket, so the others stay proportional among themselves and the one behind a dead server does not get
// its load on top.
class RoundRobin final : public Balancer {
 public:
  // After this many turns in vain a pick takes any server that is left, so that its cost has a bound. Proportions are
  // exact as long as a period is not longer, or no more than that many turns in a row are of servers that cannot be
  // picked.
  static constexpr size_t kMaxTurns = 4096;

  std::optional<uint16_t> Pick(Upstream& upstream, const Candidates& candidates) const override;
};

}  // namespace ringmain
