#include "process/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>
#include <vector>

#include "admin/admin_server.h"
#include "balance/make_balancer.h"
#include "health/prober.h"
#include "log/log.h"
#include "process/list_sessions.h"
#include "process/machine.h"
#include "worker/listening_sockets.h"
#include "worker/worker.h"

namespace ringmain {
namespace {

constexpr Duration kProgressInterval = seconds(5);
// How long closing all sessions at once may take before the process leaves without waiting.
constexpr Duration kCutTimeout = seconds(2);

// Blocks the signals that the main thread waits for, so that every later thread inherits the mask.
UniqueFd TakeSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

// Started with them closed, a socket would get their numbers, and log lines would go to a client.
void KeepStandardStreams() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

// Receive buffers of a worker: about eight fit into what one direction may hold, and 2 MiB of them wait in the kernel's ring. The ring
// may grow to four times that where it is a small part of the memory there is.
BufferPool::Options BufferOptions(const LimitsConfig& limits, uint64_t memory_bytes, uint32_t workers) {
  constexpr uint64_t kSmallest = 4096, kLargest = 32 << 10, kRingBytes = 2 << 20;
  BufferPool::Options options;
  uint64_t bytes = std::clamp<uint64_t>(limits.buffer_per_direction_bytes / 8 / kSmallest * kSmallest, kSmallest, kLargest);
  options.buffer_bytes = static_cast<uint32_t>(bytes);
  options.ring_buffers = 64;
  while (options.ring_buffers * bytes < kRingBytes) options.ring_buffers *= 2;
  options.max_bytes = memory_bytes / workers;
  options.max_ring_buffers = options.ring_buffers;
  while (options.max_ring_buffers < 4 * options.ring_buffers && options.max_ring_buffers * bytes < options.max_bytes / 8)
    options.max_ring_buffers *= 2;
  return options;
}

// Kernel pipes of a worker, two file descriptors each: one for every 256 descriptors of the process, and no more than can be in use
// while sinks are slow.
uint16_t MaxPipes(uint64_t files, uint32_t workers) {
  return static_cast<uint16_t>(std::min<uint64_t>(files / 256 / workers, 64));
}

// Whether a connect to the server may be given the server's own port to connect from, and reach itself. A server elsewhere never, but
// which addresses are this machine's may change at any time. The range may, too; so loopback does not depend on it.
bool MayMeetItself(const SocketAddress& server, PortRange local_ports) {
  if (server.is_unix()) return false;
  return server.is_loopback() || server.is_wildcard() || local_ports.Contains(server.port());
}

class Process {
 public:
  Process(std::shared_ptr<const Config> config, std::string disabled_features, UniqueFd signals)
      : config_(std::move(config)),
        disabled_features_(std::move(disabled_features)),
        signals_(std::move(signals)),
        workers_count_(config_->workers.value_or(UsableCpus())),
        files_(RaiseFileLimit()),
        files_suffice_for_(ConnectionsForFiles()),
        board_(workers_count_),
        shared_(workers_count_, config_->limits.max_connections.value_or(files_suffice_for_), files_suffice_for_) {}

  int Run();

 private:
  absl::Status Start();
  absl::Status StartOrExplain();
  void BuildUpstreams();
  absl::Status OpenListeners();
  absl::Status StartWorkers(const Features& features);
  absl::Status StartAdmin(const Features& features);
  void LogAddresses();
  uint32_t ConnectionsForFiles();
  Route MakeRoute(size_t listener, uint32_t worker);

  enum class Wake { kSignal, kFinished, kTimeout };
  Wake Wait(std::optional<TimePoint> deadline);
  int ReadSignal();
  void WaitForTermination();
  void Drain();
  bool WaitForWorkers(TimePoint deadline, bool leave_on_signal);
  void CutSessions(uint32_t command);
  void PostToWorkers(uint32_t commands);
  uint64_t SessionCount() const;
  void ShutDown();

  const std::shared_ptr<const Config> config_;
  const std::string disabled_features_;
  const UniqueFd signals_;
  const uint32_t workers_count_;
  const uint64_t files_;                 // limit of open files
  const uint32_t files_suffice_for_;  // connections
  const PortRange local_ports_ = LocalPortRange();
  std::atomic<bool> ready_{false};
  std::atomic<bool> draining_{false};
  std::atomic<bool> workers_started_{false};  // all of them: from then on `workers_` is read by the admin side too
  Board board_;
  WorkerShared shared_;
  std::vector<std::unique_ptr<Upstream>> upstreams_;
  std::vector<std::unique_ptr<SharedListener>> shared_listeners_;
  std::vector<std::vector<ListeningSockets>> listening_;  // by listener, by address
  std::unique_ptr<AdminServer> admin_;
  std::unique_ptr<HealthThread> health_;
  std::vector<std::unique_ptr<Worker>> workers_;
  uint64_t finished_workers_ = 0;
};

absl::Status Process::StartOrExplain() {
  try {
    return Start();
  } catch (const std::system_error& error) {  // std::thread
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start a thread: ", error.what(), "; raise the limit of processes or of memory (ulimit -u, ulimit -v, "
                     "the container's pids limit)"));
  }
}

int Process::Run() {
  if (absl::Status status = StartOrExplain(); !status.ok()) {
    Log(LogLevel::kError, std::string(status.message()));
    PostToWorkers(Worker::kStopAccepting | Worker::kFinish | Worker::kCutShutdown);
    ShutDown();
    return status.code() == absl::StatusCode::kInvalidArgument ? kExitUsage : kExitFailure;
  }
  WaitForTermination();
  Drain();
  ShutDown();
  Log(LogLevel::kInfo, "stopped");
  return kExitClean;
}

// ---- Starting ----

absl::Status Process::Start() {
  absl::StatusOr<Features> features = ProbeFeatures(disabled_features_);
  if (!features.ok()) return features.status();
  shared_.finished.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!shared_.finished.valid() || !signals_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  BuildUpstreams();
  if (absl::Status status = OpenListeners(); !status.ok()) return status;
  if (absl::Status status = StartAdmin(*features); !status.ok()) return status;
  std::vector<Upstream*> upstreams;
  for (auto& upstream : upstreams_) upstreams.push_back(upstream.get());
  absl::StatusOr<std::unique_ptr<HealthThread>> health = HealthThread::Start(upstreams, board_, *features);
  if (!health.ok()) return health.status();
  health_ = *std::move(health);
  if (absl::Status status = StartWorkers(*features); !status.ok()) return status;
  LogAddresses();
  Log(LogLevel::kInfo, "started version=", RINGMAIN_VERSION, " workers=", workers_count_,
      " max_connections=", shared_.limit.max(), " io_uring=\"", features->ToString(), "\"");
  ready_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

void Process::BuildUpstreams() {
  for (const UpstreamConfig& config : config_->upstreams) {
    upstreams_.push_back(std::make_unique<Upstream>(config, MakeBalancer(config.balance)));
    auto metrics = std::make_unique<UpstreamMetrics>(config.name, workers_count_);
    for (const ServerConfig& server : config.servers)
      metrics->servers.push_back(std::make_unique<ServerMetrics>(server.address.ToString(), workers_count_));
    board_.upstreams.push_back(std::move(metrics));
  }
  for (const ListenerConfig& config : config_->listeners) {
    shared_listeners_.push_back(
        std::make_unique<SharedListener>(config.name, config.max_connections.value_or(UINT32_MAX)));
    board_.listeners.push_back(std::make_unique<ListenerMetrics>(config.name, workers_count_));
  }
}

absl::Status Process::OpenListeners() {
  for (const ListenerConfig& config : config_->listeners) {
    std::vector<ListeningSockets>& opened = listening_.emplace_back();
    for (const SocketAddress& address : config.listen) {
      absl::StatusOr<ListeningSockets> sockets =
          OpenListeningSockets(address, workers_count_, config.backlog, config.keepalive);
      if (!sockets.ok())
        return absl::FailedPreconditionError(
            absl::StrCat("listener ", config.name, ": ", std::string(sockets.status().message())));
      opened.push_back(*std::move(sockets));
    }
  }
  return absl::OkStatus();
}

Route Process::MakeRoute(size_t listener, uint32_t worker) {
  const ListenerConfig& config = config_->listeners[listener];
  Route route;
  route.listener = static_cast<uint32_t>(listener);
  route.listener_cells = &board_.listeners[listener]->cells[worker];
  route.keepalive = config.keepalive;
  route.idle_timeout = config.idle_timeout;
  route.half_closed_timeout = config.half_closed_timeout;
  for (size_t i = 0; i < upstreams_.size(); ++i) {
    if (upstreams_[i]->name() != config.upstream) continue;
    route.upstream = upstreams_[i].get();
    route.upstream_cells = &board_.upstreams[i]->cells[worker];
    for (size_t j = 0; j < upstreams_[i]->size(); ++j) {
      const Server& server = upstreams_[i]->server(j);
      route.servers.push_back({&board_.upstreams[i]->servers[j]->cells[worker], SourceTurns(server.sources().size()),
                               MayMeetItself(server.address(), local_ports_)});
    }
    route.connect_timeout = upstreams_[i]->config().connect_timeout;
    route.connect_tries = upstreams_[i]->config().connect_tries;
  }
  RINGMAIN_CHECK(route.upstream != nullptr);
  return route;
}

absl::Status Process::StartWorkers(const Features& features) {
  Worker::Options options;
  options.features = features;
  // Rings of the health thread and of the start-up probe come on top of the workers'.
  if (std::optional<uint64_t> limit = LockedMemoryLimit()) options.ring = RingSizeForMemlock(*limit, workers_count_ + 2);
  uint64_t memory = config_->limits.memory_bytes.value_or(UsableMemoryBytes() / 4);
  options.buffers = BufferOptions(config_->limits, memory, workers_count_);
  options.max_pipes = MaxPipes(files_, workers_count_);
  options.busy_poll = config_->busy_poll;
  options.high_water = static_cast<uint32_t>(config_->limits.buffer_per_direction_bytes);
  for (uint32_t id = 0; id < workers_count_; ++id) {
    std::vector<WorkerListener> listeners(config_->listeners.size());
    for (size_t i = 0; i < listeners.size(); ++i) {
      listeners[i].shared = shared_listeners_[i].get();
      listeners[i].route = MakeRoute(i, id);
      for (ListeningSockets& address : listening_[i]) listeners[i].sockets.push_back(std::move(address.sockets[id]));
    }
    options.id = id;
    auto worker = std::make_unique<Worker>(options, std::move(listeners), shared_, board_.workers[id]);
    if (absl::Status status = worker->Start(); !status.ok()) return status;
    workers_.push_back(std::move(worker));
  }
  workers_started_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status Process::StartAdmin(const Features& features) {
  AdminView view;
  view.config = config_;
  view.board = &board_;
  for (const auto& upstream : upstreams_) view.upstreams.push_back(upstream.get());
  for (const auto& addresses : listening_) {
    std::vector<SocketAddress>& bound = view.listener_addresses.emplace_back();
    for (const ListeningSockets& sockets : addresses) bound.push_back(sockets.address);
  }
  view.max_connections = shared_.limit.max();
  view.features = features.ToString();
  view.start_time = std::chrono::system_clock::now();
  view.ready = &ready_;
  view.draining = &draining_;
  view.list_sessions = [this](uint32_t most) {
    return workers_started_.load(std::memory_order_acquire) ? ListSessions(workers_, board_, most) : SessionList();
  };
  absl::StatusOr<std::unique_ptr<AdminServer>> admin = AdminServer::Start(std::move(view));
  if (!admin.ok()) return admin.status();
  admin_ = *std::move(admin);
  return absl::OkStatus();
}

void Process::LogAddresses() {
  for (size_t i = 0; i < listening_.size(); ++i)
    for (const ListeningSockets& sockets : listening_[i])
      Log(LogLevel::kInfo, "listening name=", config_->listeners[i].name, " address=", sockets.address.ToString());
  Log(LogLevel::kInfo, "listening name=admin address=", admin_->admin_address().ToString());
  if (std::optional<SocketAddress> metrics = admin_->metrics_address())
    Log(LogLevel::kInfo, "listening name=metrics address=", metrics->ToString());
}

// A connection takes two file descriptors. The reserve is what everything else may have open at once.
uint32_t Process::ConnectionsForFiles() {
  // Standard streams, health thread, signal and event descriptors; and the admin side, which may have less where there is little.
  uint64_t reserve = 16 + std::min<uint64_t>(kAdminFileDescriptors, files_ / 4);
  // A worker has a ring, a wake-up, its listening sockets, and for each of these may hold one client that waits.
  reserve += 2ull * workers_count_ * (1 + MaxPipes(files_, workers_count_));
  for (const ListenerConfig& listener : config_->listeners) reserve += 2 * listener.listen.size() * workers_count_;
  for (const UpstreamConfig& upstream : config_->upstreams)
    if (upstream.health_check.has_value()) reserve += upstream.servers.size();
  uint64_t connections = files_ > reserve + 2 ? (files_ - reserve) / 2 : 1;
  connections = std::min<uint64_t>(connections, 1 << 30);
  uint32_t configured = config_->limits.max_connections.value_or(0);
  if (configured > connections)
    Log(LogLevel::kWarn, "limits.max_connections is ", configured, " but ", files_, " file descriptors are enough for only ",
        connections, " connections; more will wait (raise the limit: ulimit -n, LimitNOFILE= in systemd)");
  return static_cast<uint32_t>(connections);
}

// ---- Waiting and ending ----

Process::Wake Process::Wait(std::optional<TimePoint> deadline) {
  while (true) {
    int timeout_ms = -1;
    if (deadline.has_value()) {
      auto left = std::chrono::ceil<milliseconds>(*deadline - Clock::now()).count();
      timeout_ms = static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
      if (left <= 0) return Wake::kTimeout;
    }
    pollfd files[] = {{signals_.get(), POLLIN, 0}, {shared_.finished.get(), POLLIN, 0}};
    if (poll(files, 2, timeout_ms) <= 0) continue;
    if (files[0].revents != 0) return Wake::kSignal;
    uint64_t count = 0;
    if (read(shared_.finished.get(), &count, sizeof(count)) == sizeof(count)) finished_workers_ += count;
    return Wake::kFinished;
  }
}

int Process::ReadSignal() {
  signalfd_siginfo info{};
  return read(signals_.get(), &info, sizeof(info)) == sizeof(info) ? static_cast<int>(info.ssi_signo) : 0;
}

void Process::WaitForTermination() {
  while (true) {
    if (Wait(std::nullopt) != Wake::kSignal) continue;
    int signal = ReadSignal();
    if (signal == SIGTERM || signal == SIGINT) return;
    if (signal == SIGHUP) Log(LogLevel::kWarn, "SIGHUP ignored: this version cannot reload its configuration");
  }
}

void Process::Drain() {
  draining_.store(true, std::memory_order_release);
  ready_.store(false, std::memory_order_release);
  Log(LogLevel::kInfo, "draining sessions=", SessionCount(), " delay_ms=", config_->drain.delay.count(),
      " timeout_ms=", config_->drain.timeout.count());
  if (config_->drain.delay.count() > 0 && !WaitForWorkers(Clock::now() + config_->drain.delay, true)) {
    CutSessions(Worker::kCutShutdown);
    return;
  }
  PostToWorkers(Worker::kStopAccepting | Worker::kFinish);
  TimePoint deadline = Clock::now() + config_->drain.timeout;
  if (!WaitForWorkers(deadline, true))
    CutSessions(Worker::kCutShutdown);
  else if (finished_workers_ < workers_.size())
    CutSessions(Worker::kCutDrain);
}

// Waits until all workers are through or the deadline passed. False if a signal asked to leave at once.
bool Process::WaitForWorkers(TimePoint deadline, bool leave_on_signal) {
  TimePoint progress = Clock::now() + kProgressInterval;
  while (finished_workers_ < workers_.size() && Clock::now() < deadline) {
    Wake wake = Wait(std::min(deadline, progress));
    if (wake == Wake::kSignal) {
      int signal = ReadSignal();
      if (leave_on_signal && (signal == SIGTERM || signal == SIGINT)) return false;
    }
    if (Clock::now() >= progress) {
      progress += kProgressInterval;
      Log(LogLevel::kInfo, "draining sessions=", SessionCount());
    }
  }
  return true;
}

void Process::CutSessions(uint32_t command) {
  Log(LogLevel::kWarn, "closing sessions=", SessionCount(), " reason=",
      std::string(ToString(command == Worker::kCutDrain ? CloseReason::kDrainTimeout : CloseReason::kShutdown)));
  PostToWorkers(Worker::kStopAccepting | Worker::kFinish | command);
  WaitForWorkers(Clock::now() + kCutTimeout, false);
  if (finished_workers_ == workers_.size()) return;
  Log(LogLevel::kError, "workers did not end in time; exiting anyway");
  ShutDownLog();
  _exit(kExitClean);
}

void Process::PostToWorkers(uint32_t commands) {
  for (auto& worker : workers_) worker->Post(commands);
}

uint64_t Process::SessionCount() const {
  int64_t sessions = 0;
  for (size_t i = 0; i < board_.workers.size(); ++i) sessions += board_.workers[i].sessions.value();
  return static_cast<uint64_t>(std::max<int64_t>(sessions, 0));
}

void Process::ShutDown() {
  for (auto& worker : workers_) worker->Join();
  health_.reset();
  admin_.reset();
  for (const auto& addresses : listening_)
    for (const ListeningSockets& sockets : addresses)
      RemoveUnixPath(sockets);
}

}  // namespace

int RunProcess(std::shared_ptr<const Config> config, std::string disabled_features) {
  KeepStandardStreams();
  UniqueFd signals = TakeSignals();  // before any thread, the log's included
  try {
    SetUpLog(config->log);
  } catch (const std::exception& error) {
    LogLine(LogLevel::kError, absl::StrCat("cannot start the log: ", error.what()));
    return kExitFailure;
  }
  int exit_code = Process(std::move(config), std::move(disabled_features), std::move(signals)).Run();
  ShutDownLog();
  return exit_code;
}

}  // namespace ringmain
