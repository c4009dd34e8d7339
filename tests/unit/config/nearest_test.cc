#include "config/nearest.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

TEST(NearestTest, MeasuresTheEditDistance) {
  struct Case {
    const char* a;
    const char* b;
    size_t distance;
  };
  const Case cases[] = {{"", "", 0},
                        {"", "abc", 3},
                        {"same", "same", 0},
                        {"kitten", "sitting", 3},
                        {"listen", "lsiten", 2},
                        {"weight", "wieght", 2},
                        {"name", "names", 1},
                        {"flaw", "lawn", 2}};
  for (const Case& c : cases) {
    EXPECT_EQ(EditDistance(c.a, c.b), c.distance) << c.a << " " << c.b;
    EXPECT_EQ(EditDistance(c.b, c.a), c.distance) << c.b << " " << c.a;
  }
}

TEST(NearestTest, NamesTheNearest) {
  const std::vector<std::string> known = {"connect_timeout", "connect_tries", "name"};
  EXPECT_EQ(NearestHint("conect_timeout", known), "did you mean 'connect_timeout'?");
  EXPECT_EQ(NearestHint("connect_trys", known), "did you mean 'connect_tries'?");
  EXPECT_EQ(NearestHint("Name", known), "did you mean 'name'?");
}

TEST(NearestTest, ListsAllWhenNoneIsNear) {
  EXPECT_EQ(NearestHint("zzz", {"name", "listen"}), "known: name, listen");
  EXPECT_EQ(NearestHint("", {"name"}), "known: name");
  EXPECT_EQ(NearestHint(std::string(4 << 20, 'x'), {"name"}), "known: name");
}

TEST(NearestTest, KeepsALongListShort) {
  std::vector<std::string> known;
  for (int i = 0; i < 1000; ++i) known.push_back("upstream-" + std::to_string(i));
  std::string hint = NearestHint("z", known);
  EXPECT_LT(hint.size(), 400u);
  EXPECT_TRUE(hint.ends_with(", ...")) << hint;
}

}  // namespace
}  // namespace ringmain
