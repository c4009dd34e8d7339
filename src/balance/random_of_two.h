// Random: of two servers drawn by chance, the one with fewer connections.
#pragma once

#include "upstream/upstream.h"

namespace ringmain {

// Draws in proportion to the weights, and compares (active + 1) / share. Spreads well where many proxies choose for the same servers.
class RandomOfTwo final : public Balancer {
 public:
  std::optional<uint16_t> Pick(Upstream& upstream, const Candidates& candidates) const override;
};

}  // namespace ringmain
