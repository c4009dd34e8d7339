#include "worker/worker.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "takeover/frozen_metrics.h"

namespace ringmain {
namespace {

// The counter has `counted` of `total`; now it has all.
void CountOn(Counter& counter, uint64_t& counted, uint64_t total) { counter.Add(total - std::exchange(counted, total)); }

}  // namespace

Worker::Worker(Options options, WorkerShared& shared, WorkerCells& cells)
    : options_(std::move(options)),
      shared_(shared),
      cells_(cells),
      inbox_(shared.inboxes[options_.id]),
      busy_poll_(options_.busy_poll) {}

Worker::~Worker() {
  RINGMAIN_CHECK(!thread_.joinable());
  delete update_.load(std::memory_order_acquire);
}

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

std::future<void> Worker::Apply(WorkerUpdate update) {
  auto handed_over = std::make_unique<WorkerUpdate>(std::move(update));
  std::future<void> done = handed_over->done.get_future();
  WorkerUpdate* before = update_.exchange(handed_over.release(), std::memory_order_release);
  RINGMAIN_CHECK(before == nullptr);
  Post(0);
  return done;
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
  CountCpu();
  listing_.Close();
  sessions_.reset();
  io_.reset();
  ring_.reset();
  for (Gauge* gauge : {&cells_.buffers, &cells_.buffers_held, &cells_.buffer_bytes, &cells_.pipes, &cells_.pipes_lent, &cells_.accept_paused})
    gauge->Set(0);
  finished_.store(true, std::memory_order_release);
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
  sessions_ = std::make_unique<Sessions>(*io_, io_->buffers(), options_.high_water, cells_, observer, Sessions::kDirectTurnBytes,
                                         uint64_t{options_.id} << kSessionNumberBits);
  timer_ = std::make_unique<RingTimer>(*ring_);
  ring_->Poll({Op::kWake, 0, 0}, inbox_.wake_fd(), POLLIN);
  inbox_.Open();
  if (options_.frozen) sessions_->Freeze();
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
    if (leaving_ > 0) LetGo();
    if (carried_ != nullptr && Finished(*carried_)) std::exchange(carried_, nullptr)->done.set_value();
    if (drop_routes_) DropUnusedRoutes();
    UpdateTimer();
    CountTurn(completions);
    if (timed) cells_.loop_turn.Observe(Clock::now() - start);
    if (timed && turn_ % (kLoopTurnSampling * kCpuSampling) == 0) CountCpu();
    if (finish_ && sessions_->size() == 0 && waiting_.empty() && leaving_ == 0) return;
  }
}

void Worker::Wait() {
  if (sessions_->has_deferred())
    ring_->SubmitAndPoll();
  else if (busy_poll_.count() == 0 || !BusyPoll())
    ring_->SubmitAndWait();
}

// True once completions are there; false after the time in which none came.
bool Worker::BusyPoll() {
  TimePoint end = Clock::now() + busy_poll_;
  do {
    ring_->SubmitAndPoll();
    if (ring_->has_completions()) return true;
  } while (Clock::now() < end);
  return false;
}

void Worker::CountTurn(unsigned completions) {
  cells_.completions.Add(completions);
  CountOn(cells_.enters, counted_enters_, ring_->enters());
  CountOn(cells_.submissions, counted_submissions_, ring_->submissions());
  CountOn(cells_.system_calls, counted_calls_, ring_->enters() + io_->direct_calls());
  cells_.pipes.Set(static_cast<int64_t>(io_->pipes().total()));
  cells_.pipes_lent.Set(static_cast<int64_t>(io_->pipes().lent()));
  if (ring_->overflowed()) [[unlikely]]
    cells_.cq_overflows.Add();
}

void Worker::CountCpu() {
  timespec cpu{};
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu) != 0) return;
  CountOn(cells_.cpu_ns, counted_cpu_ns_, static_cast<uint64_t>(cpu.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(cpu.tv_nsec));
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
  if (WorkerUpdate* update = update_.exchange(nullptr, std::memory_order_acquire)) {
    carried_.reset(update);
    Carry(*update);
  }
  TakeIn(inbox_.TakeAll());
  OnCommands(commands_.exchange(0, std::memory_order_acquire));
  sessions_->ServeQueues();  // it may be why we were woken
  if (listing_.Serve(*sessions_, Clock::now())) Post(0);  // another turn
}

void Worker::OnCommands(uint32_t commands) {
  if (commands & kStopAccepting) {
    accepting_ = false;
    UpdateTakes();
    TakeIn(inbox_.Close());
    for (Acceptor& acceptor : acceptors_) Leave(acceptor, /*drain=*/true);
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

void Worker::Carry(WorkerUpdate& update) {
  for (std::unique_ptr<ListenerRoute>& route : update.routes) ReplaceRoute(std::move(route));
  if (update.accept_from.has_value()) AcceptFrom(*update.accept_from);
  for (uint32_t number : update.forget)
    if (auto found = listeners_.find(number); found != listeners_.end()) found->second.forget = drop_routes_ = true;
  for (const std::shared_ptr<const Server>& server : update.close) sessions_->CloseThoseOf(*server, CloseReason::kServerRemoved);
  if (update.close_idle_over.has_value()) sessions_->CloseIdle(*update.close_idle_over);
  sessions_->SetHighWater(update.high_water);
  io_->buffers().SetMaxBytes(update.buffer_bytes);
  busy_poll_ = update.busy_poll;
  CarryTakeover(update);
}

void Worker::CarryTakeover(WorkerUpdate& update) {
  if (update.counted.has_value()) Add(*update.counted, cells_);
  if (!update.adopt.empty()) Adopt(update);
  if (update.freeze_into != nullptr) {
    sessions_->Freeze();
    // Those that wait for file descriptors are sessions to the other process.
    for (; !waiting_.empty(); waiting_.pop_front()) {
      shared_.files.Acquire();
      sessions_->Open(waiting_.front().socket.release(), *waiting_.front().listener->route, waiting_.front().source);
    }
  }
  if (update.cut_lost) sessions_->CloseAll(CloseReason::kTakeoverFailed);
  if (update.thaw) sessions_->Thaw();
  if (update.let_go) sessions_->LetGo();
}

void Worker::Adopt(WorkerUpdate& update) {
  for (WorkerUpdate::Adoption& one : update.adopt) {
    shared_.limit.Acquire();
    shared_.files.Acquire();
    one.route->shared->limit.Acquire();
    inbox_.AddConnection();
    uint32_t source = SourceTable::kNone;
    if (one.route->sources != nullptr)
      if (std::optional<SocketAddress> client = io_->PeerAddress(one.session.client_fd))
        source = one.route->sources->Count(*client, Clock::now());
    if (!sessions_->Adopt(one.session, *one.route, 0, source)) update.adopted_whole->store(false, std::memory_order_relaxed);
  }
  for (std::unique_ptr<ListenerRoute>& route : update.adopted_routes) Retire(std::move(route));
}

// Whether an update was carried out to its end.
bool Worker::Finished(WorkerUpdate& update) {
  if (leaving_ > 0) return false;
  if (update.freeze_into == nullptr) return true;
  if (!sessions_->settled()) return false;
  sessions_->Save([&](const FrozenSession& session, const Route& route, std::optional<uint16_t> server) {
    update.freeze_into->push_back({session, static_cast<const ListenerRoute*>(&route), server});
  });
  return true;
}

void Worker::ReplaceRoute(std::unique_ptr<ListenerRoute> route) {
  Listener& listener = listeners_[route->shared->number];
  if (listener.route != nullptr) {
    if (listener.route->bandwidth_config != route->bandwidth_config) ChangeBandwidth(*listener.route, *route);
    Retire(std::move(listener.route));
  }
  listener.route = std::move(route);
}

// Limits hold for the sessions that there are, too, whatever else they keep: who sets one has them in mind.
void Worker::ChangeBandwidth(ListenerRoute& before, const ListenerRoute& after) {
  sessions_->ForgetBandwidth(before.shared->bandwidth);
  before.bandwidth = after.bandwidth;
  for (const std::unique_ptr<ListenerRoute>& route : retired_)
    if (route->shared == before.shared) route->bandwidth = after.bandwidth;
}

void Worker::Retire(std::unique_ptr<ListenerRoute> route) {
  route->retired = true;
  if (route->sessions > 0) retired_.push_back(std::move(route));
}

void Worker::DropUnusedRoutes() {
  drop_routes_ = leaving_ > 0;  // some may be needed until then
  for (auto listener = listeners_.begin(); leaving_ == 0 && listener != listeners_.end();) {
    if (listener->second.forget) Retire(std::move(listener->second.route));
    listener = listener->second.forget ? listeners_.erase(listener) : std::next(listener);
  }
  std::erase_if(retired_, [](const std::unique_ptr<ListenerRoute>& route) { return route->sessions == 0; });
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

// ---- What sessions report ----

void Worker::OnClosed(Route& ended, CloseReason reason, Duration lifetime) {
  auto& route = static_cast<ListenerRoute&>(ended);  // there are no others
  SharedListener& listener = *route.shared;
  ReleaseLimits(route);
  inbox_.brief().OnClosed(lifetime, Clock::now());
  resume_ = paused_;
  if (reason == CloseReason::kQueueFull || reason == CloseReason::kQueueTimeout) {
    if (std::optional<uint64_t> more = listener.no_room.Admit(Clock::now()))
      Log(LogLevel::kWarn, "no room on any server: client closed listener=", listener.name, " upstream=", route.upstream->name(),
          " reason=", std::string(ToString(reason)), " not_logged=", *more);
  }
  if (reason != CloseReason::kNoServer) return;
  if (std::optional<uint64_t> more = listener.no_server.Admit(Clock::now()))
    Log(LogLevel::kError, "no server is up: client closed listener=", listener.name,
        " upstream=", route.upstream->name(), " not_logged=", *more);
}

void Worker::OnLetGo(Route& route) { ReleaseLimits(static_cast<ListenerRoute&>(route)); }

void Worker::OnSourceLeft(Route& route, uint32_t source) { static_cast<ListenerRoute&>(route).shared->sources->Release(source); }

void Worker::ReleaseLimits(ListenerRoute& route) {
  drop_routes_ |= route.retired && route.sessions == 0;
  route.shared->limit.Release();
  shared_.limit.Release();
  shared_.files.Release();
  inbox_.RemoveConnection();
}

void Worker::OnConnectFailed(const Route& route, uint16_t server, ConnectFailure failure, int error) {
  if (std::optional<uint64_t> more = shared_.connect_failed.Admit(Clock::now()))
    Log(LogLevel::kWarn, "connect failed upstream=", route.upstream->name(),
        " server=", route.upstream->server(server).name(), " reason=", std::string(ToString(failure)),
        " error=\"", error != 0 ? std::strerror(error) : "closed before a byte was passed", "\" not_logged=", *more,
        failure == ConnectFailure::kNoLocalAddress && route.transparent
            ? " (transparent: the client's address is of another family than the server's, or has no port left towards it)"
        : failure == ConnectFailure::kNoLocalAddress
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

void Worker::OnEjected(const Route& route, uint16_t server, Duration time) {
  route.servers[server].cells->ejections.Add();
  if (std::optional<uint64_t> more = shared_.ejected.Admit(Clock::now()))
    Log(LogLevel::kWarn, "server ejected upstream=", route.upstream->name(), " server=", route.upstream->server(server).name(),
        " seconds=", std::chrono::duration_cast<seconds>(time).count(), " not_logged=", *more);
}

void Worker::OnTurnInQueue(uint32_t worker) { shared_.inboxes[worker].Wake(); }

void Worker::OnHeaderRefused(const Route& route, const std::optional<SocketAddress>& client, std::string_view why) {
  if (std::optional<uint64_t> more = shared_.header_refused.Admit(Clock::now()))
    Log(LogLevel::kWarn, "no PROXY protocol header: connection closed listener=", route.names->listener, " client=",
        client.has_value() ? client->ToString() : "gone", " reason=\"", std::string(why), "\" not_logged=", *more);
}

Route* Worker::CurrentRoute(Route& retired) {
  auto found = listeners_.find(static_cast<ListenerRoute&>(retired).shared->number);
  drop_routes_ = true;
  return found != listeners_.end() ? found->second.route.get() : nullptr;
}

void Worker::OnOutOfFiles() { PauseAccepting(EMFILE); }

}  // namespace ringmain
