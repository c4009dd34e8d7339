// LoadWorker: one thread of ringmain-load. It decides what its connections do and when; ConnectionSet does it.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "loadtest/connection_set.h"
#include "loadtest/load_options.h"
#include "loadtest/load_stats.h"
#include "loadtest/pacer.h"
#include "uring/features.h"

namespace ringmain::loadtest {

// What the threads of one run share. Created by the main thread, outlives the workers.
struct LoadRun {
  LoadOptions options;
  Features features;
  uint64_t seed = 0;
  std::atomic<uint32_t> threads_connecting{0};  // starts as the number of threads; the last one sets start_ns
  std::atomic<int64_t> start_ns{0};             // when all begin, as time since the epoch of Clock; 0 is not yet
  std::atomic<bool> stop{false};                // set by the main thread: end now, with a report
  ErrorPrinter errors;
};

// Created by the main thread; Run by its own, which is the only one that touches anything but stats().
class LoadWorker : private ConnectionSet::Events {
 public:
  // `index` of this thread, from 0 to options.threads - 1.
  LoadWorker(LoadRun& run, uint32_t index);
  ~LoadWorker() override;

  // Connects, waits for the other threads, makes the load, waits for what is owed, and closes. Errors: the ring could
  // not be set up.
  absl::Status Run();
  const LoadStats& stats() const { return stats_; }

 private:
  enum class Phase {
    kConnecting,  // opening the connections (in churn the load itself does that)
    kReady,       // all tried; waiting for the other threads
    kRunning,     // warm-up and measurement
    kDraining,    // no new operation; what is owed may come, then everything is closed
    kDone,
  };

  // ConnectionSet::Events
  void OnOpen(Connection& connection) override;
  void OnSent(Connection& connection, uint64_t bytes) override;
  void OnReply(Connection& connection, bool busy) override;
  void OnIdle(Connection& connection) override;
  void OnClosed(Connection& connection) override;

  void Turn();
  void Tick();
  void OpenMore();
  void ArriveWhenConnected();
  void BeginRunning(TimePoint start);
  void StartRecordingWhenWarm();
  void KeepPace();
  void Drain(Duration limit);
  void FinishOne(Connection& connection);
  void StartOperation(Connection& connection);
  void CountOperation(Duration latency);
  TimePoint ReplyBegan(const Connection& connection) const;
  Duration NextWait() const;
  bool paced() const { return pacer_.has_value(); }
  TimePoint now() const { return set_->now(); }

  LoadRun& run_;
  const LoadOptions& options_;
  const uint32_t index_;
  const uint32_t count_;  // connections of this thread
  LoadStats stats_;
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<ConnectionSet> set_;  // declared after the ring that it uses

  Phase phase_ = Phase::kConnecting;
  bool recording_ = false;
  TimePoint next_tick_;
  TimePoint start_;  // of the warm-up
  TimePoint measure_start_;
  TimePoint deadline_;
  TimePoint drain_deadline_;
  TimePoint last_operation_;

  std::optional<Pacer> pacer_;          // of operations
  uint64_t next_operation_ = 0;         // of the schedule; number n is for connection n modulo count_
  std::optional<Pacer> connect_pacer_;  // of connects, from connect_start_
  TimePoint connect_start_;
  uint64_t opened_ = 0;
  std::deque<uint32_t> to_open_;
  std::deque<uint32_t> to_retry_;  // after a failure; moved to to_open_ by a later tick
};

}  // namespace ringmain::loadtest
