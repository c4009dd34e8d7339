// Two servers chosen by chance, of which the better one serves: close to the best of all, at the price of two looks (Mitzenmacher, "The
// power of two choices in randomized load balancing", 2001), and no worker follows the others to the same server.
#pragma once

#include <array>
#include <optional>

#include "balance/pick_any.h"
#include "base/hash.h"

namespace ringmain {

// Draws two different candidates, each with a chance in proportion to its weight, and reserves on the one that `better(a, b)` prefers, a or b.
// Chance comes from the upstream's tickets, so it is the same in every run of a test.
template <typename Better>
std::optional<uint16_t> PickOfTwo(Upstream& upstream, const Candidates& candidates, Better better) {
  constexpr int kDraws = 32;  // most are in vain only if most servers cannot be chosen
  std::span<const uint16_t> sequence = upstream.sequence(candidates.backups());
  if (sequence.empty()) return std::nullopt;
  uint64_t random = Mix(upstream.NextTicket());
  std::array<uint16_t, 2> drawn{};
  size_t count = 0;
  for (int draw = 0; draw < kDraws && count < drawn.size(); ++draw) {
    random = Mix(random);
    uint16_t server = sequence[random % sequence.size()];
    if ((count == 1 && server == drawn[0]) || !candidates.Has(server) || !candidates.TakesTurn(server, random)) continue;
    drawn[count++] = server;
  }
  if (count == 2 && better(drawn[1], drawn[0])) std::swap(drawn[0], drawn[1]);
  for (size_t i = 0; i < count; ++i)
    if (candidates.Reserve(drawn[i])) return drawn[i];
  return PickAny(upstream, candidates, random);
}

}  // namespace ringmain
