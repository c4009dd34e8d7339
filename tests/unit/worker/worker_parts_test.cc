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

absl::StatusOr<ListeningSockets> Open(const SocketAddress& address, uint32_t workers, seconds keepalive = {}) {
  absl::StatusOr<ListeningSockets> sockets = BindListeningSockets(address, workers);
  if (!sockets.ok()) return sockets;
  absl::Status status = Listen(*sockets, 16, keepalive);
  if (!status.ok()) return status;
  return sockets;
}

// Connections made until `sockets` have this many in their accept queues together.
std::vector<UniqueFd> Connect(const SocketAddress& address, int count) {
  std::vector<UniqueFd> clients;
  for (int i = 0; i < count; ++i) {
    clients.emplace_back(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(clients.back().get(), address.address(), address.length()), 0);
  }
  return clients;
}

int Accept(const ListeningSocket& socket) {
  int accepted = 0;
  while (UniqueFd(accept4(socket.fd.get(), nullptr, nullptr, 0)).valid()) ++accepted;
  return accepted;
}

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
  auto sockets = Open(Address("127.0.0.1:0"), 3, seconds(30));
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  ASSERT_EQ(sockets->sockets.size(), 3u);
  EXPECT_NE(sockets->address.port(), 0);
  for (const auto& socket : sockets->sockets)
    EXPECT_EQ(SocketAddress::OfSocket(socket->fd.get())->port(), sockets->address.port());
}

TEST(ListeningSockets, OccupiedPortIsNamed) {
  auto first = Open(Address("127.0.0.1:0"), 2);
  auto second = Open(first->address, 2);
  ASSERT_FALSE(second.ok()) << "the port must not be shared with another set";
  EXPECT_NE(second.status().message().find(first->address.ToString()), absl::string_view::npos);
  EXPECT_NE(second.status().message().find("in use"), absl::string_view::npos);
}

TEST(ListeningSockets, AcceptedSocketsInheritTheirOptions) {
  auto sockets = Open(Address("127.0.0.1:0"), 1, seconds(17));
  UniqueFd client(socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(connect(client.get(), sockets->address.address(), sockets->address.length()), 0);
  UniqueFd accepted(accept4(sockets->sockets[0]->fd.get(), nullptr, nullptr, 0));
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

// Those that need no privilege; the others are in the black-box tests.
TEST(ListeningSockets, AcceptedSocketsInheritSocketOptions) {
  SocketOptions options;
  options.keepalive_interval = seconds(7);
  options.keepalive_count = 5;
  options.user_timeout = milliseconds(4321);
  options.dscp = 10;
  auto sockets = BindListeningSockets(Address("127.0.0.1:0"), 1, false, options);
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  ASSERT_TRUE(Listen(*sockets, 16, seconds(17), options).ok());
  auto accepted_option = [&](int level, int name) {
    UniqueFd client(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_EQ(connect(client.get(), sockets->address.address(), sockets->address.length()), 0);
    UniqueFd accepted(accept4(sockets->sockets[0]->fd.get(), nullptr, nullptr, 0));
    int value = 0;
    socklen_t length = sizeof(value);
    getsockopt(accepted.get(), level, name, &value, &length);
    return value;
  };
  EXPECT_EQ(accepted_option(IPPROTO_TCP, TCP_KEEPINTVL), 7);
  EXPECT_EQ(accepted_option(IPPROTO_TCP, TCP_KEEPCNT), 5);
  EXPECT_EQ(accepted_option(IPPROTO_TCP, TCP_USER_TIMEOUT), 4321);
  EXPECT_EQ(accepted_option(IPPROTO_IP, IP_TOS), 40);
  ASSERT_TRUE(Listen(*sockets, 16, seconds(17)).ok());  // what is not asked for any more is undone
  EXPECT_EQ(accepted_option(IPPROTO_TCP, TCP_KEEPINTVL), 5);
  EXPECT_EQ(accepted_option(IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
  EXPECT_EQ(accepted_option(IPPROTO_IP, IP_TOS), 0);
}

TEST(ListeningSockets, StaleUnixPathIsReplacedALiveOneIsNot) {
  std::string folder = testing::TempDir() + "ringmain-unix-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  SocketAddress address = Address("unix:" + folder + "/s");
  {
    auto first = Open(address, 2);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(first->sockets.size(), 1u) << "workers share it";
    auto second = Open(address, 2);
    ASSERT_FALSE(second.ok());
    EXPECT_NE(second.status().message().find("in use"), absl::string_view::npos);
  }
  EXPECT_TRUE(Open(address, 1).ok()) << "nobody answers there any more";
  unlink((folder + "/s").c_str());
  rmdir(folder.c_str());
}

TEST(ListeningSockets, TheUnixPathOfASuccessorStays) {
  std::string folder = testing::TempDir() + "ringmain-unix-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  std::string path = folder + "/s";
  auto first = Open(Address("unix:" + path), 1);
  ASSERT_TRUE(first.ok()) << first.status();
  unlink(path.c_str());
  auto successor = Open(Address("unix:" + path), 1);
  ASSERT_TRUE(successor.ok()) << successor.status();
  RemoveUnixPath(*first);
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  RemoveUnixPath(*successor);
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  rmdir(folder.c_str());
}

TEST(ListeningSockets, MoreMayJoin) {
  auto sockets = Open(Address("127.0.0.1:0"), 1);
  std::vector<UniqueFd> before = Connect(sockets->address, 8);
  ASSERT_TRUE(BindMore(*sockets, 3).ok());
  ASSERT_EQ(sockets->sockets.size(), 3u);
  ASSERT_TRUE(Listen(*sockets, 4096, {}).ok());
  std::vector<UniqueFd> after = Connect(sockets->address, 64);
  EXPECT_GE(Accept(*sockets->sockets[0]), 8) << "what waited before still does";
  EXPECT_GT(Accept(*sockets->sockets[1]) + Accept(*sockets->sockets[2]), 0);
}

TEST(ListeningSockets, AWildcardMayCoverAnAddressOfOurOwn) {
  auto narrow = Open(Address("127.0.0.1:0"), 2);
  SocketAddress everywhere = Address("0.0.0.0:1");
  everywhere.set_port(narrow->address.port());
  EXPECT_FALSE(BindListeningSockets(everywhere, 2).ok());
  auto wide = BindListeningSockets(everywhere, 2, /*own_overlaps=*/true);
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_EQ(wide->address, everywhere);
  EXPECT_TRUE(Listen(*wide, 16, {}).ok());
}

TEST(ListeningSockets, KeepAliveMayBeTurnedOff) {
  auto sockets = Open(Address("127.0.0.1:0"), 1, seconds(17));
  auto on = [&] {
    int value = -1;
    socklen_t length = sizeof(value);
    getsockopt(sockets->sockets[0]->fd.get(), SOL_SOCKET, SO_KEEPALIVE, &value, &length);
    return value;
  };
  EXPECT_EQ(on(), 1);
  ASSERT_TRUE(Listen(*sockets, 16, {}).ok());
  EXPECT_EQ(on(), 0);
}

TEST(ListeningSockets, ForeignAddressIsNamed) {
  auto sockets = Open(Address("192.0.2.1:1"), 1);
  ASSERT_FALSE(sockets.ok());
  EXPECT_NE(sockets.status().message().find("192.0.2.1:1"), absl::string_view::npos);
}

}  // namespace
}  // namespace ringmain
