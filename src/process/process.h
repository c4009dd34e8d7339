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
#include "discovery/discovery.h"
#include "health/prober.h"
#include "process/config_watch.h"
#include "process/listen_table.h"
#include "process/machine.h"
#include "process/reload_requests.h"
#include "process/server_overrides.h"
#include "process/takeover_socket.h"
#include "process/topology.h"
#include "process/upgrade.h"
#include "process/workers.h"

namespace ringmain {

// Exit codes of the program.
inline constexpr int kExitClean = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;  // bad command line or configuration

struct RunOptions {
  std::string config_file;        // where the configuration comes from; empty if from no file
  std::string disabled_features;  // the value of RINGMAIN_DISABLE
  std::vector<std::string> arguments;  // argv
  bool take_over = false;         // from the process that answers at takeover.socket
  bool never_start = false;       // `take_over`, or nothing: not as usual if nobody answers
};

// Runs the proxy until a signal ends it: SIGTERM and SIGINT drain, a second one exits at once; SIGHUP reloads. Returns an exit code; what went
// wrong was logged (it sets the log up and shuts it down). REQUIRES: called once, by the main thread, before any other thread exists (it blocks
// the signals that it waits for).
int RunProcess(std::shared_ptr<const Config> config, RunOptions options);

// One per program; the main thread's.
class Process {
 public:
  Process(std::shared_ptr<const Config> config, RunOptions options, UniqueFd signals);
  int Run();

 private:
  // ---- Starting and ending (process.cc) ----

  absl::Status Start();
  absl::Status StartOrExplain();
  absl::Status PutIntoForce();
  absl::Status StartAdmin();
  void LogAddresses();

  enum class Wake { kSignal, kFinished, kRequest, kSuccessor, kUpgradeEnded, kFound, kTimeout };
  Wake Wait(std::optional<TimePoint> deadline);
  int ReadSignal(bool* forwarded = nullptr);
  bool Serve();
  void EndUpgrade();
  void Drain();
  bool WaitForWorkers(TimePoint deadline, bool leave_on_signal);
  void CutSessions(uint32_t command);
  void ShutDown();

  // ---- Changing what runs (reload.cc) ----

  // What a configuration needs that can fail; nothing of it is in use yet.
  struct Prepared {
    std::shared_ptr<const Config> config;
    ListenTable::Plan listening;
    bool takeover_socket_changes = false;
    std::unique_ptr<TakeoverSocket> takeover_socket;  // the next one; null: none
  };

  ReloadResult Reload();
  absl::StatusOr<std::string> ReadToken(const Config& config) const;
  void TellIfAdminIsOpen() const;
  ReloadResult Change(std::shared_ptr<const Config> configured);
  ReloadResult BringIntoForce(std::shared_ptr<const Config> next);
  ReloadResult ChangeServer(const ServerChange& change);
  void AnswerRequests();
  ReloadResult ReportedReload(bool quiet_if_unchanged);
  void NoteReadNow();
  absl::Status Prepare(Prepared& prepared);
  void Commit(Prepared prepared);
  Topology Install(std::shared_ptr<const Config> config);
  void TakeListening(ListenTable::Plan plan);
  absl::Status PrepareTakeoverSocket(Prepared& prepared);
  void UpdateRoutes(const Topology& before);
  void OpenWorkers(bool thaw);
  WorkerUpdate BeginUpdate() const;
  void SetLimits(WorkerUpdate& update) const;
  std::vector<WorkerUpdate::Acceptance> AcceptancesOf(uint32_t worker) const;
  bool NeedsTicks() const;
  void Tick();
  void ShowLayout();
  Worker::Options WorkerOptions(const Config& config) const;
  uint32_t ConnectionsForFiles(const Config& config, uint32_t workers) const;

  // ---- Servers found by name (found_servers.cc) ----

  absl::Status LookUp(const Config& configured, int interrupt);
  std::shared_ptr<const Config> WithFoundServers(std::shared_ptr<const Config> configured) const;
  void UseFoundServers();
  void TellMissing() const;
  void ShowNames(Layout& layout) const;
  void FreezeNames(FrozenProcess& process) const;
  void InheritNames(const FrozenProcess& process);

  // ---- Takeover by another process (hand_over.cc) ----

  bool Answer(Channel channel);
  static void TurnAway(Channel channel);
  void ForwardSignals();
  void BeginUpgrade(Channel channel);
  bool HandOver(Channel channel, std::string_view hello);
  absl::Status OfferListening(Channel& channel, std::string_view hello);
  absl::Status PassSessions(Channel& channel);
  void GoOn(bool cut);
  void OpenAdminAgain();

  // ---- Takeover from another process (take_over.cc) ----

  absl::Status TakeOver(Channel& channel);
  absl::Status InheritListening(Channel& channel);
  absl::StatusOr<FrozenProcess> ReceiveSessions(Channel& channel);
  absl::Status ReceiveAndAdopt(Channel& channel, size_t& sessions);
  absl::Status Adopt(FrozenProcess process);
  void ServeWhatWaits(const std::vector<ListenTable::Entry>& leaving);
  void LetSessionsGo();

  std::shared_ptr<const Config> configured_;  // as it was read
  std::shared_ptr<const Config> config_;      // as it runs: with servers that were found by name, and what was changed since
  ServerOverrides overrides_;
  const RunOptions options_;
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
  std::string control_token_;  // of admin.token_file; empty: none
  std::unique_ptr<AdminServer> admin_;
  // Endpoints that a reload has taken out, until the next tick: its answer may have to go out on them, and an endpoint that ends cuts that off.
  std::vector<std::shared_ptr<void>> old_admin_;
  std::unique_ptr<HealthThread> health_;
  Discovery discovery_;
  Workers workers_;
  bool taking_over_ = false;   // workers that start stand still
  bool owns_listening_ = false;  // paths of unix listeners are to be removed at the end
  std::unique_ptr<TakeoverSocket> takeover_socket_;  // null: nobody may take over
  const std::vector<std::string> successor_command_;
  std::unique_ptr<Upgrade> upgrade_;  // null: none is under way
  std::optional<pid_t> successor_;    // that serves in our place, if it can be seen
  std::optional<pid_t> predecessor_;  // in whose place we serve
  ReloadRequests requests_;
  ConfigWatch watch_;
  TimePoint tick_at_{};

  std::mutex layout_mutex_;
  std::shared_ptr<const Layout> layout_;  // what the admin side sees
};

}  // namespace ringmain
