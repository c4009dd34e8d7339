// The sweep: what no completion will ever tell, found by asking the kernel now and then.
//
// Two things stay silent on a ring: an end that a multishot receive has missed, and the failure of a socket on which nothing is armed,
// because its stream has ended or because its bytes have nowhere to go.
#include <algorithm>
#include <array>

#include "session/sessions.h"

namespace ringmain {
namespace {

constexpr size_t kSweepBatch = 64;

}  // namespace

// Keeps the sessions that received since the last sweep, and those with a socket that nothing is armed on to report its failure.
void Sessions::Sweep(TimePoint now) {
  sweep_at_ = now + kSweepInterval;
  checks_.clear();
  IntrusiveList<Session, &Session::lively> lively;
  // One of each `stride` is sampled, and another one the next time.
  size_t stride = std::max<size_t>((lively_.size() + kSampledPerSweep - 1) / kSampledPerSweep, 1);
  size_t until_sample = sweeps_++ % stride;
  while (Session* session = lively_.PopFront()) {
    if (session->state == SessionState::kClosing) continue;
    if (session->state == SessionState::kEstablished && !session->kept_alive) KeepAlive(*session);
    if (until_sample-- == 0) {
      Sample(*session);
      until_sample = stride - 1;
    }
    bool dirty = session->dirty.linked;  // this turn has something to do for it: what is not armed now may be when it ends
    bool keep = dirty;
    for (Direction direction : {Direction::kToServer, Direction::kToClient}) {
      Relay& relay = session->relay(direction);
      Session::Swept& swept = session->swept[static_cast<size_t>(direction)];
      bool received = relay.received() != swept.received;
      bool held = relay.held();
      if (received) session->last_byte_at = now;
      if (received || held || swept.held) swept.active_at = CoarseTime(now);
      if (!dirty && relay.unwatched()) {
        checks_.push_back({session, direction});
        keep = true;
      } else if (!received && !swept.checked && relay.multishot()) {
        checks_.push_back({session, direction});
      }
      swept = {relay.received(), swept.active_at, !received, held};
      keep |= received;
    }
    if (keep) lively.PushBack(*session);
  }
  lively_ = lively;
  for (size_t done = 0; done < checks_.size(); done += kSweepBatch)
    RunChecks({checks_.data() + done, std::min(kSweepBatch, checks_.size() - done)});
  // Nobody tells of a server that is up again, or of a limit that was raised.
  if (!queues_.empty()) serve_queues_ = true;
}

// Not when it connects: a session that is over before does without the four system calls.
void Sessions::KeepAlive(Session& session) {
  const Route& route = *session.route;
  session.kept_alive = true;
  if (route.keepalive.count() == 0 || route.upstream->server(session.server()).address().is_unix()) return;
  io_.KeepAlive(session.server_fd, route.keepalive, route.socket);
}

void Sessions::RunChecks(std::span<const Check> checks) {
  std::array<pollfd, kSweepBatch> files;
  for (size_t i = 0; i < checks.size(); ++i) {
    const Relay& relay = checks[i].session->relay(checks[i].direction);
    bool queued = checks[i].session->state == SessionState::kQueued;
    files[i] = {relay.source(), static_cast<short>(queued ? POLLRDHUP : relay.unwatched() ? 0 : POLLIN | POLLRDHUP), 0};
  }
  io_.PollNow({files.data(), checks.size()});
  for (size_t i = 0; i < checks.size(); ++i) {
    auto [session, direction] = checks[i];
    if (files[i].revents == 0) continue;
    Relay& relay = session->relay(direction);
    if (!relay.unwatched()) {
      relay.LeaveMultishot();
    } else if ((files[i].revents & POLLERR) != 0) {
      OnSocketFailed(*session, direction);
    } else if (session->state == SessionState::kQueued) {
      OnQueuedClientEnded(*session);
    }
  }
}

// A socket failed on which nothing was armed: its side has ended its stream before, or is held back because the other is slow. It takes no
// more bytes; those it sent before still go on, and if they do not, the session is as good as half-closed.
void Sessions::OnSocketFailed(Session& session, Direction direction) {
  if (session.state != SessionState::kEstablished) {
    Close(session, CloseReason::kClientLeft);  // it may be gone now; without a server it had one socket, and one check
    return;
  }
  OnSinkFailed(session, Opposite(direction));
  Touch(session);
}

}  // namespace ringmain
