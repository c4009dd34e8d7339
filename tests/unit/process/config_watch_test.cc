#include "process/config_watch.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

TEST(ConfigWatch, ReportsAChangeOnceItStays) {
  ConfigWatch watch;
  watch.Know("a");
  EXPECT_FALSE(watch.Look("a"));
  EXPECT_FALSE(watch.Look("b"));
  EXPECT_TRUE(watch.Look("b"));
  EXPECT_FALSE(watch.Look("b"));
  EXPECT_FALSE(watch.Look("a"));
  EXPECT_TRUE(watch.Look("a"));
}

TEST(ConfigWatch, WaitsWhileItIsWrittenOrMissing) {
  ConfigWatch watch;
  watch.Know("a");
  EXPECT_FALSE(watch.Look("b"));
  EXPECT_FALSE(watch.Look("bc"));
  EXPECT_FALSE(watch.Look(std::nullopt));
  EXPECT_FALSE(watch.Look("bc"));
  EXPECT_TRUE(watch.Look("bc"));
  EXPECT_FALSE(watch.Look("d"));
  EXPECT_FALSE(watch.Look("bc")) << "taken back";
  EXPECT_FALSE(watch.Look("d"));
}

}  // namespace
}  // namespace ringmain
