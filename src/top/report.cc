#include "top/report.h"

#include <time.h>

#include <cmath>

#include "absl/strings/str_cat.h"

namespace ringmain::top {
namespace {

using OrderedJson = nlohmann::ordered_json;

// UTC, with milliseconds.
std::string Iso8601(WallTime time) {
  auto since_epoch = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  auto whole = static_cast<time_t>(since_epoch / 1000);
  tm utc{};
  gmtime_r(&whole, &utc);
  char text[sizeof("2000-01-01T00:00:00") + 8];
  strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
  std::string thousandths = std::to_string(1000 + since_epoch % 1000).substr(1);
  return absl::StrCat(text, ".", thousandths, "Z");
}

Order OrderOf(View view, const Selection& selection) {
  std::optional<size_t> column = FindColumn(ColumnsOf(view), selection.sort);
  return column.has_value() ? OrderBy(ColumnsOf(view), *column) : DefaultOrder(view);
}

Table Selected(View view, const Shown& shown, const Selection& selection) {
  Table table = MakeTable(view, shown.before, *shown.now);
  Filter(table, selection.filter);
  Sort(table, OrderOf(view, selection));
  return table;
}

bool IsWhole(Unit unit) { return unit == Unit::kCount || unit == Unit::kBytes; }

OrderedJson ToJson(const Value& value, Unit unit) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  const auto* number = std::get_if<double>(&value);
  if (number == nullptr) return nullptr;
  if (IsWhole(unit) && std::abs(*number) < 1e15) return static_cast<int64_t>(*number);
  return std::round(*number * 1000) / 1000;
}

OrderedJson ToJson(const std::optional<double>& rate) { return ToJson(AsValue(rate), Unit::kPerSecond); }

// Beyond ASCII everything is escaped, so that it does no harm on a terminal either.
std::string Dump(const OrderedJson& json) { return json.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n"; }

}  // namespace

std::string TextReport(const Shown& shown, const Selection& selection, size_t width, WallTime time) {
  std::vector<Line> lines = {ProcessLine(shown).Add("  ").Add(Iso8601(time)), TotalsLine(shown), BytesLine(shown)};
  for (View view : selection.views) {
    Table table = Selected(view, shown, selection);
    lines.emplace_back();
    std::optional<std::string> note = view == View::kSessions ? SessionsNote(*shown.now) : std::nullopt;
    if (note.has_value()) lines.emplace_back(*note);
    for (Line& line : LayOut(table, nullptr, width, 0, table.rows.size())) lines.push_back(std::move(line));
  }
  std::string text;
  for (Line& line : lines) {
    if (width > 0) line.Cut(width);
    absl::StrAppend(&text, line.Text(), "\n");
  }
  return text;
}

std::string JsonReport(const Shown& shown, const Selection& selection, WallTime time) {
  const Json& status = shown.now->status;
  const Totals totals = TotalsOf(shown.before, *shown.now);
  Duration between = shown.before != nullptr ? shown.now->at - shown.before->at : Duration(0);
  OrderedJson report = {{"time", Iso8601(time)}, {"admin", shown.admin}};
  OrderedJson& process = report["process"];
  for (const char* key : {"version", "pid", "state", "uptime_seconds"}) process[key] = Member(status, key);
  report["interval_seconds"] = ToJson(std::chrono::duration<double>(between).count(), Unit::kSeconds);
  report["totals"] = {{"connections_active", ToJson(totals.active, Unit::kCount)},
                      {"accepted_per_second", ToJson(totals.accepted)},
                      {"closed_per_second", ToJson(totals.closed)},
                      {"failed_per_second", ToJson(totals.failed)},
                      {"refused_per_second", ToJson(totals.refused)},
                      {"to_server_per_second", ToJson(totals.to_server)},
                      {"to_client_per_second", ToJson(totals.to_client)},
                      {"servers", totals.servers},
                      {"servers_up", totals.servers_up},
                      {"sessions", Member(Member(status, "sessions"), "total")}};
  for (View view : selection.views) {
    OrderedJson& list = report[std::string(ToString(view))] = OrderedJson::array();
    const Table table = Selected(view, shown, selection);
    for (const Row& row : table.rows) {
      OrderedJson& thing = list.emplace_back(OrderedJson::object());
      for (size_t i = 0; i < row.size(); ++i) thing[std::string(table.columns[i].key)] = ToJson(row[i].value, table.columns[i].unit);
    }
  }
  return Dump(report);
}

std::string JsonError(std::string_view admin, std::string_view error, WallTime time) {
  return Dump({{"time", Iso8601(time)}, {"admin", std::string(admin)}, {"error", std::string(error)}});
}

}  // namespace ringmain::top
