#include "balance/round_robin.h"

#include <algorithm>

#include "balance/pick_any.h"

namespace ringmain {

std::optional<uint16_t> RoundRobin::Pick(Upstream& upstream, const Candidates& candidates) const {
  std::span<const uint16_t> sequence = upstream.sequence(candidates.backups());
  for (size_t turns = std::min(sequence.size(), kMaxTurns); turns > 0; --turns) {
    uint64_t ticket = upstream.NextTicket();
    uint16_t server = sequence[ticket % sequence.size()];
    if (candidates.Has(server) && candidates.TakesTurn(server, ticket) && candidates.Reserve(server)) return server;
  }
  // A period of tickets in vain proves nothing: other workers may have taken the tickets of those that are up.
  return sequence.empty() ? std::nullopt : PickAny(upstream, candidates, upstream.NextTicket());
}

}  // namespace ringmain
