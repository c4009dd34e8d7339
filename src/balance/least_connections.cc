#include "balance/least_connections.h"

#include "balance/candidate.h"

namespace ringmain {

std::optional<uint16_t> LeastConnections::Pick(Upstream& upstream, std::span<const uint16_t> tried) const {
  size_t start = upstream.NextTicket() % upstream.size();
  while (true) {
    std::optional<uint16_t> best;
    uint32_t best_active = 0;
    uint64_t best_weight = 0;
    for (size_t i = 0; i < upstream.size(); ++i) {
      size_t index = start + i < upstream.size() ? start + i : start + i - upstream.size();
      uint16_t candidate = static_cast<uint16_t>(index);
      if (!IsCandidate(upstream, candidate, tried)) continue;
      uint32_t active = upstream.server(candidate).active();
      uint32_t weight = upstream.weight(candidate);
      // (active + 1) / weight < (best_active + 1) / best_weight, without division.
      bool better =
          !best.has_value() || (uint64_t{active} + 1) * best_weight < (uint64_t{best_active} + 1) * weight;
      if (!better) continue;
      best = candidate;
      best_active = active;
      best_weight = weight;
    }
    if (!best.has_value() || upstream.server(*best).TryReserve(best_active)) return best;
  }
}

}  // namespace ringmain
