#include "loadtest/echo_worker.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "base/check.h"
#include "loadtest/load_stats.h"
#include "loadtest/program.h"

namespace ringmain::loadtest {
namespace {

constexpr uint32_t kFirstBuffer = 1 << 10;
constexpr uint32_t kMaxBuffer = 256 << 10;
constexpr RingSize kRingSize = {1024, 32768};
constexpr Duration kAcceptPause = milliseconds(100);  // another thread or program may free what is missing
constexpr Duration kForever = seconds(3600);

bool OutOfResources(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }

}  // namespace

EchoWorker::EchoWorker(const EchoOptions& options, const Features& features, std::vector<int> listeners,
                       WorkQueue* queue, RequestStats& request_stats)
    : options_(options),
      features_(features),
      listeners_(std::move(listeners)),
      queue_(queue),
      request_stats_(request_stats),
      wake_up_(eventfd(0, EFD_CLOEXEC)) {}

EchoWorker::~EchoWorker() = default;

absl::Status EchoWorker::Run() {
  absl::StatusOr<std::unique_ptr<Ring>> ring = Ring::Create(kRingSize, features_);
  if (!ring.ok()) return ring.status();
  ring_ = *std::move(ring);
  if (options_.mode == EchoMode::kDiscard) scratch_.reset(new char[kMaxBuffer]);
  for (uint32_t i = 0; i < listeners_.size(); ++i) ArmAccept(i);
  if (queue_ != nullptr) ArmWakeUp();
  while (true) {
    SubmitAndWait(*ring_, NextWait());
    ring_->Reap([this](const Completion& completion) { Handle(completion); });
    if (!delayed_.empty()) SendDelayed(Clock::now());
    if (!paused_listeners_.empty() && Clock::now() >= resume_accept_) ResumeAccept();
  }
}

Duration EchoWorker::NextWait() const {
  if (delayed_.empty() && paused_listeners_.empty()) return kForever;
  TimePoint wake = TimePoint::max();
  if (!delayed_.empty()) wake = delayed_.front().due;
  if (!paused_listeners_.empty()) wake = std::min(wake, resume_accept_);
  return wake - Clock::now();
}

void EchoWorker::Handle(const Completion& completion) {
  switch (completion.token.op) {
    case Op::kAccept:
      return HandleAccept(completion.token.index, completion);
    case Op::kReceiveFromClient:
      return HandleReceive(*connections_[completion.token.index], completion);
    case Op::kSendToClient:
      return HandleSend(*connections_[completion.token.index], completion.result);
    case Op::kWake:
      return HandleWakeUp();
    case Op::kCancel:
      return;
    default:
      RINGMAIN_CHECK(false);
  }
}

// ---- Accepting ----

void EchoWorker::ArmAccept(uint32_t listener) {
  io_uring_sqe* sqe = ring_->NextSqe();
  if (features_.multishot_accept)
    io_uring_prep_multishot_accept(sqe, listeners_[listener], nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  else
    io_uring_prep_accept(sqe, listeners_[listener], nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  io_uring_sqe_set_data64(sqe, Token{Op::kAccept, 0, listener}.Pack());
}

void EchoWorker::HandleAccept(uint32_t listener, const Completion& completion) {
  if (completion.result >= 0) Admit(completion.result);
  if (completion.more) return;
  if (completion.result >= 0 || !OutOfResources(-completion.result)) return ArmAccept(listener);
  // Armed again at once it would fail again at once, connection or not: wait until one closes or the pause is over.
  paused_listeners_.push_back(listener);
  resume_accept_ = Clock::now() + kAcceptPause;
  Add(stats_.accept_pauses, 1);
}

void EchoWorker::ResumeAccept() {
  for (uint32_t listener : std::exchange(paused_listeners_, {})) ArmAccept(listener);
}

void EchoWorker::Admit(int fd) {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(connections_.size()));
    connections_.push_back(std::make_unique<Connection>());
    connections_.back()->index = free_.back();
  }
  Connection& connection = *connections_[free_.back()];
  free_.pop_back();
  connection.fd = fd;
  if (options_.mode == EchoMode::kFrames) connection.frames = std::make_unique<FrameSession>();
  Add(stats_.accepted, 1);
  Add(stats_.connections, 1);
  ArmReceive(connection, false);
}

// ---- Receiving and sending ----

void EchoWorker::ArmReceive(Connection& connection, bool poll_first) {
  if (options_.mode != EchoMode::kDiscard && connection.capacity == 0) {
    connection.capacity = kFirstBuffer;
    connection.buffer.reset(new char[kFirstBuffer]);
  }
  io_uring_sqe* sqe = ring_->NextSqe();
  if (options_.mode == EchoMode::kDiscard)
    io_uring_prep_recv(sqe, connection.fd, scratch_.get(), kMaxBuffer, 0);
  else
    io_uring_prep_recv(sqe, connection.fd, connection.buffer.get(), connection.capacity, 0);
  // Skips a first try that would find nothing (Linux 5.19).
  if (poll_first) sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
  io_uring_sqe_set_data64(sqe, Token{Op::kReceiveFromClient, 0, connection.index}.Pack());
  connection.receive_armed = true;
}

void EchoWorker::HandleReceive(Connection& connection, const Completion& completion) {
  connection.receive_armed = false;
  if (connection.closing) return FinishClose(connection);
  if (completion.result < 0) return Close(connection);
  if (completion.result == 0) {
    connection.end_of_stream = true;
    return connection.frames != nullptr ? ContinueFrames(connection) : Close(connection);
  }
  auto bytes = static_cast<uint32_t>(completion.result);
  Add(stats_.bytes_received, bytes);
  if (options_.mode == EchoMode::kFrames) return ReceiveFrames(connection, bytes);
  if (options_.mode == EchoMode::kDiscard) return ArmReceive(connection, !completion.socket_nonempty);
  connection.begin = 0;
  connection.end = bytes;
  if (options_.delay == Duration::zero()) return ArmSend(connection);
  delayed_.push_back({Clock::now() + options_.delay, connection.index});
}

void EchoWorker::SendDelayed(TimePoint now) {
  for (; !delayed_.empty() && delayed_.front().due <= now; delayed_.pop_front())
    ArmSend(*connections_[delayed_.front().index]);
}

void EchoWorker::ArmSend(Connection& connection) {
  const char* data = connection.frames != nullptr ? connection.output.data() : connection.buffer.get();
  io_uring_sqe* sqe = ring_->NextSqe();
  // MSG_WAITALL: one completion for all of it (Linux 5.19).
  io_uring_prep_send(sqe, connection.fd, data + connection.begin, connection.end - connection.begin,
                     MSG_NOSIGNAL | MSG_WAITALL);
  io_uring_sqe_set_data64(sqe, Token{Op::kSendToClient, 0, connection.index}.Pack());
  connection.send_armed = true;
}

void EchoWorker::HandleSend(Connection& connection, int result) {
  connection.send_armed = false;
  if (connection.closing) return FinishClose(connection);
  if (result < 0) return Close(connection);
  Add(stats_.bytes_sent, result);
  connection.begin += static_cast<uint32_t>(result);
  if (connection.begin < connection.end) return ArmSend(connection);
  if (connection.frames != nullptr) {
    connection.output.clear();
    return ContinueFrames(connection);
  }
  if (connection.end == connection.capacity && connection.capacity < kMaxBuffer) {
    connection.capacity *= 4;
    connection.buffer.reset(new char[connection.capacity]);
  }
  ArmReceive(connection, connection.end < connection.capacity);
}

// ---- Frames ----

void EchoWorker::ReceiveFrames(Connection& connection, uint32_t bytes) {
  auto submit = [&](uint64_t number, std::string payload) {
    return SubmitRequest(connection, number, std::move(payload));
  };
  if (!connection.frames->Receive({connection.buffer.get(), bytes}, submit)) {
    Add(stats_.too_large, 1);
    return Close(connection);
  }
  if (bytes == connection.capacity && connection.capacity < kMaxBuffer) {
    connection.capacity *= 4;
    connection.buffer.reset(new char[connection.capacity]);
  }
  ContinueFrames(connection);
}

bool EchoWorker::SubmitRequest(const Connection& connection, uint64_t number, std::string payload) {
  Handled request = {connection.index, connection.generation, number, std::move(payload)};
  bool taken = queue_->TryPush([this, began = Clock::now(), request = std::move(request)]() mutable {
    if (options_.work > Duration::zero()) std::this_thread::sleep_for(options_.work);
    request_stats_.Record(Clock::now() - began);
    std::unique_lock lock(mutex_);
    bool wake_up = handled_.empty();
    handled_.push_back(std::move(request));
    lock.unlock();
    if (wake_up) eventfd_write(wake_up_.get(), 1);
  });
  if (!taken) Add(stats_.busy, 1);
  return taken;
}

// Sends what is ready, reads on if there is room, closes when the peer has ended and has all its replies.
void EchoWorker::ContinueFrames(Connection& connection) {
  FrameSession& frames = *connection.frames;
  if (!connection.send_armed && frames.TakeOutput(connection.output)) {
    connection.begin = 0;
    connection.end = static_cast<uint32_t>(connection.output.size());
    ArmSend(connection);
  }
  if (!connection.end_of_stream && !connection.receive_armed && !frames.full()) ArmReceive(connection, true);
  if (connection.end_of_stream && !connection.send_armed && frames.idle()) Close(connection);
}

void EchoWorker::ArmWakeUp() {
  io_uring_sqe* sqe = ring_->NextSqe();
  io_uring_prep_read(sqe, wake_up_.get(), &wake_up_count_, sizeof(wake_up_count_), 0);
  io_uring_sqe_set_data64(sqe, Token{Op::kWake, 0, 0}.Pack());
}

void EchoWorker::HandleWakeUp() {
  ArmWakeUp();
  std::vector<Handled> handled;
  {
    std::lock_guard lock(mutex_);
    handled.swap(handled_);
  }
  for (Handled& request : handled) {
    Connection& connection = *connections_[request.index];
    if (connection.generation != request.generation || connection.closing) continue;
    connection.frames->Complete(request.number, std::move(request.payload));
    ContinueFrames(connection);
  }
}

// ---- Closing ----

void EchoWorker::Close(Connection& connection) {
  connection.closing = true;
  if (connection.receive_armed) ring_->Cancel({Op::kReceiveFromClient, 0, connection.index});
  if (connection.send_armed) ring_->Cancel({Op::kSendToClient, 0, connection.index});
  FinishClose(connection);
}

void EchoWorker::FinishClose(Connection& connection) {
  if (connection.receive_armed || connection.send_armed) return;
  close(connection.fd);
  uint32_t index = connection.index;
  uint32_t generation = connection.generation + 1;
  connection = Connection();
  connection.index = index;
  connection.generation = generation;
  free_.push_back(index);
  Add(stats_.connections, -1);
  if (!paused_listeners_.empty()) ResumeAccept();
}

}  // namespace ringmain::loadtest
