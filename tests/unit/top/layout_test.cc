#include "top/layout.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace ringmain::top {
namespace {

constexpr std::array<Column, 4> kColumns = {{
    {"name", "NAME", Unit::kText, 0, ""},
    {"much", "MUCH", Unit::kCount, 2, ""},
    {"rate", "RATE/s", Unit::kPerSecond, 1, ""},
    {"where", "WHERE", Unit::kText, 1, ""},
}};

Table Sample() {
  return {kColumns,
          {{{"front"}, {12.0}, {0.5}, {"127.0.0.1:8080"}},
           {{"a-listener-with-a-long-name"}, {99'999.0}, {{}, Mark::kBad}, {"unix:/run/one/x\x1b[2J.sock"}}}};
}

std::vector<std::string> Texts(const std::vector<Line>& lines) {
  std::vector<std::string> texts;
  for (const Line& line : lines) texts.push_back(line.Text());
  return texts;
}

TEST(TopLayout, TextsToTheLeftFiguresToTheRight) {
  EXPECT_EQ(Texts(LayOut(Sample(), nullptr, 0, 0, 10)), (std::vector<std::string>{
                                                            "NAME                           MUCH  RATE/s  WHERE",
                                                            "front                            12     0.5  127.0.0.1:8080",
                                                            "a-listener-with-a-long-name   99999       -  unix:/run/one/x?[2J.sock",
                                                        }));
}

TEST(TopLayout, CutsTextsBeforeItLeavesColumnsOut) {
  EXPECT_EQ(Texts(LayOut(Sample(), nullptr, 50, 0, 10))[2], "a-listener-with-~   99999       -  unix:/run/one/~");
}

TEST(TopLayout, NarrowTerminalsLoseTheHighestRankFirst) {
  for (size_t width = 1; width <= 100; ++width) {
    for (const Line& line : LayOut(Sample(), nullptr, width, 0, 10)) EXPECT_LE(line.width(), width);
  }
  EXPECT_EQ(Texts(LayOut(Sample(), nullptr, 46, 0, 10))[0], "NAME                   RATE/s  WHERE");
  EXPECT_EQ(Texts(LayOut(Sample(), nullptr, 30, 0, 10))[0], "NAME                    RATE/s");
  EXPECT_EQ(Texts(LayOut(Sample(), nullptr, 16, 0, 10))[0], "NAME");
  EXPECT_EQ(Texts(LayOut(Sample(), nullptr, 16, 0, 10))[2], "a-listener-with~");
  EXPECT_EQ(Texts(LayOut(Sample(), nullptr, 3, 0, 10))[1], "fr~");
}

TEST(TopLayout, ShowsAWindow) {
  EXPECT_EQ(LayOut(Sample(), nullptr, 0, 0, 0).size(), 1u);
  EXPECT_EQ(LayOut(Sample(), nullptr, 0, 1, 10).size(), 2u);
  EXPECT_EQ(LayOut(Sample(), nullptr, 0, 7, 10).size(), 1u);
  // Widths do not depend on the window.
  EXPECT_EQ(LayOut(Sample(), nullptr, 0, 0, 1)[0].Text(), LayOut(Sample(), nullptr, 0, 0, 2)[0].Text());
}

TEST(TopLayout, ColourOnlyWhereItMeansSomethingAndIsWanted) {
  const Order order{1, true};
  std::vector<Line> lines = LayOut(Sample(), &order, 0, 0, 10);
  EXPECT_NE(lines[0].Encode(true).find("\x1b[7mMUCH\x1b[m"), std::string::npos);
  EXPECT_EQ(lines[1].Encode(true), lines[1].spans()[0].text);  // nothing to be seen here
  EXPECT_NE(lines[2].Encode(true).find("\x1b[31m-\x1b[m"), std::string::npos);
  for (const Line& line : lines) {
    EXPECT_EQ(line.Encode(false).find("\x1b[3"), std::string::npos);
    EXPECT_EQ(line.Text().find('\x1b'), std::string::npos);
  }
}

TEST(TopLayout, LinesAreCutAndPadded) {
  Line line("abc", Style::kBad);
  line.Pad(5);
  line.Add("de", Style::kFaint);
  EXPECT_EQ(line.width(), 7u);
  EXPECT_EQ(line.Text(), "abc  de");
  line.Cut(7);
  EXPECT_EQ(line.Text(), "abc  de");
  line.Cut(6);
  EXPECT_EQ(line.Text(), "abc  ~");
  line.Cut(3);
  EXPECT_EQ(line.Text(), "ab~");
  line.Cut(0);
  EXPECT_EQ(line.Text(), "");
  EXPECT_EQ(line, Line());
}

}  // namespace
}  // namespace ringmain::top
