// Sessions: all sessions of one worker, and every rule of their life.
//
//   Open ─► kReadingHeader ─► kConnecting ──► kEstablished ──► kClosing ──► freed
//     │            │          ▲ ▲  │        ▲  │                        │
//     └────────────┼──────────┘ │  │        └──┘ the server is replaced │
//                  │    kQueued ◄──┤                                    │
//                  └───────────────┴── no server, limits, client gone ──┘
//
// A client that comes through a proxy may begin with a PROXY protocol header, which is read before a server is chosen, and a server may be sent
// one before the client's first byte (header.cc).
//
// A client for whom no server has room waits in a queue, and nothing is read from it meanwhile (queueing.cc).
// A server that ends before a byte was passed either way is replaced by another, as one that refuses the connection is (replacing.cc).
// Closing is: ask every armed operation to end, wait for the final completion of each, close the sockets, free the slot. Ends of
// streams travel: an end (FIN) of one side is passed on after the last byte before it, a reset as a reset. A session that is cut and
// loses bytes by it is closed with a reset, so that a truncated stream never looks complete.
//
// What ends sessions in time is in timeouts.cc, what holds them back in limiting.cc. A loop turn is: Handle every completion, RunTimers if some
// may be due, then Flush. Thread-bound.
#pragma once

#include <functional>
#include <list>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "base/intrusive_list.h"
#include "base/slot_pool.h"
#include "base/timer_wheel.h"
#include "metrics/session_list.h"
#include "session/session.h"
#include "uring/io.h"

namespace ringmain {

// What the worker wants to know.
class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  // Both sockets are closed and the session is gone, `lifetime` after it was opened. If no other uses the route, it need not live on.
  virtual void OnClosed(Route& route, CloseReason reason, Duration lifetime) = 0;
  // A connect failed; another server may be tried.
  virtual void OnConnectFailed(const Route& route, uint16_t server, ConnectFailure failure, int error) = 0;
  // No connection to the server could be made from this source address: this machine does not have it (`missing`), or no port of it is
  // free. Others are tried.
  virtual void OnSourceFailed(const Route& route, uint16_t server, const SocketAddress& source, bool missing) = 0;
  // A server was ejected for so long.
  virtual void OnEjected(const Route& route, uint16_t server, Duration time) = 0;
  // It is that worker's turn to serve whom it has in a queue: its ServeQueues is to be called.
  virtual void OnTurnInQueue(uint32_t worker) = 0;
  // The route that sessions of the same listener begin with now, where `retired` was theirs; null if there is none. If no other session uses
  // that one, it need not live on after the turn.
  virtual Route* CurrentRoute(Route& retired) = 0;
  // The session is closed for its PROXY protocol header: `why` is what is wrong with it. `client` is whom the connection comes from.
  virtual void OnHeaderRefused(const Route& route, const std::optional<SocketAddress>& client, std::string_view why) = 0;
  // No file descriptor was free for a server's side.
  virtual void OnOutOfFiles() = 0;
  // The session goes on elsewhere; as OnClosed for the route.
  virtual void OnLetGo(Route& route) = 0;
  // Before either of the two, if the session has a source: it is given back.
  virtual void OnSourceLeft(Route& route, uint32_t client_source) = 0;
};

class Sessions {
 public:
  // A client that ended its stream before it sent a byte, while no server is connected yet, may have left or may wait for a server
  // that speaks first; the two look the same. After this time it is taken to have left.
  static constexpr Duration kLeaveGrace = seconds(1);
  // Sessions in which something happened are swept this often, until they are quiet: then each multishot receive is checked once for
  // something it missed (relay.h). Those with a socket on which nothing is armed are swept for as long as that lasts (sweep.cc).
  // The first sweep that finds a session established also asks for keep-alive probes towards its server.
  static constexpr Duration kSweepInterval = milliseconds(100);
  // How often a session is looked at within its idle_timeout or half_closed_timeout: it thus fires up to an eighth late, and costs nothing per
  // message. Those of one side alone go by sweeps, and fire as late as those are.
  static constexpr uint8_t kQuietChecks = 8;
  // A session is idle after so long without a byte, and with none held for either side.
  static constexpr Duration kIdle = seconds(1);
  // What direct relays (relay.h) take in in one turn, all together: it takes some half a millisecond to move, and so long a small message
  // may have to wait.
  static constexpr uint32_t kDirectTurnBytes = 2 << 20;

  // Everything passed outlives it. Sessions are numbered from `first_number` + 1 on; its upper bits are the worker (SessionId).
  Sessions(Io& io, BufferPool& buffers, uint32_t high_water, WorkerCells& cells, SessionObserver& observer,
           uint32_t direct_turn_bytes = kDirectTurnBytes, uint64_t first_number = 0);
  // REQUIRES: size() == 0.
  ~Sessions() = default;

  // Starts a session; takes over `client`, a non-blocking connected socket, and `client_source`, which means something to the observer only.
  void Open(int client, Route& route, uint32_t client_source = kNoClientSource);
  // Takes a completion of a session's operation; drops it if the session is gone.
  void Handle(const Completion& completion);
  void RunTimers(TimePoint now);
  // Ends the turn: arms what the completions made necessary.
  void Flush();
  // Bulk that had to give way to others is left: the next turn should not wait for a completion.
  bool has_deferred() const { return !dirty_.empty() && !frozen_; }

  // ---- To go on elsewhere (freezing.cc) ----

  // Begins to end everything that is armed, and arms nothing more: sessions stand still. What completes is still to be handled.
  void Freeze();
  // Frozen, nothing is armed any more, and no session is closing.
  bool settled();
  // What there is to know of every session, one by one; their sockets and pipes stay theirs. REQUIRES: settled().
  void Save(const std::function<void(const FrozenSession&, const Route&, std::optional<uint16_t> server)>& take);
  // Goes on with one that was saved elsewhere, whose sockets and pipes are now its own; it stands still until Thaw. `server` is the index in
  // the route, if it is established. False if there was no memory for its bytes: it is not whole. REQUIRES: frozen.
  bool Adopt(const FrozenSession& frozen, Route& route, uint16_t server, uint32_t client_source = kNoClientSource);
  // Goes on with all.
  void Thaw();
  // Forgets all: their sockets are somebody else's now. REQUIRES: settled().
  void LetGo();

  // Gives servers to those who have waited for one, where there is room now and it is this worker's turn.
  void ServeQueues();

  // Starts closing every session.
  void CloseAll(CloseReason reason);
  // Starts closing the sessions that have a connection to the server, or are about to.
  void CloseThoseOf(const Server& server, CloseReason reason);
  // From now on closes sessions that are idle, CloseReason::kDrainIdle: each once its time within `over` has come, so that their clients do not
  // all come back in the same moment, or later, as soon as it is idle.
  void CloseIdle(Duration over);
  // The limits have changed, or end: what sessions owe by them is forgotten, and those that are held back go on.
  void ForgetBandwidth(const Bandwidth& limits);
  // What a direction may hold from now on: so much, but more than two buffers at least.
  void SetHighWater(uint32_t bytes);

  // When RunTimers has something to do; none: not before the next completion.
  std::optional<TimePoint> NextWakeUp() const;
  size_t size() const { return pool_.size(); }

  // One step of a walk over all sessions: appends to `records` what there is to say of the next `step` sessions (or fewer: free slots
  // take time too), until `records` holds `most`. Starts at slot `first`, 0 at the beginning; returns the slot to go on from, none at the
  // end. Whatever opens and closes between two steps, a session that is there all the time is passed once, any other at most once.
  // REQUIRES: step > 0; records.capacity() >= most, or allocating does not matter.
  std::optional<uint32_t> List(uint32_t first, uint32_t step, size_t most, std::vector<SessionRecord>& records);

 private:
  uint32_t worker() const { return static_cast<uint32_t>(first_number_ >> kSessionNumberBits); }

  void StartConnect(Session& session, CloseReason last_failure);
  PickResult PickServer(const Session& session, const Route& route, std::span<const uint16_t> tried, TimePoint now);
  void WithoutServer(Session& session, CloseReason reason);
  void ConnectTo(Session& session, uint16_t server, TimePoint now);

  bool ExpectHeader(Session& session);
  bool ReadHeader(Session& session);
  bool MayBePayload(const Session& session) const;
  bool TakeForPayload(Session& session);
  void OnHeaderCutOff(Session& session, bool reset);
  void OnHeaderLate(Session& session);
  void ScheduleHeaderTimer(Session& session);
  void RefuseHeader(Session& session, CloseReason reason, std::string_view why);
  void DropHeader(Session& session);
  void SendHeader(Session& session);
  ProxyHeader HeaderFor(const Session& session);
  void SaveHeader(Session& session, FrozenSession& frozen);
  void RestoreHeader(Session& session, const FrozenSession& frozen);
  std::optional<SocketAddress> ClientAddress(const Session& session);

  void ConnectFromNextSource(Session& session, TimePoint now);
  int OpenFromNextSource(Session& session, const Server& server, TimePoint now);
  int OpenFromClientsAddress(Session& session, const Server& server, const SocketAddress& client);
  void SourceFailed(Session& session, bool missing, TimePoint now);
  void OnConnect(Session& session, int result);
  bool ConnectedToItself(const Session& session);
  void OnNoPort(Session& session);
  void ConnectTryFailed(Session& session, ConnectFailure failure, int error);
  void Establish(Session& session);
  void ReleaseServer(Session& session);
  void GiveUpConnect(Session& session);
  bool MayRetry(const Route& route, TimePoint now);
  void NoteFailure(const Session& session, TimePoint now);
  void NoteUse(const Session& session);

  struct LocalQueue {
    std::shared_ptr<ConnectQueue> queue;
    IntrusiveList<Session, &Session::waiting> sessions;  // the oldest first
  };
  void Queue(Session& session, TimePoint now);
  void EnterQueue(Session& session, const std::shared_ptr<ConnectQueue>& queue);
  void LeaveQueue(Session& session);
  void Serve(LocalQueue& local, TimePoint now);
  void ThawQueues();
  void OnQueuedClientEnded(Session& session);

  bool MayReplaceServer(const Session& session) const;
  bool DealWithLostServer(Session& session, Direction direction, RelayEvent event);
  bool ReplaceServer(Session& session);

  void OnRelayEvent(Session& session, Direction direction, RelayEvent event);
  void ActOn(Session& session, Direction direction, RelayEvent event);
  void OnSourceEnded(Session& session, Direction direction, bool reset);
  void OnSinkFailed(Session& session, Direction direction);
  void OnSocketFailed(Session& session, Direction direction);
  void PassEnds(Session& session);

  void OnTimer(Session& session, TimePoint now);
  static TimePoint LastConnectBy(const Session& session);
  void ScheduleConnectTimer(Session& session);
  void OnConnectTimer(Session& session, TimePoint now);
  void StartQuietTimer(Session& session, TimePoint now);
  void ScheduleTimer(Session& session, TimePoint now);

  void LimitBandwidth(Session& session);
  void BeginBandwidth(Session& session, Bandwidth& limits, TimePoint now);
  void EndBandwidth(Session& session);
  static void SaveBandwidth(const Session& session, FrozenSession& frozen);
  void RestoreBandwidth(Session& session, const FrozenSession& frozen);

  void CloseDueIdle(TimePoint now);
  bool Idle(const Session& session, TimePoint now) const;

  void PumpAll();
  void Touch(Session& session);
  void Sweep(TimePoint now);
  void KeepAlive(Session& session);
  struct Check {
    Session* session;
    Direction direction;
  };
  void RunChecks(std::span<const Check> checks);
  void FeedStarved();
  SessionRecord Describe(Session& session, TimePoint now);
  void Close(Session& session, CloseReason reason);
  void FinishClose(Session& session);
  bool HasUnread(const Session& session);
  void SettleReason(Session& session, CloseReason reason);

  Io& io_;
  RelayEnv env_;
  const uint32_t direct_turn_bytes_;
  const uint64_t first_number_;
  WorkerCells& cells_;
  SessionObserver& observer_;
  TimerWheel timers_;
  TimerWheel bandwidth_timers_;
  SlotPool<Session> pool_;
  std::unordered_map<uint32_t, ClientHeader> headers_;  // by session index
  IntrusiveList<Session, &Session::dirty> dirty_;
  IntrusiveList<Session, &Session::starved> starved_;
  IntrusiveList<Session, &Session::lively> lively_;
  std::list<LocalQueue> queues_;  // of upstreams for whose servers somebody waits
  bool serve_queues_ = false;       // at the end of this turn
  bool frozen_ = false;
  TimePoint sweep_at_{};       // while lively_ is not empty
  std::vector<Check> checks_;  // of the sweep that runs
  struct IdleWalk {
    TimePoint begin;
    Duration over;
    TimePoint step_at;
    uint32_t slot = 0;  // the next to look at
  };
  std::optional<IdleWalk> idle_walk_;
};

}  // namespace ringmain
