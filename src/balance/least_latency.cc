#include "balance/least_latency.h"

#include "balance/two_choices.h"

namespace ringmain {

std::optional<uint16_t> LeastLatency::Pick(Upstream& upstream, const Candidates& candidates) const {
  TimePoint now = candidates.request().now;
  return PickOfTwo(upstream, candidates, [&](uint16_t a, uint16_t b) {
    uint32_t latency_a = upstream.server(a).LatencyMicros(now), latency_b = upstream.server(b).LatencyMicros(now);
    if (latency_a == 0 || latency_b == 0) latency_a = latency_b = 1;
    // As floating point: the products exceed 64 bits.
    double cost_a = static_cast<double>(latency_a) * (upstream.server(a).active() + 1.0) / candidates.Share(a);
    double cost_b = static_cast<double>(latency_b) * (upstream.server(b).active() + 1.0) / candidates.Share(b);
    return cost_a < cost_b;
  });
}

}  // namespace ringmain
