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
  std::optional<uint16_t> Pick(Upstream&, std::span<const uint16_t>) const override { return std::nullopt; }
};

struct Sample {
  Sample() : upstream(EchoConfig(), std::make_unique<NoBalancer>()) {
    config->admin_listen = Address("127.0.0.1:0");
    config->listeners.push_back({.name = "tunnel", .listen = {Address("127.0.0.1:0")}, .upstream = "echo"});
    config->upstreams.push_back(upstream.config());
    board.listeners.push_back(std::make_unique<ListenerMetrics>("tunnel", kWorkers));
    board.upstreams.push_back(std::make_unique<UpstreamMetrics>("echo", kWorkers));
    for (const ServerConfig& server : upstream.config().servers) {
      board.upstreams[0]->servers.push_back(std::make_unique<ServerMetrics>(server.address.ToString(), kWorkers));
    }
  }

  static UpstreamConfig EchoConfig() {
    UpstreamConfig config{.name = "echo", .balance = BalanceMethod::kLeastConnections};
    config.health_check.emplace();
    config.servers.push_back({.address = Address("127.0.0.1:7001"), .weight = 3});
    config.servers.push_back({.address = Address("unix:/run/\"b\".sock")});
    return config;
  }

  AdminView View() {
    return {.config = config,
            .board = &board,
            .upstreams = {&upstream},
            .listener_addresses = {{Address("127.0.0.1:8080")}},
            .max_connections = 1000,
            .features = "multishot defer_taskrun",
            .start_time = std::chrono::system_clock::time_point(std::chrono::milliseconds(1'700'000'000'500)),
            .ready = &ready,
            .draining = &draining,
            .list_sessions = [this](uint32_t most) {
              asked_for = most;
              return sessions;
            }};
  }

  ListenerCells& listener(size_t worker) { return board.listeners[0]->cells[worker]; }
  ServerMetrics& server(size_t i) { return *board.upstreams[0]->servers[i]; }

  static constexpr size_t kWorkers = 2;
  std::shared_ptr<Config> config = std::make_shared<Config>();
  Board board{kWorkers};
  Upstream upstream;
  std::atomic<bool> ready{true};
  std::atomic<bool> draining{false};
  SessionList sessions;                // what workers answer
  std::atomic<uint32_t> asked_for{0};  // sessions, the last time
};

}  // namespace ringmain
