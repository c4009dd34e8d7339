// When probes are made, and what their results do; what a probe says and hears: probe_phases_test.cc.
#include "probes_fixture.h"

namespace ringmain {
namespace {

TEST_F(ProbesTest, SuccessConnectsAndResets) {
  Begin(kCheck);
  Pass(Probes::kFirstProbesWithin);
  ASSERT_EQ(io_.connects.size(), 1u);
  EXPECT_EQ(io_.connects[0].address, "127.0.0.1:7001");
  Complete(0, 0);
  EXPECT_EQ(io_.resets, 1);
  EXPECT_EQ(metrics_[0]->health.succeeded.value(), 1u);
  EXPECT_EQ(metrics_[0]->health.failed.value(), 0u);
  EXPECT_TRUE(server().up());
}

TEST_F(ProbesTest, GoesDownAfterFallAndUpAfterRiseAndLogsEachOnce) {
  Begin(kCheck);
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(server().up());
    Answer(0, -ECONNREFUSED);
  }
  EXPECT_FALSE(server().up());
  for (int i = 0; i < 5; ++i) Answer(0, -ECONNREFUSED);
  Answer(0, 0);
  EXPECT_FALSE(server().up());
  Answer(0, 0);
  EXPECT_TRUE(server().up());
  Answer(0, 0);
  std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(metrics_[0]->health.failed.value(), 8u);
  EXPECT_EQ(metrics_[0]->health.succeeded.value(), 3u);
  std::string down = "server down upstream=echo server=127.0.0.1:7001 reason=\"connection refused\"";
  std::string up = "server up upstream=echo server=127.0.0.1:7001";
  EXPECT_NE(log.find(down), std::string::npos) << log;
  EXPECT_NE(log.find(up), std::string::npos) << log;
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2) << log;
}

TEST_F(ProbesTest, WhatStaysIsCheckedOnAsItStands) {
  Begin(kCheck);
  for (int i = 0; i < 2; ++i) Answer(0, -ECONNREFUSED);
  for (int i = 0; i < 50; ++i) probes_->Check(Targets(kCheck), now_);
  EXPECT_LE(io_.connects.size(), 3u) << "checked anew at each change";
  Answer(0, -ECONNREFUSED);
  EXPECT_FALSE(server().up()) << "two of three failures were known";
  probes_->Check(Targets(kCheck), now_);
  EXPECT_FALSE(server().up());
  HealthCheckConfig quick = kCheck;
  quick.rise = 1;
  quick.interval = milliseconds(100);
  probes_->Check(Targets(quick), now_);
  Pass(milliseconds(150));
  Complete(0, 0);
  EXPECT_TRUE(server().up()) << "the new rise and interval hold";
}

TEST_F(ProbesTest, WhatIsNotCheckedAnyMoreIsUp) {
  Begin(kCheck);
  for (int i = 0; i < 3; ++i) Answer(0, -ECONNREFUSED);
  EXPECT_FALSE(server().up());
  for (int i = 0; i < 10000 && io_.armed.empty(); ++i) Pass(milliseconds(8));
  probes_->Check({}, now_);
  EXPECT_TRUE(server().up());
  EXPECT_EQ(io_.cancelled.size(), 1u);
  probes_->Check(Targets(kCheck), now_);  // it comes back while the old probe's connect is still armed
  EXPECT_EQ(probes_->armed(), 1u);
  Complete(0, -ECONNREFUSED);
  EXPECT_EQ(metrics_[0]->health.failed.value(), 3u) << "not a result";
  EXPECT_TRUE(io_.open.empty());
  for (int i = 0; i < 3; ++i) Answer(1, -ECONNREFUSED);
  EXPECT_FALSE(server().up());
  probes_->Check({}, now_);
  EXPECT_FALSE(probes_->NextWakeUp().has_value());
}

TEST_F(ProbesTest, TimesOutCancelsAndWaitsForTheFinalCompletion) {
  HealthCheckConfig check = kCheck;
  check.fall = 1;
  Begin(check);
  Pass(Probes::kFirstProbesWithin + check.timeout - milliseconds(120));
  ASSERT_EQ(io_.connects.size(), 1u);
  EXPECT_TRUE(io_.cancelled.empty());
  testing::internal::CaptureStderr();
  Pass(milliseconds(150));
  std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(io_.cancelled, std::vector<Token>{io_.connects[0].token});
  EXPECT_FALSE(server().up());
  EXPECT_NE(log.find("reason=\"timed out after 1s\""), std::string::npos) << log;
  // The kernel takes its time: no second probe, and the socket stays open.
  Pass(seconds(60));
  EXPECT_EQ(io_.connects.size(), 1u);
  EXPECT_EQ(io_.open.size(), 1u);
  EXPECT_EQ(metrics_[0]->health.failed.value(), 1u);
  Complete(0, -ECANCELED);
  EXPECT_TRUE(io_.open.empty());
  EXPECT_EQ(metrics_[0]->health.failed.value(), 1u) << "counted twice";
  Pass(milliseconds(16));
  EXPECT_EQ(io_.connects.size(), 2u);
}

TEST_F(ProbesTest, ASuccessThatCrossesTheCancelDoesNotCountAsWell) {
  Begin(kCheck);
  Pass(Probes::kFirstProbesWithin + kCheck.timeout + milliseconds(16));
  ASSERT_EQ(io_.cancelled.size(), 1u);
  Complete(0, 0);
  EXPECT_EQ(metrics_[0]->health.failed.value(), 1u);
  EXPECT_EQ(metrics_[0]->health.succeeded.value(), 0u);
}

TEST_F(ProbesTest, DurationsAreOfChecksThatHadAResult) {
  Begin(kCheck);
  auto count = [this] {
    const auto& durations = upstream_metrics_->health_check_duration;
    uint64_t all = 0;
    for (size_t i = 0; i < std::decay_t<decltype(durations)>::kBuckets; ++i) all += durations.bucket(i);
    return all;
  };
  Pass(Probes::kFirstProbesWithin);
  TimePoint started = now_;
  Pass(milliseconds(300));
  Complete(0, -ECONNREFUSED);
  EXPECT_EQ(count(), 1u);
  uint64_t sum = upstream_metrics_->health_check_duration.sum();
  EXPECT_GE(sum, static_cast<uint64_t>(Duration(now_ - started).count()));
  EXPECT_LE(sum, static_cast<uint64_t>(Duration(now_ - started + Probes::kFirstProbesWithin).count()));
  io_.open_error = EMFILE;
  Pass(milliseconds(2300));
  EXPECT_EQ(count(), 1u) << "no file descriptor says nothing of the server";
  io_.open_error = 0;
  Pass(milliseconds(4500));
  ASSERT_EQ(io_.cancelled.size(), 1u);
  EXPECT_EQ(count(), 2u) << "one that timed out took its timeout";
  EXPECT_GE(upstream_metrics_->health_check_duration.sum() - sum, 1'000'000'000u);
  Complete(0, -ECANCELED);
  EXPECT_EQ(count(), 2u);
}

TEST_F(ProbesTest, StaleCompletionsAreDropped) {
  Begin(kCheck);
  Answer(0, 0);
  probes_->Handle({io_.connects[0].token, -ECONNREFUSED}, now_);
  Pass(milliseconds(2300));
  ASSERT_EQ(io_.armed.size(), 1u);
  probes_->Handle({io_.connects[0].token, -ECONNREFUSED}, now_);
  EXPECT_EQ(probes_->armed(), 1u);
  EXPECT_EQ(metrics_[0]->health.failed.value(), 0u);
}

TEST_F(ProbesTest, IntervalsAreJitteredWithinATenth) {
  Begin(kCheck);
  std::vector<Duration> intervals;
  TimePoint last;
  for (int i = 0; i < 300; ++i) {
    while (io_.armed.empty()) {
      now_ = *probes_->NextWakeUp();
      probes_->RunTimers(now_);
    }
    if (i > 0) intervals.push_back(now_ - last);
    last = now_;
    Pass(milliseconds(i));  // the answer's delay does not add to the interval
    Complete(0, 0);
  }
  auto [least, most] = std::minmax_element(intervals.begin(), intervals.end());
  EXPECT_GE(*least, milliseconds(1800));
  EXPECT_LE(*most, milliseconds(2200) + 2 * TimerWheel::kTick);
  EXPECT_LT(*least, milliseconds(1850));
  EXPECT_GT(*most, milliseconds(2150));
}

TEST_F(ProbesTest, OutOfFilesSaysNothingAboutTheServer) {
  HealthCheckConfig check = kCheck;
  check.fall = 1;
  Begin(check);
  testing::internal::CaptureStderr();
  for (int error : {EMFILE, ENFILE, ENOMEM, ENOBUFS}) {
    io_.open_error = error;
    Pass(milliseconds(2300));
  }
  std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("health checks skipped reason=\"too many open files\""), std::string::npos) << log;
  EXPECT_TRUE(server().up());
  EXPECT_EQ(metrics_[0]->health.failed.value(), 0u);
  io_.open_error = 0;
  Answer(0, -ENOBUFS);
  EXPECT_TRUE(server().up());
  Answer(0, 0);  // it goes on by itself
  EXPECT_EQ(metrics_[0]->health.succeeded.value(), 1u);
  io_.open_error = EAFNOSUPPORT;
  Pass(milliseconds(2300));
  EXPECT_FALSE(server().up());
}

TEST_F(ProbesTest, StopCancelsWhatIsArmedAndCountsNothingMore) {
  Begin(kCheck);
  Pass(Probes::kFirstProbesWithin);
  probes_->Stop();
  EXPECT_EQ(io_.cancelled.size(), 1u);
  EXPECT_EQ(probes_->armed(), 1u);
  EXPECT_FALSE(probes_->NextWakeUp().has_value());
  Complete(0, -ECANCELED);
  EXPECT_EQ(probes_->armed(), 0u);
  EXPECT_EQ(metrics_[0]->health.failed.value() + metrics_[0]->health.succeeded.value(), 0u);
}

// With nobody on the server's port the kernel may take that port to connect from.
TEST_F(ProbesTest, AConnectThatReachesItselfIsRefused) {
  Begin(kCheck);
  io_.connected_to_itself = true;
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) Answer(0, 0);
  std::string log = testing::internal::GetCapturedStderr();
  EXPECT_FALSE(server().up());
  EXPECT_NE(log.find("reason=\"connection refused\""), std::string::npos) << log;
  EXPECT_EQ(metrics_[0]->health.failed.value(), 3u);
  EXPECT_EQ(io_.resets, 3);
}

TEST_F(ProbesTest, NoFreeLocalPortSaysNothingAboutTheServer) {
  HealthCheckConfig check = kCheck;
  check.fall = 1;
  Begin(check);
  testing::internal::CaptureStderr();
  Answer(0, -EADDRNOTAVAIL);
  std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("health checks skipped reason=\"cannot assign requested address\""), std::string::npos) << log;
  EXPECT_TRUE(server().up());
  EXPECT_EQ(metrics_[0]->health.failed.value(), 0u);
  Answer(0, 0);
  EXPECT_EQ(metrics_[0]->health.succeeded.value(), 1u);
}

class SourceProbesTest : public ProbesTest {
 protected:
  SourceProbesTest() : ProbesTest({"127.0.0.1:7001", "[::1]:7001"}, {"::2", "10.0.0.1", "::3", "10.0.0.2"}) {}
};

TEST_F(SourceProbesTest, ComeFromTheFirstAddressOfTheServersFamily) {
  Begin(kCheck);
  for (int i = 0; i < 3; ++i) {
    Answer(0, 0);
    Answer(1, 0);
  }
  EXPECT_EQ(std::set<std::string>(io_.sources.begin(), io_.sources.end()), (std::set<std::string>{"10.0.0.1", "::2"}));
}

TEST_F(SourceProbesTest, PassOverAddressesThatCannotBeHad) {
  Begin(kCheck);
  io_.missing = {"10.0.0.1"};
  Answer(0, 0);
  EXPECT_EQ(io_.sources, (std::vector<std::string>{"10.0.0.1", "10.0.0.2"}));
  Answer(1, -EADDRNOTAVAIL);  // no port is free
  EXPECT_EQ(io_.sources.back(), "::2");
  Answer(1, 0);
  EXPECT_EQ(io_.sources.back(), "::3");
  EXPECT_EQ(metrics_[0]->health.succeeded.value(), 1u);
  EXPECT_EQ(metrics_[1]->health.succeeded.value(), 1u);
  EXPECT_EQ(metrics_[0]->health.failed.value() + metrics_[1]->health.failed.value(), 0u);
}

TEST_F(SourceProbesTest, FailIfTheMachineHasNoneOfTheAddresses) {
  Begin(kCheck);
  io_.missing = {"10.0.0.1", "10.0.0.2"};
  testing::internal::CaptureStderr();
  Pass(seconds(10));
  std::string log = testing::internal::GetCapturedStderr();
  EXPECT_FALSE(server().up());
  EXPECT_NE(log.find("no interface of this machine has one of its source addresses"), std::string::npos) << log;
}

class ManyProbesTest : public ProbesTest {
 protected:
  ManyProbesTest() : ProbesTest(Addresses()) {}
  static std::vector<std::string> Addresses() {
    std::vector<std::string> addresses;
    for (int i = 0; i < 3000; ++i) addresses.push_back("127.0.0.1:" + std::to_string(10000 + i));
    return addresses;
  }
};

TEST_F(ManyProbesTest, AllStartWithinTheFirstMomentAndRunAtOnce) {
  Begin(kCheck);
  Pass(Probes::kFirstProbesWithin / 2);
  EXPECT_GT(io_.armed.size(), 1000u);
  EXPECT_LT(io_.armed.size(), 2000u);
  Pass(Probes::kFirstProbesWithin / 2 + TimerWheel::kTick);
  EXPECT_EQ(io_.armed.size(), 3000u);
  Pass(seconds(1));
  EXPECT_EQ(io_.cancelled.size(), 3000u);
}

class UnixProbesTest : public ProbesTest {
 protected:
  UnixProbesTest() : ProbesTest({"unix:/run/echo.sock"}) {}
};

TEST_F(UnixProbesTest, UnixSocketsAreClosedPlainly) {
  Begin(kCheck);
  Answer(0, 0);
  EXPECT_EQ(io_.closes, 1);
  EXPECT_EQ(io_.resets, 0);
}

}  // namespace
}  // namespace ringmain
