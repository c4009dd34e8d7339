// What the threads of ringmain-load count, and the sum of it at one moment.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>

#include "base/clock.h"
#include "loadtest/latency_histogram.h"

namespace ringmain::loadtest {

enum class ErrorKind {
  kConnectFailed,  // refused, unreachable, timed out
  kReset,          // the peer reset the connection
  kClosedEarly,    // the peer closed while something was owed or more was to come
  kMismatch,       // a byte came back wrong, or one too many
  kTimeout,        // no progress for --reply-timeout while a reply was missing
  kOther,
};
inline constexpr size_t kErrorKinds = 6;
// The word used in reports and JSON, e.g. "connect_failed".
const char* ToString(ErrorKind kind);

// Written by one thread, read by any, all relaxed: each cell is right by itself.
struct LoadStats {
  std::atomic<uint64_t> operations{0};
  std::atomic<uint64_t> busy{0};    // framed requests that the server refused; neither operations nor errors
  std::atomic<uint64_t> missed{0};  // rate: operations that were due on a connection that is gone
  std::atomic<uint64_t> bytes_sent{0};
  std::atomic<uint64_t> bytes_received{0};
  std::atomic<uint64_t> connects{0};     // succeeded, since the start
  std::atomic<uint64_t> connections{0};  // open now
  std::array<std::atomic<uint64_t>, kErrorKinds> errors{};
  std::atomic<int64_t> measured_ns{
      0};  // from the end of the warm-up to the last operation; final when the thread has ended
  LatencyHistogram latency;
};

// Adds to a cell of this thread: one writer, so no locked instruction is needed.
inline void Add(std::atomic<uint64_t>& cell, uint64_t amount) {
  cell.store(cell.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

// The sum over threads. A value.
struct LoadTotals {
  uint64_t operations = 0, busy = 0, missed = 0, bytes_sent = 0, bytes_received = 0, connects = 0, connections = 0;
  std::array<uint64_t, kErrorKinds> errors{};
  int64_t measured_ns = 0;  // the longest
  LatencySnapshot latency;

  void Add(const LoadStats& stats);
  uint64_t error_total() const;
};

// Says each kind of failure once on standard error, and stops after a few: ten thousand refused connections are one
// line. Thread-safe.
class ErrorPrinter {
 public:
  void Print(const std::string& message);

 private:
  static constexpr size_t kMaxMessages = 10;
  std::mutex mutex_;
  std::set<std::string> seen_;  // guarded by mutex_
};

}  // namespace ringmain::loadtest
