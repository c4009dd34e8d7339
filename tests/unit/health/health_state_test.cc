#include "health/health_state.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace ringmain {
namespace {

using Flip = HealthState::Flip;

// Feeds results ('+' success, '-' failure) and writes the state after each: 'U' or 'D'.
std::string Feed(HealthState& state, const std::string& results) {
  std::string states;
  for (char result : results) {
    bool before = state.up();
    std::optional<Flip> flip = result == '+' ? state.OnSuccess() : state.OnFailure();
    EXPECT_EQ(flip.has_value(), before != state.up());
    EXPECT_TRUE(!flip.has_value() || (*flip == Flip::kUp) == state.up());
    states += state.up() ? 'U' : 'D';
  }
  return states;
}

TEST(HealthState, StartsUp) { EXPECT_TRUE(HealthState(2, 3).up()); }

TEST(HealthState, FlipsAfterConsecutiveResultsOnly) {
  HealthState state(2, 3);
  EXPECT_EQ(Feed(state, "--+--+---"), "UUUUUUUUD");
  EXPECT_EQ(Feed(state, "-+-+-++"), "DDDDDDU");
}

TEST(HealthState, FirstChecksCountAsAny) {
  HealthState state(1, 3);
  EXPECT_EQ(Feed(state, "---+"), "UUDU");
}

TEST(HealthState, OneIsEnoughIfSoConfigured) {
  HealthState state(1, 1);
  EXPECT_EQ(Feed(state, "-+-+"), "DUDU");
}

TEST(HealthState, NewThresholdsHoldForTheResultsInARow) {
  HealthState state(2, 5);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(state.OnFailure().has_value());
  state.SetThresholds(2, 2);
  EXPECT_TRUE(state.up()) << "only a result flips";
  EXPECT_EQ(state.OnFailure(), Flip::kDown);
  HealthState down(2, 3, false);
  EXPECT_FALSE(down.up());
  EXPECT_FALSE(down.OnSuccess().has_value());
  EXPECT_EQ(down.OnSuccess(), Flip::kUp);
}

TEST(HealthState, NeverFlipsOnFewerResults) {
  std::mt19937 random(11);
  for (uint32_t rise = 1; rise <= 5; ++rise) {
    for (uint32_t fall = 1; fall <= 5; ++fall) {
      HealthState state(rise, fall);
      uint32_t run = 0;
      bool last = true;
      for (int i = 0; i < 2000; ++i) {
        bool success = random() % 2 == 0;
        run = success == last ? run + 1 : 1;
        last = success;
        std::optional<Flip> flip = success ? state.OnSuccess() : state.OnFailure();
        uint32_t needed = success ? rise : fall;
        EXPECT_TRUE(!flip.has_value() || run == needed);
        EXPECT_TRUE(run < needed || state.up() == success);
      }
    }
  }
}

}  // namespace
}  // namespace ringmain
