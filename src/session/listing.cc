// What sessions are doing, for those who ask from outside.
#include <algorithm>

#include "session/sessions.h"

namespace ringmain {
namespace {

// To pass a free slot costs less than to describe a session: a cache line, and no system call.
constexpr uint64_t kFreeSlotsPerSession = 16;

ReceiveKind KindOfReceive(const Relay& relay) {
  if (!relay.receiving()) return ReceiveKind::kNone;
  if (relay.direct()) return ReceiveKind::kPoll;
  return relay.multishot() ? ReceiveKind::kMultishot : ReceiveKind::kSingle;
}

// What a session has received of both sides, without a header of ours.
uint64_t BytesOf(const Session& session) {
  uint64_t to_server = session.relays[0].received();
  return to_server - std::min<uint64_t>(session.lead, to_server) + session.relays[1].received();
}

uint64_t KeyOf(const Session& session, SessionOrder order) {
  switch (order) {
    case SessionOrder::kBytes:
      return UINT64_MAX - BytesOf(session);
    case SessionOrder::kAge:
      return static_cast<uint64_t>(session.accepted_at.time_since_epoch().count());
    case SessionOrder::kNone:
    case SessionOrder::kId:
      return 0;
  }
  return 0;
}

}  // namespace

// Every bit of it is cheap but the client's address, which takes a system call.
bool Sessions::Fits(const Session& session, const SessionQuery& query) {
  const RouteNames& names = *session.route->names;
  if (query.number.has_value() && *query.number != session.number) return false;
  if (!query.listener.empty() && query.listener != names.listener) return false;
  if (!query.upstream.empty() && query.upstream != names.upstream) return false;
  if (!query.server.empty() && (!session.has_server || query.server != names.servers.at(session.server()))) return false;
  if (!query.client.has_value() && !query.client_port.has_value()) return true;
  std::optional<SocketAddress> client = ClientAddress(session);
  if (!client.has_value() || (query.client.has_value() && !query.client->Contains(*client))) return false;
  return !query.client_port.has_value() || *query.client_port == client->port();
}

// The records are a heap with the last of them on top, so that it is known at once whether another takes its place, and only what is kept is
// described.
void Sessions::Consider(Session& session, const SessionQuery& query, TimePoint now, SessionsFound& found) {
  if (!Fits(session, query) || (query.close && session.state == SessionState::kClosing)) return;
  ++found.matched;
  SessionRank rank{KeyOf(session, query.order), session.number};
  if (query.after.has_value() && rank <= *query.after) return;
  std::vector<SessionRecord>& records = found.records;
  auto earlier = [](const SessionRecord& a, const SessionRecord& b) { return a.rank() < b.rank(); };
  if (records.size() >= query.most) {
    if (records.empty() || rank > records.front().rank()) return;
    std::pop_heap(records.begin(), records.end(), earlier);
    records.pop_back();
  }
  records.push_back(Describe(session, now));
  records.back().key = rank.key;
  std::push_heap(records.begin(), records.end(), earlier);
  if (query.close) Close(session, CloseReason::kAdmin);
}

std::optional<uint32_t> Sessions::List(uint32_t first, uint32_t step, const SessionQuery& query, SessionsFound& found) {
  TimePoint now = io_.Now();
  uint64_t left = uint64_t{step} * kFreeSlotsPerSession;
  for (uint32_t index = first; index < pool_.slots(); ++index) {
    if (query.order == SessionOrder::kNone && found.records.size() >= query.most) return std::nullopt;
    if (left == 0) return index;
    Session* session = pool_.At(index);
    left -= session != nullptr ? std::min(left, kFreeSlotsPerSession) : 1;
    if (session != nullptr) Consider(*session, query, now, found);
  }
  return std::nullopt;
}

SessionRecord Sessions::Describe(Session& session, TimePoint now) {
  SessionRecord record;
  record.number = session.number;
  record.route = session.route->names;
  if (session.has_server) record.server = session.server();
  record.client = ClientAddress(session);
  record.state = session.state;
  record.age = now - session.accepted_at;
  record.idle = now - session.last_byte_at;
  for (Direction direction : {Direction::kToServer, Direction::kToClient}) {
    const Relay& relay = session.relay(direction);
    if (relay.received() != session.swept[static_cast<size_t>(direction)].received) record.idle = {};  // since the last sweep
    record.relays[static_cast<size_t>(direction)] = {relay.mode(), KindOfReceive(relay), relay.ended(),
                                                     relay.received(), relay.sent(), relay.queued()};
  }
  // Of the payload alone.
  RelayRecord& to_server = record.relays[0];
  auto lead_sent = static_cast<uint32_t>(std::min<uint64_t>(session.lead, to_server.sent));
  to_server.received -= std::min<uint64_t>(session.lead, to_server.received);
  to_server.sent -= lead_sent;
  to_server.queued -= std::min(to_server.queued, session.lead - lead_sent);
  return record;
}

}  // namespace ringmain
