// The total of one cell over all workers.
#pragma once

#include "metrics/cells.h"

namespace ringmain {

// `read` takes a cell's owner (e.g. const ListenerCells&) and returns a number.
template <typename Cells, typename Read>
auto Sum(const PerWorker<Cells>& cells, Read read) {
  decltype(read(cells[0])) total = 0;
  for (size_t worker = 0; worker < cells.size(); ++worker) total += read(cells[worker]);
  return total;
}

}  // namespace ringmain
