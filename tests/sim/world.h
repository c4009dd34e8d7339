// World: one worker's sessions over a simulated kernel: everything that lives around Sessions, and the turns of its
// loop.
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "config/config.h"
#include "metrics/board.h"
#include "rules.h"
#include "session/sessions.h"
#include "sim_io.h"
#include "upstream/upstream.h"

namespace ringmain::sim {

struct WorldOptions {
  Io::Abilities abilities;
  BufferPool::Options buffers{4096, 8, 32 * 4096};
  bool pool_grows = false;  // beyond max_bytes, as a real one does; else receives starve
  uint32_t high_water = 4 * 4096;
  size_t servers = 1;
  BalanceMethod balance = BalanceMethod::kRoundRobin;
  size_t sources = 0;  // source addresses
  bool transparent = false;
  const SocketOptions* socket = nullptr;
  uint32_t connect_tries = 3;
  std::optional<uint32_t> server_max_connections;  // of each
  uint32_t max_queue = 0;
  Duration queue_timeout{};
  Duration connect_timeout = seconds(2);
  Duration idle_timeout{};
  Duration half_closed_timeout{};
  std::array<Duration, 2> side_idle_timeouts{};
  Duration max_lifetime{};
  uint32_t lifetime_jitter_percent = 0;
  Duration connect_total_timeout{};
  seconds keepalive{30};
  struct ByteRates {
    uint64_t listener = 0;
    uint64_t per_session = 0;
    bool on() const { return listener != 0 || per_session != 0; }
  };
  std::array<ByteRates, 2> bandwidth;  // by Direction
  ProxyProtocolConfig proxy_protocol;
  ProxyProtocolSend send_proxy_protocol = ProxyProtocolSend::kOff;
  std::function<PeerScript(size_t server)> server_script = [](size_t) { return PeerScript(); };
  std::function<int()> open_result = [] { return 0; };
  std::function<bool(const std::string& source)> has_source = [](const std::string&) { return true; };
  std::vector<uint32_t> pipes;  // the size of each
  uint32_t direct_turn_bytes = Sessions::kDirectTurnBytes;
  std::function<bool()> pipe_refused = [] { return false; };
  std::function<int()> direct_limit = [] { return INT_MAX; };
};

class World final : public SessionObserver {
 public:
  World(const WorldOptions& options, Report& report);

  // ---- The worker's loop: what a turn is made of ----

  // A client connects and is accepted.
  SimSocket& Accept(const PeerScript& script);
  void Open(SimSocket& client);
  // Hands over the oldest completions.
  void HandleCompletions(size_t most = SIZE_MAX);
  void RunTimers();
  void Flush();
  void CloseAll(CloseReason reason);
  void CloseIdle(Duration over);
  // Sessions stand still once sessions().settled(); then they go on here, or in another Sessions, as in another worker.
  void Freeze();
  void Thaw();
  void HandOver();
  // Another Sessions is given all of them and gives up; they stand still here.
  void HandOverInVain();
  // Another Sessions has them, and is lost: they are closed, and others may come.
  void CutLost();
  // A reload: of all servers only these are left, and sessions keep the route that they have.
  void KeepServers(const std::vector<size_t>& servers, std::optional<uint32_t> connect_tries = std::nullopt);
  // A whole turn: every completion, timers, Flush.
  void Turn();
  bool TimerDue() const;

  const WorldOptions& options() const { return options_; }
  Report& report() { return report_; }
  SimIo& io() { return io_; }
  BufferPool& pool() { return pool_; }
  Sessions& sessions() { return *sessions_; }
  TimePoint thawed_at() const { return thawed_at_; }  // the sweep begins anew then
  Upstream& upstream() { return upstream_; }
  const ConnectQueue& queue() const { return *queue_; }
  // A reload: other limits, for the sessions that there are, too.
  void ChangeBandwidth(const std::array<WorldOptions::ByteRates, 2>& rates);
  TimePoint limited_since() const { return limited_since_; }
  const ListenerCells& listener_cells() const { return listener_cells_; }
  const WorkerCells& worker_cells() const { return worker_cells_; }
  const UpstreamCells& upstream_cells() const { return upstream_cells_; }
  const ServerCells& server_cells(size_t server) const { return server_cells_[server]; }
  uint64_t closed(CloseReason reason) const { return listener_cells_.closed[static_cast<size_t>(reason)].value(); }
  // Once health has changed, which servers a session could have had is not known any more.
  void SetServerUp(size_t server, bool up);
  bool health_changed() const { return health_changed_; }
  // Clients are not among those who may send a header, and must.
  bool RefusesUntrusted() const;
  Rules& rules() { return rules_; }

  void OnClosed(Route& route, CloseReason reason, Duration lifetime) override;
  void OnConnectFailed(const Route& route, uint16_t server, ConnectFailure failure, int error) override;
  void OnSourceFailed(const Route& route, uint16_t server, const SocketAddress& source, bool missing) override;
  void OnEjected(const Route&, uint16_t, Duration) override {}
  void OnTurnInQueue(uint32_t) override {}
  Route* CurrentRoute(Route&) override { return current_; }
  void OnHeaderRefused(const Route&, const std::optional<SocketAddress>&, std::string_view why) override {
    report_.Trace("header refused: ", std::string(why));
  }
  void OnOutOfFiles() override {}
  void OnLetGo(Route&) override {}
  void OnSourceLeft(Route& route, uint32_t client_source) override;
  size_t client_sources() const { return client_sources_.size(); }

 private:
  bool TrustsClients() const;
  std::unique_ptr<Sessions> NewSessions();
  uint32_t NewClientSource();
  using Saved = std::vector<std::pair<FrozenSession, uint16_t>>;
  Saved Save();

  WorldOptions options_;
  Report& report_;
  SimIo io_;
  BufferPool pool_;
  std::shared_ptr<ConnectQueue> queue_;
  Upstream upstream_;
  ListenerCells listener_cells_;
  UpstreamCells upstream_cells_;
  WorkerCells worker_cells_;
  std::deque<ServerCells> server_cells_;
  Bandwidth bandwidth_;
  TimePoint limited_since_;
  Route route_;
  std::unique_ptr<Upstream> next_upstream_;  // after KeepServers
  std::unique_ptr<Route> next_route_;
  Route* current_ = &route_;
  std::unique_ptr<Sessions> sessions_;
  TimePoint thawed_at_{};
  std::optional<Duration> close_idle_over_;
  bool health_changed_ = false;
  std::set<uint32_t> client_sources_;  // each session has one of its own
  uint32_t next_client_source_ = 0;
  Rules rules_{*this};
};

}  // namespace ringmain::sim
