#include "loadtest/pacer.h"

#include <cmath>

namespace ringmain::loadtest {

Duration Pacer::DueAt(uint64_t number) const {
  return Duration(static_cast<int64_t>(std::ceil(static_cast<double>(number) * 1e9 / per_second_)));
}

uint64_t Pacer::DueBy(Duration elapsed) const {
  if (elapsed < Duration::zero()) return 0;
  auto due = static_cast<uint64_t>(static_cast<double>(elapsed.count()) * per_second_ / 1e9) + 1;
  // The division above may round across an operation; DueAt decides.
  while (due > 0 && DueAt(due - 1) > elapsed) --due;
  while (DueAt(due) <= elapsed) ++due;
  return due;
}

}  // namespace ringmain::loadtest
