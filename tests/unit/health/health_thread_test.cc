// The health thread with real sockets on loopback. Every wait is for a condition, with a deadline far beyond what it
// takes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "health/prober.h"

namespace ringmain {
namespace {

testing::AssertionResult Becomes(const std::function<bool()>& condition) {
  for (TimePoint give_up = Clock::now() + seconds(20); Clock::now() < give_up;) {
    if (condition()) return testing::AssertionSuccess();
    std::this_thread::sleep_for(milliseconds(2));
  }
  return testing::AssertionFailure() << "not within 20 s";
}

// A port of its own that can be closed and opened again: a second socket stays bound to it and never listens, so a
// connect is refused meanwhile, and nobody else gets the port.
class Listener {
 public:
  explicit Listener(const SocketAddress& address) : address_(address), keeper_(Bind()) {
    address_ = SocketAddress::OfSocket(keeper_.get()).value();
  }
  explicit Listener(const char* address = "127.0.0.1:0") : Listener(SocketAddress::Parse(address).value()) {}

  void Open(int backlog = 4096) {
    listening_ = Bind();
    EXPECT_EQ(listen(listening_.get(), backlog), 0);
  }
  void Shut() { listening_.reset(); }
  int fd() const { return listening_.get(); }
  const SocketAddress& address() const { return address_; }

 private:
  UniqueFd Bind() {
    UniqueFd fd(socket(address_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address_.is_unix()) unlink(address_.unix_path().c_str());
    EXPECT_EQ(bind(fd.get(), address_.address(), address_.length()), 0);
    return fd;
  }

  SocketAddress address_;
  UniqueFd keeper_;
  UniqueFd listening_;
};

// A listener whose accept queue is full: the kernel drops every further SYN.
class DeafListener : public Listener {
 public:
  DeafListener() {
    Open(0);
    for (int i = 0; i < 4; ++i) {
      fill_.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      connect(fill_.back().get(), address().address(), address().length());
    }
  }

 private:
  std::vector<UniqueFd> fill_;
};

class HealthThreadTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { features_ = ProbeFeatures("").value(); }

  void AddUpstream(const std::string& name, const std::vector<SocketAddress>& servers,
                   std::optional<HealthCheckConfig> check) {
    UpstreamConfig config;
    config.name = name;
    config.health_check = check;
    for (const SocketAddress& address : servers) config.servers.push_back({address, 1});
    upstreams_.push_back(std::make_unique<Upstream>(config, nullptr));
    std::vector<std::shared_ptr<ServerMetrics>>& metrics = metrics_.emplace_back();
    for (const SocketAddress& address : servers) metrics.push_back(std::make_shared<ServerMetrics>(address.ToString(), 1));
  }
  std::vector<ProbeTarget> Targets() {
    std::vector<ProbeTarget> targets;
    for (size_t u = 0; u < upstreams_.size(); ++u)
      for (size_t i = 0; upstreams_[u]->config().health_check.has_value() && i < upstreams_[u]->size(); ++i)
        targets.push_back({upstreams_[u]->name(), upstreams_[u]->servers()[i], metrics_[u][i], upstream_metrics_,
                           std::make_shared<const HealthCheckConfig>(*upstreams_[u]->config().health_check), {}});
    return targets;
  }
  void Start(const Features& features = features_) {
    health_ = std::make_unique<HealthThread>(features);
    absl::Status status = health_->Start();
    ASSERT_TRUE(status.ok()) << status;
    health_->Check(Targets());
  }
  // How long the destructor takes.
  Duration Stop() {
    TimePoint before = Clock::now();
    health_.reset();
    return Clock::now() - before;
  }
  Server& server(size_t i = 0) { return upstreams_[0]->server(i); }
  HealthCells& cells(size_t i = 0) { return metrics_[0][i]->health; }

  static inline const HealthCheckConfig kFast = {
      .interval = milliseconds(20), .timeout = milliseconds(2000), .rise = 2, .fall = 3, .jitter_percent = 0};

  static inline Features features_;
  std::shared_ptr<UpstreamMetrics> upstream_metrics_ = std::make_shared<UpstreamMetrics>("echo", 1);
  std::vector<std::vector<std::shared_ptr<ServerMetrics>>> metrics_;
  std::vector<std::unique_ptr<Upstream>> upstreams_;
  std::unique_ptr<HealthThread> health_;
};

TEST_F(HealthThreadTest, WhatIsCheckedMayChange) {
  Listener good, bad;
  good.Open();
  AddUpstream("echo", {good.address(), bad.address()}, kFast);
  Start();
  EXPECT_TRUE(Becomes([&] { return !server(1).up() && cells(0).succeeded.value() > 2; }));
  std::vector<ProbeTarget> one = Targets();
  one.pop_back();
  health_->Check(one);
  EXPECT_TRUE(Becomes([&] { return server(1).up(); })) << "not checked any more";
  uint64_t before = cells(0).succeeded.value();
  EXPECT_TRUE(Becomes([&] { return cells(0).succeeded.value() > before + 2; }));
  health_->Check(Targets());
  EXPECT_TRUE(Becomes([&] { return !server(1).up(); }));
}

TEST_F(HealthThreadTest, FollowsAServerDownAndUp) {
  Listener listener;
  AddUpstream("echo", {listener.address()}, kFast);
  listener.Open();
  Start();
  EXPECT_TRUE(health_->running());
  EXPECT_TRUE(Becomes([&] { return cells().succeeded.value() >= 3; }));
  EXPECT_TRUE(server().up());
  EXPECT_EQ(cells().failed.value(), 0u);

  listener.Shut();
  EXPECT_TRUE(Becomes([&] { return !server().up(); }));
  EXPECT_GE(cells().failed.value(), kFast.fall);

  uint64_t before = cells().succeeded.value();
  listener.Open();
  EXPECT_TRUE(Becomes([&] { return server().up(); }));
  EXPECT_GE(cells().succeeded.value(), before + kFast.rise);
}

TEST_F(HealthThreadTest, EachServerOfEachUpstreamOnItsOwn) {
  Listener good, bad, six("[::1]:0");
  std::string directory = testing::TempDir() + "/health-XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  SocketAddress path = SocketAddress::Parse("unix:" + directory + "/s").value();
  Listener local(path);
  good.Open();
  six.Open();
  local.Open();
  AddUpstream("a", {good.address(), bad.address(), six.address(), path}, kFast);
  AddUpstream("b", {bad.address()}, std::nullopt);
  HealthCheckConfig once = kFast;
  once.fall = 1;
  AddUpstream("c", {bad.address()}, once);
  Start();
  EXPECT_TRUE(Becomes([&] { return !server(1).up() && !upstreams_[2]->server(0).up(); }));
  EXPECT_TRUE(Becomes([&] {
    return cells(0).succeeded.value() >= 2 && cells(2).succeeded.value() >= 2 && cells(3).succeeded.value() >= 2;
  }));
  EXPECT_TRUE(server(0).up() && server(2).up() && server(3).up());
  EXPECT_TRUE(upstreams_[1]->server(0).up()) << "not checked";
  EXPECT_EQ(metrics_[1][0]->health.failed.value(), 0u);
  health_.reset();
  std::filesystem::remove_all(directory);
}

TEST_F(HealthThreadTest, AnUnansweredConnectTimesOut) {
  DeafListener listener;
  HealthCheckConfig check = kFast;
  check.timeout = milliseconds(50);
  AddUpstream("echo", {listener.address()}, check);
  TimePoint before = Clock::now();
  Start();
  EXPECT_TRUE(Becomes([&] { return !server().up(); }));
  EXPECT_GE(Clock::now() - before, check.timeout * check.fall);
  EXPECT_EQ(cells().succeeded.value(), 0u);
  uint64_t failed = cells().failed.value();
  EXPECT_TRUE(Becomes([&] { return cells().failed.value() > failed; })) << "goes on after a timeout";
}

TEST_F(HealthThreadTest, StopsAtOnceWithConnectsArmed) {
  DeafListener listener;
  HealthCheckConfig check = kFast;
  check.timeout = milliseconds(60000);
  AddUpstream("echo", {listener.address()}, check);
  auto open_sockets = [] {
    std::filesystem::directory_iterator files("/proc/self/fd"), end;
    return std::count_if(files, end, [](const auto& file) {
      std::error_code error;
      return std::filesystem::read_symlink(file, error).string().starts_with("socket:");
    });
  };
  auto before = open_sockets();
  for (int round = 0; round < 5; ++round) {
    Start();
    EXPECT_TRUE(Becomes([&] { return open_sockets() == before + 1; }));
    EXPECT_LT(Stop(), milliseconds(1000));  // some milliseconds, but the machine may be busy
    EXPECT_EQ(open_sockets(), before);
  }
  EXPECT_EQ(cells().failed.value() + cells().succeeded.value(), 0u);
}

// 1000 servers, half of them dead: all are judged.
TEST_F(HealthThreadTest, ManyServers) {
  Listener bad("0.0.0.0:0");
  // Every address in 127.0.0.0/8 reaches a socket that is bound to any address.
  Listener any("0.0.0.0:0");
  any.Open();
  std::vector<SocketAddress> servers;
  for (int i = 0; i < 1000; ++i) {
    std::string host = "127.1." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250) + ":";
    uint16_t port = i % 2 == 0 ? any.address().port() : bad.address().port();
    servers.push_back(SocketAddress::Parse(host + std::to_string(port)).value());
  }
  HealthCheckConfig check = kFast;
  check.interval = milliseconds(200);
  AddUpstream("echo", servers, check);
  testing::internal::CaptureStderr();  // 500 lines
  Start();
  std::atomic<bool> done{false};
  std::thread accepter([&] {
    fcntl(any.fd(), F_SETFL, O_NONBLOCK);
    while (!done) {
      UniqueFd accepted(accept(any.fd(), nullptr, nullptr));
      if (!accepted.valid()) std::this_thread::sleep_for(milliseconds(1));
    }
  });
  EXPECT_TRUE(Becomes([&] {
    for (size_t i = 0; i < servers.size(); ++i) {
      if (server(i).up() != (i % 2 == 0)) return false;
      if (i % 2 == 0 && cells(i).succeeded.value() < 3) return false;
    }
    return true;
  }));
  done = true;
  accepter.join();
  health_.reset();
  std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 500) << "one line for each flip";
}

// Down to what Linux 6.1 without options offers.
TEST_F(HealthThreadTest, WorksWithoutOptionalFeatures) {
  Listener good, bad;
  good.Open();
  AddUpstream("echo", {good.address(), bad.address()}, kFast);
  Start(Features{});
  EXPECT_TRUE(Becomes([&] { return cells(0).succeeded.value() >= 3 && !server(1).up(); }));
  EXPECT_TRUE(server(0).up());
}

}  // namespace
}  // namespace ringmain
