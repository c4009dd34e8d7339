// What ends sessions in time: a connect that takes too long, quiet, and age.
//
// A session has one timer, and no message touches it: when it fires, it is looked what has been moved and which timeout may be over next.
// idle_timeout and half_closed_timeout are of what is moved either way, counted at kQuietChecks looks within each. client_idle_timeout and
// server_idle_timeout are of one side alone, by when sweeps found that bytes came from it; those take each session in which something happened.
// A side is not idle while bytes of it are on their way: that it sends no more then is the other side's doing, and nobody expects an answer from
// the other before it has them. Nor is one that has ended its stream, for which there is half_closed_timeout.
// max_lifetime is certain from the beginning.
#include <algorithm>

#include "session/sessions.h"

namespace ringmain {
namespace {

bool HalfClosed(const Session& session) { return session.relays[0].over() || session.relays[1].over() || session.server_lost; }

uint64_t BytesMoved(const Session& session) {
  uint64_t bytes = 0;
  for (const Relay& relay : session.relays) bytes += relay.received() + relay.sent();
  return bytes;
}

struct Quiet {
  Duration timeout{};  // zero is off
  CloseReason reason = CloseReason::kIdleTimeout;
};

// How long the session may be without a byte as it stands, and what it is closed for then.
Quiet QuietLimit(const Session& session) {
  Quiet idle{session.route->idle_timeout, CloseReason::kIdleTimeout};
  if (!HalfClosed(session)) return idle;
  Quiet half_closed{session.route->half_closed_timeout, CloseReason::kHalfClosedTimeout};
  if (half_closed.timeout.count() == 0) return idle;
  return idle.timeout.count() != 0 && idle.timeout < half_closed.timeout ? idle : half_closed;
}

TimePoint NextCheck(Duration timeout, TimePoint now) {
  return timeout.count() != 0 ? now + timeout / Sessions::kQuietChecks : TimePoint::max();
}

// When the side that `direction` comes from is idle, unless something comes from it before.
TimePoint SideIdleAt(const Session& session, Direction direction, TimePoint now) {
  Duration timeout = session.route->side_idle_timeouts[static_cast<size_t>(direction)];
  const Relay& relay = session.relays[static_cast<size_t>(direction)];
  if (timeout.count() == 0 || relay.over() || session.server_lost) return TimePoint::max();
  const Session::Swept& swept = session.swept[static_cast<size_t>(direction)];
  bool active = relay.held() || swept.held || relay.received() != swept.received;  // the next sweep will note it
  return active ? now + timeout : now - swept.active_at.Ago(now) + timeout;
}

TimePoint EndOfWait(const Session& session) {
  Duration timeout = session.route->queue_timeout;
  return timeout.count() != 0 ? session.connect_started_at + timeout : TimePoint::max();
}

// A jitter that is the session's own, and the same wherever it goes on.
TimePoint EndOfLifetime(const Session& session) {
  const Route& route = *session.route;
  if (route.max_lifetime.count() == 0) return TimePoint::max();
  double most = static_cast<double>((route.max_lifetime / 100 * route.lifetime_jitter_percent).count());
  auto shorter = static_cast<int64_t>(most * (static_cast<double>(PlaceInSpan(session.number)) / 0x1p32));
  return session.accepted_at + route.max_lifetime - Duration(shorter);
}

}  // namespace

// ---- While there is no server ----

void Sessions::ScheduleHeaderTimer(Session& session) {
  timers_.Schedule(session, std::min(session.accepted_at + session.route->proxy_protocol.timeout, EndOfLifetime(session)));
}

TimePoint Sessions::LastConnectBy(const Session& session) {
  Duration total = session.route->connect_total_timeout;
  return total.count() != 0 ? session.connecting_since + total : TimePoint::max();
}

void Sessions::ScheduleConnectTimer(Session& session) {
  TimePoint deadline = session.connect_started_at + session.route->connect_timeout;
  deadline = std::min(deadline, LastConnectBy(session));
  if (session.state == SessionState::kQueued) deadline = EndOfWait(session);
  deadline = std::min({deadline, session.leave_at, EndOfLifetime(session)});
  if (deadline == TimePoint::max())
    timers_.Cancel(session);
  else
    timers_.Schedule(session, deadline);
}

void Sessions::OnConnectTimer(Session& session, TimePoint now) {
  if (now >= session.leave_at) {
    Close(session, CloseReason::kClientLeft);
  } else if (session.state == SessionState::kQueued) {
    WithoutServer(session, CloseReason::kQueueTimeout);
  } else if (session.connect_armed && !session.connect_timed_out) {
    session.connect_timed_out = true;
    io_.Cancel({Op::kConnect, session.generation, session.index});
  }
}

// ---- While a server is connected ----

// From here on quiet is counted anew.
void Sessions::StartQuietTimer(Session& session, TimePoint now) {
  session.quiet_bytes = BytesMoved(session);
  session.quiet_checks = 0;
  session.check_at = NextCheck(QuietLimit(session).timeout, now);
  ScheduleTimer(session, now);
}

void Sessions::ScheduleTimer(Session& session, TimePoint now) {
  TimePoint at = std::min({session.check_at, SideIdleAt(session, Direction::kToServer, now), SideIdleAt(session, Direction::kToClient, now),
                           EndOfLifetime(session)});
  if (at == TimePoint::max())
    timers_.Cancel(session);
  else
    timers_.Schedule(session, at);
}

void Sessions::OnTimer(Session& session, TimePoint now) {
  if (now >= EndOfLifetime(session)) return Close(session, CloseReason::kMaxLifetime);
  if (session.state == SessionState::kReadingHeader) return OnHeaderLate(session);
  if (session.without_server()) return OnConnectTimer(session, now);
  if (now >= SideIdleAt(session, Direction::kToServer, now)) return Close(session, CloseReason::kClientIdleTimeout);
  if (now >= SideIdleAt(session, Direction::kToClient, now)) return Close(session, CloseReason::kServerIdleTimeout);
  if (now >= session.check_at) {
    uint64_t bytes = BytesMoved(session);
    Quiet limit = QuietLimit(session);
    if (bytes != session.quiet_bytes) {
      session.quiet_bytes = bytes;
      session.quiet_checks = 0;
    } else if (++session.quiet_checks >= kQuietChecks) {
      return Close(session, limit.reason);
    }
    session.check_at = NextCheck(limit.timeout, now);
  }
  ScheduleTimer(session, now);
}

}  // namespace ringmain
