// How a server that ends before it was of any use gives way to another, so that the client sees nothing of it.
//
// That is allowed only while no byte of the client was handed to the server and none came back, which is certain once nothing is in flight on
// its socket any more. A session for which it is not certain yet waits (`server_lost`): the client's bytes are kept, and what is armed on the
// failed socket ends by itself. A header that was sent before the client's bytes (header.cc) is none of them: the next server gets its own.
#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "session/sessions.h"

namespace ringmain {
namespace {

bool IsEndOfServer(Direction direction, RelayEvent event) {
  if (direction == Direction::kToServer) return event == RelayEvent::kSinkFailed;
  return event == RelayEvent::kSourceEnded || event == RelayEvent::kSourceReset;
}

bool IsEndOfClient(Direction direction, RelayEvent event) {
  if (direction == Direction::kToClient) return event == RelayEvent::kSinkFailed;
  return event == RelayEvent::kSourceEnded || event == RelayEvent::kSourceReset;
}

}  // namespace

// As far as is known. A client that has ended its stream and sent nothing waits for no server.
bool Sessions::MayReplaceServer(const Session& session) const {
  const Relay& to_server = session.relays[0];
  const Relay& to_client = session.relays[1];
  return session.state == SessionState::kEstablished && !frozen_ && session.tries < kMaxConnectTries && to_server.sent() <= session.lead &&
         to_client.received() == 0 && !session.reset && !(to_server.ended() && to_server.sent() + to_server.queued() <= session.lead);
}

// True if the event is dealt with, now or later.
bool Sessions::DealWithLostServer(Session& session, Direction direction, RelayEvent event) {
  bool of_server = IsEndOfServer(direction, event);
  if (!session.server_lost && !(of_server && MayReplaceServer(session))) return false;
  session.server_lost = true;
  if (of_server) session.lost_events[static_cast<size_t>(direction)] = event;
  Relay& to_server = session.relay(Direction::kToServer);
  Relay& to_client = session.relay(Direction::kToClient);
  to_server.LoseSink();
  if (MayReplaceServer(session) && !IsEndOfClient(direction, event)) {
    if (to_server.sending() || to_client.receiving()) {
      if (of_server) StartQuietTimer(session, io_.Now());  // as half-closed: what is waited for may never come
      return of_server;
    }
    if (to_client.ended() && ReplaceServer(session)) return of_server;
  }
  // It ends as any other.
  session.server_lost = false;
  to_server.SetSink(session.server_fd);
  for (Direction each : {Direction::kToServer, Direction::kToClient}) {
    RelayEvent held = std::exchange(session.lost_events[static_cast<size_t>(each)], RelayEvent::kNone);
    ActOn(session, each, held);
  }
  return of_server;
}

// False if there is none. By the rules that hold now: the session may be older, and its server long out of the configuration.
bool Sessions::ReplaceServer(Session& session) {
  Route& before = *session.route;
  Route* route = before.retired ? observer_.CurrentRoute(before) : &before;
  if (route == nullptr || std::max<uint32_t>(session.tries, 1) >= route->connect_tries) return false;
  const Server& lost = before.upstream->server(session.server());
  std::array<uint16_t, kMaxConnectTries> tried = session.tried;
  uint8_t tries = session.tries;
  if (route != &before) {  // by other indices
    tries = 0;
    for (size_t i = 0; i < route->upstream->size(); ++i)
      if (&route->upstream->server(i) == &lost) tried[tries++] = static_cast<uint16_t>(i);
  }
  TimePoint now = io_.Now();
  if (!MayRetry(*route, now)) return false;
  std::optional<uint16_t> picked = PickServer(session, *route, {tried.data(), tries}, now).server;
  if (!picked.has_value()) return false;
  bool reset = session.lost_events[1] == RelayEvent::kSourceReset || session.lost_events[0] != RelayEvent::kNone;
  before.servers[session.server()].cells->connect_failures[static_cast<size_t>(ConnectFailure::kLost)].Add();
  observer_.OnConnectFailed(before, session.server(), ConnectFailure::kLost, reset ? ECONNRESET : 0);
  if (before.upstream->counts_early_ends()) NoteFailure(session, now);
  ReleaseServer(session);
  if (session.passed) io_.EndForAll(session.server_fd, reset);
  io_.Close(std::exchange(session.server_fd, -1));
  for (const Relay& relay : session.relays) env_.modes[static_cast<size_t>(relay.mode())].Add(-1);
  if (session.lead > 0) session.relay(Direction::kToServer).ForgetLead(std::exchange(session.lead, uint16_t{0}));
  Relay& to_client = session.relay(Direction::kToClient);
  to_client = Relay(env_, Op::kReceiveFromServer, Op::kSendToClient, session.generation, session.index, false);
  to_client.SetSink(session.client_fd);
  session.swept[1] = {};
  session.lost_events = {};
  session.lost_reason = reset ? CloseReason::kServerReset : CloseReason::kServerClosed;
  session.server_lost = session.kept_alive = false;
  --before.sessions;
  ++route->sessions;
  session.route = route;
  session.tried = tried;
  session.tries = tries;
  session.connecting_since = now;
  session.check_at = TimePoint::max();
  ConnectTo(session, *picked, now);
  return true;
}

}  // namespace ringmain
