// What numbers and names look like in `ringmain top`. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace ringmain::top {

// One figure or name; none if it is not known, or there is nothing to know.
using Value = std::variant<std::monostate, double, std::string>;

enum class Unit : uint8_t {
  kText,
  kCount,           // exact up to 99999
  kRatio,           // one decimal
  kPerSecond,       // one decimal below 10
  kBytes,           // three digits and KiB, MiB, ...
  kBytesPerSecond,  // the same
  kSeconds,         // 0.2s 12s 3m04s 5h06m 7d08h
};

// `-` for none. Text comes as it is.
std::string Format(const Value& value, Unit unit);

// What a terminal may get to see: printable ASCII as it is, a question mark for each other character (UTF-8; a byte that is none counts as
// one). So nothing that a peer or a path contains moves the cursor, and each character takes one column.
std::string Printable(std::string_view text);

}  // namespace ringmain::top
