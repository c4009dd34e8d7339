#include "loadtest/work_queue.h"

#include <gtest/gtest.h>

#include <future>

namespace ringmain::loadtest {
namespace {

TEST(WorkQueueTest, RefusesWhenFullAndRunsInOrder) {
  std::promise<void> started, release, done;
  std::vector<int> order;  // written by the one thread of the queue
  {
    WorkQueue queue(1, 2);
    ASSERT_TRUE(queue.TryPush([&] {
      started.set_value();
      release.get_future().wait();
    }));
    started.get_future().wait();  // being handled, so not waiting any more
    EXPECT_EQ(queue.length(), 0u);
    EXPECT_TRUE(queue.TryPush([&] { order.push_back(1); }));
    EXPECT_TRUE(queue.TryPush([&] {
      order.push_back(2);
      done.set_value();
    }));
    EXPECT_EQ(queue.length(), 2u);
    EXPECT_FALSE(queue.TryPush([&] { order.push_back(3); }));
    release.set_value();
    done.get_future().wait();
  }
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(WorkQueueTest, ThreadsWorkSideBySide) {
  WorkQueue queue(2, 10);
  std::promise<void> first, second;
  // Each job waits for the other, so both must be running.
  std::promise<void> both;
  ASSERT_TRUE(queue.TryPush([&] {
    first.set_value();
    second.get_future().wait();
    both.set_value();
  }));
  ASSERT_TRUE(queue.TryPush([&] {
    first.get_future().wait();
    second.set_value();
  }));
  both.get_future().wait();
}

}  // namespace
}  // namespace ringmain::loadtest
