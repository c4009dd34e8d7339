// Closing idle sessions early while the process drains, a few at a time.
#include <algorithm>

#include "session/sessions.h"

namespace ringmain {
namespace {

constexpr Duration kStep = milliseconds(100);
// A walk over all slots takes so many steps: with the time to become idle, a session is closed within some two seconds of being due.
constexpr uint32_t kSteps = 10;

}  // namespace

void Sessions::CloseIdle(Duration over) {
  TimePoint now = io_.Now();
  idle_walk_ = IdleWalk{now, std::max(over, Duration(kStep)), now + kStep};
}

void Sessions::CloseDueIdle(TimePoint now) {
  IdleWalk& walk = *idle_walk_;
  walk.step_at = now + kStep;
  if (size() == 0) return;
  double past = std::min(1.0, static_cast<double>((now - walk.begin).count()) / static_cast<double>(walk.over.count()));
  auto due = static_cast<uint64_t>(past * 0x1p32);
  for (uint32_t left = pool_.slots() / kSteps + 1; left > 0; --left) {
    if (walk.slot >= pool_.slots()) walk.slot = 0;
    Session* session = pool_.At(walk.slot++);
    if (session != nullptr && PlaceInSpan(session->number) < due && Idle(*session, now)) Close(*session, CloseReason::kDrainIdle);
  }
}

bool Sessions::Idle(const Session& session, TimePoint now) const {
  if (session.state != SessionState::kEstablished || session.dirty.linked || now - session.last_byte_at < kIdle) return false;
  for (size_t i = 0; i < session.relays.size(); ++i) {
    const Relay& relay = session.relays[i];
    if (relay.queued() > 0 || relay.sending() || relay.starved() || relay.received() != session.swept[i].received) return false;
  }
  return true;
}

}  // namespace ringmain
