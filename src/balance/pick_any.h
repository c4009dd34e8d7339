// What a balancer falls back to when its own way of choosing has found nobody for a while.
#pragma once

#include <optional>

#include "upstream/upstream.h"

namespace ringmain {

// The first candidate from `start` (any number) on, with a connection reserved; none if there is none.
inline std::optional<uint16_t> PickAny(const Upstream& upstream, const Candidates& candidates, uint64_t start) {
  for (size_t i = 0; i < upstream.size(); ++i) {
    auto server = static_cast<uint16_t>((start + i) % upstream.size());
    if (candidates.Has(server) && candidates.Reserve(server)) return server;
  }
  return std::nullopt;
}

}  // namespace ringmain
