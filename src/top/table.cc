#include "top/table.h"

#include <strings.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_split.h"

namespace ringmain::top {
namespace {

// Below, at or above zero, as of strcmp. REQUIRES: both are known.
int Compare(const Value& a, const Value& b) {
  const auto* left = std::get_if<std::string>(&a);
  const auto* right = std::get_if<std::string>(&b);
  if (left != nullptr && right != nullptr) return strverscmp(left->c_str(), right->c_str());
  if (left != nullptr || right != nullptr) return left != nullptr ? 1 : -1;
  double x = std::get<double>(a), y = std::get<double>(b);
  return x < y ? -1 : x > y ? 1 : 0;
}

bool Known(const Value& value) { return !std::holds_alternative<std::monostate>(value); }

bool Contains(const Row& row, const std::string& word) {
  return std::any_of(row.begin(), row.end(), [&](const Cell& cell) {
    const auto* text = std::get_if<std::string>(&cell.value);
    return text != nullptr && strcasestr(text->c_str(), word.c_str()) != nullptr;
  });
}

}  // namespace

void Sort(Table& table, Order order) {
  std::stable_sort(table.rows.begin(), table.rows.end(), [order](const Row& a, const Row& b) {
    const Value &left = a[order.column].value, &right = b[order.column].value;
    if (!Known(left) || !Known(right)) return Known(left);
    int compared = Compare(left, right);
    return order.descending ? compared > 0 : compared < 0;
  });
}

void Filter(Table& table, std::string_view words) {
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(absl::string_view(words.data(), words.size()), ' ', absl::SkipEmpty())))
    std::erase_if(table.rows, [&](const Row& row) { return !Contains(row, word); });
}

std::optional<size_t> FindColumn(std::span<const Column> columns, std::string_view key) {
  for (size_t i = 0; i < columns.size(); ++i)
    if (columns[i].key == key) return i;
  return std::nullopt;
}

Order OrderBy(std::span<const Column> columns, size_t column) { return {column, columns[column].unit != Unit::kText}; }

}  // namespace ringmain::top
