// Weighted least connections: the server that would be least loaded with one connection more.
#pragma once

#include "upstream/upstream.h"

namespace ringmain {

// Picks the smallest (active + 1) / share. Among equals a rotating start decides, so they alternate. The pick reserves
// by compare-exchange and looks again if the count has changed, so it is exact over all workers: with equal weights,
// counts never drift apart by more than what releases cause. Lock-free: a pick looks again only because another one
// reserved or released. One pick reads one cache line of each server.
class LeastConnections final : public Balancer {
 public:
  std::optional<uint16_t> Pick(Upstream& upstream, const Candidates& candidates) const override;
};

}  // namespace ringmain
