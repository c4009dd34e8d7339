// The total of one cell over all workers, and the like.
#pragma once

#include <algorithm>

#include "metrics/board.h"

namespace ringmain {

// `read` takes a cell's owner (e.g. const ListenerCells&) and returns a number.
template <typename Cells, typename Read>
auto Sum(const PerWorker<Cells>& cells, Read read) {
  decltype(read(cells[0])) total = 0;
  for (size_t worker = 0; worker < cells.size(); ++worker) total += read(cells[worker]);
  return total;
}

// When a lookup of that name last found something, here or in a process before; in milliseconds since the epoch, 0 if never.
inline int64_t LastSuccess(const NameMetrics& metrics) {
  int64_t last = 0;
  for (size_t i = 0; i < metrics.cells.size(); ++i) last = std::max(last, metrics.cells[i].last_success_epoch.value());
  return last;
}

}  // namespace ringmain
