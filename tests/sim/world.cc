#include "world.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "balance/make_balancer.h"

namespace ringmain::sim {
namespace {

// A server's index is its port.
UpstreamConfig MakeUpstreamConfig(const WorldOptions& options) {
  UpstreamConfig config;
  config.name = "servers";
  config.balance = options.balance;
  for (size_t i = 0; i < options.servers; ++i) {
    SocketAddress address = SocketAddress::Parse("10.0.0.1:1").value();
    address.set_port(static_cast<uint16_t>(i));
    config.servers.push_back({.address = address, .max_connections = options.server_max_connections});
  }
  for (size_t i = 0; i < options.sources; ++i)
    config.source_addresses.push_back(SocketAddress::ParseHost(absl::StrCat("10.1.0.", i)).value());
  return config;
}

Upstream::Servers NewServers(const WorldOptions& options) {
  Upstream::Servers servers;
  for (const ServerConfig& server : MakeUpstreamConfig(options).servers) servers.push_back(std::make_shared<Server>(server.address));
  return servers;
}

// What a server is sent first.
std::string Lead(ProxyProtocolSend send, const SimSocket& client) {
  if (send == ProxyProtocolSend::kOff) return "";
  ProxyHeader header = client.header;
  header.version = send == ProxyProtocolSend::kV1 ? 1 : 2;
  if (header.source.has_value() || client.broken) return ComposeProxyHeader(header);
  header.source = SocketAddress::Parse(absl::StrCat("10.0.0.2:", client.fd)).value();
  header.destination = SocketAddress::Parse("10.0.0.3:80").value();
  return ComposeProxyHeader(header);
}

SimIo::Options MakeIoOptions(const WorldOptions& options) {
  auto lead = [send = options.send_proxy_protocol](const SimSocket& client) { return Lead(send, client); };
  return {options.abilities, options.buffers.buffer_bytes, Sessions::kLeaveGrace, options.server_script,
          options.open_result, options.has_source, options.pipes, options.pipe_refused, options.servers, options.connect_tries, options.direct_limit,
          options.max_lifetime, lead};
}

// So that receives starve, which they do not while the pool can grow.
BufferPool::Options HardLimit(BufferPool::Options options, bool grows) {
  if (!grows) options.most_buffers = static_cast<uint32_t>(options.max_bytes / options.buffer_bytes);
  return options;
}

}  // namespace

World::World(const WorldOptions& options, Report& report)
    : options_(options),
      report_(report),
      io_(MakeIoOptions(options), report),
      pool_(HardLimit(options.buffers, options.pool_grows), io_),
      queue_(std::make_shared<ConnectQueue>(1)),
      upstream_(MakeUpstreamConfig(options), MakeBalancer(MakeUpstreamConfig(options)), NewServers(options),
                options.max_queue > 0 ? queue_ : nullptr),
      server_cells_(options.servers),
      sessions_(NewSessions()) {
  route_.upstream = &upstream_;
  route_.listener_cells = &listener_cells_;
  route_.upstream_cells = &upstream_cells_;
  for (ServerCells& cells : server_cells_) route_.servers.push_back({&cells, SourceTurns(options.sources)});
  route_.socket = options.socket;
  route_.transparent = options.transparent;
  route_.keepalive = options.keepalive;
  route_.connect_timeout = options.connect_timeout;
  route_.connect_tries = options.connect_tries;
  route_.max_queue = options.max_queue;
  route_.queue_timeout = options.queue_timeout;
  route_.idle_timeout = options.idle_timeout;
  route_.half_closed_timeout = options.half_closed_timeout;
  route_.side_idle_timeouts = options.side_idle_timeouts;
  route_.max_lifetime = options.max_lifetime;
  route_.lifetime_jitter_percent = options.lifetime_jitter_percent;
  route_.connect_total_timeout = options.connect_total_timeout;
  ChangeBandwidth(options.bandwidth);
  route_.proxy_protocol = options.proxy_protocol;
  route_.send_proxy_protocol = options.send_proxy_protocol;
}

void World::ChangeBandwidth(const std::array<WorldOptions::ByteRates, 2>& rates) {
  options_.bandwidth = rates;
  for (size_t i = 0; i < rates.size(); ++i) {
    bandwidth_.sides[i].listener.Set(rates[i].listener, io_.now());
    bandwidth_.sides[i].per_session.store(rates[i].per_session, std::memory_order_relaxed);
  }
  sessions_->ForgetBandwidth(bandwidth_);
  route_.bandwidth = rates[0].on() || rates[1].on() ? &bandwidth_ : nullptr;
  limited_since_ = io_.now();
  rules_.OnBandwidthChanged();
}

bool World::TrustsClients() const {
  const ProxyProtocolConfig& rules = options_.proxy_protocol;
  SocketAddress client = SocketAddress::Parse("10.0.0.2:0").value();
  return rules.from.empty() || std::any_of(rules.from.begin(), rules.from.end(), [&](const Network& one) { return one.Contains(client); });
}

bool World::RefusesUntrusted() const { return options_.proxy_protocol.accept == ProxyProtocolAccept::kRequired && !TrustsClients(); }

SimSocket& World::Accept(const PeerScript& script) {
  bool reads_header = options_.proxy_protocol.accept != ProxyProtocolAccept::kOff && TrustsClients();
  SimSocket& client = io_.AddClient(script, reads_header);
  if (reads_header) {
    client.header_optional = options_.proxy_protocol.accept == ProxyProtocolAccept::kOptional;
    ParsedProxyHeader parsed = ParseProxyHeader(io_.StreamOf(client, std::min<uint64_t>(script.bytes, kMostProxyHeader)));
    client.stripped = parsed.length;
    client.header = parsed.header;
    client.header.local = false;  // as if it had said nothing
  }
  Open(client);
  return client;
}

void World::Open(SimSocket& client) {
  report_.Trace("accept fd=", client.fd);
  io_.set_phase(Phase::kHandle);
  sessions_->Open(client.fd, route_, NewClientSource());
  io_.ConnectLater();
}

void World::HandleCompletions(size_t most) {
  io_.set_phase(Phase::kHandle);
  for (size_t left = std::min(most, io_.completions()); left > 0; --left) {
    Completion completion = io_.TakeCompletion();
    rules_.OnCompletion(completion);
    sessions_->Handle(completion);
  }
}

void World::RunTimers() {
  io_.set_phase(Phase::kTimers);
  sessions_->RunTimers(io_.Now());
}

void World::Flush() {
  io_.set_phase(Phase::kFlush);
  sessions_->Flush();
}

void World::CloseAll(CloseReason reason) {
  report_.Trace("close all sessions");
  io_.set_phase(Phase::kCloseAll);
  sessions_->CloseAll(reason);
}

void World::CloseIdle(Duration over) {
  report_.Trace("close idle sessions");
  close_idle_over_ = over;
  sessions_->CloseIdle(over);
}

std::unique_ptr<Sessions> World::NewSessions() {
  return std::make_unique<Sessions>(io_, pool_, options_.high_water, worker_cells_, *this, options_.direct_turn_bytes);
}

void World::Freeze() {
  report_.Trace("freeze");
  io_.set_phase(Phase::kFreeze);
  io_.set_frozen(true);
  sessions_->Freeze();
}

void World::Thaw() {
  report_.Trace("thaw");
  io_.set_phase(Phase::kHandle);
  io_.set_frozen(false);
  thawed_at_ = io_.now();
  std::vector<std::pair<TimePoint, int>> connecting;  // those that do not wait first
  sessions_->Save([&](const FrozenSession& session, const Route&, std::optional<uint16_t>) {
    bool waits = session.queued_at != TimePoint::max();
    if (!session.established && !session.reading_header)
      connecting.emplace_back(waits ? session.queued_at : TimePoint(), session.client_fd);
  });
  std::stable_sort(connecting.begin(), connecting.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<int> clients;
  for (auto [since, client] : connecting) clients.push_back(client);
  io_.ExpectConnects(clients);
  sessions_->Thaw();
}

World::Saved World::Save() {
  Saved saved;
  sessions_->Save([&](const FrozenSession& session, const Route&, std::optional<uint16_t> server) {
    report_.Expect(server.has_value() == session.established, "a server of a session that is not established");
    saved.emplace_back(session, server.value_or(0));
  });
  report_.Expect(saved.size() == sessions_->size(), saved.size(), " sessions saved");
  return saved;
}

void World::HandOver() {
  report_.Trace("hand over");
  std::unique_ptr<Sessions> next = NewSessions();
  next->Freeze();
  Saved saved = Save();
  io_.set_phase(Phase::kFreeze);
  io_.ForgetTokens();
  sessions_->LetGo();
  report_.Expect(sessions_->size() == 0, "sessions are left");
  for (auto& [session, server] : saved)
    report_.Expect(next->Adopt(session, route_, server, NewClientSource()), "no memory for what a session held");
  sessions_ = std::move(next);
  if (close_idle_over_.has_value()) sessions_->CloseIdle(*close_idle_over_);
  Thaw();
}

// As in another process, which has copies of the files and of what was queued, and a pool and counts of its own.
void World::HandOverInVain() {
  report_.Trace("hand over in vain");
  WorkerCells cells;
  ListenerCells listener_cells;
  SimIo io(MakeIoOptions(options_), report_);
  BufferPool pool(options_.buffers, io);
  Sessions next(io, pool, options_.high_water, cells, *this, options_.direct_turn_bytes);
  next.Freeze();
  Route route = route_;
  route.listener_cells = &listener_cells;
  route.sessions = 0;
  for (auto& [session, server] : Save()) {
    if (session.relays[0].in_pipe > 0 || session.relays[1].in_pipe > 0) continue;
    report_.Expect(next.Adopt(session, route, server, NewClientSource()), "no memory for what a session held");
  }
  next.LetGo();
  report_.Expect(next.size() == 0 && pool.held() == 0, "copies are left");
}

void World::KeepServers(const std::vector<size_t>& servers, std::optional<uint32_t> connect_tries) {
  UpstreamConfig config = upstream_.config();
  Upstream::Servers shared;
  config.servers.clear();
  next_route_ = std::make_unique<Route>(route_);
  next_route_->servers.clear();
  for (size_t i : servers) {
    config.servers.push_back(upstream_.config().servers[i]);
    shared.push_back(upstream_.servers()[i]);
    next_route_->servers.push_back(route_.servers[i]);
  }
  next_upstream_ = std::make_unique<Upstream>(config, MakeBalancer(config), std::move(shared));
  next_route_->upstream = next_upstream_.get();
  next_route_->sessions = 0;
  next_route_->connect_tries = connect_tries.value_or(route_.connect_tries);
  route_.retired = true;
  current_ = next_route_.get();
  health_changed_ = true;
}

void World::CutLost() {
  report_.Trace("cut what is lost");
  io_.set_phase(Phase::kCloseAll);
  sessions_->CloseAll(CloseReason::kTakeoverFailed);
  Thaw();
}

bool World::TimerDue() const {
  std::optional<TimePoint> next = sessions_->NextWakeUp();
  return next.has_value() && *next <= io_.now();
}

void World::Turn() {
  HandleCompletions();
  if (TimerDue()) RunTimers();
  Flush();
}

void World::SetServerUp(size_t server, bool up) {
  health_changed_ = true;
  upstream_.server(server).set_up(up);
}

void World::OnClosed(Route&, CloseReason reason, Duration) { rules_.OnClosed(reason); }

uint32_t World::NewClientSource() { return *client_sources_.insert(next_client_source_++).first; }

void World::OnSourceLeft(Route&, uint32_t client_source) {
  report_.Expect(client_sources_.erase(client_source) == 1, "the source ", client_source, " is given back though no session has it");
}

void World::OnConnectFailed(const Route& route, uint16_t index, ConnectFailure failure, int error) {
  size_t server = route.upstream->server(index).address().port();
  report_.Trace("connect failed server=", server, " ", std::string(ToString(failure)), " error=", error);
  rules_.OnConnectFailed(server, failure);
}

void World::OnSourceFailed(const Route&, uint16_t server, const SocketAddress& source, bool missing) {
  report_.Expect(missing ? io_.Missing(source.host()) : io_.NoPort(server, source.host()), "source address ",
                 source.host(), " is said to have failed");
}

}  // namespace ringmain::sim
