// What ringmain-echo counts. Each loop thread has one EchoStats and is its only writer, but for the handling of
// requests, which the pool's threads count in RequestStats. Relaxed: each cell is right by itself.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace ringmain::loadtest {

struct alignas(64) EchoStats {
  std::atomic<uint64_t> connections{0};  // open now
  std::atomic<uint64_t> accepted{0};
  std::atomic<uint64_t> accept_pauses{0};  // out of file descriptors or memory
  std::atomic<uint64_t> bytes_received{0};
  std::atomic<uint64_t> bytes_sent{0};
  std::atomic<uint64_t> busy{0};       // frames: answered busy
  std::atomic<uint64_t> too_large{0};  // frames: the connection was closed for a request beyond 1 MiB
};

struct RequestStats {
  // Upper bounds in nanoseconds of the histogram of request_duration_seconds; one more bucket has none.
  static constexpr std::array<int64_t, 14> kBounds = {
      100'000,    250'000,    500'000,     1'000'000,   2'500'000,   5'000'000,     10'000'000,
      25'000'000, 50'000'000, 100'000'000, 250'000'000, 500'000'000, 1'000'000'000, 2'500'000'000};

  std::array<std::atomic<uint64_t>, kBounds.size() + 1> buckets{};  // each counts for itself, not cumulative
  std::atomic<int64_t> sum_ns{0};

  // Thread-safe. `duration` of one handled request, from its last byte to its reply being ready.
  void Record(Duration duration) {
    size_t bucket = 0;
    while (bucket < kBounds.size() && duration.count() > kBounds[bucket]) ++bucket;
    buckets[bucket].fetch_add(1, std::memory_order_relaxed);
    sum_ns.fetch_add(duration.count(), std::memory_order_relaxed);
  }
};

}  // namespace ringmain::loadtest
