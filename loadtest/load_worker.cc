#include "loadtest/load_worker.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace ringmain::loadtest {
namespace {

constexpr Duration kTick = milliseconds(50);
constexpr Duration kBarrierPoll = milliseconds(1);
constexpr Duration kStartDelay = milliseconds(5);  // so that all threads see the start before it
constexpr Duration kStopLimit = seconds(1);        // how long an interrupted run waits for replies
constexpr uint32_t kConnectBatch = 256;            // connects under way at once, so that accept queues do not overflow

uint32_t ShareOf(uint32_t total, uint32_t parts, uint32_t index) {
  return total / parts + (index < total % parts ? 1 : 0);
}

// The completions of two operations and their cancels fit for every connection.
RingSize RingSizeFor(uint32_t connections) {
  return {1024, std::clamp<uint32_t>(std::bit_ceil(connections * 4), 1024, 65536)};
}

}  // namespace

LoadWorker::LoadWorker(LoadRun& run, uint32_t index)
    : run_(run), options_(run.options), index_(index), count_(ShareOf(options_.connections, options_.threads, index)) {
  double share = static_cast<double>(count_) / options_.connections;
  if (options_.operations_per_second > 0) pacer_.emplace(options_.operations_per_second * share);
  if (options_.connect_rate > 0) connect_pacer_.emplace(options_.connect_rate * share);
}

LoadWorker::~LoadWorker() = default;

absl::Status LoadWorker::Run() {
  absl::StatusOr<std::unique_ptr<Ring>> ring = Ring::Create(RingSizeFor(count_), run_.features);
  if (!ring.ok()) {
    run_.threads_connecting.fetch_sub(1);
    return ring.status();
  }
  ring_ = *std::move(ring);
  uint64_t first_number = static_cast<uint64_t>(index_) << 40;
  ConnectionSet::Events& events = *this;
  set_ =
      std::make_unique<ConnectionSet>(options_, count_, run_.seed, first_number, *ring_, stats_, run_.errors, events);
  connect_start_ = last_operation_ = next_tick_ = now();
  if (options_.mode != Mode::kChurn)
    for (uint32_t i = 0; i < count_; ++i) to_open_.push_back(i);
  if (options_.mode == Mode::kIdle) recording_ = true;  // its operations are the connects
  set_->set_recording(recording_);
  while (phase_ != Phase::kDone) {
    set_->Wait(NextWait());
    Turn();
  }
  if (measure_start_ != TimePoint()) {
    TimePoint end = std::max(std::min(now(), deadline_), last_operation_);
    stats_.measured_ns.store(std::max<int64_t>((end - measure_start_).count(), 0), std::memory_order_relaxed);
  }
  set_.reset();
  ring_.reset();
  return absl::OkStatus();
}

Duration LoadWorker::NextWait() const {
  TimePoint clock = Clock::now();
  TimePoint wake = next_tick_;
  if (phase_ == Phase::kReady) wake = std::min(wake, clock + kBarrierPoll);
  if (phase_ == Phase::kRunning) {
    wake = std::min(wake, recording_ ? deadline_ : measure_start_);
    if (paced()) wake = std::min(wake, start_ + pacer_->DueAt(next_operation_));
  }
  if (connect_pacer_.has_value() && !to_open_.empty())
    wake = std::min(wake, connect_start_ + connect_pacer_->DueAt(opened_));
  return wake - clock;
}

void LoadWorker::Turn() {
  if (now() >= next_tick_) Tick();
  if (phase_ != Phase::kDraining) OpenMore();
  bool stop = run_.stop.load(std::memory_order_relaxed);
  if (stop && phase_ < Phase::kDraining) Drain(std::min(options_.reply_timeout, kStopLimit));
  switch (phase_) {
    case Phase::kConnecting:
      return ArriveWhenConnected();
    case Phase::kReady:
      if (int64_t start = run_.start_ns.load(std::memory_order_acquire); start != 0) {
        if (now() >= TimePoint(Duration(start))) BeginRunning(TimePoint(Duration(start)));
      }
      return;
    case Phase::kRunning: {
      StartRecordingWhenWarm();
      if (paced()) KeepPace();
      bool nothing_left = set_->in_use() == 0 && to_open_.empty() && to_retry_.empty();
      if (now() >= deadline_ || nothing_left) Drain(options_.reply_timeout);
      return;
    }
    case Phase::kDraining:
      if (set_->in_use() == 0) {
        phase_ = Phase::kDone;
      } else if (now() >= drain_deadline_) {
        for (Connection& connection : set_->connections())
          if (connection.state != Connection::State::kClosed)
            set_->Fail(connection, ErrorKind::kTimeout,
                       "connection to " + set_->to(connection).ToString() + ": a reply is missing at the end");
      }
      return;
    case Phase::kDone:
      return;
  }
}

void LoadWorker::Tick() {
  next_tick_ = now() + kTick;
  set_->CheckTimeouts();
  to_open_.insert(to_open_.end(), to_retry_.begin(), to_retry_.end());
  to_retry_.clear();
}

// ---- Connecting ----

void LoadWorker::OpenMore() {
  uint64_t allowed = connect_pacer_.has_value() ? connect_pacer_->DueBy(now() - connect_start_) : UINT64_MAX;
  // An open may fail at once and come back to the queue: no more than what was there at the beginning.
  for (size_t i = to_open_.size(); i > 0 && set_->connecting() < kConnectBatch && opened_ < allowed; --i) {
    Connection& connection = set_->connections()[to_open_.front()];
    to_open_.pop_front();
    ++opened_;
    set_->Open(connection);
  }
}

void LoadWorker::ArriveWhenConnected() {
  if (!to_open_.empty() || set_->connecting() > 0) return;
  phase_ = Phase::kReady;
  if (run_.threads_connecting.fetch_sub(1) == 1)
    run_.start_ns.store((now() + kStartDelay).time_since_epoch().count(), std::memory_order_release);
}

void LoadWorker::OnOpen(Connection& connection) {
  connection.first_reply = connection.assigned;
  if (options_.mode == Mode::kIdle && !options_.ping) CountOperation(now() - connection.began);
  bool begin = options_.mode == Mode::kChurn || (options_.mode == Mode::kIdle && options_.ping) ||
               (phase_ == Phase::kRunning && !paced() && options_.mode != Mode::kIdle);
  if (begin) StartOperation(connection);
}

void LoadWorker::OnClosed(Connection& connection) {
  if (phase_ == Phase::kDraining) return;
  if (options_.mode == Mode::kChurn && !connection.failed)
    to_open_.push_back(connection.index);
  else if (options_.mode == Mode::kChurn || (options_.reconnect && phase_ == Phase::kRunning))
    to_retry_.push_back(connection.index);
}

// ---- Running ----

void LoadWorker::BeginRunning(TimePoint start) {
  phase_ = Phase::kRunning;
  start_ = start;
  measure_start_ = start + options_.warmup;
  deadline_ = measure_start_ + options_.duration;
  StartRecordingWhenWarm();  // before the first operation, so that without a warm-up nothing is left out
  if (options_.mode == Mode::kChurn) {
    connect_start_ = now();
    for (uint32_t i = 0; i < count_; ++i) to_open_.push_back(i);
    return OpenMore();
  }
  if (paced() || options_.mode == Mode::kIdle) return;
  for (Connection& connection : set_->connections())
    if (connection.state == Connection::State::kOpen) StartOperation(connection);
}

void LoadWorker::StartRecordingWhenWarm() {
  if (recording_ || now() < measure_start_) return;
  recording_ = true;
  set_->set_recording(true);
}

void LoadWorker::StartOperation(Connection& connection) {
  if (options_.mode != Mode::kChurn) connection.began = now();  // churn counts from the connect
  bool endless = options_.mode == Mode::kBulk && !paced();
  set_->Request(connection, endless ? UINT64_MAX : connection.requested + options_.shape.request_bytes());
}

void LoadWorker::KeepPace() {
  uint64_t due = pacer_->DueBy(std::min(now(), deadline_ - Duration(1)) - start_);
  for (; next_operation_ < due; ++next_operation_) {
    Connection& connection = set_->connections()[next_operation_ % count_];
    ++connection.assigned;
    if (connection.state == Connection::State::kOpen)
      set_->Request(connection, connection.requested + options_.shape.request_bytes());
    else if (recording_)
      Add(stats_.missed, 1);
  }
}

// When the operation began that the reply just received belongs to.
TimePoint LoadWorker::ReplyBegan(const Connection& connection) const {
  if (!paced()) return connection.began;
  uint64_t turn = connection.first_reply + connection.checker.replies() - 1;
  return start_ + pacer_->DueAt(turn * count_ + connection.index);
}

void LoadWorker::CountOperation(Duration latency) {
  if (!recording_) return;
  Add(stats_.operations, 1);
  stats_.latency.Record(static_cast<uint64_t>(std::max<int64_t>(latency.count(), 0)));
  last_operation_ = now();
}

void LoadWorker::OnSent(Connection& connection, uint64_t bytes) {
  if (!options_.one_way || !recording_) return;
  uint64_t payload = options_.shape.payload_bytes;
  Add(stats_.operations, (connection.sent + bytes) / payload - connection.sent / payload);
  last_operation_ = now();
}

void LoadWorker::OnReply(Connection& connection, bool busy) {
  if (busy) {
    if (recording_) Add(stats_.busy, 1);
  } else if (options_.mode == Mode::kBulk && !paced()) {
    if (recording_) Add(stats_.operations, 1);
    last_operation_ = now();
  } else if (TimePoint began = ReplyBegan(connection); !paced() || began >= measure_start_) {
    CountOperation(now() - began);
  }
  if (options_.mode == Mode::kPing && phase_ == Phase::kRunning) StartOperation(connection);
  if (options_.mode == Mode::kChurn) set_->Close(connection, options_.reset);
}

// ---- Ending ----

void LoadWorker::Drain(Duration limit) {
  const bool interrupted = phase_ != Phase::kRunning;
  phase_ = Phase::kDraining;
  drain_deadline_ = now() + limit;
  to_open_.clear();
  to_retry_.clear();
  for (Connection& connection : set_->connections()) {
    if (connection.state == Connection::State::kConnecting && options_.mode != Mode::kChurn)
      set_->Close(connection, false);
    if (connection.state != Connection::State::kOpen) continue;
    if (options_.mode == Mode::kBulk && !paced()) set_->Request(connection, connection.issued());
    if (options_.mode == Mode::kIdle && options_.ping && !interrupted && set_->Idle(connection))
      StartOperation(connection);
    if (set_->Idle(connection)) FinishOne(connection);
  }
}

void LoadWorker::OnIdle(Connection& connection) {
  if (phase_ == Phase::kDraining) FinishOne(connection);
}

void LoadWorker::FinishOne(Connection& connection) {
  if (connection.half_closed || connection.state != Connection::State::kOpen) return;
  // A stream ends with the check that nothing comes after its last byte but the end.
  if (options_.mode == Mode::kBulk)
    set_->HalfClose(connection);
  else
    set_->Close(connection, false);
}

}  // namespace ringmain::loadtest
