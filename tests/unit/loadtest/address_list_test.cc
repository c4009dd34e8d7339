#include "loadtest/address_list.h"

#include <gtest/gtest.h>

namespace ringmain::loadtest {
namespace {

TEST(AddressListTest, SplitsAtCommas) {
  auto addresses = ParseAddressList("127.0.0.1:7001,[::1]:7002,unix:/run/x.sock");
  ASSERT_TRUE(addresses.ok()) << addresses.status();
  ASSERT_EQ(addresses->size(), 3u);
  EXPECT_EQ((*addresses)[0].ToString(), "127.0.0.1:7001");
  EXPECT_EQ((*addresses)[1].ToString(), "[::1]:7002");
  EXPECT_EQ((*addresses)[2].ToString(), "unix:/run/x.sock");
}

TEST(AddressListTest, RefusesWhatIsNoAddress) {
  for (const char* wrong : {"", ",", "127.0.0.1:1,", "127.0.0.1", "localhost:1"})
    EXPECT_FALSE(ParseAddressList(wrong).ok()) << wrong;
}

TEST(AddressListTest, HostsHaveNoPort) {
  auto hosts = ParseHostList("127.0.0.2,::1");
  ASSERT_TRUE(hosts.ok()) << hosts.status();
  EXPECT_EQ((*hosts)[0].ToString(), "127.0.0.2:0");
  EXPECT_EQ((*hosts)[1].ToString(), "[::1]:0");
  for (const char* wrong : {"", "127.0.0.2:5", "unix:/x", "host"}) EXPECT_FALSE(ParseHostList(wrong).ok()) << wrong;
}

}  // namespace
}  // namespace ringmain::loadtest
