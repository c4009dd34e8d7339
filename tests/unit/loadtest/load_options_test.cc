#include "loadtest/load_options.h"

#include <gtest/gtest.h>

#include <vector>

namespace ringmain::loadtest {
namespace {

// Parses `words` after the program's name. On failure the text on standard error is in `error`.
struct Parsed {
  LoadOptions options;
  bool ok = false;
  int exit_code = -1;
  std::string error;
};

Parsed Parse(std::vector<std::string> words) {
  Parsed parsed;
  words.insert(words.begin(), "ringmain-load");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  testing::internal::CaptureStderr();
  parsed.ok = ParseLoadOptions(static_cast<int>(words.size()), argv.data(), parsed.options, parsed.exit_code);
  parsed.error = testing::internal::GetCapturedStderr();
  return parsed;
}

TEST(LoadOptionsTest, Defaults) {
  Parsed parsed = Parse({"ping", "--to", "127.0.0.1:7000"});
  ASSERT_TRUE(parsed.ok) << parsed.error;
  EXPECT_EQ(parsed.options.mode, Mode::kPing);
  EXPECT_EQ(parsed.options.connections, 1u);
  EXPECT_EQ(parsed.options.shape.payload_bytes, 64u);
  EXPECT_EQ(parsed.options.duration, seconds(10));
  EXPECT_EQ(Parse({"bulk", "--to", "127.0.0.1:7000"}).options.shape.payload_bytes, 65536u);
}

TEST(LoadOptionsTest, Everything) {
  Parsed parsed = Parse({"rate",
                         "--to",
                         "127.0.0.1:1,127.0.0.1:2",
                         "--rate",
                         "5000",
                         "--connections",
                         "50",
                         "--payload",
                         "1KiB",
                         "--duration",
                         "3s",
                         "--warmup",
                         "500ms",
                         "--threads",
                         "2",
                         "--json",
                         "-",
                         "--quiet",
                         "--connect-timeout",
                         "1s",
                         "--source-addresses",
                         "127.0.0.2,127.0.0.3",
                         "--frames"});
  ASSERT_TRUE(parsed.ok) << parsed.error;
  const LoadOptions& options = parsed.options;
  EXPECT_EQ(options.to.size(), 2u);
  EXPECT_EQ(options.source_addresses.size(), 2u);
  EXPECT_EQ(options.operations_per_second, 5000);
  EXPECT_EQ(options.shape.request_bytes(), 1028u);
  EXPECT_EQ(options.warmup, milliseconds(500));
  EXPECT_EQ(options.threads, 2u);
}

TEST(LoadOptionsTest, BulkRateIsInBytes) {
  Parsed parsed = Parse({"bulk", "--to", "127.0.0.1:1", "--rate", "64MiB/s", "--payload", "64KiB"});
  ASSERT_TRUE(parsed.ok) << parsed.error;
  EXPECT_EQ(parsed.options.operations_per_second, 1024);
}

TEST(LoadOptionsTest, WrongUsageIsOneLine) {
  const std::vector<std::string> to = {"--to", "127.0.0.1:1"};
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"ping"},
      {"pong", to[0], to[1]},
      {"ping", "--to", "nonsense"},
      {"ping", to[0], to[1], "--connections", "0"},
      {"ping", to[0], to[1], "--connections", "many"},
      {"ping", to[0], to[1], "--duration", "10"},
      {"ping", to[0], to[1], "--duration", "0s"},
      {"ping", to[0], to[1], "--payload", "0"},
      {"ping", to[0], to[1], "--payload", "2MiB", "--frames"},
      {"ping", to[0], to[1], "--rate", "5"},
      {"ping", to[0], to[1], "--reset"},
      {"ping", to[0], to[1], "--no-such-option"},
      {"rate", to[0], to[1]},
      {"rate", to[0], to[1], "--rate", "-1"},
      {"rate", to[0], to[1], "--rate", "nan"},
      {"bulk", to[0], to[1], "--rate", "5"},
      {"bulk", to[0], to[1], "--frames"},
      {"churn", to[0], to[1], "--one-way"},
      {"ping", to[0], to[1], "--source-addresses", "::1"},
  };
  for (const std::vector<std::string>& words : wrong) {
    Parsed parsed = Parse(words);
    std::string line;
    for (const std::string& word : words) line += word + " ";
    EXPECT_FALSE(parsed.ok) << line;
    EXPECT_EQ(parsed.exit_code, 2) << line;
    EXPECT_EQ(std::count(parsed.error.begin(), parsed.error.end(), '\n'), 1) << line << parsed.error;
    EXPECT_EQ(parsed.error.rfind("ringmain-load: ", 0), 0u) << parsed.error;
  }
}

}  // namespace
}  // namespace ringmain::loadtest
