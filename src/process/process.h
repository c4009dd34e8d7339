// Process: the composition root. Creates the threads, wires them, and decides how long each lives.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "admin/admin_server.h"
#include "base/unique_fd.h"
#include "config/config.h"
#include "health/prober.h"
#include "process/config_watch.h"
#include "process/listen_table.h"
#include "process/machine.h"
#include "process/reload_requests.h"
#include "process/topology.h"
#include "process/workers.h"

namespace ringmain {

// Exit codes of the program.
inline constexpr int kExitClean = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;  // bad command line or configuration

// Runs the proxy until a signal ends it: SIGTERM and SIGINT drain, a second one exits at once; SIGHUP reloads. Returns an exit code; what went
// wrong was logged (it sets the log up and shuts it down). `config_file` is where `config` comes from; empty if from no file.
// `disabled_features` is the value of RINGMAIN_DISABLE. REQUIRES: called once, by the main thread, before any other thread exists (it blocks
// the signals that it waits for).
int RunProcess(std::shared_ptr<const Config> config, std::string config_file, std::string disabled_features);

// One per program; the main thread's.
class Process {
 public:
  Process(std::shared_ptr<const Config> config, std::string config_file, std::string disabled_features, UniqueFd signals);
  int Run();

 private:
  // ---- Starting and ending (process.cc) ----

  absl::Status Start();
  absl::Status StartOrExplain();
  absl::Status StartAdmin();
  void LogAddresses();

  enum class Wake { kSignal, kFinished, kRequest, kTimeout };
  Wake Wait(std::optional<TimePoint> deadline);
  int ReadSignal();
  void Serve();
  void Drain();
  bool WaitForWorkers(TimePoint deadline, bool leave_on_signal);
  void CutSessions(uint32_t command);
  void ShutDown();

  // ---- Changing what runs (reload.cc) ----

  // What a configuration needs that can fail; nothing of it is in use yet.
  struct Prepared {
    std::shared_ptr<const Config> config;
    ListenTable::Plan listening;
  };

  ReloadResult Reload();
  ReloadResult Change(std::shared_ptr<const Config> next);
  void AnswerRequests();
  ReloadResult ReportedReload(bool quiet_if_unchanged);
  void NoteReadNow();
  absl::Status Prepare(Prepared& prepared);
  void Commit(Prepared prepared);
  void UpdateWorkers(const Topology& before);
  WorkerUpdate BeginUpdate() const;
  std::vector<WorkerUpdate::Acceptance> AcceptancesOf(uint32_t worker) const;
  bool NeedsTicks() const;
  void Tick();
  void ShowLayout();
  Worker::Options WorkerOptions(const Config& config) const;
  uint32_t ConnectionsForFiles(const Config& config, uint32_t workers) const;

  std::shared_ptr<const Config> config_;
  const std::string config_file_;
  const std::string disabled_features_;
  const UniqueFd signals_;
  const uint64_t files_;  // limit of open files
  const PortRange local_ports_ = LocalPortRange();
  const std::chrono::system_clock::time_point start_time_ = std::chrono::system_clock::now();
  Features features_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> draining_{false};
  PerWorker<WorkerCells> worker_cells_;
  ReloadCells reload_cells_;
  WorkerShared shared_;
  ListenTable listening_;
  Topology topology_;
  std::unique_ptr<AdminServer> admin_;
  std::vector<std::shared_ptr<void>> old_admin_;  // endpoints that a reload has taken out, until nobody needs them for an answer
  std::unique_ptr<HealthThread> health_;
  Workers workers_;
  ReloadRequests requests_;
  ConfigWatch watch_;
  TimePoint tick_at_{};

  std::mutex layout_mutex_;
  std::shared_ptr<const Layout> layout_;  // what the admin side sees
};

}  // namespace ringmain
