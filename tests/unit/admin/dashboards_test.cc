// Every metric that a dashboard asks for must be one that ringmain exposes.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "sample.h"
#include "unit/admin/source_dir.h"

namespace ringmain {
namespace {

std::set<std::string> ExposedNames() {
  Sample sample;
  std::string text = RenderMetrics(sample.View());
  std::set<std::string> names;
  const std::regex sample_line("(?:^|\n)([a-z_]+)[{ ]");
  for (std::sregex_iterator i(text.begin(), text.end(), sample_line), end; i != end; ++i) names.insert((*i)[1]);
  return names;
}

TEST(Dashboards, AskOnlyForMetricsThatExist) {
  const std::set<std::string> exposed = ExposedNames();
  ASSERT_TRUE(exposed.contains("ringmain_connect_duration_seconds_bucket"));
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(RINGMAIN_SOURCE_DIR "/dashboards")) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    std::ifstream file(entry.path());
    std::string text((std::istreambuf_iterator<char>(file)), {});
    EXPECT_FALSE(nlohmann::json::parse(text, nullptr, false).is_discarded()) << entry.path() << " is no JSON";
    std::set<std::string> asked;
    const std::regex name("(ringmain|process)_[a-z_]+");
    for (std::sregex_iterator i(text.begin(), text.end(), name), end; i != end; ++i) asked.insert(i->str());
    EXPECT_FALSE(asked.empty()) << entry.path();
    for (const std::string& metric : asked) EXPECT_TRUE(exposed.contains(metric)) << entry.path() << ": " << metric;
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace ringmain
