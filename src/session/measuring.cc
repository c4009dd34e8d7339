// What sessions tell of themselves in metrics, at their turning points and now and then; never per message.
#include <algorithm>

#include "session/sessions.h"

namespace ringmain {

// In the turn in which it is passed on.
void Sessions::NoteFirstByte(Session& session) {
  session.first_byte_at = io_.Now();
  session.route->listener_cells->first_byte.Observe(session.first_byte_at - session.accepted_at);
}

// It is served, or will not be.
void Sessions::EndWait(Session& session, TimePoint now) {
  LeaveQueue(session);
  session.route->upstream_cells->queue_wait.Observe(now - session.connect_started_at);
}

void Sessions::CountEnd(const Session& session, Duration lifetime) {
  ListenerCells& cells = *session.route->listener_cells;
  cells.closed[static_cast<size_t>(session.reason)].Add();
  cells.duration.Observe(lifetime);
  const auto& [to_server, to_client] = session.relays;
  cells.session_bytes[0].Observe(to_server.sent() - std::min<uint64_t>(session.lead, to_server.sent()));
  cells.session_bytes[1].Observe(to_client.sent());
}

// By sweeps (sweep.cc), so it is of sessions in which something happens: of others the kernel's round-trip time is an old one. Each session
// counts what it sent since it was sampled last, so the share of retransmits is that of all bytes of those sessions.
void Sessions::Sample(Session& session) {
  const Route& route = *session.route;
  if (session.state != SessionState::kEstablished || route.upstream->server(session.server()).address().is_unix()) return;
  std::optional<TcpSample> sample = io_.SampleTcp(session.server_fd);
  if (!sample.has_value()) return;
  ServerCells& cells = *route.servers[session.server()].cells;
  cells.rtt_samples.Add();
  cells.rtt_ns.Add(static_cast<uint64_t>(sample->round_trip.count()));
  cells.sampled_segments.Add(sample->segments - session.sampled.segments);  // modulo 2^32, like the kernel's
  cells.sampled_retransmits.Add(sample->retransmits - session.sampled.retransmits);
  session.sampled = {sample->segments, sample->retransmits};
}

}  // namespace ringmain
