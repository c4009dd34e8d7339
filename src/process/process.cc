#include "process/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "log/log.h"
#include "process/service_manager.h"

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

}  // namespace

Process::Process(std::shared_ptr<const Config> config, RunOptions options, UniqueFd signals)
    : configured_(std::move(config)),
      config_(configured_),
      options_(std::move(options)),
      signals_(std::move(signals)),
      files_(RaiseFileLimit()),
      worker_cells_(config_->workers.value_or(UsableCpus())),
      shared_(static_cast<uint32_t>(worker_cells_.size()), 1, 1),
      workers_(shared_, worker_cells_),
      successor_command_(SuccessorCommand(options_.arguments)) {}

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
    workers_.Post(Worker::kStopAccepting | Worker::kFinish | Worker::kCutShutdown);
    ShutDown();
    return status.code() == absl::StatusCode::kInvalidArgument ? kExitUsage : kExitFailure;
  }
  if (Serve()) Drain();
  ShutDown();
  Log(LogLevel::kInfo, "stopped");
  return kExitClean;
}

// ---- Starting ----

absl::Status Process::Start() {
  absl::StatusOr<Features> features = ProbeFeatures(options_.disabled_features);
  if (!features.ok()) return features.status();
  features_ = *features;
  shared_.finished.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!shared_.finished.valid() || requests_.wake_fd() < 0 || !signals_.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  layout_ = std::make_shared<const Layout>();
  health_ = std::make_unique<HealthThread>(features_);
  NoteReadNow();
  if (absl::Status status = LookUp(*configured_, signals_.get()); !status.ok()) return status;
  config_ = WithFoundServers(configured_);
  absl::StatusOr<std::string> token = ReadToken(*configured_);
  if (!token.ok()) return token.status();
  control_token_ = *std::move(token);
  if (absl::Status status = PutIntoForce(); !status.ok()) return status;
  LogAddresses();
  TellIfAdminIsOpen();
  TellMissing();
  Log(LogLevel::kInfo, "started version=", RINGMAIN_VERSION, " workers=", workers_.in_charge().size(),
      " max_connections=", shared_.limit.max(), " io_uring=\"", features_.ToString(), "\"");
  ready_.store(true, std::memory_order_release);
  NotifyReady();
  return absl::OkStatus();
}

// The configuration, with everything that another process passes, if there is one to take over from.
absl::Status Process::PutIntoForce() {
  if (options_.take_over) {
    const std::string& path = config_->takeover.socket;
    if (path.empty())
      return absl::InvalidArgumentError("--takeover needs takeover.socket in the configuration: the path where the running process answers");
    // One that has died may have passed everything to another just before, which then answers there.
    absl::StatusOr<Channel> channel = ConnectForTakeover(path);
    for (int tries = 3; channel.ok() && tries > 0; --tries) {
      taking_over_ = true;
      absl::Status status = TakeOver(*channel);
      taking_over_ = false;
      if (status.ok()) {
        predecessor_ = channel->peer();
        OpenAdminAgain();
        return status;
      }
      if (!absl::IsUnavailable(status))
        return absl::FailedPreconditionError(absl::StrCat("takeover failed: ", std::string(status.message())));
      Log(LogLevel::kWarn, "the process to take over from died before it passed anything");
      channel = ConnectForTakeover(path);
    }
    if (channel.ok()) return absl::FailedPreconditionError("takeover failed: every process that answers dies");
    if (!absl::IsNotFound(channel.status())) return channel.status();
    if (options_.never_start)
      return absl::FailedPreconditionError(absl::StrCat("nobody to take over from: ", std::string(channel.status().message())));
    Log(LogLevel::kWarn, "nobody to take over from: ", std::string(channel.status().message()), "; starting normally");
  }
  Prepared prepared{config_, {}};
  if (absl::Status status = Prepare(prepared); !status.ok()) return status;
  Commit(std::move(prepared));
  return absl::OkStatus();
}

// The address may be taken for a moment: by the process before this one, or by a connection of its.
void Process::OpenAdminAgain() {
  absl::Status status;
  for (TimePoint give_up = Clock::now() + seconds(2);; std::this_thread::sleep_for(milliseconds(5))) {
    status = StartAdmin();
    if (status.ok() || Clock::now() >= give_up) break;
  }
  if (status.ok())
    admin_->Commit();
  else
    Log(LogLevel::kError, std::string(status.message()));
}

absl::Status Process::StartAdmin() {
  AdminView view;
  view.layout = [this] {
    std::lock_guard<std::mutex> lock(layout_mutex_);
    return layout_;
  };
  view.workers = &worker_cells_;
  view.reloads = &reload_cells_;
  view.config_file = options_.config_file;
  view.features = features_.ToString();
  view.start_time = start_time_;
  view.ready = &ready_;
  view.draining = &draining_;
  view.list_sessions = [this](uint32_t most) { return workers_.ListSessions(most); };
  view.reload = [this] { return requests_.Ask(); };
  view.change_server = [this](const ServerChange& change) { return requests_.Ask(change); };
  auto admin = AdminServer::Start(std::move(view), config_->admin_listen, config_->metrics_listen);
  if (!admin.ok()) return admin.status();
  admin_ = *std::move(admin);
  return admin_->Prepare(config_->admin_listen, config_->metrics_listen);
}

void Process::LogAddresses() {
  for (const std::vector<ListenTable::Entry>& entries : listening_.entries())
    for (const ListenTable::Entry& entry : entries)
      Log(LogLevel::kInfo, "listening name=", entry.listener, " address=", entry.sockets.address.ToString());
  if (admin_ == nullptr) return;
  Log(LogLevel::kInfo, "listening name=admin address=", admin_->admin_address().ToString());
  if (std::optional<SocketAddress> metrics = admin_->metrics_address())
    Log(LogLevel::kInfo, "listening name=metrics address=", metrics->ToString());
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
    pollfd files[] = {{signals_.get(), POLLIN, 0},
                      {shared_.finished.get(), POLLIN, 0},
                      {requests_.wake_fd(), POLLIN, 0},
                      {takeover_socket_ != nullptr ? takeover_socket_->fd() : -1, POLLIN, 0},
                      {upgrade_ != nullptr ? upgrade_->fd() : -1, POLLIN, 0},
                      {discovery_.fd(), POLLIN, 0}};
    if (poll(files, std::size(files), timeout_ms) <= 0) continue;
    if (files[0].revents != 0) return Wake::kSignal;
    if (files[2].revents != 0) return Wake::kRequest;
    if (files[3].revents != 0) return Wake::kSuccessor;
    if (files[4].revents != 0) return Wake::kUpgradeEnded;
    if (files[5].revents != 0) return Wake::kFound;
    eventfd_t count;
    eventfd_read(shared_.finished.get(), &count);
    return Wake::kFinished;
  }
}

// `forwarded`: it was sent to our predecessor, who passed it on; 0 if there is none.
int Process::ReadSignal(bool* forwarded) {
  signalfd_siginfo info{};
  if (read(signals_.get(), &info, sizeof(info)) != sizeof(info)) return 0;
  if (forwarded != nullptr) *forwarded = predecessor_.has_value() && static_cast<pid_t>(info.ssi_pid) == *predecessor_;
  return static_cast<int>(info.ssi_signo);
}

// Until a signal asks to end, or a successor serves. True if there is something to drain.
bool Process::Serve() {
  while (true) {
    switch (Wait(NeedsTicks() ? std::optional(tick_at_) : std::nullopt)) {
      case Wake::kSignal:
        switch (ReadSignal()) {
          case SIGTERM:
          case SIGINT:
            return true;
          case SIGHUP:
            (void)ReportedReload(/*quiet_if_unchanged=*/false);
        }
        break;
      case Wake::kRequest:
        AnswerRequests();
        break;
      case Wake::kSuccessor:
        if (std::optional<Channel> channel = takeover_socket_->Accept())
          if (Answer(*std::move(channel))) return false;
        break;
      case Wake::kUpgradeEnded:
        EndUpgrade();
        break;
      case Wake::kFound:
        UseFoundServers();
        break;
      case Wake::kTimeout:
        Tick();
        break;
      case Wake::kFinished:
        if (workers_.EndIdle()) ShowLayout();
    }
  }
}

void Process::EndUpgrade() {
  Log(LogLevel::kError, "upgrade failed: ", upgrade_->Failed());
  upgrade_.reset();
}

void Process::Drain() {
  NotifyStopping();
  draining_.store(true, std::memory_order_release);
  ready_.store(false, std::memory_order_release);
  Log(LogLevel::kInfo, "draining sessions=", workers_.sessions(), " delay_ms=", config_->drain.delay.count(),
      " timeout_ms=", config_->drain.timeout.count());
  if (config_->drain.delay.count() > 0 && !WaitForWorkers(Clock::now() + config_->drain.delay, true)) {
    CutSessions(Worker::kCutShutdown);
    return;
  }
  listening_.LetGo();
  if (config_->drain.close_idle.count() > 0)
    workers_.Apply([this](uint32_t, bool) {
      WorkerUpdate update = BeginUpdate();
      update.close_idle_over = config_->drain.close_idle;
      return update;
    });
  workers_.Post(Worker::kStopAccepting | Worker::kFinish);
  TimePoint deadline = Clock::now() + config_->drain.timeout;
  if (!WaitForWorkers(deadline, true))
    CutSessions(Worker::kCutShutdown);
  else if (!workers_.AllFinished())
    CutSessions(Worker::kCutDrain);
}

// Waits until all workers are through or the deadline passed. False if a signal asked to leave at once.
bool Process::WaitForWorkers(TimePoint deadline, bool leave_on_signal) {
  TimePoint progress = Clock::now() + kProgressInterval;
  while (!workers_.AllFinished() && Clock::now() < deadline) {
    Wake wake = Wait(std::min(deadline, progress));
    if (wake == Wake::kRequest) AnswerRequests();
    if (wake == Wake::kUpgradeEnded) EndUpgrade();
    if (wake == Wake::kFound) (void)discovery_.Take();  // as a reload, too late
    if (wake == Wake::kSuccessor)
      if (std::optional<Channel> channel = takeover_socket_->Accept()) TurnAway(*std::move(channel));
    if (wake == Wake::kSignal) {
      // Who stops a whole group of processes sends one to each: what the predecessor got is not a second one.
      bool forwarded = false;
      int signal = ReadSignal(&forwarded);
      if (leave_on_signal && !forwarded && (signal == SIGTERM || signal == SIGINT)) return false;
    }
    if (Clock::now() >= progress) {
      progress += kProgressInterval;
      Log(LogLevel::kInfo, "draining sessions=", workers_.sessions());
    }
  }
  return true;
}

void Process::CutSessions(uint32_t command) {
  Log(LogLevel::kWarn, "closing sessions=", workers_.sessions(), " reason=",
      std::string(ToString(command == Worker::kCutDrain ? CloseReason::kDrainTimeout : CloseReason::kShutdown)));
  listening_.LetGo();
  workers_.Post(Worker::kStopAccepting | Worker::kFinish | command);
  WaitForWorkers(Clock::now() + kCutTimeout, false);
  if (workers_.AllFinished()) return;
  Log(LogLevel::kError, "workers did not end in time; exiting anyway");
  ShutDownLog();
  _exit(kExitClean);
}

void Process::ShutDown() {
  workers_.Join();
  requests_.Close();
  health_.reset();
  old_admin_.clear();
  admin_.reset();
  if (owns_listening_) listening_.RemovePaths();
  if (successor_.has_value()) ForwardSignals();
}

int RunProcess(std::shared_ptr<const Config> config, RunOptions options) {
  KeepStandardStreams();
  UniqueFd signals = TakeSignals();  // before any thread, the log's included
  WidenFileTable(RaiseFileLimit());
  try {
    SetUpLog(config->log);
  } catch (const std::exception& error) {
    LogLine(LogLevel::kError, absl::StrCat("cannot start the log: ", error.what()));
    return kExitFailure;
  }
  int exit_code = Process(std::move(config), std::move(options), std::move(signals)).Run();
  ShutDownLog();
  return exit_code;
}

}  // namespace ringmain
