// What the access log is told of sessions: at their end, if it wants that at their start, and now and then while they go on.
//
// The log is another thread's (log/access_log.h); all that is done here is a record. With the log off a session pays for one look at whether
// it is on, when it opens and when it ends. What a session that is told of needs beyond its own state is kept apart (`logged_`), and goes along
// when it goes on elsewhere. The log may come, go or change while there are sessions: a walk over all of them, a part at a time, finds those
// that it concerns, and those whose next line is due.
#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "session/sessions.h"

namespace ringmain {
namespace {

// A walk takes a second, and a line that is due in between is so much late.
constexpr Duration kStep = milliseconds(100);
constexpr uint32_t kSteps = 10;

// The next multiple of `every` since it was accepted, which is the same wherever it goes on.
TimePoint NextLine(const Session& session, Duration every, TimePoint now) {
  return every.count() != 0 ? session.accepted_at + ((now - session.accepted_at) / every + 1) * every : TimePoint::max();
}

}  // namespace

void Sessions::SetAccessLog(const std::optional<AccessLogRules>& rules) {
  if (rules == access_log_) return;
  access_log_ = rules;
  log_walk_.reset();
  if (!rules.has_value())
    logged_.clear();
  else if (size() > 0 || rules->every.count() != 0)
    log_walk_ = LogWalk{io_.Now()};
}

// By a hash of its number: it is the same wherever it goes on, and has nothing to do with what else is spread by it (PlaceInSpan).
bool Sessions::IsLogged(const Session& session) const {
  return access_log_.has_value() && session.route->access_log && Mix(session.number) >> 32 < access_log_->sampled;
}

void Sessions::BeginLogging(Session& session, std::optional<SocketAddress> peer, TimePoint now) {
  if (!peer.has_value()) peer = io_.PeerAddress(session.client_fd);
  logged_[session.index] = {std::move(peer), NextLine(session, access_log_->every, now)};
}

void Sessions::LogStart(Session& session) {
  if (!IsLogged(session)) return;
  BeginLogging(session, std::nullopt, session.accepted_at);
  if (access_log_->at_start) observer_.OnLogged(Record(session, AccessEvent::kStart, session.accepted_at));
}

// REQUIRES: its client's socket is open.
void Sessions::LogEnd(Session& session) {
  TimePoint now = io_.Now();
  if (IsLogged(session)) {
    if (!logged_.contains(session.index)) BeginLogging(session, std::nullopt, now);  // the walk has not come to it
    observer_.OnLogged(Record(session, AccessEvent::kEnd, now));
  }
  logged_.erase(session.index);
}

// A step of the walk.
void Sessions::LogRunning(TimePoint now) {
  LogWalk& walk = *log_walk_;
  walk.step_at = now + kStep;
  for (uint32_t left = pool_.slots() / kSteps + 1; left > 0 && walk.slot < pool_.slots(); --left) {
    Session* session = pool_.At(walk.slot++);
    if (session == nullptr || session->state == SessionState::kClosing) continue;
    auto logged = logged_.find(session->index);
    if (!IsLogged(*session)) {
      if (logged != logged_.end()) logged_.erase(logged);
    } else if (walk.first || logged == logged_.end()) {
      BeginLogging(*session, logged != logged_.end() ? logged->second.peer : std::nullopt, now);
    } else if (now >= logged->second.next_at) {
      logged->second.next_at = NextLine(*session, access_log_->every, now);
      observer_.OnLogged(Record(*session, AccessEvent::kRunning, now));
    }
  }
  if (walk.slot < pool_.slots()) return;
  walk.slot = 0;
  walk.first = false;
  if (access_log_->every.count() == 0) log_walk_.reset();
}

// REQUIRES: it is in `logged_`.
AccessRecord Sessions::Record(const Session& session, AccessEvent event, TimePoint now) {
  AccessRecord record;
  record.event = event;
  record.reason = session.reason;
  record.retries = static_cast<uint8_t>(std::max<uint8_t>(session.connects, 1) - 1);
  record.number = session.number;
  record.route = session.route->names;
  if (session.tries > 0) record.server = session.server();
  record.client = logged_.at(session.index).peer;
  if (session.has_header) {
    const ProxyHeader& header = headers_.at(session.index).header;
    // Of one that has not come as a whole there is nothing yet.
    if (header.source.has_value() || !header.tlvs.empty() || header.checksum)
      record.proxy = {header.version, record.client, header.destination, std::string(AuthorityOf(header)), std::string(TlsVersionOf(header))};
    if (header.source.has_value()) record.client = header.source;
  }
  record.at = now;
  record.accepted_at = session.accepted_at;
  record.queued = milliseconds(session.queued_ms);
  if (session.state == SessionState::kQueued) record.queued += now - session.connect_started_at;
  if (session.connect_us > 0) record.connect = microseconds(session.connect_us);
  if (session.first_byte_at != TimePoint()) record.first_byte = session.first_byte_at - session.accepted_at;
  for (size_t i = 0; i < record.bytes.size(); ++i) record.bytes[i] = session.relays[i].sent();
  record.bytes[0] -= std::min<uint64_t>(session.lead, record.bytes[0]);
  return record;
}

}  // namespace ringmain
