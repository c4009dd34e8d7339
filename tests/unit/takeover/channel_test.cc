#include "takeover/channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <thread>

namespace ringmain {
namespace {

class ChannelTest : public testing::Test {
 protected:
  ChannelTest() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    raw_ = fds[1];
    a_.emplace(UniqueFd(fds[0]));
    b_.emplace(UniqueFd(fds[1]));
  }
  static bool SameFile(int one, int other) {
    struct stat a {}, b {};
    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
  }

  int raw_;
  std::optional<Channel> a_, b_;
};

TEST_F(ChannelTest, CarriesMessagesAndFiles) {
  UniqueFd file(memfd_create("x", MFD_CLOEXEC));
  const int files[] = {file.get()};
  ASSERT_TRUE(a_->Send(MessageType::kState, std::string("a\0b", 3), files).ok());
  ASSERT_TRUE(a_->Send(MessageType::kCommit).ok());
  auto first = b_->Receive(seconds(5));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->type, MessageType::kState);
  EXPECT_EQ(first->body, std::string("a\0b", 3));
  ASSERT_EQ(first->files.size(), 1u);
  EXPECT_TRUE(SameFile(first->files[0].get(), file.get()));
  EXPECT_NE(fcntl(first->files[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_TRUE(b_->Expect(MessageType::kCommit, seconds(5)).ok());
  EXPECT_TRUE(a_->peer_is_trusted());
  EXPECT_EQ(a_->peer(), getpid());
}

TEST_F(ChannelTest, ContentMayBeOfAnySize) {
  for (size_t size : {size_t{0}, size_t{1000}, Channel::kMaxBody, Channel::kMaxBody + 1, size_t{5} << 20}) {
    std::string content(size, 'x');
    if (size > 0) content.back() = 'y';
    ASSERT_TRUE(a_->SendContent(MessageType::kOffer, content).ok());
    auto message = b_->Expect(MessageType::kOffer, seconds(5));
    ASSERT_TRUE(message.ok()) << message.status();
    auto received = Channel::ContentOf(*message);
    ASSERT_TRUE(received.ok()) << received.status();
    EXPECT_EQ(*received == content, true) << size;
  }
}

TEST_F(ChannelTest, ManyFilesComeInPieces) {
  std::vector<UniqueFd> files;
  std::vector<int> fds;
  for (int i = 0; i < 600; ++i) {
    files.emplace_back(memfd_create("x", MFD_CLOEXEC));
    fds.push_back(files.back().get());
  }
  std::thread sender([&] { EXPECT_TRUE(a_->SendFiles(fds).ok()); });
  auto received = b_->ReceiveFiles(600);
  sender.join();
  ASSERT_TRUE(received.ok()) << received.status();
  for (size_t i = 0; i < fds.size(); ++i) EXPECT_TRUE(SameFile((*received)[i].get(), fds[i])) << i;
}

TEST_F(ChannelTest, SaysWhatIsWrong) {
  EXPECT_TRUE(absl::IsDeadlineExceeded(b_->Receive(milliseconds(20)).status()));
  ASSERT_TRUE(a_->Send(MessageType::kAbort, "because").ok());
  absl::Status aborted = b_->Expect(MessageType::kCommit, seconds(5)).status();
  EXPECT_TRUE(absl::IsAborted(aborted));
  EXPECT_EQ(aborted.message(), "because");
  ASSERT_TRUE(a_->Send(MessageType::kReady).ok());
  EXPECT_FALSE(b_->Expect(MessageType::kCommit, seconds(5)).ok());
  for (const std::string& garbage : {std::string("x"), std::string("rmt"), std::string("nonsense and more"), std::string(8, '\0')}) {
    ASSERT_GT(send(raw_, garbage.data(), garbage.size(), 0), 0);
    EXPECT_TRUE(absl::IsInternal(a_->Receive(seconds(5)).status())) << garbage;
  }
  b_.reset();
  EXPECT_TRUE(absl::IsUnavailable(a_->Receive(seconds(5)).status()));
  EXPECT_TRUE(absl::IsUnavailable(a_->Send(MessageType::kReady)));
}

}  // namespace
}  // namespace ringmain
