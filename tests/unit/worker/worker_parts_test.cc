#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "worker/connection_limit.h"
#include "worker/listening_sockets.h"

namespace ringmain {
namespace {

SocketAddress Address(const std::string& text) { return *SocketAddress::Parse(text); }

TEST(ConnectionLimit, ExactOverThreads) {
  ConnectionLimit limit(1000);
  std::atomic<int> acquired{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 10000; ++i)
        if (limit.TryAcquire()) ++acquired;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(acquired, 1000);
  EXPECT_EQ(limit.active(), 1000u);
  limit.Release();
  EXPECT_TRUE(limit.TryAcquire());
  EXPECT_FALSE(limit.TryAcquire());
}

TEST(ListeningSockets, OnePerWorkerOnOnePort) {
  auto sockets = OpenListeningSockets(Address("127.0.0.1:0"), 3, 16, {seconds(30)});
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  ASSERT_EQ(sockets->sockets.size(), 3u);
  EXPECT_NE(sockets->address.port(), 0);
  for (const UniqueFd& fd : sockets->sockets) EXPECT_EQ(SocketAddress::OfSocket(fd.get())->port(), sockets->address.port());
}

TEST(ListeningSockets, OccupiedPortIsNamed) {
  auto first = OpenListeningSockets(Address("127.0.0.1:0"), 2, 16, {});
  auto second = OpenListeningSockets(first->address, 2, 16, {});
  ASSERT_FALSE(second.ok()) << "the port must not be shared with another set";
  EXPECT_NE(second.status().message().find(first->address.ToString()), absl::string_view::npos);
  EXPECT_NE(second.status().message().find("in use"), absl::string_view::npos);
}

TEST(ListeningSockets, AcceptedSocketsInheritTheirOptions) {
  auto sockets = OpenListeningSockets(Address("127.0.0.1:0"), 1, 16, {seconds(17)});
  UniqueFd client(socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(connect(client.get(), sockets->address.address(), sockets->address.length()), 0);
  UniqueFd accepted(accept4(sockets->sockets[0].get(), nullptr, nullptr, 0));
  ASSERT_TRUE(accepted.valid());
  auto option = [&](int level, int name) {
    int value = 0;
    socklen_t length = sizeof(value);
    getsockopt(accepted.get(), level, name, &value, &length);
    return value;
  };
  EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 17);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_NODELAY), 1);
}

TEST(ListeningSockets, StaleUnixPathIsReplacedALiveOneIsNot) {
  std::string folder = testing::TempDir() + "ringmain-unix-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  SocketAddress address = Address("unix:" + folder + "/s");
  {
    auto first = OpenListeningSockets(address, 2, 16, {});
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(first->sockets.size(), 2u);
    auto second = OpenListeningSockets(address, 2, 16, {});
    ASSERT_FALSE(second.ok());
    EXPECT_NE(second.status().message().find("in use"), absl::string_view::npos);
  }
  EXPECT_TRUE(OpenListeningSockets(address, 1, 16, {}).ok()) << "nobody answers there any more";
  unlink((folder + "/s").c_str());
  rmdir(folder.c_str());
}

TEST(ListeningSockets, TheUnixPathOfASuccessorStays) {
  std::string folder = testing::TempDir() + "ringmain-unix-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  std::string path = folder + "/s";
  auto first = OpenListeningSockets(Address("unix:" + path), 1, 16, {});
  ASSERT_TRUE(first.ok()) << first.status();
  unlink(path.c_str());
  auto successor = OpenListeningSockets(Address("unix:" + path), 1, 16, {});
  ASSERT_TRUE(successor.ok()) << successor.status();
  RemoveUnixPath(*first);
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  RemoveUnixPath(*successor);
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  rmdir(folder.c_str());
}

TEST(ListeningSockets, ForeignAddressIsNamed) {
  auto sockets = OpenListeningSockets(Address("192.0.2.1:1"), 1, 16, {});
  ASSERT_FALSE(sockets.ok());
  EXPECT_NE(sockets.status().message().find("192.0.2.1:1"), absl::string_view::npos);
}

}  // namespace
}  // namespace ringmain
