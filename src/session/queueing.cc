// Clients for whom no server has room: they wait in the order in which they came, over all workers, for a while, and not too many.
//
// Nothing is read from a client that waits: what it has sent stays in its socket. Whoever gives a connection to a server back looks whose turn
// it is (ConnectQueue); a worker whose turn it is serves its oldest for as long as there is room. What nobody tells of, such as a server that
// has come up, and a turn that was missed because two workers looked in the same moment, the sweep finds.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "session/sessions.h"

namespace ringmain {

void Sessions::Queue(Session& session, TimePoint now) {
  const std::shared_ptr<ConnectQueue>& queue = session.route->upstream->queue();
  if (queue == nullptr || !queue->TryEnter(session.route->max_queue)) {
    WithoutServer(session, CloseReason::kQueueFull);
    return;
  }
  session.state = SessionState::kQueued;
  session.connect_started_at = now;
  EnterQueue(session, queue);
  ScheduleConnectTimer(session);
  if (queue->waiting() == 1) serve_queues_ = true;  // the server that was full may have given one back meanwhile, and seen nobody wait
}

void Sessions::EnterQueue(Session& session, const std::shared_ptr<ConnectQueue>& queue) {
  auto local = std::find_if(queues_.begin(), queues_.end(), [&](const LocalQueue& one) { return one.queue == queue; });
  if (local == queues_.end()) local = queues_.insert(queues_.end(), LocalQueue{queue, {}});
  if (local->sessions.empty()) queue->SetOldest(worker(), session.connect_started_at);
  local->sessions.PushBack(session);
}

// REQUIRES: it is in that of its route.
void Sessions::LeaveQueue(Session& session) {
  auto local = std::find_if(queues_.begin(), queues_.end(),
                            [&](const LocalQueue& one) { return one.queue == session.route->upstream->queue(); });
  RINGMAIN_CHECK(local != queues_.end());
  local->sessions.Remove(session);
  local->queue->Leave();
  const Session* oldest = local->sessions.front();
  local->queue->SetOldest(worker(), oldest != nullptr ? std::optional(oldest->connect_started_at) : std::nullopt);
}

void Sessions::ServeQueues() {
  serve_queues_ = false;
  if (frozen_ || queues_.empty()) return;
  TimePoint now = io_.Now();
  for (LocalQueue& local : queues_) Serve(local, now);
  std::erase_if(queues_, [](const LocalQueue& local) { return local.sessions.empty(); });
}

// By the rules that hold now: a session may be older than they are.
void Sessions::Serve(LocalQueue& local, TimePoint now) {
  while (std::optional<uint32_t> next = local.queue->Next()) {
    if (*next != worker()) return observer_.OnTurnInQueue(*next);
    Session& session = *local.sessions.front();
    Route& before = *session.route;
    Route* route = before.retired ? observer_.CurrentRoute(before) : &before;
    if (route == nullptr) route = &before;
    uint8_t tries = route == &before ? session.tries : 0;
    PickResult picked = PickServer(session, *route, {session.tried.data(), tries}, now);
    if (!picked.server.has_value()) return;
    EndWait(session, now);
    --before.sessions;
    ++route->sessions;
    session.route = route;
    session.tries = tries;
    session.connecting_since = now;
    Touch(session);
    ConnectTo(session, *picked.server, now);
  }
}

// A client that has sent nothing and ends its stream has left, as one does to whom a server is being connected (kLeaveGrace).
void Sessions::OnQueuedClientEnded(Session& session) {
  if (session.leave_at != TimePoint::max() || session.relays[0].received() > 0 || io_.HasBytes(session.client_fd)) return;
  session.leave_at = io_.Now() + kLeaveGrace;
  ScheduleConnectTimer(session);
}

// Those that waited here still do. Those that waited elsewhere line up as they did there; if nobody has to wait any more, they have their
// servers chosen as all others (Thaw).
void Sessions::ThawQueues() {
  std::vector<Session*> adopted;
  pool_.ForEach([&](Session& session) {
    if (session.state == SessionState::kQueued && !session.waiting.linked) adopted.push_back(&session);
  });
  std::stable_sort(adopted.begin(), adopted.end(),
                   [](const Session* a, const Session* b) { return a->connect_started_at < b->connect_started_at; });
  for (Session* session : adopted) {
    const std::shared_ptr<ConnectQueue>& queue = session->route->upstream->queue();
    if (queue == nullptr) {
      session->state = SessionState::kConnecting;
      continue;
    }
    queue->Enter();
    EnterQueue(*session, queue);
    ScheduleConnectTimer(*session);
  }
  serve_queues_ = !queues_.empty();
}

}  // namespace ringmain
