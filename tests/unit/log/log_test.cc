#include "log/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <vector>

namespace ringmain {
namespace {

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

class LogTest : public testing::Test {
 protected:
  void TearDown() override {
    // Back to the defaults for other tests.
    ShutDownLog();
    SetUpLog({});
    ShutDownLog();
  }
};

TEST_F(LogTest, WritesStraightToStandardErrorUntilSetUp) {
  testing::internal::CaptureStderr();
  Log(LogLevel::kInfo, "listening name=", "x", " port=", 80);
  Log(LogLevel::kDebug, "not shown");
  std::string text = testing::internal::GetCapturedStderr();
  const std::string end = "Z info  listening name=x port=80\n";
  EXPECT_EQ(text.size(), std::string("2026-01-02T03:04:05.678").size() + end.size()) << text;
  EXPECT_TRUE(text.ends_with(end)) << text;
}

TEST_F(LogTest, WritesInOrderAndFlushesAtShutDown) {
  testing::internal::CaptureStderr();
  SetUpLog({LogLevel::kInfo, LogFormat::kText});
  for (int i = 0; i < 1000; ++i) Log(LogLevel::kInfo, "line ", i);
  ShutDownLog();
  Log(LogLevel::kInfo, "after");
  std::vector<std::string> lines = Lines(testing::internal::GetCapturedStderr());
  ASSERT_EQ(lines.size(), 1001u);
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(lines[i].ends_with(" info  line " + std::to_string(i))) << lines[i];
  EXPECT_TRUE(lines[1000].ends_with(" info  after"));
}

TEST_F(LogTest, ShowsItsLevelAndAbove) {
  const LogLevel levels[] = {LogLevel::kTrace, LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError};
  for (LogLevel configured : levels) {
    testing::internal::CaptureStderr();
    SetUpLog({configured, LogFormat::kJson});
    size_t shown = 0;
    for (LogLevel level : levels) {
      EXPECT_EQ(LogEnabled(level), level >= configured);
      shown += LogEnabled(level);
      Log(level, "x");
    }
    ShutDownLog();
    std::vector<std::string> lines = Lines(testing::internal::GetCapturedStderr());
    ASSERT_EQ(lines.size(), shown);
    EXPECT_EQ(nlohmann::json::parse(lines[0])["level"], std::string(ToString(configured)));
  }
}

TEST_F(LogTest, KeepsLinesOfSeveralThreadsWhole) {
  constexpr int kThreads = 4, kLines = 500;  // together fewer than the queue holds
  testing::internal::CaptureStderr();
  SetUpLog({LogLevel::kInfo, LogFormat::kJson});
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < kLines; ++i) Log(LogLevel::kInfo, t, " ", i, " ", std::string(300, 'x'));
    });
  }
  for (std::thread& thread : threads) thread.join();
  ShutDownLog();
  std::vector<std::string> lines = Lines(testing::internal::GetCapturedStderr());
  ASSERT_EQ(lines.size(), static_cast<size_t>(kThreads * kLines));
  std::vector<int> next(kThreads, 0);
  for (const std::string& line : lines) {
    int thread = 0, number = 0;
    std::string message = nlohmann::json::parse(line)["message"];
    ASSERT_EQ(sscanf(message.c_str(), "%d %d ", &thread, &number), 2) << message;
    EXPECT_EQ(number, next.at(thread)++);
    EXPECT_TRUE(message.ends_with(" " + std::string(300, 'x')));
  }
}

TEST_F(LogTest, DropsTheOldestLinesWhenNobodyReadsAndNeverWaits) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  int saved = dup(STDERR_FILENO);
  dup2(ends[1], STDERR_FILENO);
  close(ends[1]);
  SetUpLog({});
  // Far more than the pipe and the queue hold: a logger that waits would never get to the end.
  constexpr int kLines = 50000;
  for (int i = 0; i < kLines; ++i) Log(LogLevel::kInfo, "line ", i, " ", std::string(100, 'x'));
  std::string text;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) text.append(buffer, n);
  });
  ShutDownLog();
  dup2(saved, STDERR_FILENO);  // closes the last writing end
  close(saved);
  reader.join();
  close(ends[0]);
  std::vector<std::string> lines = Lines(text);
  ASSERT_GT(lines.size(), 8192u);
  EXPECT_LT(lines.size(), static_cast<size_t>(kLines));
  EXPECT_NE(lines[lines.size() - 2].find(" line 49999 "), std::string::npos) << lines[lines.size() - 2];
  size_t dropped = lines.back().find(" warn  dropped ");
  ASSERT_NE(dropped, std::string::npos) << lines.back();
  // Every line was written or counted.
  EXPECT_EQ(std::stoul(lines.back().substr(dropped + 15)) + lines.size() - 1, static_cast<size_t>(kLines));
}

TEST_F(LogTest, WritesToAFileThatMayBeOpenedAnew) {
  std::string name = testing::TempDir() + "ringmain-log-XXXXXX";
  std::filesystem::path directory = mkdtemp(name.data());
  auto read = [](const std::filesystem::path& file) {
    std::ifstream stream(file);
    return Lines({std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()});
  };
  LogConfig config;
  config.file = directory / "log";
  testing::internal::CaptureStderr();
  SetUpLog(config);
  std::vector<std::filesystem::path> files;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 100; ++i) Log(LogLevel::kInfo, "line ", round * 100 + i);
    files.push_back(directory / ("log." + std::to_string(round)));
    std::filesystem::rename(config.file, files.back());
    absl::StatusOr<UniqueFd> opened = OpenLog(config);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ChangeLog(config, *std::move(opened));
  }
  Log(LogLevel::kInfo, "line 1000");
  ShutDownLog();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  files.push_back(config.file);
  int next = 0;
  for (const std::filesystem::path& file : files)
    for (const std::string& line : read(file)) EXPECT_TRUE(line.ends_with(" info  line " + std::to_string(next++))) << line;
  EXPECT_EQ(next, 1001);

  config.file = directory / "no" / "log";
  EXPECT_EQ(OpenLog(config).status().message(), "log.to: " + config.file + ": No such file or directory");
  EXPECT_THROW(SetUpLog(config), std::exception);
  std::filesystem::remove_all(directory);
}

// The `SigBlk` of every thread of this process but this one.
std::vector<uint64_t> MasksOfOtherThreads() {
  std::vector<uint64_t> masks;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(gettid())) continue;
    std::ifstream status(task.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("SigBlk:")) masks.push_back(std::stoull(line.substr(7), nullptr, 16));
    }
  }
  return masks;
}

TEST_F(LogTest, TheBackgroundThreadTakesNoSignals) {
  const size_t before = MasksOfOtherThreads().size();  // a sanitizer may have a thread of its own
  SetUpLog({});
  std::vector<uint64_t> masks = MasksOfOtherThreads();
  ASSERT_EQ(masks.size(), before + 1);
  size_t blocking = 0;
  for (uint64_t mask : masks) blocking += (mask >> (SIGTERM - 1) & 1) && (mask >> (SIGHUP - 1) & 1);
  EXPECT_GE(blocking, 1u);
  sigset_t own;
  pthread_sigmask(SIG_SETMASK, nullptr, &own);
  EXPECT_EQ(sigismember(&own, SIGTERM), 0);  // the caller's is as before
}

TEST(LogLimiterTest, LetsOneThroughAnInterval) {
  LogLimiter limiter(seconds(1));
  TimePoint start{seconds(1000)};
  EXPECT_EQ(limiter.Admit(start), 0u);
  EXPECT_EQ(limiter.Admit(start), std::nullopt);
  EXPECT_EQ(limiter.Admit(start + milliseconds(999)), std::nullopt);
  EXPECT_EQ(limiter.Admit(start + seconds(1)), 2u);
  EXPECT_EQ(limiter.Admit(start + milliseconds(1500)), std::nullopt);
  EXPECT_EQ(limiter.Admit(start + seconds(60)), 1u);
  EXPECT_EQ(limiter.Admit(start + seconds(120)), 0u);
}

TEST(LogLimiterTest, TheFirstPassesWheneverItComes) {
  EXPECT_EQ(LogLimiter().Admit(TimePoint{}), 0u);
  EXPECT_EQ(LogLimiter().Admit(TimePoint::min()), 0u);
}

TEST(LogLimiterTest, CountsExactlyOverThreads) {
  constexpr int kThreads = 4, kSteps = 20000;
  LogLimiter limiter(seconds(1));
  std::atomic<uint64_t> passed{0}, reported{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kSteps; ++i) {
        if (auto held_back = limiter.Admit(TimePoint{milliseconds(i)})) {
          ++passed;
          reported += *held_back;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  auto last = limiter.Admit(TimePoint{seconds(1000)});
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(passed + reported + *last, static_cast<uint64_t>(kThreads * kSteps));
  EXPECT_GE(passed, 1u);
  EXPECT_LE(passed, 20u);
}

}  // namespace
}  // namespace ringmain
