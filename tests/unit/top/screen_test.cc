#include "top/screen.h"

#include <gtest/gtest.h>

#include <string>

#include "statuses.h"

namespace ringmain::top {
namespace {

class TopScreen : public testing::Test {
 protected:
  std::vector<std::string> Texts(Size size = {120, 20}) {
    std::vector<Line> lines = Paint(What(), controls, size, after.at + seconds(7));
    EXPECT_EQ(lines.size(), size.lines);
    std::vector<std::string> texts;
    for (const Line& line : lines) {
      EXPECT_LE(line.width(), size.columns);
      texts.push_back(line.Text());
    }
    return texts;
  }
  Shown What() const { return {"127.0.0.1:9900", seconds(1), &kBefore, &after, error}; }
  void Type(std::string_view text) {
    for (char c : text) controls.Press({KeyName::kCharacter, c}, 10);
  }

  Sample after = After();
  std::string error;
  Controls controls{View::kListeners};
};

bool Has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

TEST_F(TopScreen, ShowsTheProcessTheTotalsAndATable) {
  std::vector<std::string> lines = Texts();
  EXPECT_TRUE(Has(lines[0], "ringmain 1.2.3  127.0.0.1:9900  ready  pid 4711  up 1h00m")) << lines[0];
  EXPECT_TRUE(lines[0].ends_with(" every 1.0s"));
  EXPECT_EQ(lines[0].size(), 120u);
  EXPECT_EQ(lines[1], "13 sessions  5.0/s new  2.5/s closed  1 of 2 servers up  0.5/s failed  1.5/s refused");
  EXPECT_EQ(lines[2], "1.00KiB/s to servers  0B/s to clients");
  EXPECT_EQ(lines[3], " 1 listeners  2 upstreams  3 servers  4 workers  5 sessions   by LISTENER, ascending");
  EXPECT_TRUE(lines[4].starts_with("LISTENER")) << lines[4];
  EXPECT_TRUE(lines[5].starts_with("front")) << lines[5];
  EXPECT_TRUE(lines[6].starts_with("old")) << lines[6];
  EXPECT_EQ(lines[7], "");
  EXPECT_TRUE(lines[19].starts_with("h help  q quit")) << lines[19];
}

TEST_F(TopScreen, FitsEverySize) {
  for (View view : {View::kListeners, View::kUpstreams, View::kServers, View::kWorkers, View::kSessions}) {
    controls.view = view;
    for (bool help : {false, true}) {
      controls.help = help;
      for (size_t lines = 1; lines < 12; ++lines)
        for (size_t columns : {1, 2, 10, 40, 80, 300}) Texts({columns, lines});
    }
  }
}

TEST_F(TopScreen, SortsAndFilters) {
  Type(">");  // by state
  EXPECT_TRUE(Texts()[5].starts_with("front"));
  Type("r");
  EXPECT_TRUE(Texts()[5].starts_with("old"));
  EXPECT_TRUE(Has(Texts()[3], "by STATE, descending"));
  Type("/FRO");
  EXPECT_TRUE(Texts()[5].starts_with("front"));
  EXPECT_EQ(Texts()[6], "");
  EXPECT_EQ(Texts()[19], "filter: FRO_");
  Type("x\r");
  controls.Press({KeyName::kEnter}, 10);
  EXPECT_EQ(Texts()[5], "nothing matches the filter");
  EXPECT_TRUE(Has(Texts()[19], "filter: FROx"));
}

TEST_F(TopScreen, SaysThatThereIsNothing) {
  after.status["sessions"]["list"] = Json::array();
  after.status["sessions"]["total"] = 0;
  controls.view = View::kSessions;
  EXPECT_EQ(Texts()[5], "no sessions");
}

TEST_F(TopScreen, Scrolls) {
  for (int i = 0; i < 100; ++i) {
    Json one = after.status["listeners"][0];
    one["name"] = "front" + std::to_string(i);
    after.status["listeners"].push_back(one);
  }
  Size size{80, 16};
  ASSERT_EQ(RowsOn(size), 10u);
  EXPECT_TRUE(Texts(size)[5].starts_with("front "));
  EXPECT_TRUE(Has(Texts(size)[15], "rows 1-10 of 102"));
  controls.Press({KeyName::kEnd}, RowsOn(size));
  EXPECT_TRUE(Texts(size)[14].starts_with("old"));
  EXPECT_TRUE(Has(Texts(size)[15], "rows 93-102 of 102"));
  controls.Press({KeyName::kPageUp}, RowsOn(size));
  EXPECT_TRUE(Has(Texts(size)[15], "rows 83-92 of 102"));
}

TEST_F(TopScreen, SaysWhatIsWrong) {
  error = "nothing listens there";
  after.status["configuration"]["last_reload_failed"] = true;
  after.status["state"] = "draining";
  std::vector<std::string> lines = Texts();
  EXPECT_TRUE(Has(lines[0], "draining")) << lines[0];
  EXPECT_TRUE(Has(lines[0], "the last reload failed")) << lines[0];
  EXPECT_EQ(lines[2], "no answer for 7.0s: nothing listens there");
  EXPECT_TRUE(lines[5].starts_with("front")) << "what is known stays";
}

TEST_F(TopScreen, SaysWhatAListOfSessionsLeavesOut) {
  EXPECT_EQ(SessionsNote(kBefore), "2 of 8 sessions are listed; --sessions N asks for more");
  after.status["sessions"]["total"] = 2;
  EXPECT_EQ(SessionsNote(after), std::nullopt);
  after.status["sessions"]["missing_workers"] = {1};
  controls.view = View::kSessions;
  EXPECT_EQ(Texts()[2], "1.00KiB/s to servers  0B/s to clients  1 worker did not answer in time");
}

TEST_F(TopScreen, HelpNamesKeysAndColumns) {
  Type("3h");
  std::vector<std::string> lines = Texts({100, 50});
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  EXPECT_TRUE(Has(all, "q, Ctrl-C"));
  for (const Column& column : ColumnsOf(View::kServers)) EXPECT_TRUE(Has(all, "  " + std::string(column.title) + " ")) << column.title;
}

TEST_F(TopScreen, NothingThatIsSentReachesTheTerminalAsItIs) {
  const std::string evil = "\x1b]0;pwned\x07\xc2\x9b" "2J\r\n";
  for (Json* thing : {&after.status["listeners"][0], &after.status["sessions"]["list"][0], &after.status["upstreams"][0], &after.status["upstreams"][0]["servers"][0]})
    for (auto& [key, value] : thing->items())
      if (value.is_string() || value.is_null()) value = evil;
  for (const char* key : {"version", "state", "pid"}) after.status[key] = evil;
  after.status["listeners"][0]["addresses"] = {evil};
  error = evil;
  controls.filter = "";
  for (size_t view = 0; view < kViewNames.size(); ++view) {
    controls.view = static_cast<View>(view);
    for (const Line& line : Paint(What(), controls, {200, 20}, after.at)) {
      for (const Span& span : line.spans())
        for (char c : span.text) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << span.text;
    }
  }
}

}  // namespace
}  // namespace ringmain::top
