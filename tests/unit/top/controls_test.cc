#include "top/controls.h"

#include <gtest/gtest.h>

namespace ringmain::top {
namespace {

void Type(Controls& controls, std::string_view text) {
  for (char c : text) controls.Press({KeyName::kCharacter, c}, 10);
}
void Press(Controls& controls, KeyName name) { controls.Press({name}, 10); }

std::vector<KeyName> Names(const std::vector<Key>& keys) {
  std::vector<KeyName> names;
  for (const Key& key : keys) names.push_back(key.name);
  return names;
}

TEST(TopKeys, AreDecoded) {
  KeyDecoder decoder;
  EXPECT_EQ(decoder.Feed("a\x0c"), (std::vector<Key>{{KeyName::kCharacter, 'a'}, {KeyName::kCharacter, '\x0c'}}));
  EXPECT_EQ(Names(decoder.Feed("\x1b[A\x1bOB\x1b[5~\x1b[Z\r\t\x7f")),
            (std::vector{KeyName::kUp, KeyName::kDown, KeyName::kPageUp, KeyName::kBackTab, KeyName::kEnter, KeyName::kTab, KeyName::kBackspace}));
  EXPECT_FALSE(decoder.waiting());
}

TEST(TopKeys, MayComeInPieces) {
  KeyDecoder decoder;
  for (const char* piece : {"\x1b", "[", "6"}) {
    EXPECT_TRUE(decoder.Feed(piece).empty());
    EXPECT_TRUE(decoder.waiting());
  }
  EXPECT_EQ(Names(decoder.Feed("~q")), (std::vector{KeyName::kPageDown, KeyName::kCharacter}));
}

TEST(TopKeys, EscapeIsAKeyIfNothingFollows) {
  KeyDecoder decoder;
  EXPECT_TRUE(decoder.Feed("\x1b").empty());
  EXPECT_EQ(Names(decoder.End()), std::vector{KeyName::kEscape});
  EXPECT_FALSE(decoder.waiting());
  EXPECT_TRUE(decoder.Feed("\x1b[1").empty());
  EXPECT_TRUE(decoder.End().empty());  // half a sequence is no key
  EXPECT_EQ(decoder.Feed("\x1bq"), (std::vector<Key>{{KeyName::kEscape}, {KeyName::kCharacter, 'q'}}));
}

TEST(TopKeys, UnknownOnesAreLeftOut) {
  KeyDecoder decoder;
  EXPECT_TRUE(decoder.Feed("\x1b[15~\x1b[1;5C\x1b[<0;3;4M\x1bOP\xc3\xa4").empty());
  EXPECT_TRUE(decoder.Feed("\x1b[" + std::string(100, '1')).empty());  // without an end it is given up
  EXPECT_FALSE(decoder.waiting());
}

TEST(TopControls, ChangeViews) {
  Controls controls(View::kServers);
  Press(controls, KeyName::kTab);
  EXPECT_EQ(controls.view, View::kWorkers);
  Press(controls, KeyName::kTab);
  Press(controls, KeyName::kTab);
  EXPECT_EQ(controls.view, View::kListeners);
  Press(controls, KeyName::kBackTab);
  EXPECT_EQ(controls.view, View::kSessions);
  controls.first = 5;
  Type(controls, "2");
  EXPECT_EQ(controls.view, View::kUpstreams);
  EXPECT_EQ(controls.first, 0u);
}

TEST(TopControls, SortEachViewByItself) {
  Controls controls(View::kListeners);
  EXPECT_EQ(controls.order(), (Order{0, false}));
  Type(controls, "<");
  EXPECT_EQ(controls.order(), (Order{ColumnsOf(View::kListeners).size() - 1, true}));
  Type(controls, ">>");
  EXPECT_EQ(controls.order(), (Order{1, false}));
  Type(controls, "r");
  EXPECT_EQ(controls.order(), (Order{1, true}));
  Type(controls, "5");
  EXPECT_EQ(controls.order(), DefaultOrder(View::kSessions));
  Type(controls, "1");
  EXPECT_EQ(controls.order(), (Order{1, true}));
}

TEST(TopControls, TypeAFilter) {
  Controls controls(View::kListeners);
  Type(controls, "/q1 rx");  // all of it text
  Press(controls, KeyName::kBackspace);
  EXPECT_TRUE(controls.editing);
  EXPECT_FALSE(controls.quit);
  Press(controls, KeyName::kEnter);
  EXPECT_EQ(controls.filter, "q1 r");
  EXPECT_FALSE(controls.editing);
  Type(controls, "/yz");
  EXPECT_EQ(controls.filter, "q1 ryz");
  Press(controls, KeyName::kEscape);
  EXPECT_EQ(controls.filter, "q1 r") << "Escape gives the former one back";
  Type(controls, "/\x15new");
  Press(controls, KeyName::kEnter);
  EXPECT_EQ(controls.filter, "new");
  Press(controls, KeyName::kEscape);
  EXPECT_EQ(controls.filter, "");
  Type(controls, "/" + std::string(1000, 'x'));
  EXPECT_EQ(controls.filter.size(), Controls::kLongestFilter);
}

TEST(TopControls, ScrollWithinTheTable) {
  Controls controls(View::kListeners);
  auto after = [&](KeyName name) {
    Press(controls, name);
    controls.Clamp(25, 10);
    return controls.first;
  };
  EXPECT_EQ(after(KeyName::kUp), 0u);
  EXPECT_EQ(after(KeyName::kDown), 1u);
  EXPECT_EQ(after(KeyName::kPageDown), 11u);
  EXPECT_EQ(after(KeyName::kPageDown), 15u);
  EXPECT_EQ(after(KeyName::kPageUp), 5u);
  EXPECT_EQ(after(KeyName::kEnd), 15u);
  EXPECT_EQ(after(KeyName::kHome), 0u);
  controls.first = 7;
  controls.Clamp(3, 10);
  EXPECT_EQ(controls.first, 0u);
}

TEST(TopControls, HelpPauseAndQuit) {
  Controls controls(View::kListeners);
  Type(controls, "h2");  // any key leaves the help
  EXPECT_FALSE(controls.help);
  EXPECT_EQ(controls.view, View::kListeners);
  Type(controls, "p");
  EXPECT_TRUE(controls.paused);
  Type(controls, " ");
  EXPECT_FALSE(controls.paused);
  Type(controls, "\x0c");
  EXPECT_TRUE(controls.repaint);
  Type(controls, "hq");
  EXPECT_TRUE(controls.quit);
}

}  // namespace
}  // namespace ringmain::top
