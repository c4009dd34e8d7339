// Worker: one thread, one ring, its own listening sockets, buffers, timers and sessions. It never waits for another thread.
//
// It starts with nothing to do; what it accepts, and where that goes, comes by Apply, at the start as at a reload.
//
// Shared with other workers are, per connection and never per message: the servers (upstream/), the connection limits, the log limiters
// and the inboxes. Other threads talk to a worker only through Post, Apply and ListSessions; other workers leave clients in its inbox: one that
// has clearly more connections than the least loaded passes those that it accepts to that one, since the kernel spreads them blindly.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "log/log.h"
#include "metrics/board.h"
#include "session/sessions.h"
#include "uring/ring_io.h"
#include "uring/ring_timer.h"
#include "worker/connection_limit.h"
#include "worker/inbox.h"
#include "worker/session_listing.h"
#include "worker/update.h"

namespace ringmain {

// What the workers share. Outlives them.
struct WorkerShared {
  WorkerShared(uint32_t workers, uint32_t max_connections, uint32_t files_suffice_for)
      : inboxes(workers), limit(max_connections), files(files_suffice_for) {}
  PerWorker<Inbox> inboxes;  // grows
  ConnectionLimit limit;  // surplus is refused
  ConnectionLimit files;  // connections that there are file descriptors for: surplus waits
  LogLimiter refused;
  LogLimiter connect_failed;
  LogLimiter source_failed;
  LogLimiter ejected;
  LogLimiter header_refused;
  LogLimiter accept_paused{seconds(10)};
  UniqueFd finished;  // an eventfd that counts the workers whose thread is through
};

class Worker final : private SessionObserver {
 public:
  struct Options {
    uint32_t id = 0;
    Features features;
    RingSize ring;
    BufferPool::Options buffers;
    uint16_t max_pipes = 0;
    uint32_t high_water = 256 << 10;
    bool frozen = false;   // sessions stand still from the start, until a thaw
    Duration busy_poll{};  // looks for completions that long before it sleeps; zero is off
  };
  enum Command : uint32_t {
    kStopAccepting = 1,  // serve what waits in the accept queues and the inbox, close the listening sockets and the inbox
    kFinish = 2,         // end the thread once no session is left
    kCutDrain = 4,       // close every session: CloseReason::kDrainTimeout
    kCutShutdown = 8,    // close every session: CloseReason::kShutdown
  };
  // With room for fewer connections than this, accepts are single: a multishot accept takes all that wait, and those would use up the
  // file descriptors that health checks and the admin side need.
  static constexpr uint32_t kSingleAcceptRoom = 4096;
  // Connections taken from an accept queue in one turn, once accepting has stopped, and in all: more than can wait (somaxconn is 4096).
  static constexpr uint32_t kDrainTurnAccepts = 64;
  static constexpr uint32_t kDrainAccepts = 8192;
  // Of so many loop turns one is timed.
  static constexpr uint32_t kLoopTurnSampling = 16;
  // Of so many of those that are timed one also asks for the CPU time of the thread, which takes a system call.
  static constexpr uint32_t kCpuSampling = 8;

  Worker(Options options, WorkerShared& shared, WorkerCells& cells);
  // REQUIRES: the thread was never started, or Join returned.
  ~Worker() override;

  // Starts the thread. Errors: the ring cannot be set up.
  absl::Status Start();
  // Hands over an update; the result is there once it was carried out. One at a time. REQUIRES: Start succeeded, kFinish was not posted.
  std::future<void> Apply(WorkerUpdate update);
  // Thread-safe. `commands` is a set of Command bits.
  void Post(uint32_t commands);
  // Thread-safe. A list of up to `most` sessions; after the end of the thread an empty one, at once. What is not there at `give_up` need
  // not come any more. REQUIRES: Start succeeded.
  std::future<std::vector<SessionRecord>> ListSessions(size_t most, TimePoint give_up);
  // Whether the thread is through.
  bool finished() const { return finished_.load(std::memory_order_acquire); }
  // Waits for the end of the thread (Post kStopAccepting | kFinish first).
  void Join();

 private:
  // The worker's share of a listener.
  struct Listener {
    std::unique_ptr<ListenerRoute> route;
    bool forget = false;  // as soon as it is not needed for a socket that is being left
    SharedListener& shared() const { return *route->shared; }
  };
  struct Acceptor {
    std::shared_ptr<ListeningSocket> socket;  // none: the place is free
    Listener* listener = nullptr;
    bool leaving = false;     // to be let go of, once nothing is armed and, if it is `draining`, its accept queue is empty
    bool draining = false;
    bool armed = false;       // an accept is armed and its final completion has not come
    bool single = false;      // the armed accept takes one connection
    bool cancelling = false;  // its cancel was requested
    uint32_t drained = 0;     // connections taken from the accept queue since it is draining
  };
  // Accepted, and admitted by the limits, but there are no file descriptors for its server's side yet.
  struct WaitingClient {
    Listener* listener;
    UniqueFd socket;
    uint32_t source;  // an entry of the listener's table of sources, or none
  };

  void Main(std::promise<absl::Status> set_up);
  absl::Status SetUp();
  void Loop();
  void Wait();
  bool BusyPoll();
  void Handle(const Completion& completion);
  void CountTurn(unsigned completions);
  void CountCpu();

  void OnWake();
  void OnCommands(uint32_t commands);
  void Carry(WorkerUpdate& update);
  void CarryTakeover(WorkerUpdate& update);
  void Adopt(WorkerUpdate& update);
  bool Finished(WorkerUpdate& update);
  void ReplaceRoute(std::unique_ptr<ListenerRoute> route);
  void Retire(std::unique_ptr<ListenerRoute> route);
  void ChangeBandwidth(ListenerRoute& before, const ListenerRoute& after);
  void DropUnusedRoutes();
  void UpdateTimer();
  void OnTimer();

  void AcceptFrom(const std::vector<WorkerUpdate::Acceptance>& sockets);
  Acceptor& FreeAcceptor();
  void Leave(Acceptor& acceptor, bool drain);
  void UpdateTakes();
  void ArmAccept(uint32_t index);
  void OnAccept(const Completion& completion);
  void Admit(Listener& listener, int client, bool may_hand_over);
  std::optional<CloseReason> Reserve(const ListenerRoute& route, int client, uint32_t& source);
  std::optional<CloseReason> CheckAddress(const ListenerRoute& route, int client, uint32_t& source);
  std::optional<CloseReason> ReserveLimits(SharedListener& listener);
  bool HandOver(const Listener& listener, int client, uint32_t source);
  void TakeIn(std::vector<Inbox::Client> clients);
  void Refuse(Listener& listener, int client, CloseReason reason);
  void PauseAccepting(int error);
  void ResumeAccepting();
  void DropWaiting(CloseReason reason);
  bool Crowded() const { return shared_.files.room() < kSingleAcceptRoom; }
  void CancelAccept(uint32_t index);
  void CancelAccepts();
  void DrainAcceptQueue(Acceptor& acceptor);
  void TakeMissed(Acceptor& acceptor);
  void LetGo();

  void OnClosed(Route& route, CloseReason reason, Duration lifetime) override;
  void OnConnectFailed(const Route& route, uint16_t server, ConnectFailure failure, int error) override;
  void OnSourceFailed(const Route& route, uint16_t server, const SocketAddress& source, bool missing) override;
  void OnEjected(const Route& route, uint16_t server, Duration time) override;
  void OnTurnInQueue(uint32_t worker) override;
  Route* CurrentRoute(Route& retired) override;
  void OnHeaderRefused(const Route& route, const std::optional<SocketAddress>& client, std::string_view why) override;
  void OnOutOfFiles() override;
  void OnLetGo(Route& route) override;
  void OnSourceLeft(Route& route, uint32_t source) override;
  void ReleaseLimits(ListenerRoute& route);

  const Options options_;
  WorkerShared& shared_;
  WorkerCells& cells_;
  std::thread thread_;

  // Written by any thread.
  Inbox& inbox_;  // the ring watches its wake-up
  std::atomic<uint32_t> commands_{0};
  std::atomic<WorkerUpdate*> update_{nullptr};  // owned by whoever takes it
  SessionListing listing_;

  // The worker thread's own.
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<RingIo> io_;
  std::unique_ptr<RingTimer> timer_;
  std::unique_ptr<Sessions> sessions_;
  std::map<uint32_t, Listener> listeners_;  // by number
  std::vector<std::unique_ptr<ListenerRoute>> retired_;
  bool drop_routes_ = false;  // the last session of a retired route has ended
  std::vector<Acceptor> acceptors_;
  uint32_t leaving_ = 0;  // acceptors
  std::unique_ptr<WorkerUpdate> carried_;  // carried out, but for sockets that are still being left
  Duration busy_poll_;
  std::deque<WaitingClient> waiting_;
  bool accepting_ = true;
  bool paused_ = false;
  bool resume_ = false;   // a connection ended in this turn
  TimePoint retry_at_{};  // paused: when to look again, though none of ours ended
  bool finish_ = false;
  std::optional<CloseReason> cut_;  // sessions were cut: nobody is let in any more
  uint32_t turn_ = 0;
  // Of what the ring, its Io and the thread have counted, so much is in the cells.
  uint64_t counted_enters_ = 0;
  uint64_t counted_submissions_ = 0;
  uint64_t counted_calls_ = 0;
  uint64_t counted_cpu_ns_ = 0;

  std::atomic<bool> finished_{false};  // written by the worker, read by any thread
};

}  // namespace ringmain
