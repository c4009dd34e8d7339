// BytePattern: what a connection sends, so that every byte that comes back can be checked without keeping what was
// sent.
//
// Byte n of a connection is a function of (key of the connection, n). A proxy that loses, repeats or swaps bytes, or
// delivers those of another connection, moves bytes to a position where others belong, and random ones agree by chance
// once in 256, so a run of eight slips through once in 2^64. A constant or a short repeated block would pass in all
// these cases, which is why there is none. The stream is made of 64-bit words, each mixed from (key + number of the
// word) by two multiplications (after the finaliser of MurmurHash3, Austin Appleby, public domain): some GB/s on one
// core, so that checking never becomes the limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ringmain::loadtest {

// A value. Pure.
class BytePattern {
 public:
  BytePattern() = default;
  // Connections of one run need different numbers; runs that may meet in one proxy need different seeds.
  BytePattern(uint64_t seed, uint64_t connection);

  uint8_t At(uint64_t offset) const;
  // Writes the bytes [offset, offset + out.size()) of the stream.
  void Fill(uint64_t offset, std::span<char> out) const;
  // The index in `data`, which should be the stream from `offset` on, of the first wrong byte; data.size() if there is
  // none.
  size_t FindMismatch(uint64_t offset, std::span<const char> data) const;

 private:
  uint64_t Word(uint64_t number) const {
    uint64_t x = (key_ + number) * 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 33;
  }

  uint64_t key_ = 0;
};

}  // namespace ringmain::loadtest
