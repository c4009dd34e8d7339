#include "loadtest/load_stats.h"

#include <algorithm>
#include <cstdio>

namespace ringmain::loadtest {

const char* ToString(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kConnectFailed:
      return "connect_failed";
    case ErrorKind::kReset:
      return "reset";
    case ErrorKind::kClosedEarly:
      return "closed_early";
    case ErrorKind::kMismatch:
      return "mismatch";
    case ErrorKind::kTimeout:
      return "timeout";
    case ErrorKind::kOther:
      return "other";
  }
  return "?";
}

void LoadTotals::Add(const LoadStats& stats) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  operations += stats.operations.load(kRelaxed);
  busy += stats.busy.load(kRelaxed);
  missed += stats.missed.load(kRelaxed);
  bytes_sent += stats.bytes_sent.load(kRelaxed);
  bytes_received += stats.bytes_received.load(kRelaxed);
  connects += stats.connects.load(kRelaxed);
  connections += stats.connections.load(kRelaxed);
  for (size_t i = 0; i < kErrorKinds; ++i) errors[i] += stats.errors[i].load(kRelaxed);
  measured_ns = std::max(measured_ns, stats.measured_ns.load(kRelaxed));
  latency.Merge(stats.latency.Snapshot());
}

uint64_t LoadTotals::error_total() const {
  uint64_t total = 0;
  for (uint64_t count : errors) total += count;
  return total;
}

void ErrorPrinter::Print(const std::string& message) {
  std::lock_guard lock(mutex_);
  if (seen_.size() > kMaxMessages || !seen_.insert(message).second) return;
  const char* text = seen_.size() > kMaxMessages ? "further errors are only counted" : message.c_str();
  std::fprintf(stderr, "%s\n", text);
}

}  // namespace ringmain::loadtest
