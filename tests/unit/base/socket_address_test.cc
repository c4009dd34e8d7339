#include "base/socket_address.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"

namespace ringmain {
namespace {

TEST(SocketAddressTest, PrintsWhatItParsed) {
  for (const char* text :
       {"127.0.0.1:8080", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:8080", "[::]:1", "[2001:db8::1]:443",
        "[::ffff:10.0.0.1]:80", "unix:/run/x.sock", "unix:relative", "unix:/a b:8080"}) {
    auto address = SocketAddress::Parse(text);
    ASSERT_TRUE(address.ok()) << text << ": " << address.status();
    EXPECT_EQ(address->ToString(), text);
  }
}

TEST(SocketAddressTest, WritesIpv6InItsShortForm) {
  EXPECT_EQ(SocketAddress::Parse("[2001:0DB8:0:0:0:0:0:1]:0080")->ToString(), "[2001:db8::1]:80");
}

TEST(SocketAddressTest, SaysWhatIsWrongAndWhatIsRight) {
  struct Case {
    std::string text;
    std::string what;
  };
  const Case cases[] = {
      {"", "is empty"},
      {"127.0.0.1", "has no port"},
      {"127.0.0.1:", "has no valid port"},
      {"127.0.0.1:65536", "has no valid port"},
      {"127.0.0.1:99999999999999999999", "has no valid port"},
      {"127.0.0.1:-1", "has no valid port"},
      {"127.0.0.1:+1", "has no valid port"},
      {"127.0.0.1: 80", "has no valid port"},
      {"127.0.0.1:80 ", "has no valid port"},
      {"127.0.0.1:0x50", "has no valid port"},
      {":8080", "has no host"},
      {"localhost:8080", "host names are not supported"},
      {"*:8080", "is not a valid IPv4 address"},
      {"256.0.0.1:80", "is not a valid IPv4 address"},
      {"1.2.3:80", "is not a valid IPv4 address"},
      {"01.2.3.4.5:80", "is not a valid IPv4 address"},
      {"::1:8080", "needs brackets around an IPv6 address"},
      {"[::1]", "has no valid port"},
      {"[]:80", "is not a valid IPv6 address"},
      {"[::g]:80", "is not a valid IPv6 address"},
      {"[127.0.0.1]:80", "is not a valid IPv6 address"},
      {"[fe80::1%eth0]:80", "is not a valid IPv6 address"},
      {"unix:", "has no path"},
      {"http://127.0.0.1:80", "needs brackets around an IPv6 address"},
      {std::string("127.0.0.1\0x:80", 14), "has a zero byte"},
      {std::string("unix:\0abstract", 14), "has a zero byte"},
  };
  for (const Case& c : cases) {
    auto address = SocketAddress::Parse(c.text);
    ASSERT_FALSE(address.ok()) << c.text << " became " << address->ToString();
    std::string message(address.status().message());
    EXPECT_NE(message.find(c.what), std::string::npos) << c.text << ": " << message;
    EXPECT_NE(message.find("write 127.0.0.1:8080, [::1]:8080 or unix:/run/x.sock"), std::string::npos) << message;
  }
}

TEST(SocketAddressTest, ReadsAHostWithoutAPort) {
  for (const char* text : {"127.0.0.1", "0.0.0.0", "::1", "::", "2001:db8::1", "::ffff:10.0.0.1"}) {
    auto address = SocketAddress::ParseHost(text);
    ASSERT_TRUE(address.ok()) << text << ": " << address.status();
    EXPECT_EQ(address->host(), text);
    EXPECT_EQ(address->port(), 0);
  }
  for (const char* text : {"", "127.0.0.1:80", "[::1]", "[::1]:80", "[", "::1]:80", "unix:/x", "unix", "host", "fe80::1%lo",
                           "1.2.3", "::1::"}) {
    auto address = SocketAddress::ParseHost(text);
    ASSERT_FALSE(address.ok()) << text << " became " << address->ToString();
    EXPECT_EQ(address.status().message(),
              absl::StrCat("'", text, "' is not an IP address; write it like 127.0.0.2 or ::1"));
  }
}

TEST(SocketAddressTest, TakesAUnixPathAsLongAsTheKernelDoes) {
  constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  std::string path(kLongest, 'x');
  auto longest = SocketAddress::Parse("unix:" + path);
  ASSERT_TRUE(longest.ok()) << longest.status();
  EXPECT_EQ(longest->unix_path(), path);
  EXPECT_EQ(longest->length(), sizeof(sockaddr_un));
  auto longer = SocketAddress::Parse("unix:x" + path);
  ASSERT_FALSE(longer.ok());
  EXPECT_NE(longer.status().message().find("longer than 107 bytes"), absl::string_view::npos);
}

TEST(SocketAddressTest, KnowsItsParts) {
  SocketAddress v4 = SocketAddress::Parse("10.0.0.1:80").value();
  EXPECT_EQ(v4.family(), AF_INET);
  EXPECT_EQ(v4.length(), sizeof(sockaddr_in));
  EXPECT_EQ(v4.port(), 80);
  EXPECT_FALSE(v4.is_unix());
  v4.set_port(65535);
  EXPECT_EQ(v4.ToString(), "10.0.0.1:65535");

  SocketAddress v6 = SocketAddress::Parse("[::1]:80").value();
  EXPECT_EQ(v6.family(), AF_INET6);
  EXPECT_EQ(v6.length(), sizeof(sockaddr_in6));
  v6.set_port(1);
  EXPECT_EQ(v6.ToString(), "[::1]:1");

  SocketAddress local = SocketAddress::Parse("unix:/run/x.sock").value();
  EXPECT_TRUE(local.is_unix());
  EXPECT_EQ(local.port(), 0);
  EXPECT_EQ(local.unix_path(), "/run/x.sock");

  EXPECT_EQ(SocketAddress().ToString(), "unset");
  EXPECT_EQ(SocketAddress().length(), 0u);
}

TEST(SocketAddressTest, KnowsLoopback) {
  for (const char* text : {"127.0.0.1:1", "127.255.0.9:1", "[::1]:1", "unix:/x"})
    EXPECT_TRUE(SocketAddress::Parse(text)->is_loopback()) << text;
  for (const char* text : {"0.0.0.0:1", "128.0.0.1:1", "[::]:1", "[2001:db8::1]:1"})
    EXPECT_FALSE(SocketAddress::Parse(text)->is_loopback()) << text;
}

TEST(SocketAddressTest, KnowsAddressesThatAreNoOnesOwn) {
  auto host = [](const char* text) { return SocketAddress::ParseHost(text).value(); };
  for (const char* text : {"0.0.0.0", "::"}) EXPECT_TRUE(host(text).is_wildcard()) << text;
  for (const char* text : {"127.0.0.1", "::1", "0.0.0.1"}) EXPECT_FALSE(host(text).is_wildcard()) << text;
  EXPECT_FALSE(SocketAddress::Parse("unix:/x")->is_wildcard());
  for (const char* text : {"fe80::1", "febf::1"}) EXPECT_TRUE(host(text).is_link_local()) << text;
  for (const char* text : {"fec0::1", "::1", "169.254.0.1"}) EXPECT_FALSE(host(text).is_link_local()) << text;
}

TEST(SocketAddressTest, IsEqualByValue) {
  auto parse = [](const char* text) { return SocketAddress::Parse(text).value(); };
  EXPECT_EQ(parse("127.0.0.1:80"), parse("127.0.0.1:080"));
  EXPECT_EQ(parse("[::1]:80"), parse("[0:0::1]:80"));
  EXPECT_FALSE(parse("127.0.0.1:80") == parse("127.0.0.1:81"));
  EXPECT_FALSE(parse("127.0.0.1:80") == parse("127.0.0.2:80"));
  EXPECT_FALSE(parse("0.0.0.0:80") == parse("[::]:80"));
  EXPECT_FALSE(parse("unix:/a") == parse("unix:/ab"));
  EXPECT_EQ(SocketAddress(), SocketAddress());
}

TEST(SocketAddressTest, ReadsTheAddressOfASocket) {
  for (const char* text : {"127.0.0.1:0", "[::1]:0"}) {
    SocketAddress any = SocketAddress::Parse(text).value();
    UniqueFd fd(socket(any.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(fd.valid());
    ASSERT_EQ(bind(fd.get(), any.address(), any.length()), 0) << text;
    auto bound = SocketAddress::OfSocket(fd.get());
    ASSERT_TRUE(bound.ok()) << bound.status();
    EXPECT_NE(bound->port(), 0);
    EXPECT_EQ(SocketAddress::Parse(bound->ToString()).value(), *bound);
    EXPECT_EQ(SocketAddress::FromSockaddr(bound->address(), bound->length()), *bound);
  }
  EXPECT_FALSE(SocketAddress::OfSocket(-1).ok());
}

TEST(SocketAddressTest, ReadsTheAddressOfAUnixSocket) {
  std::string path = testing::TempDir() + "ringmain_socket_address_test.sock";
  unlink(path.c_str());
  SocketAddress address = SocketAddress::Parse("unix:" + path).value();
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Without a name, as the peer address of a client is.
  EXPECT_EQ(SocketAddress::OfSocket(fd.get())->ToString(), "unix:");
  ASSERT_EQ(bind(fd.get(), address.address(), address.length()), 0);
  EXPECT_EQ(SocketAddress::OfSocket(fd.get()).value(), address);
  unlink(path.c_str());
}

}  // namespace
}  // namespace ringmain
