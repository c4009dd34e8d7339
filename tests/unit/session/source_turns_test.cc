#include "session/source_turns.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

constexpr TimePoint kNow{seconds(1000)};

TEST(SourceTurnsTest, GivesEachItsTurn) {
  SourceTurns turns(3);
  for (int round = 0; round < 3; ++round)
    for (uint16_t source : {0, 1, 2}) EXPECT_EQ(turns.Next(kNow), source);
}

TEST(SourceTurnsTest, PassesOverThoseThatRest) {
  SourceTurns turns(3);
  turns.Rest(1, kNow);
  for (uint16_t source : {0, 2, 0, 2}) EXPECT_EQ(turns.Next(kNow), source);
  turns.Rest(0, kNow + milliseconds(1));
  turns.Rest(2, kNow + milliseconds(2));
  EXPECT_EQ(turns.Next(kNow + SourceTurns::kRest - Duration(1)), std::nullopt);
  EXPECT_EQ(turns.Next(kNow + SourceTurns::kRest), 1);
  EXPECT_EQ(turns.Next(kNow + SourceTurns::kRest), 1);
}

TEST(SourceTurnsTest, WithoutSourcesTheKernelsChoiceHasEveryTurn) {
  SourceTurns turns(0);
  EXPECT_EQ(turns.Next(kNow), 0);
  EXPECT_EQ(turns.Next(kNow), 0);
  turns.Rest(0, kNow);
  EXPECT_EQ(turns.Next(kNow), std::nullopt);
  EXPECT_EQ(turns.Next(kNow + SourceTurns::kRest), 0);
}

}  // namespace
}  // namespace ringmain
