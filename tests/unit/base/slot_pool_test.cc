#include "base/slot_pool.h"

#include <gtest/gtest.h>

#include <set>

namespace ringmain {
namespace {

struct Item {
  Item(uint32_t index_in, uint32_t generation_in, int value_in) : index(index_in), generation(generation_in), value(value_in) {}
  uint32_t index, generation;
  int value;
};

TEST(SlotPool, AStaleGenerationFindsNothing) {
  SlotPool<Item, 2> pool;
  Item& first = pool.Create(1);
  uint32_t index = first.index, generation = first.generation;
  EXPECT_EQ(pool.Find(index, generation), &first);
  pool.Destroy(index);
  EXPECT_EQ(pool.Find(index, generation), nullptr);
  Item& second = pool.Create(2);
  EXPECT_EQ(second.index, index) << "a freed slot is used again";
  EXPECT_NE(second.generation, generation);
  EXPECT_EQ(pool.Find(index, generation), nullptr);
  EXPECT_EQ(pool.Find(1000, 0), nullptr);
  pool.Destroy(index);
}

TEST(SlotPool, AFreeSlotHoldsNothing) {
  SlotPool<Item, 2> pool;
  EXPECT_EQ(pool.slots(), 0u);
  Item& first = pool.Create(1);
  EXPECT_EQ(pool.slots(), 2u);
  EXPECT_EQ(pool.At(first.index), &first);
  EXPECT_EQ(pool.At(1 - first.index), nullptr);
  uint32_t index = first.index;
  pool.Destroy(index);
  EXPECT_EQ(pool.At(index), nullptr);
  EXPECT_EQ(pool.slots(), 2u);
}

TEST(SlotPool, AddressesStay) {
  SlotPool<Item, 2> pool;
  std::set<Item*> items;
  for (int i = 0; i < 100; ++i) items.insert(&pool.Create(i));
  EXPECT_EQ(items.size(), 100u);
  EXPECT_EQ(pool.size(), 100u);
  int sum = 0;
  pool.ForEach([&](Item& item) {
    EXPECT_TRUE(items.contains(&item));
    sum += item.value;
    pool.Destroy(item.index);
  });
  EXPECT_EQ(sum, 99 * 100 / 2);
  EXPECT_EQ(pool.size(), 0u);
}

}  // namespace
}  // namespace ringmain
