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
  std::vector<std::promise<std::vector<SessionRecord>>> workers(4);
  std::vector<std::future<std::vector<SessionRecord>>> answers;
  for (auto& worker : workers) answers.push_back(worker.get_future());
  answers[2] = {};  // not asked
  workers[0].set_value({});
  std::vector<SessionRecord> records(2);
  records[1].number = 7;
  workers[3].set_value(records);
  SessionList list = Gather(std::move(answers), Clock::now() + milliseconds(20));
  EXPECT_EQ(list.missing_workers, Shares({1}));
  ASSERT_EQ(list.sessions.size(), 2u);
  EXPECT_EQ(list.sessions[1].worker, 3u);
  EXPECT_EQ(list.sessions[1].number, 7u);
}

}  // namespace
}  // namespace ringmain
