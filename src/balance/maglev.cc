#include "balance/maglev.h"

#include <algorithm>
#include <string>

#include "balance/pick_any.h"
#include "base/hash.h"

namespace ringmain {
namespace {

constexpr uint16_t kNobody = UINT16_MAX;
static_assert(kMaxServers < kNobody);
// Places to look at before any candidate will do.
constexpr uint64_t kLooks = 64;

// Primes, as the algorithm demands. The more servers, the more places for each does it take to keep what moves besides to half of what has
// to: 128 KiB, 1.3 MB or 8 MB.
uint32_t PlacesFor(size_t servers) { return servers <= 64 ? 65537 : servers <= 256 ? 655373 : 4194301; }

// One server, as it fills the table.
struct Filler {
  std::string address;
  uint16_t server;
  uint32_t weight;
  uint32_t offset;
  uint32_t skip;
  uint64_t next = 0;    // in its permutation of all places
  double credit = 0;    // turns that its weight has earned
};

std::vector<uint16_t> FillTable(std::vector<Filler> fillers) {
  if (fillers.empty()) return {};
  std::sort(fillers.begin(), fillers.end(), [](const Filler& a, const Filler& b) { return a.address < b.address; });
  uint32_t places = PlacesFor(fillers.size());
  uint32_t heaviest = 0;
  for (Filler& filler : fillers) {
    uint64_t hash = HashOf(filler.address);
    filler.offset = static_cast<uint32_t>(hash % places);
    filler.skip = static_cast<uint32_t>(Mix(hash) % (places - 1) + 1);
    heaviest = std::max(heaviest, filler.weight);
  }
  std::vector<uint16_t> table(places, kNobody);
  for (uint32_t filled = 0;;) {
    for (Filler& filler : fillers) {
      filler.credit += static_cast<double>(filler.weight) / heaviest;
      if (filler.credit < 1) continue;
      filler.credit -= 1;
      size_t place;
      do {
        place = (filler.offset + filler.next++ * filler.skip) % places;
      } while (table[place] != kNobody);
      table[place] = filler.server;
      if (++filled == places) return table;
    }
  }
}

}  // namespace

Maglev::Maglev(const UpstreamConfig& config) {
  for (bool backups : {false, true}) {
    std::vector<Filler> fillers;
    for (size_t i = 0; i < config.servers.size(); ++i) {
      const ServerConfig& server = config.servers[i];
      if (server.state != ServerState::kEnabled || server.backup != backups) continue;
      fillers.push_back({server.address.ToString(), static_cast<uint16_t>(i), server.weight, 0, 0});
    }
    tables_[backups ? 1 : 0] = FillTable(std::move(fillers));
  }
}

std::optional<uint16_t> Maglev::Pick(Upstream& upstream, const Candidates& candidates) const {
  const std::vector<uint16_t>& table = tables_[candidates.backups() ? 1 : 0];
  if (table.empty()) return std::nullopt;
  uint64_t source = candidates.request().source;
  for (uint64_t look = 0; look < kLooks; ++look) {
    uint16_t server = table[Mix(source + look) % table.size()];
    if (candidates.Has(server) && candidates.Reserve(server)) return server;
  }
  return PickAny(upstream, candidates, source);
}

}  // namespace ringmain
