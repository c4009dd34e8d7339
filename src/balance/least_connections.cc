#include "balance/least_connections.h"

namespace ringmain {

std::optional<uint16_t> LeastConnections::Pick(Upstream& upstream, const Candidates& candidates) const {
  if (upstream.size() == 0) return std::nullopt;
  size_t start = upstream.NextTicket() % upstream.size();
  while (true) {
    std::optional<uint16_t> best;
    uint32_t best_active = 0;
    uint64_t best_share = 0;
    for (size_t i = 0; i < upstream.size(); ++i) {
      size_t index = start + i < upstream.size() ? start + i : start + i - upstream.size();
      auto candidate = static_cast<uint16_t>(index);
      if (!candidates.Has(candidate)) continue;
      uint32_t active = upstream.server(candidate).active();
      uint32_t share = candidates.Share(candidate);
      // (active + 1) / share < (best_active + 1) / best_share, without division.
      bool better = !best.has_value() || (uint64_t{active} + 1) * best_share < (uint64_t{best_active} + 1) * share;
      if (!better) continue;
      best = candidate;
      best_active = active;
      best_share = share;
    }
    if (!best.has_value() || candidates.Reserve(*best, best_active)) return best;
  }
}

}  // namespace ringmain
