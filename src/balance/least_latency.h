// Least latency: of two servers drawn by chance, the one that answers sooner, as far as connects tell.
#pragma once

#include "upstream/upstream.h"

namespace ringmain {

// Compares latency * (active + 1) / share, where the latency is the moving average of Server::LatencyMicros: a server that has become slow
// is left to others within one connect, and tried again as its average fades. One whose latency is not known counts as no better or worse
// than the other by that.
class LeastLatency final : public Balancer {
 public:
  std::optional<uint16_t> Pick(Upstream& upstream, const Candidates& candidates) const override;
  bool needs_latency() const override { return true; }
};

}  // namespace ringmain
