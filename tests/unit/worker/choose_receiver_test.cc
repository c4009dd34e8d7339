#include "worker/choose_receiver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "worker/brief_connections.h"

namespace ringmain {
namespace {

using Loads = std::vector<WorkerLoad>;

std::optional<uint32_t> Choose(uint32_t self, const Loads& loads) {
  return ChooseReceiver(self, loads[self].connections, static_cast<uint32_t>(loads.size()), [&](uint32_t i) { return loads[i]; });
}

TEST(ChooseReceiver, AloneItKeepsAll) { EXPECT_EQ(Choose(0, {{100'000, true}}), std::nullopt); }

TEST(ChooseReceiver, GivesOnlyBeyondTheMargin) {
  EXPECT_EQ(Choose(0, {{8, true}, {0, true}}), std::nullopt);
  EXPECT_EQ(Choose(0, {{9, true}, {0, true}}), 1u);
  EXPECT_EQ(Choose(0, {{108, true}, {100, true}}), std::nullopt);
  EXPECT_EQ(Choose(0, {{109, true}, {100, true}}), 1u);
  EXPECT_EQ(Choose(0, {{33'000, true}, {32'000, true}}), std::nullopt) << "a few percent of many";
  EXPECT_EQ(Choose(0, {{33'001, true}, {32'000, true}}), 1u);
  EXPECT_EQ(Choose(1, {{33'001, true}, {32'000, true}}), std::nullopt) << "the least loaded gives to nobody";
}

TEST(ChooseReceiver, TheLeastLoadedGetsIt) {
  EXPECT_EQ(Choose(0, {{100, true}, {60, true}, {50, true}, {70, true}}), 2u);
  EXPECT_EQ(Choose(3, {{60, true}, {50, true}, {51, true}, {100, true}}), 1u);
}

TEST(ChooseReceiver, EqualsAreToldApartByWhoAsks) {
  Loads loads = {{50, true}, {0, true}, {0, true}, {50, true}};
  EXPECT_EQ(Choose(0, loads), 1u);
  EXPECT_EQ(Choose(3, loads), 1u);
  loads = {{0, true}, {50, true}, {0, true}, {50, true}};
  EXPECT_EQ(Choose(1, loads), 2u);
  EXPECT_EQ(Choose(3, loads), 0u);
}

TEST(ChooseReceiver, WhoTakesNothingGetsNothing) {
  EXPECT_EQ(Choose(0, {{100, true}, {0, false}}), std::nullopt);
  EXPECT_EQ(Choose(0, {{100, true}, {0, false}, {50, true}}), 2u) << "the least loaded of those that take";
  EXPECT_EQ(Choose(0, {{100, true}, {0, false}, {95, true}}), std::nullopt);
  EXPECT_EQ(Choose(0, {{100, false}, {50, true}}), 1u) << "one that takes none may give";
}

TEST(ChooseReceiver, OnlyWhatCountsOfItsOwnIsCompared) {
  Loads loads = {{500, true}, {100, true}};
  auto choose = [&](uint32_t own) { return ChooseReceiver(0, own, 2, [&](uint32_t i) { return loads[i]; }); };
  EXPECT_EQ(choose(500), 1u);
  EXPECT_EQ(choose(108), std::nullopt);
  EXPECT_EQ(choose(0), std::nullopt);
}

// However blind the kernel: whoever accepts, the spread stays within the margin, and nobody gives back what he was given.
TEST(ChooseReceiver, KeepsAnyStreamOfConnectionsBalanced) {
  for (uint32_t workers : {2u, 3u, 4u, 16u}) {
    for (uint32_t favourite_percent : {0u, 50u, 100u}) {
      std::mt19937 random(7);
      Loads loads(workers, WorkerLoad{0, true});
      uint32_t given = 0;
      for (uint32_t i = 0; i < workers * 250; ++i) {
        uint32_t accepts = random() % 100 < favourite_percent ? 0 : static_cast<uint32_t>(random() % workers);
        std::optional<uint32_t> receiver = Choose(accepts, loads);
        given += receiver.has_value();
        if (receiver.has_value()) {
          Loads after = loads;
          ++after[*receiver].connections;
          EXPECT_EQ(Choose(*receiver, after), std::nullopt);
        }
        ++loads[receiver.value_or(accepts)].connections;
      }
      auto [least, most] = std::minmax_element(loads.begin(), loads.end(), [](const WorkerLoad& a, const WorkerLoad& b) {
        return a.connections < b.connections;
      });
      EXPECT_LE(most->connections - least->connections, HandOverMargin(least->connections) + 1)
          << workers << " workers, " << favourite_percent << "% to the first";
      if (favourite_percent == 0) {
        EXPECT_LT(given, workers * 250 / 5) << "what chance spreads well is left alone";
      }
    }
  }
}

TimePoint At(int64_t ms) { return TimePoint(seconds(20000)) + milliseconds(ms); }

TEST(BriefConnections, CountsThoseThatCameAndWentLately) {
  BriefConnections brief;
  EXPECT_EQ(brief.Recent(At(0)), 0u);
  brief.OnClosed(milliseconds(1), At(0));
  brief.OnClosed(milliseconds(999), At(500));
  brief.OnClosed(seconds(1), At(600));  // it stayed
  EXPECT_EQ(brief.Recent(At(999)), 2u);
  EXPECT_EQ(brief.Recent(At(1200)), 2u);
  brief.OnClosed(milliseconds(5), At(1300));
  EXPECT_EQ(brief.Recent(At(1300)), 3u);
  EXPECT_EQ(brief.Recent(At(2299)), 3u);
  EXPECT_EQ(brief.Recent(At(2300)), 1u);
  EXPECT_EQ(brief.Recent(At(3299)), 1u);
  EXPECT_EQ(brief.Recent(At(3300)), 0u);
}

TEST(BriefConnections, AfterAPauseAllIsLongAgo) {
  BriefConnections brief;
  brief.OnClosed(milliseconds(1), At(0));
  brief.OnClosed(milliseconds(1), At(2000));
  EXPECT_EQ(brief.Recent(At(2000)), 1u);
}

}  // namespace
}  // namespace ringmain
