#include "loadtest/byte_pattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace ringmain::loadtest {
namespace {

constexpr uint64_t kSeed = 42;

std::string Bytes(const BytePattern& pattern, uint64_t offset, size_t size) {
  std::string bytes(size, '\0');
  pattern.Fill(offset, bytes);
  return bytes;
}

TEST(BytePatternTest, FillAgreesWithItselfAtEveryOffsetAndLength) {
  BytePattern pattern(kSeed, 7);
  std::string whole = Bytes(pattern, 0, 300);
  for (size_t offset = 0; offset < 40; ++offset) {
    for (size_t size = 0; size < 150; ++size) {
      std::string part = Bytes(pattern, offset, size);
      ASSERT_EQ(part, whole.substr(offset, size)) << offset << "+" << size;
      ASSERT_EQ(pattern.FindMismatch(offset, part), size);
    }
  }
  for (size_t i = 0; i < whole.size(); ++i) ASSERT_EQ(static_cast<uint8_t>(whole[i]), pattern.At(i));
}

TEST(BytePatternTest, FindsEveryWrongByteWhereItIs) {
  BytePattern pattern(kSeed, 7);
  for (size_t offset : {0u, 3u, 8u}) {
    std::string bytes = Bytes(pattern, offset, 200);
    for (size_t i = 0; i < bytes.size(); ++i) {
      std::string wrong = bytes;
      wrong[i] ^= 1;
      ASSERT_EQ(pattern.FindMismatch(offset, wrong), i);
    }
  }
}

TEST(BytePatternTest, NoticesLostRepeatedAndSwappedParts) {
  BytePattern pattern(kSeed, 7);
  const std::string bytes = Bytes(pattern, 0, 4096);
  // Also by whole words and by powers of two, which a pattern with a period would let pass.
  for (size_t size : {1u, 2u, 7u, 8u, 16u, 64u, 256u, 1024u}) {
    std::string lost = bytes.substr(0, 2000) + bytes.substr(2000 + size);
    EXPECT_LT(pattern.FindMismatch(0, lost), 2000 + size + 8) << "lost " << size;
    std::string repeated = bytes.substr(0, 2000) + bytes.substr(2000 - size, size) + bytes.substr(2000);
    EXPECT_LT(pattern.FindMismatch(0, repeated), 2000 + size + 8) << "repeated " << size;
    std::string swapped = bytes;
    std::swap_ranges(swapped.begin() + 512, swapped.begin() + 512 + size, swapped.begin() + 2048);
    EXPECT_LT(pattern.FindMismatch(0, swapped), 512 + size) << "swapped " << size;
  }
}

TEST(BytePatternTest, ConnectionsAndRunsDiffer) {
  for (uint64_t connection = 1; connection < 1000; ++connection) {
    std::string other = Bytes(BytePattern(kSeed, connection), 0, 16);
    EXPECT_LT(BytePattern(kSeed, 0).FindMismatch(0, other), 16u);
    EXPECT_LT(BytePattern(kSeed, connection - 1).FindMismatch(0, other), 16u);
    EXPECT_LT(BytePattern(kSeed + 1, connection).FindMismatch(0, other), 16u);
  }
}

TEST(BytePatternTest, BytesAreSpreadEvenly) {
  BytePattern pattern(kSeed, 7);
  std::string bytes = Bytes(pattern, 0, 256 << 10);
  size_t counts[256] = {};
  for (char byte : bytes) ++counts[static_cast<uint8_t>(byte)];
  for (size_t count : counts) EXPECT_NEAR(static_cast<double>(count), 1024, 200);  // six standard deviations
}

}  // namespace
}  // namespace ringmain::loadtest
