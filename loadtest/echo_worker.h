// EchoWorker: one loop thread of ringmain-echo, with its own ring, listening sockets and connections.
//
// Memory of a raw connection is bounded by one buffer: it is read again only when all it sent was sent back, which is
// also the backpressure. The buffer starts small (ten thousand idle connections cost 10 MiB) and grows when a receive
// fills it. A framed connection is bounded by FrameSession's limits.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "loadtest/echo_options.h"
#include "loadtest/echo_stats.h"
#include "loadtest/frame_session.h"
#include "loadtest/work_queue.h"
#include "uring/features.h"
#include "uring/ring.h"

namespace ringmain::loadtest {

// Created by the main thread; Run by its own. Only stats() and the jobs it gives to the queue are for other threads.
// Never ends: the process exits under it, since an echo server has nothing to save.
class EchoWorker {
 public:
  // `listeners` outlive the worker; so do `queue` (null but in mode frames) and `request_stats`.
  EchoWorker(const EchoOptions& options, const Features& features, std::vector<int> listeners, WorkQueue* queue,
             RequestStats& request_stats);
  ~EchoWorker();

  // Serves until the process exits. Errors: the ring could not be set up.
  absl::Status Run();
  const EchoStats& stats() const { return stats_; }

 private:
  struct Connection {
    int fd = -1;
    uint32_t index = 0;
    uint32_t generation = 0;  // counts the connections of this slot, so that a late reply finds only its own
    bool closing = false;     // waits until nothing is armed
    bool end_of_stream = false;
    bool receive_armed = false;
    bool send_armed = false;
    std::unique_ptr<char[]> buffer;  // what is received, and in mode echo sent from
    uint32_t capacity = 0;
    uint32_t begin = 0;  // unsent: [begin, end) of `buffer`, or of `output`
    uint32_t end = 0;
    std::unique_ptr<FrameSession> frames;  // mode frames only
    std::string output;                    // replies being sent
  };
  // A handled request on its way back from the queue's thread.
  struct Handled {
    uint32_t index;
    uint32_t generation;
    uint64_t number;
    std::string payload;
  };

  void Handle(const Completion& completion);
  void ArmAccept(uint32_t listener);
  void HandleAccept(uint32_t listener, const Completion& completion);
  void ResumeAccept();
  void Admit(int fd);
  void ArmReceive(Connection& connection, bool poll_first);
  void HandleReceive(Connection& connection, const Completion& completion);
  void ArmSend(Connection& connection);
  void HandleSend(Connection& connection, int result);
  void SendDelayed(TimePoint now);
  void ReceiveFrames(Connection& connection, uint32_t bytes);
  bool SubmitRequest(const Connection& connection, uint64_t number, std::string payload);
  void ContinueFrames(Connection& connection);
  void ArmWakeUp();
  void HandleWakeUp();
  void Close(Connection& connection);
  void FinishClose(Connection& connection);
  Duration NextWait() const;

  const EchoOptions& options_;
  const Features features_;
  const std::vector<int> listeners_;
  WorkQueue* const queue_;
  RequestStats& request_stats_;
  EchoStats stats_;
  std::unique_ptr<Ring> ring_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> paused_listeners_;  // out of file descriptors: not armed
  TimePoint resume_accept_;                 // REQUIRES: !paused_listeners_.empty()
  struct Delayed {
    TimePoint due;
    uint32_t index;
  };
  std::deque<Delayed> delayed_;      // by time; such a connection has nothing armed, so it stays until it is sent
  std::unique_ptr<char[]> scratch_;  // mode discard: where all receives go, nobody reads it

  UniqueFd wake_up_;  // an eventfd, written by the queue's threads
  uint64_t wake_up_count_ = 0;
  std::mutex mutex_;
  std::vector<Handled> handled_;  // guarded by mutex_
};

}  // namespace ringmain::loadtest
