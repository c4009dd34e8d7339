#include "loadtest/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ringmain::loadtest {
namespace {

LoadTotals SomeTotals() {
  LatencyHistogram latency;
  for (int i = 1; i <= 100; ++i) latency.Record(i * 1000);
  LoadTotals totals;
  totals.operations = 100;
  totals.bytes_sent = 6400;
  totals.bytes_received = 6400;
  totals.measured_ns = 2'000'000'000;
  totals.errors[static_cast<size_t>(ErrorKind::kReset)] = 3;
  totals.latency = latency.Snapshot();
  return totals;
}

TEST(ReportTest, JsonHasTheDocumentedKeys) {
  LoadOptions options;
  options.connections = 5;
  nlohmann::json report = nlohmann::json::parse(JsonReport(options, SomeTotals()));
  EXPECT_EQ(report["mode"], "ping");
  EXPECT_EQ(report["connections"], 5);
  EXPECT_EQ(report["payload_bytes"], 64);
  EXPECT_EQ(report["duration_s"], 2.0);
  EXPECT_EQ(report["operations"], 100);
  EXPECT_EQ(report["operations_per_s"], 50.0);
  EXPECT_EQ(report["bytes_sent"], 6400);
  EXPECT_EQ(report["bytes_received"], 6400);
  EXPECT_EQ(report["errors"]["reset"], 3);
  EXPECT_EQ(report["errors"]["mismatch"], 0);
  EXPECT_EQ(report["errors"].size(), kErrorKinds);
  EXPECT_EQ(report["error_total"], 3);
  EXPECT_EQ(report["latency_us"]["min"], 1.0);
  EXPECT_NEAR(report["latency_us"]["p50"].get<double>(), 50, 0.5);
  EXPECT_NEAR(report["latency_us"]["p99"].get<double>(), 99, 1);
  EXPECT_EQ(report["latency_us"]["max"], 100.0);
}

TEST(ReportTest, TextNamesErrorsAndPercentiles) {
  std::string text = TextReport(LoadOptions(), SomeTotals());
  EXPECT_NE(text.find("operations   100 (50.0/s)"), std::string::npos) << text;
  EXPECT_NE(text.find("errors       3  reset 3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("p99.9"), std::string::npos) << text;
  EXPECT_EQ(text.find("mismatch"), std::string::npos) << text;
}

TEST(ReportTest, NothingMeasuredIsZeroNotNonsense) {
  nlohmann::json report = nlohmann::json::parse(JsonReport(LoadOptions(), LoadTotals()));
  EXPECT_EQ(report["operations_per_s"], 0.0);
  EXPECT_EQ(report["latency_us"]["p99"], 0.0);
  EXPECT_EQ(report["latency_us"]["min"], 0.0);
}

TEST(ReportTest, ProgressIsAboutTheInterval) {
  LoadTotals before = SomeTotals(), now = SomeTotals();
  now.operations += 40;
  std::string line = ProgressLine(seconds(3), before, now, seconds(2));
  EXPECT_NE(line.find(" 20 op/s"), std::string::npos) << line;
  EXPECT_NE(line.find("p50 -"), std::string::npos) << line;
  EXPECT_NE(line.find("3 errors"), std::string::npos) << line;
}

}  // namespace
}  // namespace ringmain::loadtest
