// The status for those that are no terminal: as lines of text, or as JSON. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "top/screen.h"
#include "top/views.h"

namespace ringmain::top {

// How all that prints wants it.
struct Selection {
  std::vector<View> views;  // in this order
  std::string filter;
  std::string sort;  // the key of a column; views without it are sorted as usual, and so are all if it is empty
};

using WallTime = std::chrono::system_clock::time_point;

// The process, the totals, and a table for each view; in `width` columns, 0: as wide as it gets. Ends with a newline.
std::string TextReport(const Shown& shown, const Selection& selection, size_t width, WallTime time);

// One object, on one line that ends with a newline, in ASCII: `time`, `admin`, `process`, `interval_seconds` (between the two samples), `totals`, and for each
// view an array of objects with its columns' keys. What is not known is null.
std::string JsonReport(const Shown& shown, const Selection& selection, WallTime time);
// The same when there was no answer: `time`, `admin`, `error`.
std::string JsonError(std::string_view admin, std::string_view error, WallTime time);

}  // namespace ringmain::top
