#include "base/intrusive_list.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>
#include <vector>

namespace ringmain {
namespace {

struct Item {
  ListLink<Item> queue;
  ListLink<Item> other;
};
using Queue = IntrusiveList<Item, &Item::queue>;
using Other = IntrusiveList<Item, &Item::other>;

TEST(IntrusiveList, IsFirstInFirstOut) {
  Queue list;
  Item items[3];
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.PopFront(), nullptr);
  for (Item& item : items) list.PushBack(item);
  for (Item& item : items) {
    EXPECT_TRUE(item.queue.linked);
    EXPECT_EQ(list.PopFront(), &item);
    EXPECT_FALSE(item.queue.linked);
  }
  EXPECT_TRUE(list.empty());
}

TEST(IntrusiveList, RemovesAtEveryPosition) {
  for (int removed = 0; removed < 3; ++removed) {
    Queue list;
    Item items[3];
    for (Item& item : items) list.PushBack(item);
    list.Remove(items[removed]);
    list.Remove(items[removed]);  // not linked any more: nothing happens
    for (int i = 0; i < 3; ++i) {
      if (i == removed) continue;
      EXPECT_EQ(list.PopFront(), &items[i]) << removed;
    }
    EXPECT_TRUE(list.empty());
    list.PushBack(items[removed]);
    EXPECT_EQ(list.PopFront(), &items[removed]);
  }
}

TEST(IntrusiveList, AnElementMayBeInTwoListsByTwoLinks) {
  Queue queue;
  Other other;
  Item a, b;
  queue.PushBack(a);
  queue.PushBack(b);
  other.PushBack(b);
  other.PushBack(a);
  EXPECT_EQ(queue.PopFront(), &a);
  EXPECT_EQ(other.PopFront(), &b);
  EXPECT_EQ(other.PopFront(), &a);
  EXPECT_EQ(queue.PopFront(), &b);
}

TEST(IntrusiveListDeathTest, RefusesAnElementThatIsLinked) {
  Queue list;
  Item item;
  list.PushBack(item);
  EXPECT_DEATH(list.PushBack(item), "check failed");
}

TEST(IntrusiveList, AgreesWithADeque) {
  std::mt19937 random(1);
  std::vector<std::unique_ptr<Item>> items;
  for (int i = 0; i < 50; ++i) items.push_back(std::make_unique<Item>());
  Queue list;
  std::deque<Item*> model;
  for (int step = 0; step < 20000; ++step) {
    Item& item = *items[random() % items.size()];
    switch (random() % 3) {
      case 0:
        if (!item.queue.linked) {
          list.PushBack(item);
          model.push_back(&item);
        }
        break;
      case 1:
        list.Remove(item);
        std::erase(model, &item);
        break;
      case 2: {
        Item* expected = model.empty() ? nullptr : model.front();
        if (expected != nullptr) model.pop_front();
        ASSERT_EQ(list.PopFront(), expected);
        break;
      }
    }
    ASSERT_EQ(list.empty(), model.empty());
  }
}

}  // namespace
}  // namespace ringmain
