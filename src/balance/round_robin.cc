#include "balance/round_robin.h"

#include "balance/candidate.h"

namespace ringmain {

std::optional<uint16_t> RoundRobin::Pick(Upstream& upstream, std::span<const uint16_t> tried) const {
  std::span<const uint16_t> sequence = upstream.sequence();
  for (size_t turns = std::min(sequence.size(), kMaxTurns); turns > 0; --turns) {
    uint16_t server = sequence[upstream.NextTicket() % sequence.size()];
    if (!IsCandidate(upstream, server, tried)) continue;
    upstream.server(server).Reserve();
    return server;
  }
  // A period of tickets in vain proves nothing: other workers may have taken the tickets of those that are up.
  size_t start = upstream.NextTicket() % upstream.size();
  for (size_t i = 0; i < upstream.size(); ++i) {
    uint16_t server = static_cast<uint16_t>((start + i) % upstream.size());
    if (!IsCandidate(upstream, server, tried)) continue;
    upstream.server(server).Reserve();
    return server;
  }
  return std::nullopt;
}

}  // namespace ringmain
