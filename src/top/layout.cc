#include "top/layout.h"

#include <algorithm>

#include "top/text.h"

namespace ringmain::top {
namespace {

constexpr size_t kGap = 2;            // between columns
constexpr size_t kLeastFigure = 6;    // so that columns do not jump when figures grow
constexpr size_t kShortestText = 15;  // texts are cut down to this before a column is left out

std::string_view Sequence(Style style, bool colour) {
  switch (style) {
    case Style::kStrong:
      return "\x1b[1m";
    case Style::kFaint:
      return "\x1b[2m";
    case Style::kSelected:
      return "\x1b[7m";
    case Style::kWarning:
      return colour ? "\x1b[33m" : "\x1b[1m";
    case Style::kBad:
      return colour ? "\x1b[31m" : "\x1b[1m";
    case Style::kPlain:
      break;
  }
  return "";
}

Style StyleOf(Mark mark) { return mark == Mark::kBad ? Style::kBad : mark == Mark::kWarning ? Style::kWarning : Style::kPlain; }

// A column that is shown.
struct Place {
  size_t column = 0;
  size_t width = 0;
};

size_t Least(const Column& column, size_t natural) { return column.unit == Unit::kText ? std::min(natural, kShortestText) : natural; }

size_t Together(const std::vector<Place>& places) {
  size_t sum = places.empty() ? 0 : kGap * (places.size() - 1);
  for (const Place& place : places) sum += place.width;
  return sum;
}

std::vector<size_t> NaturalWidths(const Table& table) {
  std::vector<size_t> widths;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    const Column& column = table.columns[i];
    size_t width = std::max(column.title.size(), column.unit == Unit::kText ? 0 : kLeastFigure);
    for (const Row& row : table.rows) width = std::max(width, Printable(Format(row[i].value, column.unit)).size());
    widths.push_back(width);
  }
  return widths;
}

std::vector<Place> Arrange(const Table& table, size_t width) {
  const std::vector<size_t> natural = NaturalWidths(table);
  std::vector<Place> places;
  for (size_t i = 0; i < natural.size(); ++i) places.push_back({i, width == 0 ? natural[i] : Least(table.columns[i], natural[i])});
  if (width == 0) return places;
  while (Together(places) > width) {
    // The rightmost of the highest rank.
    auto last = std::max_element(places.rbegin(), places.rend(), [&](const Place& a, const Place& b) {
      return table.columns[a.column].rank < table.columns[b.column].rank;
    });
    if (table.columns[last->column].rank == 0) break;
    places.erase(std::next(last).base());
  }
  size_t together = Together(places);
  for (Place& place : places) {
    size_t more = std::min(natural[place.column] - place.width, width - std::min(width, together));
    place.width += more;
    together += more;
  }
  return places;
}

void AddPadded(Line& line, const Column& column, size_t width, std::string text, Style style) {
  if (text.size() > width) text = text.substr(0, width - 1) + "~";
  std::string padding(width - text.size(), ' ');
  if (line.width() > 0) line.Add(std::string(kGap, ' '));
  if (column.unit == Unit::kText)
    line.Add(text, style).Add(padding);
  else
    line.Add(padding).Add(text, style);
}

}  // namespace

Line& Line::Add(std::string_view text, Style style) {
  if (text.empty()) return *this;
  std::string printable = Printable(text);
  width_ += printable.size();
  if (!spans_.empty() && spans_.back().style == style)
    spans_.back().text += printable;
  else
    spans_.push_back({std::move(printable), style});
  return *this;
}

void Line::Pad(size_t column) {
  if (column > width_) Add(std::string(column - width_, ' '));
}

void Line::Cut(size_t width) {
  if (width_ <= width) return;
  while (width_ > width) {
    std::string& text = spans_.back().text;
    size_t surplus = std::min(text.size(), width_ - width);
    text.resize(text.size() - surplus);
    width_ -= surplus;
    if (text.empty()) spans_.pop_back();
  }
  if (!spans_.empty()) spans_.back().text.back() = '~';
}

std::string Line::Text() const {
  std::string text;
  for (const Span& span : spans_) text += span.text;
  return text.erase(text.find_last_not_of(' ') + 1);
}

std::string Line::Encode(bool colour) const {
  std::string text;
  for (const Span& span : spans_) {
    std::string_view sequence = Sequence(span.style, colour);
    text.append(sequence).append(span.text);
    if (!sequence.empty()) text += "\x1b[m";
  }
  return text;
}

bool Line::operator==(const Line& other) const {
  return std::equal(spans_.begin(), spans_.end(), other.spans_.begin(), other.spans_.end(),
                    [](const Span& a, const Span& b) { return a.style == b.style && a.text == b.text; });
}

std::vector<Line> LayOut(const Table& table, const Order* order, size_t width, size_t first, size_t count) {
  const std::vector<Place> places = Arrange(table, width);
  std::vector<Line> lines(1);
  for (const Place& place : places) {
    const Column& column = table.columns[place.column];
    bool sorts = order != nullptr && order->column == place.column;
    AddPadded(lines[0], column, place.width, std::string(column.title), sorts ? Style::kSelected : Style::kStrong);
  }
  for (size_t i = first; i < table.rows.size() && i - first < count; ++i) {
    Line& line = lines.emplace_back();
    for (const Place& place : places) {
      const Column& column = table.columns[place.column];
      const Cell& cell = table.rows[i][place.column];
      AddPadded(line, column, place.width, Printable(Format(cell.value, column.unit)), StyleOf(cell.mark));
    }
  }
  if (width > 0)
    for (Line& line : lines) line.Cut(width);
  return lines;
}

}  // namespace ringmain::top
