// Table: what a view shows, before it is laid out. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "top/text.h"

namespace ringmain::top {

struct Column {
  std::string_view key;    // its name in --sort and --json
  std::string_view title;  // its head
  Unit unit = Unit::kText;
  uint8_t rank = 0;        // those of the highest rank go first where the terminal is too narrow; those of rank 0 stay
  std::string_view help;   // what it says
};

// Of a figure that somebody should look at.
enum class Mark : uint8_t { kNone, kWarning, kBad };

struct Cell {
  Value value;
  Mark mark = Mark::kNone;
};

using Row = std::vector<Cell>;  // as many as there are columns

struct Table {
  std::span<const Column> columns;
  std::vector<Row> rows;
};

struct Order {
  size_t column = 0;
  bool descending = false;
  bool operator==(const Order&) const = default;
};

// Rows that are equal stay in the order they have; what is not known comes last either way. Numbers within texts count as numbers, so that
// 10.0.0.9 comes before 10.0.0.10. REQUIRES: the column exists.
void Sort(Table& table, Order order);

// Keeps the rows in which each of the words (separated by spaces) is part of a text; upper and lower case are the same.
void Filter(Table& table, std::string_view words);

// None if there is no such key.
std::optional<size_t> FindColumn(std::span<const Column> columns, std::string_view key);

// By this column as one wants it first: names from A, figures from the largest.
Order OrderBy(std::span<const Column> columns, size_t column);

}  // namespace ringmain::top
