// SourceTurns: from which of a server's source addresses the next connection to it is made.
//
// In turn. An address that cannot be had now, because no port of it is free towards the server or because it is not one of this machine,
// rests for a while: the kernel looks at every port of the range before it says that none is free, which takes it a millisecond or two
// (0.4 ms for 7000 ports on Linux 6.18), and the worker serves nobody meanwhile. Without source addresses there is one turn, the kernel's
// choice, and it may rest as well.
//
// Thread-bound; pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"

namespace ringmain {

class SourceTurns {
 public:
  static constexpr Duration kRest = milliseconds(250);

  // REQUIRES: sources <= UINT16_MAX.
  explicit SourceTurns(size_t sources) : count_(static_cast<uint16_t>(std::max<size_t>(sources, 1))) {}

  // The index of a source that does not rest; none if all do.
  std::optional<uint16_t> Next(TimePoint now) {
    for (uint16_t looked = 0; looked < count_; ++looked) {
      uint16_t source = next_;
      next_ = source + 1 < count_ ? source + 1 : 0;
      if (rests_until_.empty() || rests_until_[source] <= now) return source;
    }
    return std::nullopt;
  }
  void Rest(uint16_t source, TimePoint now) {
    if (rests_until_.empty()) rests_until_.resize(count_, TimePoint::min());
    rests_until_[source] = now + kRest;
  }

 private:
  uint16_t count_;
  uint16_t next_ = 0;
  std::vector<TimePoint> rests_until_;  // by source; empty until one rests
};

}  // namespace ringmain
