// Thousands of random runs. SIM_SEED=n repeats one; SIM_SEEDS=n sets how many.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "scenario.h"

namespace ringmain::sim {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kDefaultSeeds = 3000;
#else
constexpr uint64_t kDefaultSeeds = 8000;
#endif

uint64_t current_seed;

uint64_t Setting(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : otherwise;
}

// A failed RINGMAIN_CHECK aborts: say which run it was.
void OnAbort(int) {
  char text[64];
  int length =
      std::snprintf(text, sizeof(text), "aborted in SIM_SEED=%llu\n", static_cast<unsigned long long>(current_seed));
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text, static_cast<size_t>(length));
}

TEST(RandomSessions, KeepEveryRule) {
  struct sigaction action {};
  action.sa_handler = OnAbort;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGABRT, &action, nullptr);
  bool one = std::getenv("SIM_SEED") != nullptr;
  uint64_t first = Setting("SIM_SEED", 1), count = one ? 1 : Setting("SIM_SEEDS", kDefaultSeeds);
  Coverage coverage;
  for (current_seed = first; current_seed < first + count; ++current_seed) {
    std::string failure = RunScenario(current_seed, coverage);
    ASSERT_TRUE(failure.empty()) << failure << "repeat it with SIM_SEED=" << current_seed;
  }
  signal(SIGABRT, SIG_DFL);
  RecordProperty("splice_begins", std::to_string(coverage.splice_begins));
  RecordProperty("splice_ends", std::to_string(coverage.splice_ends));
  RecordProperty("copies", std::to_string(coverage.copies));
  RecordProperty("source_changes", std::to_string(coverage.source_changes));
  RecordProperty("replaced", std::to_string(coverage.replaced));
  RecordProperty("freezes", std::to_string(coverage.freezes));
  RecordProperty("self_connects", std::to_string(coverage.self_connects));
  RecordProperty("headers_read", std::to_string(coverage.headers_read));
  RecordProperty("headers_refused", std::to_string(coverage.headers_refused));
  RecordProperty("bandwidth_waits", std::to_string(coverage.bandwidth_waits));
  RecordProperty("headers_sent", std::to_string(coverage.headers_sent));
  if (count < kDefaultSeeds) return;
  EXPECT_GT(coverage.splice_begins, count / 10) << "the runs do not splice";
  EXPECT_GT(coverage.splice_ends, count / 20) << "the runs do not stop splicing";
  EXPECT_GT(coverage.freezes, count) << "the runs do not stand still";
  EXPECT_GT(coverage.replaced, count / 20) << "the runs do not replace servers that end before they are of use";
  EXPECT_GT(coverage.copies, count) << "the runs do not copy directly";
  EXPECT_GT(coverage.source_changes, count / 40) << "the runs do not change their source address";
  EXPECT_GT(coverage.self_connects, count / 20) << "the runs do not connect to themselves";
  EXPECT_GT(coverage.headers_read, count / 20) << "the runs do not read headers";
  EXPECT_GT(coverage.headers_refused, count / 20) << "the runs do not refuse headers";
  EXPECT_GT(coverage.bandwidth_waits, count / 2) << "the runs are not held back by limits";
  EXPECT_GT(coverage.headers_sent, count / 20) << "the runs do not send headers";
}

}  // namespace
}  // namespace ringmain::sim
