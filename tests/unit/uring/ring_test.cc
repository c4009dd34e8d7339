#include "uring/ring.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "uring/ring_io.h"

namespace ringmain {
namespace {

Features Probed() {
  absl::StatusOr<Features> features = ProbeFeatures("");
  EXPECT_TRUE(features.ok()) << features.status();
  return features.value_or(Features());
}

TEST(Token, SurvivesPacking) {
  for (Token token : {Token{Op::kSendToClient, 0xffffff, 0xffffffff}, Token{Op::kNone, 0, 0}, Token{Op::kCancel, 1, 7}})
    EXPECT_EQ(Token::Unpack(token.Pack()), token);
  // A generation beyond 24 bits must not run into the operation.
  EXPECT_EQ(Token::Unpack(Token{Op::kConnect, 0x1000000, 3}.Pack()), (Token{Op::kConnect, 0, 3}));
}

TEST(RingSize, FitsHalfOfTheLockedMemory) {
  constexpr uint64_t kMebibyte = 1 << 20;
  for (uint32_t rings : {1u, 2u, 4u, 16u, 33u}) {
    RingSize size = RingSizeForMemlock(8 * kMebibyte, rings);
    EXPECT_LE(rings * (size.submissions * 68ull + size.completions * 16ull), 4 * kMebibyte) << rings;
  }
  EXPECT_EQ(RingSizeForMemlock(1 << 30, 4).completions, RingSize().completions);
  EXPECT_LT(RingSizeForMemlock(8 * kMebibyte, 100).completions, RingSize().completions);
  EXPECT_GE(RingSizeForMemlock(0, 100).submissions, 64u);
}

TEST(Features, DisabledByName) {
  Features features = *ProbeFeatures("optlen, defer_taskrun");
  EXPECT_FALSE(features.optlen);
  EXPECT_FALSE(features.defer_taskrun);
  // Without multishot receives there is nothing to cap.
  EXPECT_FALSE(ProbeFeatures("multishot_receive")->optlen);
}

TEST(Features, UnknownNameIsAnError) {
  absl::Status status = ProbeFeatures("optlen,warp_drive").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("warp_drive"), absl::string_view::npos);
  EXPECT_NE(status.message().find("defer_taskrun"), absl::string_view::npos) << "the known names are listed";
}

TEST(Features, RefusalNamesCauseAndFix) {
  EXPECT_NE(DescribeSetupError(EPERM).find("EPERM"), std::string::npos);
  EXPECT_NE(DescribeSetupError(ENOSYS).find("6.1"), std::string::npos);
  EXPECT_NE(DescribeSetupError(ENOMEM).find("ulimit -l"), std::string::npos);
}

// The real ring against a pair of sockets.
class RingIoTest : public testing::Test {
 protected:
  void SetUp() override {
    ring_ = std::move(*Ring::Create({64, 256}, Probed()));
    io_ = std::move(*RingIo::Create(*ring_, {4096, 8, 64 * 4096}));
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds_), 0);
  }
  void TearDown() override {
    close(fds_[0]);
    if (fds_[1] >= 0) close(fds_[1]);
    io_.reset();
    ring_.reset();
  }
  // One wait, all that came.
  std::vector<Completion> Turn() {
    std::vector<Completion> completions;
    ring_->SubmitAndWait();
    ring_->Reap([&](const Completion& completion) { completions.push_back(completion); });
    return completions;
  }
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<RingIo> io_;
  int fds_[2];
};

TEST_F(RingIoTest, TryCompletesAtOnceWhenTheSocketIsFull) {
  std::string payload(1 << 20, 'x');
  Token token{Op::kSendToClient, 1, 2};
  iovec part{payload.data(), payload.size()};
  io_->Send(token, fds_[0], {&part, 1}, Io::SendMode::kTry);
  std::vector<Completion> completions = Turn();
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_EQ(completions[0].token, token);
  EXPECT_GT(completions[0].result, 0);
  EXPECT_LT(completions[0].result, static_cast<int>(payload.size())) << "a short send, since nobody reads";
  io_->Send(token, fds_[0], {&part, 1}, Io::SendMode::kTry);
  completions = Turn();
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_EQ(completions[0].result, -EAGAIN);
}

TEST_F(RingIoTest, VectoredSendKeepsTheOrder) {
  std::string a = "one ", b = "two ", c = "three";
  std::vector<iovec> parts = {{a.data(), a.size()}, {b.data(), b.size()}, {c.data(), c.size()}};
  io_->Send({Op::kSendToServer, 0, 0}, fds_[0], parts, Io::SendMode::kTry);
  std::vector<Completion> completions = Turn();
  ASSERT_EQ(completions.size(), 1u);
  ASSERT_EQ(completions[0].result, 13);
  char received[32] = {};
  EXPECT_EQ(read(fds_[1], received, sizeof(received)), 13);
  EXPECT_STREQ(received, "one two three");
}

TEST_F(RingIoTest, MultishotReceiveBringsBuffersUntilTheEnd) {
  if (!io_->abilities().multishot_receive) GTEST_SKIP() << "this kernel has no multishot receive";
  Token token{Op::kReceiveFromClient, 5, 6};
  io_->ReceiveMultishot(token, fds_[0], 1 << 20);
  ASSERT_EQ(write(fds_[1], "hello", 5), 5);
  std::vector<Completion> completions = Turn();
  ASSERT_EQ(completions.size(), 1u);
  ASSERT_TRUE(completions[0].has_buffer);
  EXPECT_TRUE(completions[0].more);
  EXPECT_EQ(completions[0].result, 5);
  io_->buffers().Take(completions[0].buffer, 5);
  EXPECT_EQ(std::string(io_->buffers().data(completions[0].buffer), 5), "hello");
  io_->buffers().Release(completions[0].buffer);
  close(fds_[1]);
  fds_[1] = -1;
  completions = Turn();
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_EQ(completions[0].result, 0);
  EXPECT_FALSE(completions[0].more);
}

// The backpressure primitive: a kernel that says it has it must keep to it.
TEST_F(RingIoTest, CreditEndsAReceive) {
  if (!io_->abilities().receive_credit) GTEST_SKIP() << "this kernel has no receive credit (optlen, 6.17)";
  std::string payload(20000, 'y');
  ASSERT_EQ(write(fds_[1], payload.data(), payload.size()), 20000);
  io_->ReceiveMultishot({Op::kReceiveFromClient, 0, 0}, fds_[0], 10000);
  int received = 0;
  bool more = true;
  while (more)
    for (const Completion& completion : Turn()) {
      ASSERT_GT(completion.result, 0);
      received += completion.result;
      more = completion.more;
      io_->buffers().Take(completion.buffer, completion.result);
    }
  EXPECT_GE(received, 10000);
  EXPECT_LT(received, 10000 + 4096) << "overshoots by less than a buffer";
}

TEST_F(RingIoTest, CancelEndsAnIdleReceive) {
  Token token{Op::kReceiveFromServer, 3, 4};
  io_->ReceiveOnce(token, fds_[0], 100, true);
  ring_->Submit();
  io_->Cancel(token);
  bool ended = false;
  while (!ended)
    for (const Completion& completion : Turn())
      if (completion.token == token) {
        EXPECT_EQ(completion.result, -ECANCELED);
        EXPECT_FALSE(completion.more);
        ended = true;
      }
}

// A listening socket on a free port of the host.
UniqueFd Listen(const char* host, SocketAddress& address) {
  address = SocketAddress::ParseHost(host).value();
  UniqueFd fd(socket(address.family(), SOCK_STREAM, 0));
  EXPECT_EQ(bind(fd.get(), address.address(), address.length()), 0) << strerror(errno);
  EXPECT_EQ(listen(fd.get(), 10), 0);
  address = SocketAddress::OfSocket(fd.get()).value();
  return fd;
}

TEST_F(RingIoTest, ConnectsFromTheSourceAddress) {
  for (auto [server, source] : {std::pair("127.0.0.1", "127.9.8.7"), std::pair("::1", "::1")}) {
    SocketAddress address, from = SocketAddress::ParseHost(source).value();
    UniqueFd listener = Listen(server, address);
    UniqueFd fd(io_->OpenSocket(address.family(), &from));
    ASSERT_TRUE(fd.valid()) << source;
    EXPECT_EQ(SocketAddress::OfSocket(fd.get())->port(), 0) << "the port is to be chosen by connect(2)";
    io_->Connect({Op::kConnect, 0, 0}, fd.get(), address);
    EXPECT_EQ(Turn().front().result, 0);
    UniqueFd accepted(accept(listener.get(), nullptr, nullptr));
    EXPECT_EQ(SocketAddress::OfPeer(accepted.get())->host(), source);
    EXPECT_FALSE(io_->ConnectedToItself(fd.get(), address));
  }
}

TEST_F(RingIoTest, ASourceAddressOfAnotherMachineIsAnError) {
  UniqueFd next(dup(0));
  int number = next.get();
  next.reset();
  SocketAddress source = SocketAddress::ParseHost("192.0.2.1").value();  // reserved for documentation
  EXPECT_EQ(io_->OpenSocket(AF_INET, &source), -EADDRNOTAVAIL);
  next.reset(dup(0));
  EXPECT_EQ(next.get(), number) << "a socket leaked";
}

TEST_F(RingIoTest, KnowsASocketThatIsConnectedToItself) {
  for (const char* host : {"127.0.0.1", "::1"}) {
    SocketAddress address = SocketAddress::ParseHost(host).value();
    UniqueFd fd(socket(address.family(), SOCK_STREAM, 0));
    ASSERT_EQ(bind(fd.get(), address.address(), address.length()), 0) << host;
    address = SocketAddress::OfSocket(fd.get()).value();
    ASSERT_EQ(connect(fd.get(), address.address(), address.length()), 0) << "nobody listens, and yet it can connect";
    EXPECT_TRUE(io_->ConnectedToItself(fd.get(), address));
    SocketAddress any = SocketAddress::ParseHost(address.family() == AF_INET ? "0.0.0.0" : "::").value();
    any.set_port(address.port());
    EXPECT_TRUE(io_->ConnectedToItself(fd.get(), any));
    linger abort{1, 0};  // the port is free again
    setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
  }
}

}  // namespace
}  // namespace ringmain
