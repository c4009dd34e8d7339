#include "balance/random_of_two.h"

#include "balance/two_choices.h"

namespace ringmain {

std::optional<uint16_t> RandomOfTwo::Pick(Upstream& upstream, const Candidates& candidates) const {
  return PickOfTwo(upstream, candidates, [&](uint16_t a, uint16_t b) {
    return (uint64_t{upstream.server(a).active()} + 1) * candidates.Share(b) < (uint64_t{upstream.server(b).active()} + 1) * candidates.Share(a);
  });
}

}  // namespace ringmain
