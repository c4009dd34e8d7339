// How a session ends: every armed operation first, then the sockets, and what gets lost is not passed off as complete.
#include <algorithm>
#include <array>

#include "base/probe.h"
#include "session/sessions.h"

namespace ringmain {
namespace {

// The client never got a server: what it may have sent went nowhere, and a reset says so.
constexpr bool IsRefusal(CloseReason reason) {
  return reason == CloseReason::kNoServer || reason == CloseReason::kQueueFull || reason == CloseReason::kQueueTimeout ||
         reason == CloseReason::kConnectFailed || reason == CloseReason::kConnectTimeout || reason == CloseReason::kNoFiles ||
         reason == CloseReason::kClientLeft || reason == CloseReason::kProxyProtocol || reason == CloseReason::kProxyProtocolTimeout;
}

// The process that took it over may have moved some of its bytes, and lost them.
constexpr bool IsLost(CloseReason reason) { return reason == CloseReason::kTakeoverFailed; }

// It is ended though neither side has.
constexpr bool IsCut(CloseReason reason) {
  return reason == CloseReason::kShutdown || reason == CloseReason::kDrainTimeout || reason == CloseReason::kDrainIdle ||
         reason == CloseReason::kServerRemoved || reason == CloseReason::kMaxLifetime ||
         reason == CloseReason::kIdleTimeout || reason == CloseReason::kHalfClosedTimeout ||
         reason == CloseReason::kClientIdleTimeout || reason == CloseReason::kServerIdleTimeout;
}

}  // namespace

void Sessions::Close(Session& session, CloseReason reason) {
  if (session.state == SessionState::kClosing) return;
  if (session.state == SessionState::kEstablished)
    for (const Relay& relay : session.relays) env_.modes[static_cast<size_t>(relay.mode())].Add(-1);
  if (session.state == SessionState::kReadingHeader) session.reset |= !headers_.at(session.index).bytes.empty();
  session.state = SessionState::kClosing;
  session.reason = reason;
  session.reset |= IsRefusal(reason) || IsLost(reason);
  for (const Relay& relay : session.relays) session.reset |= relay.starved();  // bytes in the socket that are lost
  timers_.Cancel(session);
  starved_.Remove(session);
  if (session.waiting.linked) LeaveQueue(session);
  if (session.connect_armed) io_.Cancel({Op::kConnect, session.generation, session.index});
  for (Relay& relay : session.relays) relay.Stop();
  FinishClose(session);
}

void Sessions::FinishClose(Session& session) {
  if (session.connect_armed || session.relays[0].in_flight() || session.relays[1].in_flight()) return;
  // Bytes also get lost after Close: a receive may bring some before its end.
  for (const Relay& relay : session.relays) session.reset |= relay.discarded() > 0;
  if (IsCut(session.reason) && !session.reset) session.reset = HasUnread(session);
  RINGMAIN_PROBE(close, session.number, session.route->names->listener.c_str(),
                 session.has_server ? session.route->names->servers[session.server()].c_str() : "", ToString(session.reason).data(),
                 session.relays[0].sent(), session.relays[1].sent());
  for (int fd : {session.client_fd, session.server_fd}) {
    if (fd < 0) continue;
    if (session.passed) io_.EndForAll(fd, session.reset);
    if (session.reset)
      io_.CloseWithReset(fd);
    else
      io_.Close(fd);
  }
  NoteUse(session);
  ReleaseServer(session);
  Route& route = *session.route;
  CloseReason reason = session.reason;
  route.listener_cells->active.Add(-1);
  route.listener_cells->closed[static_cast<size_t>(reason)].Add();
  Duration lifetime = io_.Now() - session.accepted_at;
  route.listener_cells->duration.Observe(lifetime);
  cells_.sessions.Add(-1);
  dirty_.Remove(session);
  lively_.Remove(session);
  if (session.client_source != kNoClientSource) observer_.OnSourceLeft(route, session.client_source);
  DropHeader(session);
  EndBandwidth(session);
  pool_.Destroy(session.index);
  --route.sessions;
  observer_.OnClosed(route, reason, lifetime);
}

// A cancelled receive may leave bytes in a socket, and a direct relay takes them only when its turn has come.
bool Sessions::HasUnread(const Session& session) {
  std::array<pollfd, 2> files{};
  size_t count = 0;
  for (const Relay& relay : session.relays)
    if (relay.source() >= 0 && !relay.ended()) files[count++] = {relay.source(), POLLIN, 0};
  io_.PollNow({files.data(), count});
  return std::any_of(files.begin(), files.end(), [](const pollfd& file) { return (file.revents & POLLIN) != 0; });
}

}  // namespace ringmain
