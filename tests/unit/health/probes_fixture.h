// What the tests of Probes share: an Io that the test plays, so that every completion, failure and moment is chosen.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "health/probes.h"

namespace ringmain {

class FakeIo final : public Io {
 public:
  const Abilities& abilities() const override { return abilities_; }
  void ReceiveMultishot(Token, int, uint32_t) override { ADD_FAILURE(); }
  void ReceiveOnce(Token, int, uint32_t, bool) override { ADD_FAILURE(); }
  void Send(Token, int, std::span<const iovec>, SendMode) override { ADD_FAILURE(); }
  void Connect(Token token, int fd, const SocketAddress& address) override {
    Arm(token, fd, 0);
    connects.push_back({address.ToString(), token});
  }
  void Poll(Token token, int fd, short what) override { Arm(token, fd, what); }
  void Cancel(Token target) override { cancelled.push_back(target); }
  int OpenSocket(int, const SocketAddress* source, const SocketOptions*, bool) override {
    sources.push_back(source == nullptr ? "" : source->host());
    if (open_error != 0) return -open_error;
    if (missing.contains(sources.back())) return -EADDRNOTAVAIL;
    open.insert(next_fd);
    peers[next_fd].room = room;
    return next_fd++;
  }
  void KeepAlive(int, seconds, const SocketOptions*) override { ADD_FAILURE(); }
  bool ConnectedToItself(int fd, const SocketAddress&) override {
    EXPECT_TRUE(open.contains(fd));
    return connected_to_itself;
  }
  void ShutdownSend(int) override { ADD_FAILURE(); }
  void Close(int fd) override {
    EXPECT_EQ(open.erase(fd), 1u);
    ++closes;
  }
  void CloseWithReset(int fd) override {
    EXPECT_EQ(open.erase(fd), 1u);
    ++resets;
  }
  void EndForAll(int, bool) override { ADD_FAILURE(); }
  void PollNow(std::span<pollfd>) override {}
  bool HasBytes(int) override { return false; }
  std::optional<TcpSample> SampleTcp(int) override { return std::nullopt; }
  std::optional<SocketAddress> PeerAddress(int) override { return std::nullopt; }
  std::optional<SocketAddress> LocalAddress(int) override { return std::nullopt; }
  std::optional<uint16_t> AcquirePipe() override { return std::nullopt; }
  void ReleasePipe(uint16_t) override {}
  std::array<int, 2> PipeEnds(uint16_t) override { return {}; }
  uint16_t AdoptPipe(int, int) override { return 0; }
  void DiscardPipe(uint16_t) override {}
  int SpliceToPipe(int, uint16_t, uint32_t) override { return -EAGAIN; }
  int SpliceFromPipe(uint16_t, int, uint32_t) override { return -EAGAIN; }
  int ReceiveNow(int fd, std::span<const iovec> parts) override {
    EXPECT_TRUE(open.contains(fd));
    EXPECT_GT(parts[0].iov_len, 0u) << "no room for it";
    Peer& peer = peers[fd];
    if (peer.incoming.empty()) return peer.error != 0 ? -peer.error : peer.ended ? 0 : -EAGAIN;
    size_t size = std::min(parts[0].iov_len, peer.incoming.size());
    memcpy(parts[0].iov_base, peer.incoming.data(), size);
    peer.incoming.erase(0, size);
    return static_cast<int>(size);
  }
  int SendNow(int fd, std::span<const iovec> parts) override {
    EXPECT_TRUE(open.contains(fd));
    EXPECT_GT(parts[0].iov_len, 0u);
    Peer& peer = peers[fd];
    if (peer.error != 0) return -peer.error;
    if (peer.room == 0) return -EAGAIN;
    size_t size = std::min(parts[0].iov_len, peer.room);
    peer.received.append(static_cast<const char*>(parts[0].iov_base), size);
    peer.room -= size;
    return static_cast<int>(size);
  }
  TimePoint Now() override { return {}; }

  struct Attempt {
    std::string address;
    Token token;
  };
  // The other side of a connection.
  struct Peer {
    size_t room = SIZE_MAX;  // that is left for what is sent
    std::string received;
    std::string incoming;  // for the probe
    bool ended = false;    // after that
    int error = 0;         // instead of the end
  };

  std::map<int, Peer> peers;
  size_t room = SIZE_MAX;  // of the next peer
  std::vector<Attempt> connects;
  std::vector<Token> cancelled;
  std::map<uint32_t, Token> armed;
  std::map<uint32_t, short> events;  // what a poll is for; 0 of a connect
  std::set<int> open;
  int next_fd = 100;
  int open_error = 0;
  std::vector<std::string> sources;  // of each socket; empty if none
  std::set<std::string> missing;     // sources that this machine does not have
  bool connected_to_itself = false;
  int closes = 0;
  int resets = 0;

 private:
  void Arm(Token token, int fd, short what) {
    EXPECT_TRUE(open.contains(fd));
    EXPECT_TRUE(armed.emplace(token.index, token).second) << "two operations of one server at once";
    events[token.index] = what;
  }

  Abilities abilities_;
};

class ProbesTest : public testing::Test {
 protected:
  explicit ProbesTest(std::vector<std::string> addresses = {"127.0.0.1:7001"}, std::vector<std::string> sources = {}) {
    config_.name = "echo";
    for (const std::string& source : sources) config_.source_addresses.push_back(SocketAddress::ParseHost(source).value());
    for (const std::string& address : addresses) config_.servers.push_back({SocketAddress::Parse(address).value(), 1});
    upstream_.emplace(config_, nullptr);
    for (const std::string& address : addresses) metrics_.push_back(std::make_shared<ServerMetrics>(address, 1));
  }
  ~ProbesTest() override {
    if (!probes_.has_value()) return;
    probes_->Stop();
    while (!io_.armed.empty()) Complete(io_.armed.begin()->first, -ECANCELED);
    EXPECT_EQ(probes_->armed(), 0u);
    EXPECT_TRUE(io_.open.empty()) << "a socket leaked";
  }

  void Begin(HealthCheckConfig check, uint64_t seed = 1) {
    probes_.emplace(io_, seed, now_);
    probes_->Check(Targets(check), now_);
  }
  std::vector<ProbeTarget> Targets(HealthCheckConfig check) {
    std::vector<ProbeTarget> targets;
    for (size_t i = 0; i < upstream_->size(); ++i) {
      std::span<const SocketAddress> sources = upstream_->sources(i);
      targets.push_back({"echo", upstream_->servers()[i], metrics_[i], upstream_metrics_, std::make_shared<const HealthCheckConfig>(check),
                         {sources.begin(), sources.end()}});
    }
    return targets;
  }
  // Lets time pass in the steps the probes ask for.
  void Pass(Duration time) {
    TimePoint until = now_ + time;
    while (probes_->NextWakeUp().has_value() && *probes_->NextWakeUp() <= until) {
      now_ = std::max(now_, *probes_->NextWakeUp());
      probes_->RunTimers(now_);
    }
    now_ = until;
  }
  void Complete(uint32_t index, int result) {
    Token token = io_.armed.at(index);
    io_.armed.erase(index);
    probes_->Handle({token, result}, now_);
  }
  // Lets time pass until a probe of this server is armed, then completes it.
  void Answer(uint32_t index, int result) {
    for (int i = 0; i < 10000 && !io_.armed.contains(index); ++i) Pass(milliseconds(8));
    Complete(index, result);
  }
  Server& server(size_t i = 0) { return upstream_->server(i); }

  static inline const HealthCheckConfig kCheck;  // every 2 s, for 1 s, rise 2, fall 3

  TimePoint now_ = TimePoint(std::chrono::hours(5));
  FakeIo io_;
  UpstreamConfig config_;
  std::optional<Upstream> upstream_;
  std::vector<std::shared_ptr<ServerMetrics>> metrics_;
  std::shared_ptr<UpstreamMetrics> upstream_metrics_ = std::make_shared<UpstreamMetrics>("echo", 1);
  std::optional<Probes> probes_;
};

}  // namespace ringmain
