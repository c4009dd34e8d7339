// A process as the admin side sees it: two workers, one listener, one health-checked upstream of two servers; all
// counts are 0.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "admin/admin_server.h"

namespace ringmain {

inline SocketAddress Address(std::string_view text) { return SocketAddress::Parse(text).value(); }

class NoBalancer final : public Balancer {
 public:
  std::optional<uint16_t> Pick(Upstream&, const Candidates&) const override { return std::nullopt; }
};

struct Sample {
  Sample() {
    auto now = std::make_shared<Layout>();
    now->listeners.push_back({{.name = "tunnel", .listen = {Address("127.0.0.1:0")}, .upstream = "echo"},
                              {Address("127.0.0.1:8080")},
                              listener_metrics});
    UpstreamLayout& echo = now->upstreams.emplace_back();
    echo.upstream = upstream;
    echo.metrics = upstream_metrics;
    for (size_t i = 0; i < upstream->size(); ++i) {
      server_metrics.push_back(std::make_shared<ServerMetrics>(upstream->server(i).name(), kWorkers));
      echo.servers.push_back({upstream->servers()[i], server_metrics[i], upstream->config().servers[i]});
    }
    echo.names.push_back(name);
    now->max_connections = 1000;
    now->workers = {{0, false}, {1, false}};
    layout = std::move(now);
  }

  static UpstreamConfig EchoConfig() {
    UpstreamConfig config{.name = "echo", .balance = BalanceMethod::kLeastConnections};
    config.health_check.emplace();
    config.servers.push_back({.address = Address("127.0.0.1:7001"), .weight = 3});
    config.servers.push_back({.address = Address("unix:/run/\"b\".sock")});
    config.names.push_back({.host = "db.example.org", .port = 5432});
    return config;
  }

  AdminView View() {
    return {.layout = [this] { return layout; },
            .workers = &workers,
            .reloads = &reloads,
            .config_file = "/etc/ringmain.yaml",
            .features = "multishot defer_taskrun",
            .start_time = std::chrono::system_clock::time_point(std::chrono::milliseconds(1'700'000'000'500)),
            .ready = &ready,
            .draining = &draining,
            .list_sessions =
                [this](uint32_t most) {
                  asked_for = most;
                  return sessions;
                },
            .reload = [this] { return reload; },
            .change_server = [this](const ServerChange&) { return reload; }};
  }

  void SetToken(const std::string& token) {
    auto next = std::make_shared<Layout>(*layout);
    next->control_token = token;
    layout = std::move(next);
  }

  auto Start() { return AdminServer::Start(View(), admin, metrics); }

  ListenerCells& listener(size_t worker) { return listener_metrics->cells[worker]; }
  ServerMetrics& server(size_t i) { return *server_metrics[i]; }

  static constexpr size_t kWorkers = 2;
  SocketAddress admin = Address("127.0.0.1:0");
  std::optional<SocketAddress> metrics;
  PerWorker<WorkerCells> workers{kWorkers};
  ReloadCells reloads;
  std::shared_ptr<ListenerMetrics> listener_metrics = std::make_shared<ListenerMetrics>("tunnel", kWorkers);
  std::shared_ptr<UpstreamMetrics> upstream_metrics = std::make_shared<UpstreamMetrics>("echo", kWorkers);
  std::vector<std::shared_ptr<ServerMetrics>> server_metrics;
  std::shared_ptr<NameMetrics> name = std::make_shared<NameMetrics>("db.example.org:5432");
  std::shared_ptr<Upstream> upstream = std::make_shared<Upstream>(EchoConfig(), std::make_unique<NoBalancer>());
  std::shared_ptr<const Layout> layout;
  std::atomic<bool> ready{true};
  std::atomic<bool> draining{false};
  SessionList sessions;                // what workers answer
  std::atomic<uint32_t> asked_for{0};  // sessions, the last time
  ReloadResult reload;                 // what a reload results in
};

}  // namespace ringmain
