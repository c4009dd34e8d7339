#include "base/spsc_queue.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <thread>

namespace ringmain {
namespace {

TEST(SpscQueueTest, KeepsTheOrderAndNoMoreThanItHasRoomFor) {
  SpscQueue<int> queue;
  queue.Allocate(4);
  EXPECT_TRUE(queue.empty());
  int value = 0;
  EXPECT_FALSE(queue.Pop(value));
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(queue.Push(value = 10 * round + i));
    EXPECT_FALSE(queue.Push(value = 99));
    EXPECT_EQ(value, 99);
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(queue.Pop(value));
      EXPECT_EQ(value, 10 * round + i);
    }
    EXPECT_FALSE(queue.Pop(value));
  }
}

TEST(SpscQueueTest, WhatDoesNotFitStaysAsItIs) {
  SpscQueue<std::unique_ptr<int>> queue;
  queue.Allocate(1);
  auto first = std::make_unique<int>(1), second = std::make_unique<int>(2);
  EXPECT_TRUE(queue.Push(first));
  EXPECT_EQ(first, nullptr);
  EXPECT_FALSE(queue.Push(second));
  ASSERT_NE(second, nullptr);
  EXPECT_TRUE(queue.Pop(second));
  EXPECT_EQ(*second, 1);
}

TEST(SpscQueueTest, HasNoMemoryBeforeItIsUsed) {
  SpscQueue<int> queue;
  EXPECT_TRUE(queue.empty());
  int value = 1;
  EXPECT_FALSE(queue.Push(value));
  EXPECT_FALSE(queue.Pop(value));
}

TEST(SpscQueueTest, LosesNothingBetweenTwoThreads) {
  constexpr uint64_t kValues = 200'000;
  SpscQueue<uint64_t> queue;
  queue.Allocate(64);
  std::thread pusher([&] {
    for (uint64_t i = 1; i <= kValues; ++i) {
      uint64_t value = i;
      while (!queue.Push(value)) std::this_thread::yield();
    }
  });
  for (uint64_t i = 1; i <= kValues; ++i) {
    uint64_t value = 0;
    while (!queue.Pop(value)) std::this_thread::yield();
    ASSERT_EQ(value, i);
  }
  pusher.join();
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace ringmain
