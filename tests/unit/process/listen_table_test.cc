#include "process/listen_table.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

namespace ringmain {
namespace {

ListenerConfig Listener(const std::string& name, const std::vector<std::string>& addresses) {
  ListenerConfig listener;
  listener.name = name;
  for (const std::string& address : addresses) listener.listen.push_back(SocketAddress::Parse(address).value());
  return listener;
}

Config WithListeners(std::vector<ListenerConfig> listeners) {
  Config config;
  config.listeners = std::move(listeners);
  return config;
}

void Take(ListenTable& table, const Config& config, uint32_t workers = 1) {
  auto plan = table.Prepare(config, workers);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_TRUE(table.Commit(*std::move(plan), config).ok());
}

TEST(SocketsOfWorker, EachSocketHasOneWorkerAndASingleOneAll) {
  using Sockets = std::vector<size_t>;
  EXPECT_EQ(SocketsOfWorker(1, 0, 3), Sockets({0}));
  EXPECT_EQ(SocketsOfWorker(1, 2, 3), Sockets({0}));
  EXPECT_EQ(SocketsOfWorker(3, 1, 3), Sockets({1}));
  EXPECT_EQ(SocketsOfWorker(5, 0, 2), Sockets({0, 2, 4}));
  EXPECT_EQ(SocketsOfWorker(5, 1, 2), Sockets({1, 3}));
}

TEST(ListenTable, SocketsStayWithTheirAddressWhateverTheListener) {
  ListenTable table;
  Take(table, WithListeners({Listener("a", {"127.0.0.1:0"}), Listener("b", {"127.0.0.1:0", "127.0.0.2:0"})}), 2);
  auto before = table.addresses();
  auto first = table.entries()[0][0].sockets.sockets;
  // a goes and c comes; b changes its place in the order, and its addresses theirs.
  Take(table, WithListeners({Listener("b", {"127.0.0.2:0", "127.0.0.1:0"}), Listener("c", {"127.0.0.1:0"})}), 2);
  EXPECT_EQ(table.addresses()[0][0], before[1][1]);
  EXPECT_EQ(table.addresses()[0][1], before[1][0]);
  EXPECT_EQ(table.addresses()[1][0], before[0][0]);
  EXPECT_EQ(table.entries()[1][0].sockets.sockets, first);
  EXPECT_EQ(table.entries()[1][0].listener, "c");
}

TEST(ListenTable, WhatLeavesIsMarkedAndMoreWorkersGetMoreSockets) {
  ListenTable table;
  Config both = WithListeners({Listener("a", {"127.0.0.1:0"}), Listener("b", {"127.0.0.2:0"})});
  Take(table, both, 1);
  auto left = table.entries()[1][0].sockets.sockets[0];
  Take(table, WithListeners({Listener("a", {"127.0.0.1:0"})}), 3);
  EXPECT_TRUE(left->leaving);
  ASSERT_EQ(table.entries()[0][0].sockets.sockets.size(), 3u);
  EXPECT_FALSE(table.entries()[0][0].sockets.sockets[0]->leaving);
  Take(table, WithListeners({Listener("a", {"127.0.0.1:0"})}), 1);
  EXPECT_EQ(table.entries()[0][0].sockets.sockets.size(), 3u) << "closing one would reset its clients";
}

TEST(ListenTable, AFailureChangesNothing) {
  std::string folder = testing::TempDir() + "ringmain-table-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  ListenTable table, other;
  Take(other, WithListeners({Listener("x", {"127.0.0.1:0"})}));
  Config good = WithListeners({Listener("a", {"127.0.0.1:0"})});
  Take(table, good);
  auto before = table.addresses();
  std::string taken = other.addresses()[0][0].ToString();
  auto plan = table.Prepare(WithListeners({Listener("n", {"unix:" + folder + "/n"}), Listener("a", {"127.0.0.1:0", taken})}), 2);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(std::string(plan.status().message()),
            "listener a: cannot listen on " + taken + ": the address is in use by another process");
  EXPECT_EQ(table.addresses(), before);
  EXPECT_EQ(table.entries()[0][0].sockets.sockets.size(), 1u);
  EXPECT_NE(access((folder + "/n").c_str(), F_OK), 0) << "the path is removed again";
  rmdir(folder.c_str());
}

}  // namespace
}  // namespace ringmain
