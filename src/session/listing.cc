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

}  // namespace

std::optional<uint32_t> Sessions::List(uint32_t first, uint32_t step, size_t most, std::vector<SessionRecord>& records) {
  TimePoint now = io_.Now();
  uint64_t left = uint64_t{step} * kFreeSlotsPerSession;
  for (uint32_t index = first; index < pool_.slots(); ++index) {
    if (records.size() >= most) return std::nullopt;
    if (left == 0) return index;
    Session* session = pool_.At(index);
    left -= session != nullptr ? std::min(left, kFreeSlotsPerSession) : 1;
    if (session != nullptr) records.push_back(Describe(*session, now));
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
