// Rules: what must hold for sessions, seen from outside: at the system calls they make, the completions they get, the
// cells they count in. SimIo checks the single call; here are the rules that need a whole session or all of them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "metrics/access_record.h"
#include "metrics/reasons.h"
#include "metrics/session_list.h"
#include "sim_socket.h"
#include "uring/token.h"

namespace ringmain::sim {

class World;

class Rules {
 public:
  explicit Rules(World& world) : world_(world) {}

  // ---- What happens, as it happens ----

  void OnCompletion(const Completion& completion);  // before the proxy handles it
  void OnClosed(CloseReason reason);
  void OnConnectFailed(size_t server, ConnectFailure failure);
  void OnBandwidthChanged();
  void OnLogged(const AccessRecord& record);

  // ---- When to look ----

  void AfterTurn();
  // Nothing can happen any more unless a peer acts or time passes: then every session must be waiting for one of the
  // two.
  void WhenQuiet();
  // The same, and neither will come: what is left waits for ever.
  void WhenOver();
  // Every session has ended.
  void AtEnd();

 private:
  void CheckTotals();
  void CheckPool();
  void CheckBandwidth();
  void CheckPipes();
  // What sessions say of themselves is what was seen of them, and the gauges of modes add it up.
  void CheckList();
  // Of one direction, as below.
  void CheckRelayRecord(const RelayRecord& record, const SimSocket& source, const SimSocket* sink);
  // One direction; `sink` is null while no server is connected.
  void CheckQueue(const SimSocket& source, const SimSocket* sink);
  void CheckTimers(const SimSession& session);
  void CheckWaits(const SimSocket& source, const SimSocket* sink);

  void CheckOrderlyEnd(const SimSession& session, bool client_first);
  void CheckReset(const SimSession& session, const SimSocket& broken);
  void CheckCut(const SimSession& session);
  void CheckTimeout(const SimSession& session, Duration timeout);
  void CheckSideTimeout(const SimSession& session, Direction direction);
  void CheckLifetime(const SimSession& session);
  void CheckNotReplaced(const SimSession& session, CloseReason reason);
  void CheckRefused(const SimSession& session, CloseReason reason);
  void CheckHeaderRefused(const SimSession& session, CloseReason reason);

  void CheckLogged(const SimSession& session, const AccessRecord& record);
  uint64_t Queued(const SimSocket& source, const SimSocket* sink) const;
  Duration QuietLimit(const SimSession& session) const;
  void CheckSideTimer(const SimSession& session, Direction direction, TimePoint now);
  TimePoint LastConnectBy(const SimSession& session) const;

  World& world_;
  std::vector<SessionRecord> list_;
  std::array<uint64_t, kCloseReasons> closed_{};
  std::vector<std::array<uint64_t, kConnectFailures>> expected_failures_;  // by server
  std::vector<std::array<uint64_t, kConnectFailures>> seen_failures_;
  bool no_local_address_ = false;  // was a failure at least once
  std::array<uint64_t, 2> unlimited_{};  // by Direction: bytes received before the limits were as they are
};

}  // namespace ringmain::sim
