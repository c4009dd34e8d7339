// Every metric that a dashboard or a rule asks for must be one that ringmain exposes, and deploy/METRICS.md tells of those and no others.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <vector>

#include "absl/strings/str_split.h"
#include "sample.h"
#include "unit/admin/source_dir.h"

namespace ringmain {
namespace {

// The words in `text` that begin like a metric of ours.
std::set<std::string> MetricNames(const std::string& text) {
  std::set<std::string> names;
  for (std::string_view prefix : {"ringmain_", "process_"}) {
    for (size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at + 1)) {
      size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at);
      names.insert(text.substr(at, end - at));
    }
  }
  return names;
}

std::vector<std::string> Lines(const std::string& text) { return absl::StrSplit(text, '\n'); }

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Of a process where everything is configured that brings a metric.
std::string RenderAll() {
  Sample sample;
  auto layout = std::make_shared<Layout>(*sample.layout);
  layout->listeners[0].sources = [] { return SourceUse{}; };
  layout->listeners[0].config.max_connections = 1;
  layout->listeners[0].config.bandwidth.listener.to_server = 1024;
  layout->upstreams[0].servers[0].config.max_connections = 1;
  layout->upstreams[0].upstream =
      std::make_shared<Upstream>(Sample::EchoConfig(), std::make_unique<NoBalancer>(), sample.upstream->servers(), std::make_shared<ConnectQueue>(1));
  sample.layout = std::move(layout);
  return RenderMetrics(sample.View());
}

TEST(Metrics, AllAreDocumentedAndNoOthers) {
  std::set<std::string> families;
  for (const std::string& line : Lines(RenderAll()))
    if (line.starts_with("# TYPE ")) families.insert(line.substr(7, line.rfind(' ') - 7));
  EXPECT_GT(families.size(), 50u);
  std::set<std::string> documented;
  for (const std::string& line : Lines(ReadText(RINGMAIN_SOURCE_DIR "/deploy/METRICS.md")))
    if (line.starts_with("| `")) documented.insert(line.substr(3, line.find_first_of("`{", 3) - 3));
  EXPECT_EQ(documented, families);
}

TEST(Dashboards, AskOnlyForMetricsThatExist) {
  const std::set<std::string> exposed = MetricNames(RenderAll());
  ASSERT_TRUE(exposed.contains("ringmain_connect_duration_seconds_bucket"));
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(RINGMAIN_SOURCE_DIR "/dashboards")) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    std::string text = ReadText(entry.path());
    EXPECT_FALSE(nlohmann::json::parse(text, nullptr, false).is_discarded()) << entry.path() << " is no JSON";
    const std::set<std::string> asked = MetricNames(text);
    EXPECT_FALSE(asked.empty()) << entry.path();
    for (const std::string& metric : asked) EXPECT_TRUE(exposed.contains(metric)) << entry.path() << ": " << metric;
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace ringmain
