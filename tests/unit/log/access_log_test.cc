// The access log from its queues to where lines go: nothing is lost, nothing waits, and what cannot be written is counted.
#include "log/access_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace ringmain {
namespace {

using std::filesystem::path;

class AccessLogTest : public testing::Test {
 protected:
  AccessLogTest() {
    std::string name = testing::TempDir() + "access-log-XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~AccessLogTest() override {
    Stop();
    std::filesystem::remove_all(directory_);
  }

  AccessLogConfig To(const path& file) { return {.to = AccessLogTarget::kFile, .path = file.string()}; }
  void Begin(const AccessLogConfig& config, size_t records = AccessLog::kQueueRecords) {
    log_ = std::make_unique<AccessLog>(cells_, records);
    Change(config);
    thread_ = std::thread([this] { log_->Run(); });
  }
  void Change(const AccessLogConfig& config) {
    absl::StatusOr<LineSink> sink = LineSink::Open(config);
    ASSERT_TRUE(sink.ok()) << sink.status();
    log_->Change(config, *std::move(sink));
  }
  void Stop() {
    if (log_ == nullptr) return;
    log_->End();
    thread_.join();
    log_.reset();
  }
  bool Offer(uint64_t number, uint32_t worker = 0) {
    AccessRecord record;
    record.number = number;
    record.route = names_;
    record.at = record.accepted_at = Clock::now();
    return log_->Offer(worker, std::move(record));
  }
  static std::string Read(const path& file) {
    std::ifstream stream(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  }
  // The numbers of the sessions in the lines of a text, in their order.
  static std::vector<uint64_t> Numbers(const std::string& text) {
    std::vector<uint64_t> numbers;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      size_t id = line.find(" id=0-");
      EXPECT_NE(id, std::string::npos) << line;
      EXPECT_TRUE(line.ends_with(" proxy_protocol=-")) << line;
      if (id != std::string::npos) numbers.push_back(std::stoull(line.substr(id + 6)));
    }
    return numbers;
  }
  template <typename Holds>
  static void WaitFor(Holds holds) {
    TimePoint give_up = Clock::now() + seconds(20);
    while (!holds() && Clock::now() < give_up) std::this_thread::sleep_for(milliseconds(1));
    EXPECT_TRUE(holds());
  }
  static std::vector<uint64_t> UpTo(uint64_t last) {
    std::vector<uint64_t> numbers;
    for (uint64_t i = 1; i <= last; ++i) numbers.push_back(i);
    return numbers;
  }

  path directory_;
  AccessLogCells cells_;
  std::shared_ptr<const RouteNames> names_ = std::make_shared<RouteNames>(RouteNames{"front", "back", {}});
  std::unique_ptr<AccessLog> log_;
  std::thread thread_;
};

TEST_F(AccessLogTest, WritesEachLineSoonAndAllOfThemAtTheEnd) {
  path file = directory_ / "log";
  std::ofstream(file) << "what was there\n";
  Begin(To(file));
  EXPECT_TRUE(Offer(1));
  WaitFor([&] { return cells_.written.value() == 1; });  // without an end
  for (uint64_t i = 2; i <= 1000; ++i) EXPECT_TRUE(Offer(i));
  Stop();
  std::string text = Read(file);
  ASSERT_TRUE(text.starts_with("what was there\n"));
  EXPECT_EQ(Numbers(text.substr(15)), UpTo(1000));
  EXPECT_EQ(cells_.written.value(), 1000u);
  EXPECT_EQ(cells_.failed.value(), 0u);
}

TEST_F(AccessLogTest, HasAQueueForEachWorker) {
  constexpr uint32_t kWorkers = 4;
  constexpr uint64_t kEach = 5000;
  path file = directory_ / "log";
  Begin(To(file), 8192);
  log_->GrowTo(kWorkers);
  std::vector<std::thread> workers;
  for (uint32_t worker = 0; worker < kWorkers; ++worker)
    workers.emplace_back([this, worker] {
      for (uint64_t i = 0; i < kEach; ++i) EXPECT_TRUE(Offer(i * kWorkers + worker, worker));
    });
  for (std::thread& worker : workers) worker.join();
  Stop();
  std::vector<uint64_t> next(kWorkers, 0);
  for (uint64_t number : Numbers(Read(file))) EXPECT_EQ(number / kWorkers, next[number % kWorkers]++);  // in order
  for (uint64_t count : next) EXPECT_EQ(count, kEach);
}

// Nobody reads a FIFO, then somebody does.
TEST_F(AccessLogTest, ABlockedSinkBlocksNobody) {
  constexpr size_t kRecords = 256;
  path fifo = directory_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Begin(To(fifo), kRecords);
  uint64_t taken = 0, offered = 0;
  TimePoint begin = Clock::now();
  // More than pipe, batch and queue hold together; after pauses the thread has taken what it can.
  for (int round = 0; round < 40; ++round) {
    for (size_t i = 0; i < kRecords; ++i) taken += Offer(++offered) ? 1 : 0;
    std::this_thread::sleep_for(milliseconds(2));
  }
  EXPECT_LT(Clock::now() - begin, seconds(10));
  EXPECT_LT(taken, offered);
  UniqueFd reader(open(fifo.c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_TRUE(reader.valid());
  std::string text;
  char buffer[65536];
  WaitFor([&] {
    ssize_t n = read(reader.get(), buffer, sizeof(buffer));
    if (n > 0) text.append(buffer, static_cast<size_t>(n));
    return cells_.written.value() == taken && n <= 0;
  });
  EXPECT_EQ(Numbers(text).size(), taken);
  EXPECT_TRUE(Offer(++offered)) << "there is room again";
  Stop();
  EXPECT_EQ(cells_.failed.value(), 0u);
}

TEST_F(AccessLogTest, AnEndDoesNotWaitForWhoDoesNotRead) {
  path fifo = directory_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Begin(To(fifo));
  uint64_t taken = 0;
  for (uint64_t i = 1; i <= 4000; ++i) taken += Offer(i) ? 1 : 0;
  TimePoint begin = Clock::now();
  Stop();
  EXPECT_LT(Clock::now() - begin, 4 * AccessLog::kPatience);
  EXPECT_GT(cells_.written.value(), 0u) << "what a pipe takes";
  EXPECT_EQ(cells_.written.value() + cells_.failed.value(), taken);
}

// From one that blocks to one that does not: what the first took is the first's, the rest is the second's, and no line is cut.
TEST_F(AccessLogTest, AnotherSinkTakesOver) {
  path fifo = directory_ / "fifo", file = directory_ / "log";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Begin(To(fifo));
  for (uint64_t i = 1; i <= 3000; ++i) EXPECT_TRUE(Offer(i));
  WaitFor([&] { return cells_.written.value() > 100; });
  UniqueFd reader(open(fifo.c_str(), O_RDONLY | O_NONBLOCK));
  Change(To(file));
  WaitFor([&] { return cells_.written.value() >= 3000; });
  std::string text;
  char buffer[65536];
  for (ssize_t n; (n = read(reader.get(), buffer, sizeof(buffer))) > 0;) text.append(buffer, static_cast<size_t>(n));
  text.resize(text.rfind('\n') + 1);  // a line that was begun is written anew
  std::vector<uint64_t> all = Numbers(text), rest = Numbers(Read(file));
  EXPECT_FALSE(all.empty());
  all.insert(all.end(), rest.begin(), rest.end());
  EXPECT_EQ(all, UpTo(3000));
}

TEST_F(AccessLogTest, ARenamedFileIsOpenedAnew) {
  path file = directory_ / "log";
  Begin(To(file));
  uint64_t offered = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(Offer(++offered));
    std::filesystem::rename(file, directory_ / ("log." + std::to_string(round)));
    Change(To(file));
  }
  Stop();
  std::string text;
  for (int round = 0; round < 20; ++round) text += Read(directory_ / ("log." + std::to_string(round)));
  text += Read(file);
  EXPECT_EQ(Numbers(text), UpTo(offered));
}

TEST_F(AccessLogTest, WritesNoMoreLinesThanMaxRate) {
  AccessLogConfig config = To(directory_ / "log");
  config.max_rate = RateConfig{60, 10};
  Begin(config);
  for (uint64_t i = 1; i <= 500; ++i) EXPECT_TRUE(Offer(i));
  Stop();
  size_t lines = Numbers(Read(config.path)).size();
  EXPECT_GE(lines, 10u);
  EXPECT_LE(lines, 30u);
  EXPECT_EQ(cells_.over_rate.value(), 500 - lines);
}

TEST_F(AccessLogTest, CountsWhatCannotBeWritten) {
  testing::internal::CaptureStderr();
  Begin(To("/dev/full"));
  for (uint64_t i = 1; i <= 100; ++i) EXPECT_TRUE(Offer(i));
  Stop();
  EXPECT_EQ(cells_.failed.value(), 100u);
  EXPECT_EQ(cells_.written.value(), 0u);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("access log: lines lost: No space left on device"), std::string::npos);
}

TEST_F(AccessLogTest, SaysWhatCannotBeOpened) {
  absl::StatusOr<LineSink> sink = LineSink::Open(To(directory_ / "no" / "log"));
  EXPECT_EQ(sink.status().message(), "access_log.to: " + (directory_ / "no" / "log").string() + ": No such file or directory");
  EXPECT_FALSE(LineSink::Open(To(directory_)).ok());
  AccessLogConfig journal{.to = AccessLogTarget::kJournald};
  sink = LineSink::Open(journal, (directory_ / "journal").string());
  EXPECT_EQ(sink.status().message(), "access_log.to: " + (directory_ / "journal").string() +
                                         ": No such file or directory; is journald running? Write stdout or a path instead");
}

TEST_F(AccessLogTest, TheFileIsForItsOwnerAndGroup) {
  ASSERT_TRUE(LineSink::Open(To(directory_ / "log")).ok());
  struct stat status {};
  ASSERT_EQ(stat((directory_ / "log").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777 & ~0640u, 0u);
}

// An entry for each line, as https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ has it.
TEST_F(AccessLogTest, TheJournalGetsAnEntryForEachLine) {
  std::string path = (directory_ / "journal").string();
  UniqueFd journal(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(journal.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  absl::StatusOr<LineSink> sink = LineSink::Open({.to = AccessLogTarget::kJournald}, path);
  ASSERT_TRUE(sink.ok()) << sink.status();
  std::string lines = "one line\nanother\n";
  EXPECT_EQ(sink->Write(lines), 9);
  char entry[256];
  ssize_t length = recv(journal.get(), entry, sizeof(entry), MSG_DONTWAIT);
  ASSERT_GT(length, 0);
  EXPECT_EQ(std::string(entry, static_cast<size_t>(length)), "SYSLOG_IDENTIFIER=ringmain-access\nPRIORITY=6\nMESSAGE=one line\n");
  ssize_t taken = 0;
  for (int i = 0; i < 100'000 && (taken = sink->Write(lines)) > 0;) ++i;
  EXPECT_EQ(taken, -EAGAIN) << "nobody reads";
  journal.reset();
  EXPECT_EQ(sink->Write(lines), -EAGAIN) << "it is started anew";
}

}  // namespace
}  // namespace ringmain
