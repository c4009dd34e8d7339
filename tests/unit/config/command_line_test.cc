#include <gtest/gtest.h>

#include <string>

#include "config/config.h"

namespace ringmain {
namespace {

TEST(CommandLineTest, MakesAConfiguration) {
  auto config = FromCommandLine("0.0.0.0:8080", "127.0.0.1:1,[::1]:2,unix:/run/x.sock", "");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*config)->admin_listen.ToString(), "127.0.0.1:9900");
  ASSERT_EQ((*config)->listeners.size(), 1u);
  EXPECT_EQ((*config)->listeners[0].name, "listen");
  EXPECT_EQ((*config)->listeners[0].upstream, "to");
  ASSERT_EQ((*config)->listeners[0].listen.size(), 1u);
  EXPECT_EQ((*config)->listeners[0].listen[0].ToString(), "0.0.0.0:8080");
  ASSERT_EQ((*config)->upstreams.size(), 1u);
  const UpstreamConfig& upstream = (*config)->upstreams[0];
  EXPECT_EQ(upstream.name, "to");
  EXPECT_TRUE(upstream.health_check.has_value());
  ASSERT_EQ(upstream.servers.size(), 3u);
  EXPECT_EQ(upstream.servers[0].address.ToString(), "127.0.0.1:1");
  EXPECT_EQ(upstream.servers[1].address.ToString(), "[::1]:2");
  EXPECT_EQ(upstream.servers[2].address.ToString(), "unix:/run/x.sock");
  EXPECT_EQ(FromCommandLine("unix:/x", "127.0.0.1:1", "[::1]:5").value()->admin_listen.ToString(), "[::1]:5");
  EXPECT_TRUE(FromCommandLine("127.0.0.1:0", "127.0.0.1:1", "127.0.0.1:0").ok());
}

TEST(CommandLineTest, NamesTheOptionThatIsWrong) {
  struct Case {
    const char* listen;
    const char* to;
    const char* admin;
    const char* error;
  };
  constexpr char kForms[] = "; write 127.0.0.1:8080, [::1]:8080 or unix:/run/x.sock";
  const Case cases[] = {
      {"8080", "1.1.1.1:1", "", "--listen: address '8080' has no port%"},
      {"", "1.1.1.1:1", "", "--listen: address '' is empty%"},
      {"0.0.0.0:1", "", "", "--to: address '' is empty%"},
      {"0.0.0.0:1", "1.1.1.1:1,", "", "--to: address '' is empty%"},
      {"0.0.0.0:1", "1.1.1.1:1, 1.1.1.1:2", "",
       "--to: address ' 1.1.1.1:2' is not a valid IPv4 address (host names are not supported)%"},
      {"0.0.0.0:1", "1.1.1.1:0", "", "--to: address '1.1.1.1:0' has port 0; write 1 to 65535"},
      {"0.0.0.0:1", "1.1.1.1:1,1.1.1.1:01", "", "--to: address '1.1.1.1:01' is there twice; write each server once"},
      {"0.0.0.0:1", "1.1.1.1:1", "x", "--admin: address 'x' has no port%"},
      {"0.0.0.0:1", "1.1.1.1:1", "unix:/x",
       "--admin: 'unix:/x' is a unix address; write host:port such as 127.0.0.1:9900"},
      {"127.0.0.1:9900", "1.1.1.1:1", "", "--listen: address '127.0.0.1:9900' is that of the admin server too"},
  };
  for (const Case& c : cases) {
    auto config = FromCommandLine(c.listen, c.to, c.admin);
    std::string expected = c.error;
    if (expected.ends_with('%')) expected.replace(expected.size() - 1, 1, kForms);
    EXPECT_EQ(std::string(config.status().message()), expected);
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(CommandLineTest, BoundsTheServers) {
  std::string to;
  for (uint32_t i = 0; i <= kMaxServers; ++i) to += (i == 0 ? "10.0.0.1:" : ",10.0.0.1:") + std::to_string(i + 1);
  EXPECT_EQ(std::string(FromCommandLine("0.0.0.0:1", to, "").status().message()),
            "--to: at most 4096 servers are allowed");
  EXPECT_TRUE(FromCommandLine("0.0.0.0:1", to.substr(0, to.rfind(',')), "").ok());
}

}  // namespace
}  // namespace ringmain
