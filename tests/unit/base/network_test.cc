#include "base/network.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

bool Holds(const char* network, const char* host) {
  return Network::Parse(network).value().Contains(SocketAddress::ParseHost(host).value());
}

TEST(Network, HoldsWhatHasItsPrefix) {
  EXPECT_TRUE(Holds("10.0.0.0/8", "10.255.255.255"));
  EXPECT_FALSE(Holds("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(Holds("192.0.2.128/25", "192.0.2.128"));
  EXPECT_FALSE(Holds("192.0.2.128/25", "192.0.2.127"));
  EXPECT_TRUE(Holds("192.0.2.7", "192.0.2.7"));
  EXPECT_FALSE(Holds("192.0.2.7", "192.0.2.6"));
  EXPECT_TRUE(Holds("0.0.0.0/0", "203.0.113.1"));
  EXPECT_TRUE(Holds("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(Holds("2001:db8::/33", "2001:db8:8000::1"));
}

TEST(Network, KeepsFamiliesApart) {
  EXPECT_FALSE(Holds("0.0.0.0/0", "2001:db8::1"));
  EXPECT_FALSE(Holds("::/0", "192.0.2.1"));
  EXPECT_TRUE(Holds("all", "192.0.2.1"));
  EXPECT_TRUE(Holds("all", "2001:db8::1"));
  EXPECT_TRUE(Holds("10.0.0.0/8", "::ffff:10.1.2.3")) << "a mapped address is the IPv4 address that it carries";
  SocketAddress unix_address = SocketAddress::Parse("unix:/run/x.sock").value();
  EXPECT_TRUE(Network::Parse("all").value().Contains(unix_address));
  EXPECT_FALSE(Network::Parse("0.0.0.0/0").value().Contains(unix_address));
}

TEST(Network, IsWrittenAsItIsRead) {
  for (const char* text : {"10.0.0.0/8", "0.0.0.0/0", "192.0.2.7/32", "2001:db8::/32", "::/0", "all"})
    EXPECT_EQ(Network::Parse(text).value().ToString(), text);
  EXPECT_EQ(Network::Parse("192.0.2.7").value().ToString(), "192.0.2.7/32");
}

TEST(Network, RefusesWhatIsNone) {
  for (const char* text : {"", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "10.0/8", "::/129", "host/8", "/8", "10.0.0.0/8/8"})
    EXPECT_FALSE(Network::Parse(text).ok()) << text;
  EXPECT_NE(Network::Parse("10.1.2.3/8").status().message().find("10.0.0.0/8"), absl::string_view::npos);
}

}  // namespace
}  // namespace ringmain
