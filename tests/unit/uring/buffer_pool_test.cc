#include "uring/buffer_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>

namespace ringmain {
namespace {

constexpr uint32_t kBytes = 4096;

// Stands for the kernel's ring: first in, first out.
class FakeRing : public BufferPublisher {
 public:
  void Publish(uint16_t buffer, char* data, uint32_t size) override {
    std::memset(data, 0xee, size);  // usable memory, and the kernel may write it
    published.push_back(buffer);
  }
  uint16_t Receive(BufferPool& pool, uint32_t length) {
    uint16_t buffer = published.front();
    published.pop_front();
    pool.Take(buffer, length);
    return buffer;
  }
  std::deque<uint16_t> published;
};

BufferPool::Options Small(uint32_t ring_buffers, uint32_t max_buffers) {
  return {kBytes, ring_buffers, uint64_t{max_buffers} * kBytes, max_buffers};
}

TEST(BufferPool, PublishesItsRingAtOnce) {
  FakeRing ring;
  BufferPool pool(Small(8, 32), ring);
  EXPECT_EQ(ring.published.size(), 8u);
  EXPECT_EQ(pool.published(), 8u);
  EXPECT_EQ(pool.total(), 8u);
  EXPECT_EQ(pool.held(), 0u);
}

TEST(BufferPool, TheRingWidensByHalvesOfItsRoom) {
  FakeRing ring;
  BufferPool::Options options = Small(2, 32);
  options.max_ring_buffers = 8;
  BufferPool pool(options, ring);
  for (uint32_t wide : {4u, 8u, 8u}) {
    pool.WidenRing();
    EXPECT_EQ(pool.published(), wide);
    EXPECT_EQ(pool.ring_buffers(), wide);
  }
}

// What sessions may hold is the same whether the ring is wide or not, so a wide ring takes nothing from them.
TEST(BufferPool, AWideRingHoldsNoLess) {
  for (int widenings : {0, 2}) {
    FakeRing ring;
    BufferPool::Options options = Small(2, 12);
    options.max_ring_buffers = 8;
    BufferPool pool(options, ring);
    for (int i = 0; i < widenings; ++i) pool.WidenRing();
    for (int held = 0; held < 4; ++held) {
      EXPECT_FALSE(pool.full());
      pool.Hold(ring.Receive(pool, kBytes));
    }
    EXPECT_TRUE(pool.full());
    EXPECT_EQ(pool.published(), pool.ring_buffers());
  }
}

TEST(BufferPool, ARingWithoutRoomStays) {
  FakeRing ring;
  BufferPool pool(Small(2, 4), ring);
  pool.WidenRing();
  EXPECT_EQ(pool.published(), 2u);
}

TEST(BufferPool, ReleaseGoesBackToTheRing) {
  FakeRing ring;
  BufferPool pool(Small(2, 4), ring);
  uint16_t buffer = ring.Receive(pool, 100);
  EXPECT_EQ(pool.header(buffer).length, 100u);
  EXPECT_EQ(pool.published(), 1u);
  pool.Release(buffer);
  EXPECT_EQ(pool.published(), 2u);
  EXPECT_EQ(ring.published.back(), buffer);
}

TEST(BufferPool, HoldingKeepsTheRingFull) {
  FakeRing ring;
  BufferPool pool(Small(2, 100), ring);
  std::vector<uint16_t> held;
  for (int i = 0; i < 50; ++i) {
    held.push_back(ring.Receive(pool, kBytes));
    pool.Hold(held.back());
    EXPECT_EQ(pool.published(), 2u);
  }
  EXPECT_EQ(pool.held(), 50u);
  EXPECT_EQ(pool.total(), 52u);
  for (uint16_t buffer : held) pool.Release(buffer);
  EXPECT_EQ(pool.held(), 0u);
  EXPECT_EQ(pool.published(), 2u);
  // What was held serves again: nothing more comes into existence.
  for (int i = 0; i < 50; ++i) pool.Hold(ring.Receive(pool, 1));
  EXPECT_EQ(pool.total(), 52u);
}

TEST(BufferPool, NeverBeyondItsMaximum) {
  FakeRing ring;
  BufferPool pool(Small(4, 10), ring);
  std::vector<uint16_t> held;
  while (pool.published() > 0) {
    held.push_back(ring.Receive(pool, kBytes));
    pool.Hold(held.back());
  }
  EXPECT_EQ(held.size(), 10u);
  EXPECT_EQ(pool.total(), 10u);
  EXPECT_TRUE(pool.scarce());
  // The first releases fill the ring again before anything becomes spare.
  pool.Release(held[0]);
  EXPECT_EQ(pool.published(), 1u);
  for (size_t i = 1; i < held.size(); ++i) pool.Release(held[i]);
  EXPECT_EQ(pool.published(), 4u);
  EXPECT_FALSE(pool.scarce());
}

TEST(BufferPool, ScarceAboveSevenEighths) {
  FakeRing ring;
  BufferPool pool(Small(2, 2 + 16), ring);  // 16 may be held
  std::vector<uint16_t> held;
  for (int i = 0; i < 14; ++i) {
    held.push_back(ring.Receive(pool, 1));
    pool.Hold(held.back());
  }
  EXPECT_FALSE(pool.scarce());
  held.push_back(ring.Receive(pool, 1));
  pool.Hold(held.back());
  EXPECT_TRUE(pool.scarce());
  pool.Release(held[0]);
  EXPECT_FALSE(pool.scarce());
}

TEST(BufferPool, LendsWhatTheRingDoesNotHave) {
  FakeRing ring;
  BufferPool pool(Small(2, 2 + 8), ring);  // 8 may be held
  std::vector<uint16_t> borrowed;
  while (std::optional<uint16_t> buffer = pool.Borrow()) borrowed.push_back(*buffer);
  EXPECT_EQ(borrowed.size(), 5u) << "until more than half is held";
  EXPECT_TRUE(pool.tight());
  EXPECT_EQ(pool.held(), 5u);
  EXPECT_EQ(pool.published(), 2u);
  for (uint16_t buffer : borrowed) {
    std::memset(pool.data(buffer), 0x55, kBytes);
    EXPECT_EQ(pool.header(buffer).length, 0u);
    EXPECT_TRUE(pool.header(buffer).held);
  }
  uint16_t last = borrowed.back();
  pool.Release(last);
  EXPECT_EQ(pool.Borrow(), last) << "it is still in the cache";
  for (uint16_t buffer : borrowed) pool.Release(buffer);
  EXPECT_EQ(pool.held(), 0u);
  EXPECT_EQ(pool.total(), 7u);
  EXPECT_EQ(ring.published.size(), 2u);
}

TEST(BufferPoolDeathTest, ForeignBufferIsRefused) {
  FakeRing ring;
  BufferPool pool(Small(2, 4), ring);
  EXPECT_DEATH(pool.Take(7, 1), "check failed");
  uint16_t buffer = ring.Receive(pool, 1);
  pool.Hold(buffer);
  EXPECT_DEATH(pool.Hold(buffer), "check failed");
}

}  // namespace
}  // namespace ringmain
