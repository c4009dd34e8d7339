#include "top/table.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace ringmain::top {
namespace {

constexpr std::array<Column, 2> kColumns = {{{"name", "NAME", Unit::kText, 0, ""}, {"size", "SIZE", Unit::kCount, 0, ""}}};

Table Of(std::vector<std::pair<Value, Value>> rows) {
  Table table{kColumns, {}};
  for (auto& [name, size] : rows) table.rows.push_back({{name}, {size}});
  return table;
}

std::string Names(const Table& table) {
  std::string names;
  for (const Row& row : table.rows) names += Format(row[0].value, Unit::kText) + " ";
  return names;
}

TEST(TopTable, SortsFiguresBothWaysAndTheUnknownLast) {
  Table table = Of({{"a", 5.0}, {"b", {}}, {"c", 30.0}, {"d", 5.0}, {"e", 0.0}});
  Sort(table, {1, true});
  EXPECT_EQ(Names(table), "c a d e b ");
  Sort(table, {1, false});
  EXPECT_EQ(Names(table), "e a d c b ");
}

TEST(TopTable, SortsNumbersInTextsAsNumbers) {
  Table table = Of({{"10.0.0.10:7001", 0.0}, {"10.0.0.9:7001", 0.0}, {"10.0.0.9:801", 0.0}, {"2-3", 0.0}, {"0-17", 0.0}});
  Sort(table, {0, false});
  EXPECT_EQ(Names(table), "0-17 2-3 10.0.0.9:801 10.0.0.9:7001 10.0.0.10:7001 ");
  Sort(table, {0, true});
  EXPECT_EQ(Names(table), "10.0.0.10:7001 10.0.0.9:7001 10.0.0.9:801 2-3 0-17 ");
}

TEST(TopTable, FiltersByEachWordInAnyText) {
  const Table all = Of({{"Front door", 17.0}, {"front", 0.0}, {"back", 0.0}, {{}, 1.0}});
  auto filtered = [&](std::string_view words) {
    Table table = all;
    Filter(table, words);
    return Names(table);
  };
  EXPECT_EQ(filtered(""), "Front door front back - ");
  EXPECT_EQ(filtered("   "), "Front door front back - ");
  EXPECT_EQ(filtered("front"), "Front door front ");
  EXPECT_EQ(filtered("  FRONT  oo "), "Front door ");
  EXPECT_EQ(filtered("17"), "");  // figures are no texts
}

TEST(TopTable, FindsColumnsAndTheirOrder) {
  EXPECT_EQ(FindColumn(kColumns, "size"), 1u);
  EXPECT_EQ(FindColumn(kColumns, "SIZE"), std::nullopt);
  EXPECT_EQ(OrderBy(kColumns, 0), (Order{0, false}));
  EXPECT_EQ(OrderBy(kColumns, 1), (Order{1, true}));
}

}  // namespace
}  // namespace ringmain::top
