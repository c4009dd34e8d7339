#include "loadtest/byte_pattern.h"

#include <algorithm>
#include <cstring>

namespace ringmain::loadtest {
namespace {

constexpr size_t kWord = sizeof(uint64_t);

// One step of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

}  // namespace

BytePattern::BytePattern(uint64_t seed, uint64_t connection) : key_(Mix(Mix(seed) ^ connection)) {}

uint8_t BytePattern::At(uint64_t offset) const {
  uint64_t word = Word(offset / kWord);
  char bytes[kWord];
  std::memcpy(bytes, &word, kWord);
  return static_cast<uint8_t>(bytes[offset % kWord]);
}

void BytePattern::Fill(uint64_t offset, std::span<char> out) const {
  size_t i = 0;
  for (; i < out.size() && (offset + i) % kWord != 0; ++i) out[i] = static_cast<char>(At(offset + i));
  for (; i + kWord <= out.size(); i += kWord) {
    uint64_t word = Word((offset + i) / kWord);
    std::memcpy(out.data() + i, &word, kWord);
  }
  for (; i < out.size(); ++i) out[i] = static_cast<char>(At(offset + i));
}

size_t BytePattern::FindMismatch(uint64_t offset, std::span<const char> data) const {
  auto wrong = [&](size_t i) { return static_cast<uint8_t>(data[i]) != At(offset + i); };
  size_t i = 0;
  for (; i < data.size() && (offset + i) % kWord != 0; ++i)
    if (wrong(i)) return i;
  constexpr size_t kBlock =
      8 * kWord;  // differences are collected over a block, so that the loop has one branch for eight words
  while (i + kWord <= data.size()) {
    size_t end = i + std::min(kBlock, (data.size() - i) / kWord * kWord);
    uint64_t difference = 0;
    for (size_t j = i; j < end; j += kWord) {
      uint64_t word;
      std::memcpy(&word, data.data() + j, kWord);
      difference |= word ^ Word((offset + j) / kWord);
    }
    if (difference != 0) break;  // the bytewise loop below finds it
    i = end;
  }
  for (; i < data.size(); ++i)
    if (wrong(i)) return i;
  return data.size();
}

}  // namespace ringmain::loadtest
