// Broken files: whatever bytes come in, loading ends, throws nothing, and gives a valid configuration or errors with
// places in the file.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "config/config.h"

namespace ringmain {
namespace {

constexpr char kValid[] = R"(workers: auto
admin: { listen: 127.0.0.1:9900 }
metrics: { listen: 0.0.0.0:9901 }
log: { level: info, format: text }
limits: { max_connections: auto, buffer_per_direction: 256KiB, memory: auto }
drain: { delay: 0s, timeout: 30s }
listeners:
  - name: tunnel
    listen: [0.0.0.0:8080, "[::]:8080", 'unix:/run/x.sock']
    upstream: echo   # comment
    max_connections: 10000
    idle_timeout: 10m
upstreams:
  - name: echo
    balance: least_connections
    connect_timeout: 2s
    connect_tries: 3
    source_addresses: [127.0.0.2, "::1"]
    health_check: &check { type: tcp, interval: 2s, timeout: 1s, rise: 2, fall: 3 }
    servers: &servers
      - { address: 127.0.0.1:7001, weight: 1 }
      - { address: 127.0.0.1:7002 }
  - { name: other, health_check: *check, servers: *servers }
  - { name: web, health_check: { type: http, host: a.b, status: [200-299, 304], jitter: 5%, port: 81 }, servers: *servers }
  - { name: cache, health_check: { type: send_expect, send: { hex: 0d0a }, expect: { pattern: "^a[bc]" } }, servers: *servers }
)";

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  std::string Mutate() {
    std::string text = kValid;
    for (size_t i = Below(6) + 1; i > 0; --i) MutateOnce(text);
    return text;
  }

 private:
  size_t Below(size_t n) { return random_() % n; }

  void MutateOnce(std::string& text) {
    static constexpr std::string_view kPieces[] = {
        "[",  "]",   "{", "}", ":",  ": ", ",", "- ", "\n",   "\t",    "&a",  "*a",         "!",   "!!", "?",
        "? ", "|\n", ">", "'", "\"", "%",  "#", "~",  "null", "---\n", "...", "<<: *check", "\\x", "0",  "off"};
    size_t at = Below(text.size() + 1);
    size_t length = std::min(Below(20), text.size() - at);
    switch (Below(6)) {
      case 0:
        text.erase(at, length);
        break;
      case 1:
        text.insert(at, kPieces[Below(std::size(kPieces))]);
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(Below(256));
        break;
      case 3:
        text.insert(Below(text.size() + 1), text.substr(at, length));
        break;
      case 4:
        text.resize(at);
        break;
      default:
        if (at + 1 < text.size()) std::swap(text[at], text[at + 1]);
    }
  }

  std::mt19937 random_;
};

// Each line is `f:LINE:COL: MESSAGE` with a place that the file has.
void CheckErrors(const std::string& errors, const std::string& text) {
  const int last_line = static_cast<int>(std::count(text.begin(), text.end(), '\n')) + 1;
  size_t start = 0;
  for (size_t end; start <= errors.size(); start = end + 1) {
    end = std::min(errors.find('\n', start), errors.size());
    std::string line = errors.substr(start, end - start);
    int row = 0, column = 0, length = 0;
    ASSERT_EQ(sscanf(line.c_str(), "f:%d:%d: %n", &row, &column, &length), 2) << line;
    EXPECT_GE(row, 1) << line;
    EXPECT_LE(row, last_line) << line;
    EXPECT_GE(column, 1) << line;
    EXPECT_LT(static_cast<size_t>(length), line.size()) << line;
  }
}

TEST(MutationTest, NeverThrowsAndAlwaysExplains) {
  int valid = 0, invalid = 0;
  for (uint32_t seed = 0; seed < 5000; ++seed) {
    SCOPED_TRACE(seed);
    std::string text = Mutator(seed).Mutate();
    auto config = LoadText(text, "f");
    if (config.ok()) {
      ++valid;
      EXPECT_FALSE((*config)->listeners.empty());
      EXPECT_FALSE((*config)->upstreams.empty());
    } else {
      ++invalid;
      CheckErrors(std::string(config.status().message()), text);
    }
    if (HasFailure()) FAIL() << text;
  }
  EXPECT_GT(valid, 50);
  EXPECT_GT(invalid, 1000);
}

}  // namespace
}  // namespace ringmain
