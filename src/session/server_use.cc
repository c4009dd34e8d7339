// What connects and the ends of sessions tell of their servers, and whether another may be tried.
#include "session/sessions.h"

namespace ringmain {

bool Sessions::MayRetry(const Route& route, TimePoint now) {
  RetryBudget* budget = route.upstream->retry_budget();
  if (budget == nullptr || budget->TryRetry(now)) return true;
  route.upstream_cells->retries_denied.Add();
  return false;
}

// The connect, or a server that was of no use, speaks against the server; it is not used any more, or cannot be used yet.
void Sessions::NoteFailure(const Session& session, TimePoint now) {
  Upstream& upstream = *session.route->upstream;
  uint16_t server = session.server();
  // What was waited for in vain counts in full.
  if (upstream.balancer().needs_latency()) upstream.server(server).ObserveConnect(session.route->connect_timeout, now);
  if (std::optional<Duration> time = upstream.Failed(server, now)) observer_.OnEjected(*session.route, server, *time);
}

// Where early ends count, the end of a session tells whether its server was of use.
void Sessions::NoteUse(const Session& session) {
  if (!session.has_server || session.server_fd < 0 || !session.route->upstream->counts_early_ends()) return;
  if (session.relays[1].received() > 0)
    session.route->upstream->Succeeded(session.server(), io_.Now());
  else if (session.reason == CloseReason::kServerReset || session.reason == CloseReason::kServerClosed)
    NoteFailure(session, io_.Now());
}

}  // namespace ringmain
