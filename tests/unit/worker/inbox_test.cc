#include "worker/inbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <set>
#include <thread>
#include <vector>

namespace ringmain {
namespace {

UniqueFd AnyFd() { return UniqueFd(eventfd(0, EFD_CLOEXEC)); }
bool IsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

// How often it was woken since the last call.
uint64_t Wakes(const Inbox& inbox) {
  eventfd_t count = 0;
  return eventfd_read(inbox.wake_fd(), &count) == 0 ? count : 0;
}

TEST(Inbox, ClientsArriveInOrder) {
  Inbox inbox;
  std::vector<int> fds;
  for (uint32_t listener : {3u, 1u, 2u}) {
    UniqueFd socket = AnyFd();
    fds.push_back(socket.get());
    EXPECT_TRUE(inbox.Offer(socket, listener, SourceTable::kNone));
    EXPECT_FALSE(socket.valid());
  }
  std::vector<Inbox::Client> clients = inbox.TakeAll();
  ASSERT_EQ(clients.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(clients[i].socket.get(), fds[i]);
  EXPECT_EQ(clients[0].listener, 3u);
  EXPECT_EQ(clients[1].listener, 1u);
  EXPECT_EQ(clients[2].listener, 2u);
  EXPECT_TRUE(inbox.TakeAll().empty());
}

TEST(Inbox, WakesOnceForAllThatWait) {
  Inbox inbox;
  EXPECT_EQ(Wakes(inbox), 0u);
  for (int i = 0; i < 3; ++i) {
    UniqueFd socket = AnyFd();
    inbox.Offer(socket, 0, SourceTable::kNone);
  }
  EXPECT_EQ(Wakes(inbox), 1u);
  inbox.TakeAll();
  UniqueFd socket = AnyFd();
  inbox.Offer(socket, 0, SourceTable::kNone);
  EXPECT_EQ(Wakes(inbox), 1u);
  inbox.Wake();
  EXPECT_EQ(Wakes(inbox), 1u);
}

TEST(Inbox, LoadCountsWhatWaitsInIt) {
  Inbox inbox;
  EXPECT_FALSE(inbox.load().takes);
  inbox.set_takes(true);
  EXPECT_TRUE(inbox.load().takes);
  inbox.AddConnection();
  UniqueFd socket = AnyFd();
  inbox.Offer(socket, 0, SourceTable::kNone);
  EXPECT_EQ(inbox.load().connections, 2u);
  inbox.TakeAll();
  EXPECT_EQ(inbox.load().connections, 2u) << "taken out it is still a connection of the worker";
  inbox.RemoveConnection();
  inbox.RemoveConnection();
  EXPECT_EQ(inbox.load().connections, 0u);
}

TEST(Inbox, ClosedItRefusesAndGivesBack) {
  Inbox inbox;
  UniqueFd first = AnyFd(), second = AnyFd();
  inbox.Offer(first, 0, SourceTable::kNone);
  EXPECT_EQ(inbox.Close().size(), 1u);
  int number = second.get();
  EXPECT_FALSE(inbox.Offer(second, 0, SourceTable::kNone));
  EXPECT_EQ(second.get(), number);
  EXPECT_TRUE(IsOpen(number));
  EXPECT_EQ(inbox.load().connections, 1u) << "the refused one does not count";
  EXPECT_TRUE(inbox.TakeAll().empty());
  EXPECT_FALSE(inbox.Offer(second, 0, SourceTable::kNone)) << "looking into it does not open it again";
}

TEST(Inbox, WhatNobodyTookIsClosed) {
  int number;
  {
    Inbox inbox;
    UniqueFd socket = AnyFd();
    number = socket.get();
    inbox.Offer(socket, 0, SourceTable::kNone);
    EXPECT_TRUE(IsOpen(number));
  }
  EXPECT_FALSE(IsOpen(number));
}

// Several workers offer while the owner takes and at some moment closes: each client is in one pair of hands.
TEST(Inbox, OpensAgainForTheNextWorker) {
  Inbox inbox;
  UniqueFd socket(-1);
  inbox.Close();
  EXPECT_FALSE(inbox.Offer(socket, 1, SourceTable::kNone));
  inbox.Open();
  EXPECT_TRUE(inbox.Offer(socket, 2, SourceTable::kNone));
  inbox.Open();
  std::vector<Inbox::Client> clients = inbox.TakeAll();
  ASSERT_EQ(clients.size(), 1u) << "opening an open one loses nothing";
  EXPECT_EQ(clients[0].listener, 2u);
}

TEST(Inbox, NoClientIsLostOrDoubled) {
  constexpr int kGivers = 3, kEach = 5000;
  for (int taken_before_closing : {0, 1000, kGivers * kEach}) {
    Inbox inbox;
    std::vector<std::multiset<uint32_t>> kept(kGivers);
    std::vector<std::thread> givers;
    for (int giver = 0; giver < kGivers; ++giver)
      givers.emplace_back([&, giver] {
        for (int i = 0; i < kEach; ++i) {
          UniqueFd socket(-1);
          auto number = static_cast<uint32_t>(giver * kEach + i);
          if (!inbox.Offer(socket, number, SourceTable::kNone)) kept[giver].insert(number);
        }
      });
    std::multiset<uint32_t> seen;
    auto add = [&](std::vector<Inbox::Client> clients) {
      for (Inbox::Client& client : clients) seen.insert(client.listener);
    };
    while (seen.size() < static_cast<size_t>(taken_before_closing)) add(inbox.TakeAll());
    add(inbox.Close());
    for (std::thread& thread : givers) thread.join();
    EXPECT_EQ(inbox.load().connections, seen.size());
    for (const auto& numbers : kept) seen.insert(numbers.begin(), numbers.end());
    EXPECT_EQ(seen.size(), static_cast<size_t>(kGivers * kEach));
    EXPECT_EQ(std::set<uint32_t>(seen.begin(), seen.end()).size(), seen.size());
  }
}

}  // namespace
}  // namespace ringmain
