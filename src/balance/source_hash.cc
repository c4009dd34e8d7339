#include "balance/source_hash.h"

#include <cmath>

#include "base/hash.h"

namespace ringmain {

SourceHash::SourceHash(const UpstreamConfig& config) {
  for (const ServerConfig& server : config.servers) hashes_.push_back(HashOf(server.address.ToString()));
}

std::optional<uint16_t> SourceHash::Pick(Upstream& upstream, const Candidates& candidates) const {
  uint64_t source = candidates.request().source;
  while (true) {
    std::optional<uint16_t> best;
    double best_score = 0;
    for (size_t i = 0; i < upstream.size(); ++i) {
      auto server = static_cast<uint16_t>(i);
      if (!candidates.Has(server)) continue;
      // Uniform between 0 and 1, both excluded.
      double chance = (static_cast<double>(Mix(source ^ hashes_[i]) >> 11) + 0.5) / static_cast<double>(uint64_t{1} << 53);
      double score = upstream.terms(i).weight / -std::log(chance);
      if (best.has_value() && score <= best_score) continue;
      best = server;
      best_score = score;
    }
    if (!best.has_value() || candidates.Reserve(*best)) return best;
  }
}

}  // namespace ringmain
