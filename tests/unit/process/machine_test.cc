#include "process/machine.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

TEST(Machine, QuotaRoundsUpToWholeCpus) {
  EXPECT_EQ(CpusOfQuota("max 100000\n"), std::nullopt);
  EXPECT_EQ(CpusOfQuota("100000 100000\n"), 1u);
  EXPECT_EQ(CpusOfQuota("150000 100000\n"), 2u);
  EXPECT_EQ(CpusOfQuota("10000 100000\n"), 1u);
  EXPECT_EQ(CpusOfQuota("400000 100000"), 4u);
  EXPECT_EQ(CpusOfQuota(""), std::nullopt);
  EXPECT_EQ(CpusOfQuota("100000 0"), std::nullopt);
  EXPECT_EQ(CpusOfQuota("garbage 100000"), std::nullopt);
}

TEST(Machine, PortRangeIsAllPortsIfItIsNotKnown) {
  PortRange range = ParsePortRange("32768\t60999\n");
  EXPECT_FALSE(range.Contains(32767));
  EXPECT_TRUE(range.Contains(32768));
  EXPECT_TRUE(range.Contains(60999));
  EXPECT_FALSE(range.Contains(61000));
  for (const char* text : {"", "32768", "x y", "99999 99999", "2 1"}) {
    EXPECT_TRUE(ParsePortRange(text).Contains(0)) << text;
    EXPECT_TRUE(ParsePortRange(text).Contains(65535)) << text;
  }
}

TEST(Machine, CgroupPathOfVersion2) {
  EXPECT_EQ(CgroupPath("0::/\n"), "");
  EXPECT_EQ(CgroupPath("0::/system.slice/ringmain.service\n"), "/system.slice/ringmain.service");
  EXPECT_EQ(CgroupPath("12:cpu:/a\n0::/b/c\n"), "/b/c");
  EXPECT_EQ(CgroupPath("12:cpu:/a\n"), "");
}

TEST(Machine, ReadsThisMachine) {
  EXPECT_GE(UsableCpus(), 1u);
  EXPECT_GE(UsableMemoryBytes(), uint64_t{1} << 20);
  EXPECT_GE(RaiseFileLimit(), 64u);
}

}  // namespace
}  // namespace ringmain
