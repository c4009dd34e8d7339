#include "worker/worker.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

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

Worker::Worker(Options options, std::vector<WorkerListener> listeners, WorkerShared& shared, WorkerCells& cells)
    : options_(std::move(options)),
      listeners_(std::move(listeners)),
      shared_(shared),
      cells_(cells),
      inbox_(shared.inboxes[options_.id]) {
  for (WorkerListener& listener : listeners_)
    for (UniqueFd& socket : listener.sockets) acceptors_.push_back({&listener, std::move(socket)});
}

Worker::~Worker() { RINGMAIN_CHECK(!thread_.joinable()); }

absl::Status Worker::Start() {
  if (inbox_.wake_fd() < 0) return absl::ResourceExhaustedError("no file descriptor left for a worker; raise the limit (ulimit -n)");
  std::promise<absl::Status> set_up;
  std::future<absl::Status> result = set_up.get_future();
  thread_ = std::thread([this, set_up = std::move(set_up)]() mutable { Main(std::move(set_up)); });
  absl::Status status = result.get();
  if (!status.ok()) thread_.join();
  return status;
}

void Worker::Post(uint32_t commands) {
  commands_.fetch_or(commands, std::memory_order_release);
  inbox_.Wake();
}

std::future<std::vector<SessionRecord>> Worker::ListSessions(size_t most, TimePoint give_up) {
  auto list = listing_.Ask(most, give_up);
  Post(0);
  return list;
}

void Worker::Join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::Main(std::promise<absl::Status> set_up) {
  pthread_setname_np(pthread_self(), absl::StrCat("rm-worker-", options_.id).c_str());
  absl::Status status;
  try {
    status = SetUp();
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("no memory for the receive buffers of a worker; raise the limit of addresses (ulimit -v)");
  }
  set_up.set_value(status);
  if (status.ok()) Loop();
  listing_.Close();
  sessions_.reset();
  io_.reset();
  ring_.reset();
  eventfd_write(shared_.finished.get(), 1);
}

absl::Status Worker::SetUp() {
  absl::StatusOr<std::unique_ptr<Ring>> ring = Ring::Create(options_.ring, options_.features);
  if (!ring.ok()) return ring.status();
  ring_ = *std::move(ring);
  absl::StatusOr<std::unique_ptr<RingIo>> io = RingIo::Create(*ring_, options_.buffers, options_.max_pipes);
  if (!io.ok()) return io.status();
  io_ = *std::move(io);
  SessionObserver& observer = *this;
  sessions_ = std::make_unique<Sessions>(*io_, io_->buffers(), options_.high_water, cells_, observer);
  timer_ = std::make_unique<RingTimer>(*ring_);
  ring_->Poll({Op::kWake, 0, 0}, inbox_.wake_fd(), POLLIN);
  for (uint32_t i = 0; i < acceptors_.size(); ++i) ArmAccept(i);
  inbox_.set_takes(true);
  return absl::OkStatus();
}

void Worker::Loop() {
  while (true) {
    Wait();
    bool timed = ++turn_ % kLoopTurnSampling == 0;
    TimePoint start = timed ? Clock::now() : TimePoint();
    unsigned completions = ring_->Reap([this](const Completion& completion) { Handle(completion); });
    sessions_->Flush();
    if (io_->buffers().full()) PauseAccepting(ENOBUFS);
    if (resume_) ResumeAccepting();
    if (!accepting_) DrainAcceptQueues();
    UpdateTimer();
    CountTurn(completions);
    if (timed) cells_.loop_turn.Observe(Clock::now() - start);
    if (finish_ && sessions_->size() == 0 && waiting_.empty() && AllListeningClosed()) return;
  }
}

void Worker::Wait() {
  if (sessions_->has_deferred())
    ring_->SubmitAndPoll();
  else if (options_.busy_poll.count() == 0 || !BusyPoll())
    ring_->SubmitAndWait();
}

// True once completions are there; false after the time in which none came.
bool Worker::BusyPoll() {
  TimePoint end = Clock::now() + options_.busy_poll;
  do {
    ring_->SubmitAndPoll();
    if (ring_->has_completions()) return true;
  } while (Clock::now() < end);
  return false;
}

void Worker::CountTurn(unsigned completions) {
  cells_.completions.Add(completions);
  cells_.enters.Add(ring_->enters() - counted_enters_);
  counted_enters_ = ring_->enters();
  cells_.pipes.Set(static_cast<int64_t>(io_->pipes().total()));
  cells_.pipes_lent.Set(static_cast<int64_t>(io_->pipes().lent()));
  if (ring_->overflowed()) [[unlikely]]
    cells_.cq_overflows.Add();
}

void Worker::Handle(const Completion& completion) {
  switch (completion.token.op) {
    case Op::kAccept:
      OnAccept(completion);
      return;
    case Op::kTimer:
      OnTimer();
      return;
    case Op::kWake:
      OnWake();
      return;
    case Op::kCancel:
      return;
    default:
      sessions_->Handle(completion);
  }
}

// ---- Commands and timers ----

void Worker::OnWake() {
  eventfd_t count;
  eventfd_read(inbox_.wake_fd(), &count);
  ring_->Poll({Op::kWake, 0, 0}, inbox_.wake_fd(), POLLIN);
  TakeIn(inbox_.TakeAll());
  OnCommands(commands_.exchange(0, std::memory_order_acquire));
  if (listing_.Serve(*sessions_, Clock::now())) Post(0);  // another turn
}

void Worker::OnCommands(uint32_t commands) {
  if (commands & kStopAccepting) {
    accepting_ = false;
    inbox_.set_takes(false);
    TakeIn(inbox_.Close());
    CancelAccepts();
  }
  if (commands & kFinish) finish_ = true;
  for (auto [command, reason] : {std::pair(kCutDrain, CloseReason::kDrainTimeout),
                                 std::pair(kCutShutdown, CloseReason::kShutdown)})
    if (commands & command) {
      cut_ = reason;
      DropWaiting(reason);
      sessions_->CloseAll(reason);
    }
}

void Worker::UpdateTimer() {
  std::optional<TimePoint> next = sessions_->NextWakeUp();
  if (paused_ && (!next.has_value() || retry_at_ < *next)) next = retry_at_;
  timer_->FireBy(next);
}

void Worker::OnTimer() {
  timer_->OnFired();
  TimePoint now = Clock::now();
  sessions_->RunTimers(now);
  if (paused_ && now >= retry_at_) resume_ = true;
}

// ---- Accepting ----

void Worker::ArmAccept(uint32_t index) {
  Acceptor& acceptor = acceptors_[index];
  acceptor.armed = true;
  acceptor.single = Crowded();
  ring_->Accept({Op::kAccept, 0, index}, acceptor.socket.get(), acceptor.single);
}

void Worker::OnAccept(const Completion& completion) {
  Acceptor& acceptor = acceptors_[completion.token.index];
  if (!completion.more) acceptor.armed = acceptor.cancelling = false;
  if (completion.result >= 0)
    Admit(*acceptor.listener, completion.result);
  else if (!ConcernsOneConnection(-completion.result))
    PauseAccepting(-completion.result);
  if (acceptor.armed) {
    if (!acceptor.single && Crowded()) CancelAccept(completion.token.index);
  } else if (accepting_ && !paused_) {
    ArmAccept(completion.token.index);
  }
}

void Worker::Admit(WorkerListener& listener, int client) {
  listener.route.listener_cells->accepted.Add();
  if (cut_.has_value()) {
    listener.route.listener_cells->closed[static_cast<size_t>(*cut_)].Add();
    io_->CloseWithReset(client);
    return;
  }
  if (!shared_.limit.TryAcquire()) {
    Refuse(listener, client, CloseReason::kProcessLimit, shared_.limit, shared_.refused);
    return;
  }
  if (!listener.shared->limit.TryAcquire()) {
    shared_.limit.Release();
    Refuse(listener, client, CloseReason::kListenerLimit, listener.shared->limit, listener.shared->refused);
    return;
  }
  if (!waiting_.empty() || !shared_.files.TryAcquire()) {
    inbox_.AddConnection();
    waiting_.push_back({&listener, UniqueFd(client)});
    PauseAccepting(EMFILE);
    return;
  }
  if (accepting_ && HandOver(listener, client)) return;
  inbox_.AddConnection();
  sessions_->Open(client, listener.route);
}

// Passes the client to a worker with clearly fewer connections. False if there is none: it is still ours.
//
// Where many connections come and go, the worker that has just run has fewest and the next to run has most, whatever is passed on. So as
// many of ours do not count as came and went lately at the average worker: that many of those here may be about to go as well.
bool Worker::HandOver(const WorkerListener& listener, int client) {
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
  if (!inboxes[*receiver].Offer(socket, listener.route.listener)) {
    static_cast<void>(socket.release());
    return false;
  }
  cells_.handed_over.Add();
  return true;
}

// Clients that other workers handed over stay here: none is passed on twice.
void Worker::TakeIn(std::vector<Inbox::Client> clients) {
  for (Inbox::Client& client : clients) sessions_->Open(client.socket.release(), listeners_[client.listener].route);
}

void Worker::Refuse(WorkerListener& listener, int client, CloseReason reason, const ConnectionLimit& limit,
                    LogLimiter& log) {
  io_->CloseWithReset(client);
  resume_ = paused_;
  listener.route.listener_cells->closed[static_cast<size_t>(reason)].Add();
  if (std::optional<uint64_t> more = log.Admit(Clock::now()))
    Log(LogLevel::kWarn, "connection refused listener=", listener.shared->name, " reason=",
        std::string(ToString(reason)), " max_connections=", limit.max(), " not_logged=", *more);
}

// There are no file descriptors, or no memory, for more: what runs goes on, and clients wait in the accept queue.
void Worker::PauseAccepting(int error) {
  retry_at_ = Clock::now() + kAcceptRetry;
  if (paused_) return;
  paused_ = true;
  inbox_.set_takes(false);
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
    sessions_->Open(client.socket.release(), client.listener->route);
  }
  if (!waiting_.empty() || shared_.files.room() == 0 || io_->buffers().full()) return;
  paused_ = false;
  cells_.accept_paused.Set(0);
  if (!accepting_) return;
  inbox_.set_takes(true);
  for (uint32_t i = 0; i < acceptors_.size(); ++i)
    if (!acceptors_[i].armed) ArmAccept(i);
}

void Worker::DropWaiting(CloseReason reason) {
  for (WaitingClient& client : waiting_) {
    client.listener->route.listener_cells->closed[static_cast<size_t>(reason)].Add();
    client.listener->shared->limit.Release();
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
    int client = accept4(acceptor.socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client >= 0)
      Admit(*acceptor.listener, client);
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

void Worker::DrainAcceptQueues() {
  for (Acceptor& acceptor : acceptors_)
    if (acceptor.socket.valid() && !acceptor.armed) DrainAcceptQueue(acceptor);
}

bool Worker::AllListeningClosed() const {
  for (const Acceptor& acceptor : acceptors_)
    if (acceptor.socket.valid()) return false;
  return true;
}

// ---- What sessions report ----

void Worker::OnClosed(const Route& route, CloseReason reason, Duration lifetime) {
  SharedListener& listener = *listeners_[route.listener].shared;
  listener.limit.Release();
  shared_.limit.Release();
  shared_.files.Release();
  inbox_.RemoveConnection();
  inbox_.brief().OnClosed(lifetime, Clock::now());
  resume_ = paused_;
  if (reason != CloseReason::kNoServer) return;
  if (std::optional<uint64_t> more = listener.no_server.Admit(Clock::now()))
    Log(LogLevel::kError, "no server is up: client closed listener=", listener.name,
        " upstream=", route.upstream->name(), " not_logged=", *more);
}

void Worker::OnConnectFailed(const Route& route, uint16_t server, ConnectFailure failure, int error) {
  if (std::optional<uint64_t> more = shared_.connect_failed.Admit(Clock::now()))
    Log(LogLevel::kWarn, "connect failed upstream=", route.upstream->name(),
        " server=", route.upstream->server(server).name(), " reason=", std::string(ToString(failure)),
        " error=\"", std::strerror(error), "\" not_logged=", *more,
        failure == ConnectFailure::kNoLocalAddress
            ? " (if local ports have run out: add source_addresses to the upstream or widen net.ipv4.ip_local_port_range)"
            : "");
}

void Worker::OnSourceFailed(const Route& route, uint16_t server, const SocketAddress& source, bool missing) {
  if (std::optional<uint64_t> more = shared_.source_failed.Admit(Clock::now()))
    Log(LogLevel::kWarn, "cannot connect from source_address=", source.host(), " upstream=", route.upstream->name(),
        " server=", route.upstream->server(server).name(), " reason=\"",
        missing ? "no interface of this machine has that address" : "no local port is free towards the server",
        "\" not_logged=", *more);
}

void Worker::OnOutOfFiles() { PauseAccepting(EMFILE); }

}  // namespace ringmain
