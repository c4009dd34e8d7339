// ChooseReceiver: whether a worker passes a freshly accepted client on, and to which other worker. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace ringmain {

// What workers know of each other.
struct WorkerLoad {
  uint32_t connections = 0;  // that it has, or is to get
  bool takes = false;        // it may be given more
};

// By more than this many connections a worker must exceed the least loaded one before it gives any away. Such differences come and go
// with short connections by themselves; passing those on would cost more than it evens out.
inline constexpr uint32_t kLeastMargin = 8;
constexpr uint32_t HandOverMargin(uint32_t least) { return std::max(kLeastMargin, least / 32); }

// The least loaded of the workers that take clients, if `own`, the connections that count of worker `self` of `workers`, exceeds it by more
// than the margin. `load_of(i)` is the WorkerLoad of worker i; with few connections of its own `self` looks at none. Every worker begins at
// its neighbour, so that equals are not all sent to the same.
template <typename LoadOf>
std::optional<uint32_t> ChooseReceiver(uint32_t self, uint32_t own, uint32_t workers, LoadOf&& load_of) {
  if (own <= kLeastMargin) return std::nullopt;
  std::optional<uint32_t> receiver;
  uint32_t least = own;
  for (uint32_t step = 1; step < workers; ++step) {
    uint32_t other = (self + step) % workers;
    WorkerLoad load = load_of(other);
    if (!load.takes || load.connections >= least) continue;
    least = load.connections;
    receiver = other;
  }
  return receiver.has_value() && own - least > HandOverMargin(least) ? receiver : std::nullopt;
}

}  // namespace ringmain
