// Pacer: the schedule of an open-loop load. Pure: no clock.
//
// Operation k is due k / rate after the start, whatever happened to the operations before it. Latency counted from that
// moment, not from when the request was really sent, contains the time that a request had to wait because of a stall
// before it; a closed loop leaves just those samples out ("coordinated omission", Gil Tene, "How NOT to Measure
// Latency").
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace ringmain::loadtest {

class Pacer {
 public:
  // REQUIRES: per_second > 0.
  explicit Pacer(double per_second) : per_second_(per_second) {}

  // When operation `number` (from 0) is due, after the start.
  Duration DueAt(uint64_t number) const;
  // How many operations are due `elapsed` after the start: those with DueAt(number) <= elapsed.
  uint64_t DueBy(Duration elapsed) const;

 private:
  double per_second_;
};

}  // namespace ringmain::loadtest
