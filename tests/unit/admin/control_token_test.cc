#include "admin/control_token.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace ringmain {
namespace {

class ControlToken : public testing::Test {
 protected:
  ControlToken() {
    char name[] = "/tmp/ringmain-token-XXXXXX";
    close(mkstemp(name));
    path_ = name;
  }
  ~ControlToken() override { unlink(path_.c_str()); }

  absl::StatusOr<std::string> Read(const std::string& content, mode_t mode = 0600) {
    std::ofstream(path_) << content;
    EXPECT_EQ(chmod(path_.c_str(), mode), 0);
    return ReadControlToken(path_);
  }
  void ExpectError(const absl::StatusOr<std::string>& token, const std::string& what) {
    ASSERT_FALSE(token.ok());
    std::string message(token.status().message());
    EXPECT_TRUE(message.starts_with("admin.token_file: " + path_ + " " + what)) << message;
    EXPECT_EQ(message.find("secret"), std::string::npos) << "the token shows";
  }

  std::string path_;
};

TEST_F(ControlToken, IsReadWithoutWhatIsAroundIt) {
  for (const char* content : {"0123456789abcdef", "0123456789abcdef\n", " 0123456789abcdef\r\n\n"}) {
    auto token = Read(content);
    ASSERT_TRUE(token.ok()) << token.status();
    EXPECT_EQ(*token, "0123456789abcdef");
  }
  EXPECT_TRUE(Read("abcXYZ019-._~+/==", 0400).ok());
  EXPECT_TRUE(Read(std::string(1024, 'a'), 0640).ok());
}

TEST_F(ControlToken, MustNotBeOpenToOthers) {
  ExpectError(Read("secretsecretsecret", 0604), "may be read by every user; chmod 600 it");
  ExpectError(Read("secretsecretsecret", 0644), "may be read by every user; chmod 600 it");
  ExpectError(Read("secretsecretsecret", 0620), "may be written by others");
  ExpectError(Read("secretsecretsecret", 0602), "may be written by others");
  if (geteuid() != 0) return;
  ASSERT_EQ(chown(path_.c_str(), 12345, 0), 0);
  ExpectError(Read("secretsecretsecret", 0600), "belongs to another user; chown it to root or to uid 0");
}

TEST_F(ControlToken, MustBeOne) {
  ExpectError(Read(""), "is empty");
  ExpectError(Read(" \n\n"), "is empty");
  ExpectError(Read("secret"), "holds less than 16 characters");
  ExpectError(Read(std::string(1025, 's')), "holds more than 1024 characters");
  ExpectError(Read(std::string(100'000, 's')), "holds more than 1024 characters");
  ExpectError(Read("secretsecret secretsecret"), "holds something else than one token");
  ExpectError(Read("secretsecretsecret\nsecretsecret\n"), "holds something else than one token");
  ExpectError(Read(std::string("secretsecretsecret\0x", 20)), "holds something else than one token");
  ExpectError(Read("secretsecretsecr\xc3\xa9t"), "holds something else than one token");
  unlink(path_.c_str());
  ExpectError(ReadControlToken(path_), "cannot be read: No such file or directory; make one: ");
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  ExpectError(ReadControlToken(path_), "is no regular file");
}

TEST(ShowsToken, AsABearer) {
  const std::string token = "0123456789abcdef";
  for (const char* shown : {"Bearer 0123456789abcdef", "bearer 0123456789abcdef", "BEARER   0123456789abcdef"})
    EXPECT_TRUE(ShowsToken(shown, token)) << shown;
  for (const char* shown : {"", "Bearer", "Bearer ", "Bearer0123456789abcdef", "Basic 0123456789abcdef", "0123456789abcdef",
                            "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Bearer 0123456789abcdeg", "Bearer 1123456789abcdef",
                            "Bearer 0123456789abcdef0123456789abcdef", "Bearer\t0123456789abcdef"})
    EXPECT_FALSE(ShowsToken(shown, token)) << shown;
  EXPECT_FALSE(ShowsToken("Bearer ", ""));
  EXPECT_FALSE(ShowsToken("", ""));
}

}  // namespace
}  // namespace ringmain
