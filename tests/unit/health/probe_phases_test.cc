// What one probe sends and receives, phase by phase: cut at every byte, partial, late, broken off, changed under way.
#include "probes_fixture.h"

namespace ringmain {
namespace {

class ProbePhasesTest : public ProbesTest {
 protected:
  using ProbesTest::ProbesTest;
  static HealthCheckConfig Ping() {
    return {.type = HealthCheckType::kSendExpect, .fall = 1, .send = "PING\r\n", .expect = "+PONG"};
  }
  static HealthCheckConfig Get() { return {.type = HealthCheckType::kHttp, .fall = 1}; }

  // A probe is connected; what it sends, as far as there is room, is in received().
  void Connect() {
    Answer(0, 0);
    EXPECT_FALSE(io_.open.empty());
  }
  FakeIo::Peer& peer() { return io_.peers.at(io_.next_fd - 1); }
  short polled() const { return io_.armed.contains(0) ? io_.events.at(0) : 0; }
  void Receive(const std::string& bytes) {
    EXPECT_EQ(polled(), POLLIN);
    peer().incoming += bytes;
    Complete(0, POLLIN);
  }
  void End() {
    EXPECT_EQ(polled(), POLLIN);
    peer().ended = true;
    Complete(0, POLLIN | POLLHUP);
  }
  uint64_t succeeded() const { return metrics_[0]->health.succeeded.value(); }
  uint64_t failed() const { return metrics_[0]->health.failed.value(); }
  std::string reason() const { return metrics_[0]->health.last_failure.value(); }
  // One probe has ended, and its socket is closed.
  void ExpectResults(uint64_t good, uint64_t bad) const {
    EXPECT_EQ(succeeded(), good);
    EXPECT_EQ(failed(), bad);
    EXPECT_EQ(io_.open.size(), 0u);
    EXPECT_EQ(probes_->armed(), 0u);
  }
};

TEST_F(ProbePhasesTest, SendsAndFindsTheAnswer) {
  Begin(Ping());
  Connect();
  EXPECT_EQ(peer().received, "PING\r\n");
  Receive("+PONG\r\n");
  ExpectResults(1, 0);
  EXPECT_EQ(io_.resets, 1);
  EXPECT_EQ(reason(), "");
}

TEST_F(ProbePhasesTest, AnAnswerCutAtEveryByte) {
  std::string answer = "HTTP/1.1 200 OK\r\n";
  Begin(Get());
  for (size_t cut = 1; cut < 13; ++cut) {
    Connect();
    Receive(answer.substr(0, cut));
    EXPECT_EQ(polled(), POLLIN) << cut;
    Receive(answer.substr(cut));
    ExpectResults(cut, 0);
  }
  Connect();
  for (char c : answer.substr(0, 12)) Receive({c});
  EXPECT_EQ(succeeded(), 12u);
  Receive(" ");
  ExpectResults(13, 0);
}

TEST_F(ProbePhasesTest, APollThatBringsNothingIsPolledAgain) {
  Begin(Ping());
  Connect();
  Receive("");
  Receive("");
  Receive("+PONG");
  ExpectResults(1, 0);
}

TEST_F(ProbePhasesTest, SendsAsMuchAsThereIsRoomFor) {
  HealthCheckConfig check = Ping();
  check.send = std::string(10, 'x');
  io_.room = 0;
  Begin(check);
  Connect();
  std::string expected;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(polled(), POLLOUT);
    EXPECT_EQ(peer().received, expected);
    Complete(0, POLLOUT);  // for nothing
    EXPECT_EQ(polled(), POLLOUT);
    peer().room = 1;
    Complete(0, POLLOUT);
    expected += 'x';
  }
  EXPECT_EQ(polled(), POLLIN);
  EXPECT_EQ(peer().received, expected);
  Receive("+PONG");
  ExpectResults(1, 0);
}

TEST_F(ProbePhasesTest, AnEarlyEnd) {
  Begin(Ping());
  Connect();
  End();
  ExpectResults(0, 1);
  EXPECT_EQ(reason(), "closed without an answer");
  EXPECT_FALSE(server().up());
  Connect();
  Receive("-LOADING\r\n");
  End();
  ExpectResults(0, 2);
  EXPECT_EQ(reason(), "closed without a match");
}

TEST_F(ProbePhasesTest, AnEndBehindTheAnswerDoesNotMatter) {
  Begin(Ping());
  Connect();
  peer().ended = true;
  Receive("+PONG");
  ExpectResults(1, 0);
}

TEST_F(ProbePhasesTest, AResetInEachPhase) {
  Begin(Ping());
  Connect();
  peer().error = ECONNRESET;
  Complete(0, POLLIN | POLLERR | POLLHUP);
  ExpectResults(0, 1);
  EXPECT_EQ(reason(), "connection reset by peer");
  io_.room = 3;
  Connect();
  peer().error = EPIPE;
  Complete(0, POLLOUT | POLLERR);
  ExpectResults(0, 2);
  EXPECT_EQ(reason(), "broken pipe");
  io_.room = SIZE_MAX;
  Connect();
  Complete(0, -ENOMEM);  // the poll itself: nothing of the server's
  ExpectResults(0, 2);
}

TEST_F(ProbePhasesTest, TheTimeoutIsOfTheWholeProbe) {
  HealthCheckConfig check = Ping();
  check.expect = "never";
  Begin(check);
  Connect();
  // A byte now and then does not make it longer.
  for (int i = 0; i < 9; ++i) {
    Pass(milliseconds(100));
    Receive(".");
  }
  EXPECT_TRUE(io_.cancelled.empty());
  Pass(milliseconds(200));
  ASSERT_EQ(io_.cancelled.size(), 1u);
  EXPECT_EQ(failed(), 1u);
  EXPECT_EQ(reason(), "timed out after 1s without a match");
  EXPECT_EQ(io_.open.size(), 1u) << "the final completion is still to come";
  peer().incoming = "never";
  Complete(0, POLLIN);
  ExpectResults(0, 1);
}

TEST_F(ProbePhasesTest, TimeoutsSayHowFarItCame) {
  Begin(Ping());
  Connect();
  Pass(milliseconds(1100));
  EXPECT_EQ(reason(), "timed out after 1s without an answer");
  Complete(0, -ECANCELED);
  ExpectResults(0, 1);
  io_.room = 0;
  Connect();
  Pass(milliseconds(1100));
  EXPECT_EQ(reason(), "timed out after 1s before all was sent");
  Complete(0, -ECANCELED);
  ExpectResults(0, 2);
  Pass(milliseconds(3500));
  EXPECT_EQ(reason(), "timed out after 1s");
}

TEST_F(ProbePhasesTest, NoMoreThan16KiBAreReceived) {
  Begin(Ping());
  Connect();
  Receive(std::string(Exchange::kMaxAnswer - 1, '.'));
  EXPECT_EQ(polled(), POLLIN);
  Receive("...");
  EXPECT_EQ(peer().incoming.size(), 2u) << "not looked at";
  ExpectResults(0, 1);
  EXPECT_EQ(reason(), "no match in the first 16 KiB");
  Connect();
  Receive(std::string(100000, '.') + "+PONG");
  ExpectResults(0, 2);
}

TEST_F(ProbePhasesTest, TheLogNamesTheStatus) {
  Begin(Get());
  Connect();
  testing::internal::CaptureStderr();
  Receive("HTTP/1.0 503 Service Unavailable\r\n");
  std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("server down upstream=echo server=127.0.0.1:7001 reason=\"status 503\""), std::string::npos) << log;
  EXPECT_EQ(reason(), "status 503");
}

TEST_F(ProbePhasesTest, RemovedAndStoppedInEachPhase) {
  for (size_t room : {size_t{0}, SIZE_MAX}) {
    io_.room = room;
    Begin(Ping());
    Connect();
    probes_->Check({}, now_);
    EXPECT_EQ(io_.cancelled.size(), 1u);
    EXPECT_EQ(io_.open.size(), 1u);
    Complete(0, POLLIN);
    ExpectResults(0, 0);
    EXPECT_FALSE(probes_->NextWakeUp().has_value());
    probes_->Check(Targets(Ping()), now_);
    Connect();
    probes_->Stop();
    EXPECT_EQ(io_.cancelled.size(), 2u);
    Complete(0, -ECANCELED);
    ExpectResults(0, 0);
    io_.cancelled.clear();
  }
}

TEST_F(ProbePhasesTest, AChangeDoesNotTouchTheProbeUnderWay) {
  Begin(Ping());
  Connect();
  HealthCheckConfig get = Get();
  get.port = 81;
  probes_->Check(Targets(get), now_);
  Receive("+PONG");
  ExpectResults(1, 0);
  Answer(0, 0);
  EXPECT_EQ(io_.connects.back().address, "127.0.0.1:81");
  EXPECT_TRUE(peer().received.starts_with("GET / HTTP/1.0\r\n"));
  Receive("HTTP/1.1 200 \r\n");
  ExpectResults(2, 0);
}

TEST_F(ProbePhasesTest, AnotherTypeKeepsStateAndCount) {
  HealthCheckConfig tcp;
  Begin(tcp);
  for (int i = 0; i < 2; ++i) Answer(0, -ECONNREFUSED);
  HealthCheckConfig ping = Ping();
  ping.fall = 3;
  probes_->Check(Targets(ping), now_);
  EXPECT_TRUE(server().up());
  Connect();
  End();
  EXPECT_FALSE(server().up()) << "the third failure in a row";
  probes_->Check(Targets(tcp), now_);
  EXPECT_FALSE(server().up());
}

TEST_F(ProbePhasesTest, TheProloguePrecedesAll) {
  for (HealthCheckConfig check : {HealthCheckConfig{}, Ping(), Get()}) {
    std::vector<ProbeTarget> targets = Targets(check);
    targets[0].prologue = "HEADER\r\n";
    probes_.emplace(io_, 1, now_);
    probes_->Check(targets, now_);
    Answer(0, 0);
    EXPECT_TRUE(peer().received.starts_with("HEADER\r\n")) << peer().received;
    probes_->Stop();
    if (io_.armed.contains(0)) Complete(0, -ECANCELED);
  }
  EXPECT_EQ(succeeded(), 1u) << "to be connected, and rid of the prologue, is enough for tcp";
}

// ---- When ----

TEST_F(ProbePhasesTest, FasterWhileResultsContradictTheState) {
  HealthCheckConfig check;
  check.fast_interval = milliseconds(100);
  check.jitter_percent = 0;
  Begin(check);
  auto until_next = [&] {
    TimePoint before = now_;
    for (int i = 0; i < 10000 && io_.armed.empty(); ++i) Pass(milliseconds(4));
    return now_ - before;
  };
  auto near = [](Duration time, milliseconds wanted) { return time >= wanted - milliseconds(20) && time <= wanted + milliseconds(20); };
  until_next();
  Complete(0, 0);
  EXPECT_TRUE(near(until_next(), milliseconds(2000)));
  for (int i = 0; i < 2; ++i) {
    Complete(0, -ECONNREFUSED);
    EXPECT_TRUE(near(until_next(), milliseconds(100)));
  }
  Complete(0, 0);  // a success agrees with the state
  EXPECT_TRUE(near(until_next(), milliseconds(2000)));
  for (int i = 0; i < 3; ++i) {
    Complete(0, -ECONNREFUSED);
    EXPECT_EQ(server().up(), i < 2);
    EXPECT_TRUE(near(until_next(), milliseconds(i < 2 ? 100 : 2000))) << i;
  }
  Complete(0, 0);
  EXPECT_TRUE(near(until_next(), milliseconds(100))) << "down, and a success";
  Complete(0, 0);
  EXPECT_TRUE(server().up());
  EXPECT_TRUE(near(until_next(), milliseconds(2000)));
}

TEST_F(ProbePhasesTest, JitterIsAsWideAsConfigured) {
  HealthCheckConfig check;
  for (uint32_t percent : {0u, 50u}) {
    check.jitter_percent = percent;
    Begin(check);
    std::vector<Duration> intervals;
    TimePoint last;
    for (int i = 0; i < 200; ++i) {
      while (io_.armed.empty()) {
        now_ = *probes_->NextWakeUp();
        probes_->RunTimers(now_);
      }
      if (i > 0) intervals.push_back(now_ - last);
      last = now_;
      Complete(0, 0);
    }
    auto [least, most] = std::minmax_element(intervals.begin(), intervals.end());
    EXPECT_GE(*least, milliseconds(percent == 0 ? 2000 : 1000));
    EXPECT_LE(*most, milliseconds(percent == 0 ? 2000 : 3000) + 2 * TimerWheel::kTick);
    EXPECT_GT(*most - *least, milliseconds(percent == 0 ? -1 : 1800));
    probes_->Stop();
  }
}

TEST_F(ProbePhasesTest, AServerThatStartsDownComesUpByItsChecks) {
  server().set_up(false);  // as who makes it does
  HealthCheckConfig check = Ping();
  check.start_up = false;
  Begin(check);
  Connect();
  Receive("+PONG");
  EXPECT_FALSE(server().up());
  probes_->Check(Targets(check), now_);
  Connect();
  Receive("+PONG");
  EXPECT_TRUE(server().up());
  probes_->Check(Targets(check), now_);
  EXPECT_TRUE(server().up()) << "it is known";
}

class UnixProbePhasesTest : public ProbePhasesTest {
 protected:
  UnixProbePhasesTest() : ProbePhasesTest({"unix:/run/echo.sock"}) {}
};

TEST_F(UnixProbePhasesTest, TheSameOverUnixSockets) {
  Begin(Get());
  Connect();
  EXPECT_EQ(io_.connects[0].address, "unix:/run/echo.sock");
  Receive("HTTP/1.1 200 OK\r\n");
  ExpectResults(1, 0);
  EXPECT_EQ(io_.closes, 1);
  HealthCheckConfig other = Get();
  other.address = SocketAddress::Parse("10.0.0.9:81").value();
  probes_->Check(Targets(other), now_);
  Connect();
  EXPECT_EQ(io_.connects[1].address, "10.0.0.9:81");
  Receive("HTTP/1.1 200 OK\r\n");
  EXPECT_EQ(io_.resets, 1) << "what is checked is TCP";
}

class ManyProbePhasesTest : public ProbePhasesTest {
 protected:
  static constexpr uint32_t kServers = 2000;
  ManyProbePhasesTest() : ProbePhasesTest(Addresses()) {}
  static std::vector<std::string> Addresses() {
    std::vector<std::string> addresses;
    for (uint32_t i = 0; i < kServers; ++i) addresses.push_back("127.0.0.1:" + std::to_string(10000 + i));
    return addresses;
  }
};

// Each answers its second half when all have got the first: whoever waits for one would not come to the next.
TEST_F(ManyProbePhasesTest, AllAreCheckedAtOnceInEachInterval) {
  HealthCheckConfig check = Get();
  check.jitter_percent = 0;
  Begin(check);
  for (uint64_t round = 1; round <= 3; ++round) {
    int first_fd = io_.next_fd;
    for (int i = 0; i < 10000 && io_.armed.size() < kServers; ++i) Pass(milliseconds(4));
    ASSERT_EQ(io_.armed.size(), kServers);
    for (uint32_t i = 0; i < kServers; ++i) Complete(i, 0);
    for (const char* half : {"HTTP/1.1 2", "00 OK\r\n"}) {
      EXPECT_EQ(probes_->armed(), kServers);
      for (auto& [fd, one] : io_.peers)
        if (fd >= first_fd) one.incoming = half;
      for (uint32_t i = 0; i < kServers; ++i) Complete(i, POLLIN);
    }
    for (const auto& metrics : metrics_) EXPECT_EQ(metrics->health.succeeded.value(), round);
    EXPECT_EQ(probes_->armed(), 0u);
  }
  EXPECT_LE(now_ - TimePoint(std::chrono::hours(5)), Probes::kFirstProbesWithin + 2 * check.interval + milliseconds(100));
}

}  // namespace
}  // namespace ringmain
