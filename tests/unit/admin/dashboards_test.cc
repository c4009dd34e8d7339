// Every metric that a dashboard asks for must be one that ringmain exposes.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

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

TEST(Dashboards, AskOnlyForMetricsThatExist) {
  Sample sample;
  const std::set<std::string> exposed = MetricNames(RenderMetrics(sample.View()));
  ASSERT_TRUE(exposed.contains("ringmain_connect_duration_seconds_bucket"));
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(RINGMAIN_SOURCE_DIR "/dashboards")) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    std::ifstream file(entry.path());
    std::string text((std::istreambuf_iterator<char>(file)), {});
    EXPECT_FALSE(nlohmann::json::parse(text, nullptr, false).is_discarded()) << entry.path() << " is no JSON";
    const std::set<std::string> asked = MetricNames(text);
    EXPECT_FALSE(asked.empty()) << entry.path();
    for (const std::string& metric : asked) EXPECT_TRUE(exposed.contains(metric)) << entry.path() << ": " << metric;
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace ringmain
