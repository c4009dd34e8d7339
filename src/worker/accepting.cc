// How a worker comes by its clients: from listening sockets and from other workers.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "worker/worker.h"

namespace ringmain {
namespace {

constexpr Duration kAcceptRetry = milliseconds(100);

// Errors of accept(2) that are about one connection, or about the end of the request; any other says that accepting itself does not
// work now.
bool ConcernsOneConnection(int error) {
  switch (error) {
    case EAGAIN:
    case EINTR:
    case ECANCELED:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ETIMEDOUT:
    case EPERM:  // a firewall rule
      return true;
    default:
      return false;
  }
}

}  // namespace

// ---- Which sockets ----

// All that the worker accepts from, from now on.
void Worker::AcceptFrom(const std::vector<WorkerUpdate::Acceptance>& sockets) {
  std::map<ListeningSocket*, const WorkerUpdate::Acceptance*> wanted;
  for (const WorkerUpdate::Acceptance& one : sockets) wanted.emplace(one.socket.get(), &one);
  for (Acceptor& acceptor : acceptors_) {
    if (acceptor.socket == nullptr) continue;
    auto found = wanted.find(acceptor.socket.get());
    if (found == wanted.end()) {
      Leave(acceptor, acceptor.socket->leaving.load(std::memory_order_relaxed));
    } else if (!acceptor.leaving) {
      acceptor.listener = &listeners_.at(found->second->listener);
      wanted.erase(found);
    }
  }
  for (auto [socket, one] : wanted) {
    Acceptor& acceptor = FreeAcceptor();
    acceptor.socket = one->socket;
    acceptor.listener = &listeners_.at(one->listener);
    if (accepting_ && !paused_) ArmAccept(static_cast<uint32_t>(&acceptor - acceptors_.data()));
  }
  UpdateTakes();
}

// A place that is not armed, since its index is in the tokens.
Worker::Acceptor& Worker::FreeAcceptor() {
  for (Acceptor& acceptor : acceptors_)
    if (acceptor.socket == nullptr) return acceptor = {};
  return acceptors_.emplace_back();
}

void Worker::Leave(Acceptor& acceptor, bool drain) {
  if (acceptor.socket == nullptr || acceptor.leaving) return;
  acceptor.leaving = true;
  acceptor.draining = drain;
  ++leaving_;
  CancelAccept(static_cast<uint32_t>(&acceptor - acceptors_.data()));
}

// Other workers may offer clients to one that accepts some itself.
void Worker::UpdateTakes() {
  bool accepts = std::any_of(acceptors_.begin(), acceptors_.end(),
                             [](const Acceptor& acceptor) { return acceptor.socket != nullptr && !acceptor.leaving; });
  inbox_.set_takes(accepts && accepting_ && !paused_);
}

// ---- Clients ----

void Worker::ArmAccept(uint32_t index) {
  Acceptor& acceptor = acceptors_[index];
  acceptor.armed = true;
  acceptor.single = Crowded();
  ring_->Accept({Op::kAccept, 0, index}, acceptor.socket->fd.get(), acceptor.single);
}

void Worker::OnAccept(const Completion& completion) {
  Acceptor& acceptor = acceptors_[completion.token.index];
  if (!completion.more) acceptor.armed = acceptor.cancelling = false;
  if (completion.result >= 0)
    Admit(*acceptor.listener, completion.result, !acceptor.leaving && !acceptor.socket->leaving.load(std::memory_order_relaxed));
  else if (!ConcernsOneConnection(-completion.result))
    PauseAccepting(-completion.result);
  if (acceptor.armed) {
    if (!acceptor.single && Crowded()) CancelAccept(completion.token.index);
  } else if (accepting_ && !paused_ && !acceptor.leaving) {
    ArmAccept(completion.token.index);
  }
}

// Passes the client to a worker with clearly fewer connections. False if there is none: it is still ours.
//
// Where many connections come and go, the worker that has just run has fewest and the next to run has most, whatever is passed on. So as
// many of ours do not count as came and went lately at the average worker: that many of those here may be about to go as well.
bool Worker::HandOver(const Listener& listener, int client, uint32_t source) {
  PerWorker<Inbox>& inboxes = shared_.inboxes;
  uint32_t own = inbox_.load().connections;
  if (inboxes.size() == 1 || own <= kLeastMargin) return false;
  TimePoint now = Clock::now();
  uint64_t brief = 0;
  for (size_t i = 0; i < inboxes.size(); ++i) brief += inboxes[i].brief().Recent(now);
  own -= static_cast<uint32_t>(std::min<uint64_t>(own, brief / inboxes.size()));
  std::optional<uint32_t> receiver = ChooseReceiver(options_.id, own, static_cast<uint32_t>(inboxes.size()),
                                                    [&](uint32_t worker) { return inboxes[worker].load(); });
  if (!receiver.has_value()) return false;
  UniqueFd socket(client);
  if (!inboxes[*receiver].Offer(socket, listener.shared().number, source)) {
    static_cast<void>(socket.release());
    return false;
  }
  cells_.handed_over.Add();
  return true;
}

// Clients that other workers handed over stay here: none is passed on twice.
void Worker::TakeIn(std::vector<Inbox::Client> clients) {
  for (Inbox::Client& client : clients)
    sessions_->Open(client.socket.release(), *listeners_.at(client.listener).route, client.source);
}

// There are no file descriptors, or no memory, for more: what runs goes on, and clients wait in the accept queue.
void Worker::PauseAccepting(int error) {
  retry_at_ = Clock::now() + kAcceptRetry;
  if (paused_) return;
  paused_ = true;
  UpdateTakes();
  cells_.accept_pauses.Add();
  cells_.accept_paused.Set(1);
  CancelAccepts();
  if (shared_.accept_paused.Admit(Clock::now()))
    Log(LogLevel::kWarn, "accepting paused: ", std::strerror(error), "; it goes on when connections end",
        error == ENOBUFS  ? " (to hold more for slow receivers raise limits.memory)"
        : error == EMFILE ? " (to serve more at once raise the limit of open files: ulimit -n, LimitNOFILE= in systemd)"
                          : "");
}

void Worker::ResumeAccepting() {
  resume_ = false;
  if (!paused_) return;
  retry_at_ = Clock::now() + kAcceptRetry;
  while (!waiting_.empty() && shared_.files.TryAcquire()) {
    WaitingClient client = std::move(waiting_.front());
    waiting_.pop_front();
    sessions_->Open(client.socket.release(), *client.listener->route, client.source);
  }
  if (!waiting_.empty() || shared_.files.room() == 0 || io_->buffers().full()) return;
  paused_ = false;
  cells_.accept_paused.Set(0);
  if (!accepting_) return;
  UpdateTakes();
  for (uint32_t i = 0; i < acceptors_.size(); ++i)
    if (acceptors_[i].socket != nullptr && !acceptors_[i].armed && !acceptors_[i].leaving) ArmAccept(i);
}

void Worker::DropWaiting(CloseReason reason) {
  for (WaitingClient& client : waiting_) {
    client.listener->route->listener_cells->closed[static_cast<size_t>(reason)].Add();
    if (client.source != SourceTable::kNone) client.listener->shared().sources->Release(client.source);
    client.listener->shared().limit.Release();
    shared_.limit.Release();
    inbox_.RemoveConnection();
    io_->CloseWithReset(client.socket.release());
  }
  waiting_.clear();
}

void Worker::CancelAccept(uint32_t index) {
  Acceptor& acceptor = acceptors_[index];
  if (!acceptor.armed || acceptor.cancelling) return;
  acceptor.cancelling = true;
  ring_->Cancel({Op::kAccept, 0, index});
}

void Worker::CancelAccepts() {
  for (uint32_t i = 0; i < acceptors_.size(); ++i) CancelAccept(i);
}

// Connections that wait in the accept queue were made in good faith: closing the socket would reset them, so they are served first. A
// storm of new ones must keep neither this from ending nor the sessions from their turns.
void Worker::DrainAcceptQueue(Acceptor& acceptor) {
  for (uint32_t i = 0; i < kDrainTurnAccepts && acceptor.drained < kDrainAccepts; ++i) {
    int client = accept4(acceptor.socket->fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client >= 0)
      Admit(*acceptor.listener, client, /*may_hand_over=*/false);
    else if (errno != EINTR && errno != ECONNABORTED) {
      acceptor.socket.reset();
      return;
    }
    ++acceptor.drained;
  }
  if (acceptor.drained >= kDrainAccepts)
    acceptor.socket.reset();
  else
    Post(0);  // another turn
}

// Of those who wait at a socket the kernel wakes one (poll_exclusive of IORING_OP_ACCEPT in io_uring/opdef.c, Linux 6.18). If that was the
// accept that has just been cancelled, nobody else who accepts there knows of the client.
void Worker::TakeMissed(Acceptor& acceptor) {
  for (uint32_t i = 0; i < kDrainTurnAccepts && !paused_; ++i) {
    int client = accept4(acceptor.socket->fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) return;
    Admit(*acceptor.listener, client, /*may_hand_over=*/false);
  }
}

// What it leaves it lets go of, once the kernel is through with it.
void Worker::LetGo() {
  for (Acceptor& acceptor : acceptors_) {
    if (acceptor.socket == nullptr || !acceptor.leaving || acceptor.armed) continue;
    if (acceptor.draining) {
      DrainAcceptQueue(acceptor);
    } else {
      TakeMissed(acceptor);
      acceptor.socket.reset();
    }
    if (acceptor.socket == nullptr) --leaving_;
  }
}

}  // namespace ringmain
