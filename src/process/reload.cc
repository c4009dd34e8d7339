// How a configuration comes into force, at the start and at every reload: first everything that may fail, then the rest at once.
#include <algorithm>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "admin/control_token.h"
#include "config/diff.h"
#include "log/log.h"
#include "process/check_sockets.h"
#include "process/process.h"
#include "process/service_manager.h"

namespace ringmain {
namespace {

// How often the file is looked at, and what is draining.
constexpr Duration kTick = seconds(1);

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

std::vector<std::string> Lines(absl::string_view text) {
  return absl::StrSplit(text, '\n', absl::SkipEmpty());
}

ReloadResult Failure(const absl::Status& status) {
  return {.outcome = ReloadResult::Outcome::kFailed, .errors = Lines(status.message())};
}

}  // namespace

// ---- A reload ----

ReloadResult Process::Reload() {
  if (options_.config_file.empty())
    return {.outcome = ReloadResult::Outcome::kRefused,
            .errors = {"there is no file to reload: the configuration came from the command line"}};
  absl::StatusOr<std::string> text = ReadConfigFile(options_.config_file);
  if (!text.ok()) return Failure(text.status());
  watch_.Know(*text);
  absl::StatusOr<std::shared_ptr<const Config>> next = LoadText(*text, options_.config_file);
  if (!next.ok()) return Failure(next.status());
  absl::StatusOr<std::string> token = ReadToken(**next);
  if (!token.ok()) return Failure(token.status());
  bool other_token = *token != control_token_;
  bool open_elsewhere = (*next)->admin_listen != configured_->admin_listen;
  if (**next == *configured_ && !other_token) return {.outcome = ReloadResult::Outcome::kUnchanged};
  ReloadResult result;
  if (**next != *configured_) result = Change(*std::move(next));
  if (result.outcome != ReloadResult::Outcome::kReloaded) return result;
  if (other_token) {
    control_token_ = *std::move(token);
    ShowLayout();
    result.changes.push_back(control_token_.empty() ? "control needs no token any more" : "control needs another token");
  }
  if (open_elsewhere || other_token) TellIfAdminIsOpen();
  return result;
}

absl::StatusOr<std::string> Process::ReadToken(const Config& config) const {
  return config.admin_token_file.empty() ? "" : ReadControlToken(config.admin_token_file);
}

void Process::TellIfAdminIsOpen() const {
  if (config_->admin_listen.is_loopback()) return;
  Log(LogLevel::kWarn, "admin.listen ", config_->admin_listen.ToString(), " is not loopback: whoever reaches it may read metrics and status, ",
      control_token_.empty() ? "and nobody may control this process, since there is no admin.token_file"
                             : "and whoever has the token may control this process; it goes over the network in the clear");
}

ReloadResult Process::Change(std::shared_ptr<const Config> configured) {
  ServerOverrides overrides = overrides_;
  ReloadResult result;
  try {
    if (absl::Status status = LookUp(*configured, /*interrupt=*/-1); !status.ok()) {
      result = Failure(status);
    } else {
      std::shared_ptr<const Config> next = WithFoundServers(configured);
      overrides.KeepFor(*next);
      result = BringIntoForce(overrides.Apply(std::move(next)));
    }
  } catch (const std::system_error& error) {  // std::thread
    result = Failure(absl::ResourceExhaustedError(absl::StrCat("cannot start a thread: ", error.what())));
  }
  if (result.outcome == ReloadResult::Outcome::kReloaded) {
    configured_ = std::move(configured);
    overrides_ = std::move(overrides);
  }
  discovery_.Keep(*configured_);
  TellMissing();
  return result;
}

ReloadResult Process::BringIntoForce(std::shared_ptr<const Config> next) {
  ReloadResult result;
  result.changes = DescribeChanges(*config_, *next);
  uint32_t buffer_bytes = WorkerOptions(*config_).buffers.buffer_bytes;
  if (WorkerOptions(*next).buffers.buffer_bytes != buffer_bytes)
    result.next_start.push_back(absl::StrCat("limits.buffer_per_direction: receive buffers of ", buffer_bytes,
                                             " bytes keep their size; a direction may hold at least two of them"));
  Prepared prepared{std::move(next), {}};
  if (absl::Status status = Prepare(prepared); !status.ok()) return Failure(status);
  for (std::string& setting : prepared.listening.next_start) result.next_start.push_back(std::move(setting));
  Commit(std::move(prepared));
  return result;
}

// For the log and the metrics.
ReloadResult Process::ReportedReload(bool quiet_if_unchanged) {
  if (!quiet_if_unchanged) NotifyReloading();
  ReloadResult result = Reload();
  if (!quiet_if_unchanged) NotifyReady();
  bool unchanged = result.outcome == ReloadResult::Outcome::kUnchanged;
  if (unchanged && quiet_if_unchanged) return result;
  if (result.outcome == ReloadResult::Outcome::kReloaded || unchanged) {
    reload_cells_.succeeded.Add();
    reload_cells_.last_failed.Set(0);
    NoteReadNow();
  } else if (result.outcome == ReloadResult::Outcome::kFailed) {
    reload_cells_.failed.Add();
    reload_cells_.last_failed.Set(1);
  }
  if (unchanged) Log(LogLevel::kInfo, "reloaded: nothing has changed file=", options_.config_file);
  for (const std::string& change : result.changes) Log(LogLevel::kInfo, "reloaded: ", change);
  for (const std::string& setting : result.next_start) Log(LogLevel::kWarn, "reloaded, but for the next start: ", setting);
  for (const std::string& error : result.errors) Log(LogLevel::kError, "reload failed: ", error);
  return result;
}

void Process::NoteReadNow() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  reload_cells_.last_success_epoch.Set(std::chrono::duration_cast<milliseconds>(now).count());
}

ReloadResult Process::ChangeServer(const ServerChange& change) {
  ServerOverrides overrides = overrides_;
  ReloadResult result;
  try {
    std::shared_ptr<const Config> next = WithFoundServers(configured_);
    if (absl::Status status = overrides.Add(*next, change); !status.ok()) return Failure(status);
    next = overrides.Apply(std::move(next));
    if (*next == *config_) return {.outcome = ReloadResult::Outcome::kUnchanged};
    result = BringIntoForce(std::move(next));
  } catch (const std::system_error& error) {  // std::thread
    result = Failure(absl::ResourceExhaustedError(absl::StrCat("cannot start a thread: ", error.what())));
  }
  if (result.outcome == ReloadResult::Outcome::kReloaded) overrides_ = std::move(overrides);
  for (const std::string& one : result.changes) Log(LogLevel::kInfo, "changed by request: ", one);
  for (const std::string& error : result.errors) Log(LogLevel::kError, "a change of a server failed: ", error);
  return result;
}

void Process::AnswerRequests() {
  std::optional<ReloadResult> reload;
  for (ReloadRequests::Request& request : requests_.Take()) {
    if (draining_.load(std::memory_order_relaxed)) {
      request.answer.set_value(ReloadRequests::Ending());
    } else if (request.change.has_value()) {
      request.answer.set_value(ChangeServer(*request.change));
    } else {
      if (!reload.has_value()) reload = ReportedReload(false);
      request.answer.set_value(*reload);
    }
  }
}

// ---- What may fail ----

absl::Status Process::Prepare(Prepared& prepared) {
  const Config& config = *prepared.config;
  uint32_t workers = config.workers.value_or(UsableCpus());
  std::vector<std::string> warnings;
  absl::Status status = CheckSockets(config, warnings);
  if (!status.ok()) return status;
  absl::StatusOr<ListenTable::Plan> listening = listening_.Prepare(config, workers);
  if (!listening.ok()) return listening.status();
  prepared.listening = *std::move(listening);
  if (!taking_over_) status = admin_ == nullptr ? StartAdmin() : admin_->Prepare(config.admin_listen, config.metrics_listen);
  bool checks = std::any_of(config.upstreams.begin(), config.upstreams.end(),
                            [](const UpstreamConfig& upstream) { return upstream.health_check.has_value(); });
  if (status.ok() && checks) status = health_->Start();
  if (status.ok() && !taking_over_) status = PrepareTakeoverSocket(prepared);
  if (status.ok()) status = workers_.Prepare(WorkerOptions(config), workers);
  if (status.ok()) {
    for (const std::string& warning : warnings) Log(LogLevel::kWarn, warning);
    return status;
  }
  if (admin_ != nullptr) admin_->Abandon();
  ListenTable::Abandon(prepared.listening);
  return status;
}

absl::Status Process::PrepareTakeoverSocket(Prepared& prepared) {
  const std::string& path = prepared.config->takeover.socket;
  if (path == (takeover_socket_ != nullptr ? takeover_socket_->path() : "")) return absl::OkStatus();
  prepared.takeover_socket_changes = true;
  if (path.empty()) return absl::OkStatus();
  prepared.takeover_socket = std::make_unique<TakeoverSocket>();
  return prepared.takeover_socket->Open(path);
}

Worker::Options Process::WorkerOptions(const Config& config) const {
  uint32_t workers = config.workers.value_or(UsableCpus());
  Worker::Options options;
  options.features = features_;
  // Rings of the health thread and of the start-up probe come on top of the workers'.
  if (std::optional<uint64_t> limit = LockedMemoryLimit()) options.ring = RingSizeForMemlock(*limit, workers + 2);
  uint64_t memory = config.limits.memory_bytes.value_or(UsableMemoryBytes() / 4);
  options.buffers = BufferOptions(config.limits, memory, workers);
  options.max_pipes = MaxPipes(files_, workers);
  options.busy_poll = config.busy_poll;
  options.frozen = taking_over_;
  options.high_water = static_cast<uint32_t>(config.limits.buffer_per_direction_bytes);
  return options;
}

// A connection takes two file descriptors. The reserve is what everything else may have open at once.
uint32_t Process::ConnectionsForFiles(const Config& config, uint32_t workers) const {
  // Standard streams, health thread, signal and event descriptors; and the admin side, which may have less where there is little.
  uint64_t reserve = 16 + std::min<uint64_t>(kAdminFileDescriptors, files_ / 4);
  // A worker has a ring, a wake-up, its listening sockets, and for each of these may hold one client that waits.
  reserve += 2ull * workers * (1 + MaxPipes(files_, workers));
  for (const ListenerConfig& listener : config.listeners) reserve += 2 * listener.listen.size() * workers;
  for (const UpstreamConfig& upstream : config.upstreams)
    if (upstream.health_check.has_value()) reserve += upstream.servers.size();
  // A lookup has a socket, or two if an answer is long.
  size_t names = 0;
  for (const UpstreamConfig& upstream : config.upstreams) names += upstream.names.size();
  reserve += 2 * std::min(names, Discovery::kMaxLookups);
  uint64_t connections = files_ > reserve + 2 ? (files_ - reserve) / 2 : 1;
  connections = std::min<uint64_t>(connections, 1 << 30);
  uint32_t configured = config.limits.max_connections.value_or(0);
  if (configured > connections)
    Log(LogLevel::kWarn, "limits.max_connections is ", configured, " but ", files_, " file descriptors are enough for only ",
        connections, " connections; more will wait (raise the limit: ulimit -n, LimitNOFILE= in systemd)");
  return static_cast<uint32_t>(connections);
}

// ---- What may not ----

void Process::Commit(Prepared prepared) {
  Topology before = Install(std::move(prepared.config));
  UpdateRoutes(before);
  TakeListening(std::move(prepared.listening));
  OpenWorkers(/*thaw=*/false);
  if (prepared.takeover_socket_changes) takeover_socket_ = std::move(prepared.takeover_socket);
}

// From here on clients may connect, and what is listened on is this process's to remove.
void Process::TakeListening(ListenTable::Plan plan) {
  owns_listening_ = true;
  if (absl::Status status = listening_.Commit(std::move(plan), *config_); !status.ok())
    Log(LogLevel::kError, std::string(status.message()));
}

// All but the workers and what is listened on; what there was before is still in use by them.
Topology Process::Install(std::shared_ptr<const Config> config) {
  config_ = std::move(config);
  ChangeLog(config_->log);
  workers_.Commit();
  if (!taking_over_)
    for (std::shared_ptr<void>& server : admin_->Commit()) old_admin_.push_back(std::move(server));
  uint32_t files_suffice_for = ConnectionsForFiles(*config_, static_cast<uint32_t>(workers_.in_charge().size()));
  shared_.files.set_max(files_suffice_for);
  shared_.limit.set_max(config_->limits.max_connections.value_or(files_suffice_for));
  Topology before = std::exchange(topology_, Topology(*config_, topology_, worker_cells_.size(), Clock::now()));
  topology_.GrowTo(worker_cells_.size());
  for (const Topology::ListenerEntry& listener : topology_.listeners())
    listener.shared->SetLimits(listener.config, shared_.limit.max(), Clock::now());
  tick_at_ = Clock::now() + kTick;
  return before;
}

// Before OpenWorkers: a worker may be handed a client of a listener as soon as another accepts from it, so all know the listener before any
// does.
void Process::UpdateRoutes(const Topology& before) {
  workers_.Apply([&](uint32_t worker, bool first) {
    WorkerUpdate update = BeginUpdate();
    for (const Topology::ListenerEntry& listener : topology_.listeners())
      if (first || !topology_.SameRoute(listener, before))
        update.routes.push_back(topology_.MakeRoute(listener, worker, local_ports_));
    return update;
  });
}

void Process::OpenWorkers(bool thaw) {
  ShowLayout();
  workers_.Apply([&](uint32_t worker, bool) {
    WorkerUpdate update = BeginUpdate();
    update.accept_from = AcceptancesOf(worker);
    update.thaw = thaw;
    return update;
  });
  health_->Check(topology_.ProbeTargets());
}

WorkerUpdate Process::BeginUpdate() const {
  WorkerUpdate update;
  SetLimits(update);
  return update;
}

void Process::SetLimits(WorkerUpdate& update) const {
  Worker::Options options = WorkerOptions(*config_);
  update.high_water = options.high_water;
  update.buffer_bytes = options.buffers.max_bytes;
  update.busy_poll = options.busy_poll;
}

std::vector<WorkerUpdate::Acceptance> Process::AcceptancesOf(uint32_t worker) const {
  std::vector<WorkerUpdate::Acceptance> all;
  const std::vector<uint32_t>& workers = workers_.in_charge();
  auto place = static_cast<size_t>(std::find(workers.begin(), workers.end(), worker) - workers.begin());
  if (place == workers.size()) return all;
  for (size_t i = 0; i < listening_.entries().size(); ++i)
    for (const ListenTable::Entry& entry : listening_.entries()[i])
      for (size_t socket : SocketsOfWorker(entry.sockets.sockets.size(), place, workers.size()))
        all.push_back({entry.sockets.sockets[socket], topology_.listeners()[i].shared->number});
  return all;
}

void Process::ShowLayout() {
  std::shared_ptr<Layout> layout = topology_.MakeLayout(listening_.addresses());
  layout->max_connections = shared_.limit.max();
  layout->control_token = control_token_;
  layout->workers = workers_.Show();
  ShowNames(*layout);
  std::lock_guard<std::mutex> lock(layout_mutex_);
  layout_ = std::move(layout);
}

// ---- From time to time ----

bool Process::NeedsTicks() const {
  return config_->reload.watch || topology_.has_draining() || !old_admin_.empty() || upgrade_ != nullptr ||
         workers_.size() > workers_.in_charge().size();
}

void Process::Tick() {
  TimePoint now = Clock::now();
  tick_at_ = now + kTick;
  old_admin_.clear();  // by now the answer to the reload has gone out on it
  if (upgrade_ != nullptr) upgrade_->EndIfOverdue(now);
  if (workers_.EndIdle()) ShowLayout();
  if (topology_.has_draining()) {
    std::vector<std::shared_ptr<const Server>> overdue = topology_.Overdue(now);
    std::vector<uint32_t> gone = topology_.DropDrained(now);
    if (!overdue.empty() || !gone.empty())
      workers_.Apply([&](uint32_t, bool) {
        WorkerUpdate update = BeginUpdate();
        update.close = overdue;
        update.forget = gone;
        return update;
      });
    ShowLayout();
  }
  if (!config_->reload.watch || options_.config_file.empty()) return;
  absl::StatusOr<std::string> text = ReadConfigFile(options_.config_file);
  if (watch_.Look(text.ok() ? std::optional(*std::move(text)) : std::nullopt)) (void)ReportedReload(/*quiet_if_unchanged=*/true);
}

}  // namespace ringmain
