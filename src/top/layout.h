// Lines of text with emphasis, and tables laid out in them. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "top/table.h"

namespace ringmain::top {

enum class Style : uint8_t {
  kPlain,
  kStrong,    // heads
  kFaint,     // what matters less
  kSelected,  // the view that is shown, the column that sorts
  kWarning,
  kBad,
};

struct Span {
  std::string text;  // printable (see Printable): as many columns as bytes
  Style style = Style::kPlain;
};

class Line {
 public:
  Line() = default;
  explicit Line(std::string_view text, Style style = Style::kPlain) { Add(text, style); }
  // Whatever the text contains, only what is printable gets into the line.
  Line& Add(std::string_view text, Style style = Style::kPlain);
  // Spaces up to this column.
  void Pad(size_t column);
  // What there is no room for is left out, with a `~` for its last column.
  void Cut(size_t width);

  size_t width() const { return width_; }
  const std::vector<Span>& spans() const { return spans_; }
  std::string Text() const;  // without styles
  // With the control sequences (ECMA-48 SGR) for its styles; colours only if `colour`.
  std::string Encode(bool colour) const;
  bool operator==(const Line& other) const;

 private:
  std::vector<Span> spans_;
  size_t width_ = 0;
};

// A window on a table: its head, and up to `count` rows from `first`. In `width` columns: texts are cut and columns of the highest rank left out until it
// fits; 0 means as wide as it gets. `order`, if it is not null, is shown.
std::vector<Line> LayOut(const Table& table, const Order* order, size_t width, size_t first, size_t count);

}  // namespace ringmain::top
