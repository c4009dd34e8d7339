#include "upstream/server.h"

#include <cmath>

namespace ringmain {
namespace {

struct Latency {
  uint32_t micros;
  uint32_t taken_ms;
};
Latency Unpack(uint64_t packed) { return {static_cast<uint32_t>(packed >> 32), static_cast<uint32_t>(packed)}; }
uint64_t Pack(Latency latency) { return uint64_t{latency.micros} << 32 | latency.taken_ms; }

// Wraps around every 49 days; only differences count.
uint32_t Millis(TimePoint at) {
  return static_cast<uint32_t>(std::chrono::duration_cast<milliseconds>(at.time_since_epoch()).count());
}

// What is left of the past after so long. Another worker's clock reading may be a moment later than ours.
double Remaining(Latency latency, TimePoint now) {
  auto elapsed_ms = std::max(0.0, static_cast<double>(static_cast<int32_t>(Millis(now) - latency.taken_ms)));
  return std::exp(-elapsed_ms / static_cast<double>(std::chrono::duration_cast<milliseconds>(Server::kLatencyMemory).count()));
}

}  // namespace

void Server::ObserveConnect(Duration took, TimePoint now) {
  auto micros = std::clamp<int64_t>(std::chrono::duration_cast<microseconds>(took).count(), 1, UINT32_MAX);
  Latency before = Unpack(latency_.load(std::memory_order_relaxed));
  double average = static_cast<double>(micros);
  if (before.micros > micros) average += (before.micros - average) * Remaining(before, now);
  latency_.store(Pack({static_cast<uint32_t>(average), Millis(now)}), std::memory_order_relaxed);
}

uint32_t Server::LatencyMicros(TimePoint now) const {
  Latency latency = Unpack(latency_.load(std::memory_order_relaxed));
  if (latency.micros == 0) return 0;
  return static_cast<uint32_t>(latency.micros * Remaining(latency, now));
}

}  // namespace ringmain
