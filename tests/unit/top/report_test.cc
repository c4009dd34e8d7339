#include "top/report.h"

#include <gtest/gtest.h>

#include "statuses.h"

namespace ringmain::top {
namespace {

const WallTime kTime{std::chrono::milliseconds(1'700'000'000'007)};

class TopReport : public testing::Test {
 protected:
  Shown What() const { return {"127.0.0.1:9900", seconds(1), &kBefore, &after, ""}; }
  Json Report(const Selection& selection) const {
    std::string text = JsonReport(What(), selection, kTime);
    EXPECT_EQ(text.find('\n'), text.size() - 1) << "one line";
    return Json::parse(text);
  }
  Sample after = After();
};

TEST_F(TopReport, JsonHasTheFigures) {
  Json report = Report({{View::kListeners, View::kServers}, "", ""});
  EXPECT_EQ(report["time"], "2023-11-14T22:13:20.007Z");
  EXPECT_EQ(report["admin"], "127.0.0.1:9900");
  EXPECT_EQ(report["process"], Json::parse(R"({"version": "1.2.3", "pid": 4711, "state": "ready", "uptime_seconds": 3600})"));
  EXPECT_EQ(report["interval_seconds"], 2);
  EXPECT_EQ(report["totals"], Json::parse(R"({"connections_active": 13, "accepted_per_second": 5.0, "closed_per_second": 2.5, "failed_per_second": 0.5,
    "refused_per_second": 1.5, "to_server_per_second": 1024.0, "to_client_per_second": 0.0, "servers": 2, "servers_up": 1, "sessions": 8})"));
  EXPECT_FALSE(report.contains("upstreams"));
  ASSERT_EQ(report["listeners"].size(), 2u);
  EXPECT_EQ(report["listeners"][0]["name"], "front");
  EXPECT_TRUE(report["listeners"][0]["connections_total"].is_number_integer());
  EXPECT_EQ(report["listeners"][0]["connections_total"], 110);
  EXPECT_EQ(report["listeners"][0]["accepted_per_second"], 5.0);
  EXPECT_EQ(report["listeners"][1]["max_connections"], nullptr);
  EXPECT_EQ(report["servers"][1]["state"], "down");
  EXPECT_EQ(report["servers"][0].size(), ColumnsOf(View::kServers).size());
}

TEST_F(TopReport, SortsAndFilters) {
  Json report = Report({{View::kServers, View::kSessions}, "", "connections_active"});
  EXPECT_EQ(report["servers"][0]["connections_active"], 4);
  EXPECT_EQ(report["sessions"][0]["id"], "0-1") << "a view without the column is sorted as usual";
  report = Report({{View::kServers}, "down", ""});
  ASSERT_EQ(report["servers"].size(), 1u);
  EXPECT_EQ(report["servers"][0]["address"], "10.0.0.2:7001");
}

TEST_F(TopReport, JsonIsAsciiWithoutControlCharacters) {
  after.status["listeners"][0]["name"] = "\x1b[2J\x7f\xc2\x9b\xe4\xb8\xad";
  std::string text = JsonReport(What(), {{View::kListeners}, "", ""}, kTime);
  for (char c : text.substr(0, text.size() - 1)) EXPECT_TRUE(c >= 0x20 && c < 0x7f);
  EXPECT_EQ(Json::parse(text)["listeners"][0]["name"], after.status["listeners"][0]["name"]);
  EXPECT_EQ(JsonError("a:1", "\xff\x1b", kTime).find_first_of("\xff\x1b"), std::string::npos);
}

TEST_F(TopReport, TextHasATableForEachView) {
  std::string text = TextReport(What(), {{View::kServers, View::kSessions}, "10.0.0.1", ""}, 0, kTime);
  EXPECT_EQ(text,
            "ringmain 1.2.3  127.0.0.1:9900  ready  pid 4711  up 1h00m  2023-11-14T22:13:20.007Z\n"
            "13 sessions  5.0/s new  2.5/s closed  1 of 2 servers up  0.5/s failed  1.5/s refused\n"
            "1.00KiB/s to servers  0B/s to clients\n"
            "\n"
            "UPSTREAM  SERVER         STATE  ACTIVE   LIMIT  WEIGHT  CONNECTS/s  FAILURES/s  CONNECTS  FAILURES  EJECTED  LAST FAILED CHECK\n"
            "back      10.0.0.1:7001  up          4       -       1         5.0           0        70         1        0  -\n"
            "\n"
            "2 of 8 sessions are listed; --sessions N asks for more\n"
            "SESSION  CLIENT           LISTENER  UPSTREAM  SERVER         STATE           AGE    IDLE  BYTES/s  TO SERVER/s  TO CLIENT/s  TO SERVER  TO CLIENT  "
            "QUEUED  WORKER\n"
            "0-1      192.0.2.1:40000  front     back      10.0.0.1:7001  established     10s    0.5s  1.07KiB         100B        1000B       300B    2.93KiB  "
            "    5B       0\n");
}

TEST_F(TopReport, TextFitsItsWidth) {
  std::string text = TextReport(What(), {{View::kListeners}, "", ""}, 40, kTime);
  size_t length = 0;
  for (char c : text) {
    length = c == '\n' ? 0 : length + 1;
    EXPECT_LE(length, 40u);
  }
}

}  // namespace
}  // namespace ringmain::top
