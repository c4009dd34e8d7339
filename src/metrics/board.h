// What is counted of listeners, upstreams, servers and workers, each by worker.
//
// The composition root makes these, and shares them with whoever counts in them or shows them; what a configuration leaves out lives on
// for as long as that. Workers keep references to their own cells (no look-up by name on any path); the admin thread walks all at a scrape.
#pragma once

#include <array>
#include <string>
#include <utility>

#include "metrics/cells.h"
#include "metrics/reasons.h"

namespace ringmain {

// Upper bounds in nanoseconds, and in bytes.
inline constexpr std::array<uint64_t, 14> kConnectBounds = {
    100'000,     250'000,     500'000,       1'000'000,     2'500'000,     5'000'000,      10'000'000,
    25'000'000,  50'000'000,  100'000'000,   250'000'000,   500'000'000,   1'000'000'000,  5'000'000'000};
inline constexpr std::array<uint64_t, 13> kSessionBounds = {
    1'000'000,          10'000'000,          100'000'000,         1'000'000'000,      10'000'000'000,
    60'000'000'000,     300'000'000'000,     1'800'000'000'000,   3'600'000'000'000,  21'600'000'000'000,
    86'400'000'000'000, 604'800'000'000'000, 2'592'000'000'000'000};
inline constexpr std::array<uint64_t, 13> kLoopTurnBounds = {
    2'000,   5'000,     10'000,    25'000,    50'000,     100'000,    250'000,
    500'000, 1'000'000, 2'500'000, 5'000'000, 10'000'000, 100'000'000};
// Of what a person or a deadline waits for: up to a minute.
inline constexpr std::array<uint64_t, 14> kWaitBounds = {
    250'000,     1'000'000,   2'500'000,     5'000'000,     10'000'000,    25'000'000,     50'000'000,
    100'000'000, 250'000'000, 1'000'000'000, 2'500'000'000, 5'000'000'000, 15'000'000'000, 60'000'000'000};
inline constexpr std::array<uint64_t, 12> kSizeBounds = {
    0,         256,       1 << 10,   4 << 10,    16 << 10,          64 << 10,
    256 << 10, 1 << 20,   16 << 20,  256 << 20,  uint64_t{4} << 30, uint64_t{64} << 30};

// What one worker counts of one listener.
struct ListenerCells {
  Counter bytes[2];  // by Direction: bytes handed to the kernel for the receiving side
  Counter accepted;  // every accepted connection, refused ones included
  Gauge active;      // sessions, from accept to close
  std::array<Counter, kCloseReasons> closed;
  Counter bandwidth_waits[2];  // by Direction: times a session was held back by a limit
  DurationHistogram<kSessionBounds> duration;  // accept to close, refused ones not included
  DurationHistogram<kWaitBounds> first_byte;   // accept to the first byte from the server, of those that got one
  std::array<Histogram<kSizeBounds>, 2> session_bytes;  // by Direction: of ended sessions, handed to the kernel for the receiving side
};

// What one worker counts of one upstream.
struct UpstreamCells {
  DurationHistogram<kConnectBounds> connect_duration;  // successful connects
  Counter retries_denied;  // connects to another server that retry_budget did not allow
  DurationHistogram<kWaitBounds> queue_wait;  // of clients that waited for room on a server, until they were served or left
};

// What one worker counts of one server. The count of open connections is exact and shared: Server::active().
struct ServerCells {
  Counter connects;  // successful ones
  std::array<Counter, kConnectFailures> connect_failures;
  Counter ejections;
  // What the kernel said of the connections of live sessions, of which some are looked at now and then (session/sampling.cc).
  Counter rtt_samples;
  Counter rtt_ns;               // the sum of their smoothed round-trip times
  Counter sampled_segments;     // with payload, sent to the server by those, each since it was looked at before
  Counter sampled_retransmits;  // of segments, in the same time
};

// Written by the health thread.
struct HealthCells {
  Counter succeeded;
  Counter failed;
  Note last_failure;  // why; empty before the first
};

// What one worker counts of itself.
struct WorkerCells {
  Gauge sessions;
  Counter opened;               // sessions; the number of the last one
  Counter messages;             // receives that brought payload
  Counter completions;          // completion queue entries
  Counter submissions;          // submission queue entries that the kernel took
  Counter enters;               // io_uring_enter calls
  Counter system_calls;         // those, and the direct ones of sessions
  Counter cpu_ns;               // user and system time of the thread
  Counter cq_overflows;         // turns in which the kernel's overflow flag was seen
  Counter receive_starvations;  // receives ended because no buffer was free
  Counter accept_pauses;        // times accepting stopped for want of file descriptors or memory
  Gauge accept_paused;          // 1 while it is stopped
  Counter handed_over;          // accepted clients passed to another worker
  Gauge buffers;                // receive buffers that exist
  Gauge buffers_held;           // of those, held by sessions whose receiver is slow
  Gauge buffer_bytes;           // memory of all buffers that exist
  Counter spliced_bytes;        // payload that went through kernel pipes; the rest went through buffers
  std::array<Gauge, kRelayModes> relays;  // directions of established sessions, by RelayMode
  Gauge pipes;                  // kernel pipes that exist
  Gauge pipes_lent;             // kernel pipes with bytes in them, because a receiver is slow
  DurationHistogram<kLoopTurnBounds> loop_turn;  // from wake-up to the next wait; one turn of kLoopTurnSampling
};

// Lookups of a name whose addresses are servers.
struct LookupCells {
  std::array<Counter, kLookupResults> ended;
  Gauge last_success_epoch;  // in milliseconds since the epoch; 0: never
};

// Of what stays over a reload the metrics stay.
struct ListenerMetrics {
  ListenerMetrics(std::string name_in, size_t workers) : name(std::move(name_in)), cells(workers) {}
  std::string name;
  PerWorker<ListenerCells> cells;
};
// Written by the process thread.
struct ReloadCells {
  Counter succeeded;  // the file was in order; also if nothing had changed
  Counter failed;
  Gauge last_failed;         // 1 if the last reload failed
  Gauge last_epoch;          // when it was, whatever became of it; at first when the process started: in milliseconds since the epoch
  Gauge last_success_epoch;  // when the configuration that runs was read; the same
  Gauge config_hash;         // of the text of the file that it was read from: 48 bits, which a double holds; 0: from no file
};

struct ServerMetrics {
  ServerMetrics(std::string name_in, size_t workers) : name(std::move(name_in)), cells(workers) {}
  std::string name;  // the server's address as configured
  PerWorker<ServerCells> cells;
  HealthCells health;
};
struct UpstreamMetrics {
  UpstreamMetrics(std::string name_in, size_t workers) : name(std::move(name_in)), cells(workers) {}
  std::string name;
  PerWorker<UpstreamCells> cells;
  // Of checks of its servers that had a result, by the health thread.
  DurationHistogram<kConnectBounds> health_check_duration;
};

struct NameMetrics {
  explicit NameMetrics(std::string name_in) : name(std::move(name_in)) { last_result.Set(kNone); }
  std::string name;  // as configured
  PerWorker<LookupCells> cells{2};  // 0: the discovery thread's; 1: what another process had counted, by the process thread
  Gauge last_result;                // a LookupResult, or kNone before the first, by the discovery thread
  Gauge addresses;                  // that were found and are in use, by the process thread
  static constexpr int64_t kNone = -1;
};

}  // namespace ringmain
