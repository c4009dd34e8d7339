// Bandwidth limits: when a direction may receive, and how much (bandwidth.h).
#include <algorithm>

#include "session/sessions.h"

namespace ringmain {
namespace {

constexpr uint64_t kPaidAhead = 4 << 10;

}  // namespace

// Before the session is pumped: what it received since then is paid for, and what it may receive next is set. REQUIRES: its route has limits.
void Sessions::LimitBandwidth(Session& session) {
  Bandwidth& limits = *session.route->bandwidth;
  TimePoint now = io_.Now();
  if (session.bandwidth == nullptr) BeginBandwidth(session, limits, now);
  if (session.state == SessionState::kReadingHeader) return;  // what comes with the header is paid for later
  TimePoint wake_at = TimePoint::max();
  for (size_t i = 0; i < limits.sides.size(); ++i) {
    Bandwidth::Side& limit = limits.sides[i];
    uint64_t session_rate = limit.per_session.load(std::memory_order_relaxed);
    uint64_t listener_rate = limit.listener.per_second();
    if (session_rate == 0 && listener_rate == 0) continue;
    Relay& relay = session.relays[i];
    SessionBandwidth::Side& side = session.bandwidth->sides[i];
    uint64_t received = relay.received() - std::min(side.counted, relay.received());
    side.counted = relay.received();
    uint64_t prepaid = std::min(received, side.prepaid);
    side.prepaid -= prepaid;
    received -= prepaid;
    if (received > 0) {
      side.go_on_at = limit.listener.Take(received, now);
      if (session_rate != 0) {
        int64_t own = TakeBytes(received, session_rate, now.time_since_epoch().count(), side.paid_until_ns);
        side.go_on_at = std::max(side.go_on_at, TimePoint(Duration(own)));
      }
      if (side.go_on_at > now) session.route->listener_cells->bandwidth_waits[i].Add();
    }
    bool waits = side.go_on_at > now;
    if (waits) wake_at = std::min(wake_at, side.go_on_at);
    relay.Allow(waits ? 0 : BandwidthQuantum(listener_rate, session_rate));
  }
  if (wake_at != TimePoint::max()) bandwidth_timers_.Schedule(*session.bandwidth, wake_at);
}

// A session that begins while others have yet to pay takes its place behind them. What it pays ahead is little, since it may not be of use for
// long: many that come together and say nothing must not keep the others waiting.
void Sessions::BeginBandwidth(Session& session, Bandwidth& limits, TimePoint now) {
  session.bandwidth = std::make_unique<SessionBandwidth>(session);
  for (size_t i = 0; i < limits.sides.size(); ++i) {
    SessionBandwidth::Side& side = session.bandwidth->sides[i];
    ByteRate& rate = limits.sides[i].listener;
    side.counted = session.relays[i].received();
    if (rate.per_second() == 0 || rate.paid_until_ns() <= now.time_since_epoch().count()) continue;
    side.prepaid = kPaidAhead;
    side.go_on_at = rate.Take(side.prepaid, now);
  }
}

void Sessions::EndBandwidth(Session& session) {
  if (session.bandwidth == nullptr) return;
  bandwidth_timers_.Cancel(*session.bandwidth);
  session.bandwidth.reset();
}

void Sessions::ForgetBandwidth(const Bandwidth& limits) {
  pool_.ForEach([&](Session& session) {
    if (session.route->bandwidth != &limits || session.bandwidth == nullptr) return;
    EndBandwidth(session);
    for (Relay& relay : session.relays) relay.Allow(Relay::kUnlimited);
    Touch(session);
  });
}

void Sessions::SaveBandwidth(const Session& session, FrozenSession& frozen) {
  if (session.bandwidth == nullptr) return;
  for (size_t i = 0; i < frozen.bandwidth.size(); ++i) {
    const SessionBandwidth::Side& side = session.bandwidth->sides[i];
    frozen.bandwidth[i] = {side.paid_until_ns, side.go_on_at.time_since_epoch().count(), side.counted, side.prepaid};
  }
}

// Whatever it is told, a session is not held back for ever.
void Sessions::RestoreBandwidth(Session& session, const FrozenSession& frozen) {
  if (session.route->bandwidth == nullptr || frozen.bandwidth == FrozenSession().bandwidth) return;
  session.bandwidth = std::make_unique<SessionBandwidth>(session);
  int64_t latest = io_.Now().time_since_epoch().count() + ByteRate::kMostDebtNs;
  for (size_t i = 0; i < frozen.bandwidth.size(); ++i)
    session.bandwidth->sides[i] = {.counted = frozen.bandwidth[i].counted,
                                   .prepaid = std::min(frozen.bandwidth[i].prepaid, kPaidAhead),
                                   .paid_until_ns = std::min(frozen.bandwidth[i].paid_until_ns, latest),
                                   .go_on_at = TimePoint(Duration(std::min(frozen.bandwidth[i].go_on_at_ns, latest)))};
}

}  // namespace ringmain
