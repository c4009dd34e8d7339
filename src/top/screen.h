// What is on the terminal, line by line. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "top/controls.h"
#include "top/layout.h"
#include "top/sample.h"

namespace ringmain::top {

struct Size {
  size_t columns = 80;
  size_t lines = 24;
  bool operator==(const Size&) const = default;
};

// What there is to show.
struct Shown {
  std::string admin;
  Duration interval{};
  const Sample* before = nullptr;  // null: rates are not known yet
  const Sample* now = nullptr;     // not null
  std::string error;               // why there is nothing newer; empty if all is well
};

// How many rows of the table are to be seen at this size.
size_t RowsOn(Size size);

// As many lines as the terminal has, none wider than it is. Keeps `controls` within the table. `time` is the present.
std::vector<Line> Paint(const Shown& shown, Controls& controls, Size size, TimePoint time);

// `ringmain 0.1.0, ready, ...`: the process that answers.
Line ProcessLine(const Shown& shown);
// The totals: of sessions and servers, and of bytes.
Line TotalsLine(const Shown& shown);
Line BytesLine(const Shown& shown);
// What a list of sessions leaves out; none if it is complete.
std::optional<std::string> SessionsNote(const Sample& sample);

}  // namespace ringmain::top
