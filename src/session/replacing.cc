// How a server that ends before it was of any use gives way to another, so that the client sees nothing of it.
//
// That is allowed only while no byte of the client was handed to the server and none came back, which is certain once nothing is in flight on
// its socket any more. A session for which it is not certain yet waits (`server_lost`): the client's bytes are kept, and what is armed on the
// failed socket ends by itself.
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
  return session.state == SessionState::kEstablished && !frozen_ && session.tries < session.route->connect_tries && to_server.sent() == 0 &&
         to_client.received() == 0 && !session.reset && !(to_server.ended() && to_server.queued() == 0);
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
      if (of_server) StartQuietTimer(session, io_.Now());
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

// False if there is none.
bool Sessions::ReplaceServer(Session& session) {
  const Route& route = *session.route;
  std::optional<uint16_t> picked = route.upstream->Pick({session.tried.data(), session.tries});
  if (!picked.has_value()) return false;
  bool reset = session.lost_events[1] == RelayEvent::kSourceReset || session.lost_events[0] != RelayEvent::kNone;
  route.servers[session.server()].cells->connect_failures[static_cast<size_t>(ConnectFailure::kLost)].Add();
  observer_.OnConnectFailed(route, session.server(), ConnectFailure::kLost, reset ? ECONNRESET : 0);
  ReleaseServer(session);
  io_.Close(std::exchange(session.server_fd, -1));
  for (const Relay& relay : session.relays) env_.modes[static_cast<size_t>(relay.mode())].Add(-1);
  Relay& to_client = session.relay(Direction::kToClient);
  to_client = Relay(env_, Op::kReceiveFromServer, Op::kSendToClient, session.generation, session.index, false);
  to_client.SetSink(session.client_fd);
  session.swept[1] = {};
  session.lost_events = {};
  session.server_lost = session.kept_alive = false;
  session.state = SessionState::kConnecting;
  ConnectTo(session, *picked);
  return true;
}

}  // namespace ringmain
