#include "process/list_sessions.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

using Shares = std::vector<uint32_t>;

TEST(ShareOut, WhatSomeDoNotNeedGoesToOthers) {
  EXPECT_EQ(ShareOut(100, {}), Shares());
  EXPECT_EQ(ShareOut(100, {30, 20}), Shares({30, 20}));
  EXPECT_EQ(ShareOut(100, {500, 500}), Shares({50, 50}));
  EXPECT_EQ(ShareOut(100, {500, 10}), Shares({90, 10}));
  EXPECT_EQ(ShareOut(100, {0, 500, 0}), Shares({0, 100, 0}));
  EXPECT_EQ(ShareOut(10, {9, 9, 9, 1}), Shares({3, 3, 3, 1}));
  EXPECT_EQ(ShareOut(1, {9, 9}), Shares({0, 1}));
  EXPECT_EQ(ShareOut(0, {9, 9}), Shares({0, 0}));
  EXPECT_EQ(ShareOut(10000, {5'000'000'000, 2}), Shares({9998, 2}));
}

TEST(Gather, AWorkerThatIsLateIsMissing) {
  std::vector<std::promise<SessionsFound>> workers(4);
  std::vector<std::future<SessionsFound>> answers;
  for (auto& worker : workers) answers.push_back(worker.get_future());
  answers[2] = {};  // not asked
  workers[0].set_value({});
  SessionsFound found{5, std::vector<SessionRecord>(2)};
  found.records[1].number = 7;
  workers[3].set_value(found);
  SessionList list = Gather(std::move(answers), Clock::now() + milliseconds(20));
  EXPECT_EQ(list.missing_workers, Shares({1}));
  ASSERT_EQ(list.sessions.size(), 2u);
  EXPECT_EQ(list.sessions[1].worker, 3u);
  EXPECT_EQ(list.sessions[1].number, 7u);
  EXPECT_EQ(list.matched, 5u);
}

TEST(Arrange, TheFirstOfAllWorkersInTheirOrder) {
  SessionList list;
  for (uint64_t key : {5, 1, 4, 1}) {
    list.sessions.emplace_back().key = key;
    list.sessions.back().number = 10 - list.sessions.size();
  }
  Arrange(list, {.most = 3, .order = SessionOrder::kBytes});
  ASSERT_EQ(list.sessions.size(), 3u);
  EXPECT_EQ(list.sessions[0].number, 6u);
  EXPECT_EQ(list.sessions[1].number, 8u);
  EXPECT_EQ(list.sessions[2].key, 4u);
}

}  // namespace
}  // namespace ringmain
