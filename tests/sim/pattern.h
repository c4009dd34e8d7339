// The bytes of a stream: each depends on the stream and on its position, so that a lost, repeated or moved byte shows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "random.h"

namespace ringmain::sim {

inline uint64_t PatternWord(uint64_t stream, uint64_t word) { return Mix(stream * 0x9e3779b97f4a7c15 + word + 1); }

// Calls visit(piece, offset, length) for the pieces of [position, position + size), in order, until it returns false.
template <typename Visit>
void ForEachPatternPiece(uint64_t stream, uint64_t position, size_t size, Visit&& visit) {
  for (size_t done = 0; done < size;) {
    uint64_t word = PatternWord(stream, (position + done) / sizeof(word));
    size_t skip = (position + done) % sizeof(word);
    size_t length = std::min(sizeof(word) - skip, size - done);
    if (!visit(reinterpret_cast<const char*>(&word) + skip, done, length)) return;
    done += length;
  }
}

inline void FillPattern(uint64_t stream, uint64_t position, char* to, size_t size) {
  ForEachPatternPiece(stream, position, size, [to](const char* piece, size_t offset, size_t length) {
    std::memcpy(to + offset, piece, length);
    return true;
  });
}

inline bool MatchesPattern(uint64_t stream, uint64_t position, const char* data, size_t size) {
  bool matches = true;
  ForEachPatternPiece(stream, position, size, [&](const char* piece, size_t offset, size_t length) {
    matches = std::memcmp(data + offset, piece, length) == 0;
    return matches;
  });
  return matches;
}

}  // namespace ringmain::sim
