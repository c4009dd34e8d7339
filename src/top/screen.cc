#include "top/screen.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "top/views.h"

namespace ringmain::top {
namespace {

constexpr size_t kAbove = 4;  // lines above the table: the process, its sessions, its bytes or what is wrong, the views
constexpr size_t kBelow = 1;  // the keys
constexpr size_t kHead = 1;   // of the table

constexpr std::array<std::array<std::string_view, 2>, 11> kKeys = {{
    {"1 to 5, Tab", "listeners, upstreams, servers, workers, sessions"},
    {"< >, Left Right", "sort by the column to the left or right"},
    {"r", "the other way round"},
    {"/", "show only rows that contain these words; Enter keeps it, Escape does not"},
    {"Escape", "show all rows again"},
    {"Up Down j k", "scroll"},
    {"PgUp PgDn", "scroll by a page"},
    {"Home End g G", "the first and the last row"},
    {"p, Space", "pause, and go on"},
    {"Ctrl-L", "draw the screen anew"},
    {"q, Ctrl-C", "quit"},
}};

std::string Per(const std::optional<double>& rate, Unit unit) { return Format(AsValue(rate), unit) + "/s"; }

Line ViewsLine(const Controls& controls) {
  Line line;
  for (size_t i = 0; i < kViewNames.size(); ++i) {
    bool shown = static_cast<size_t>(controls.view) == i;
    line.Add(absl::StrCat(" ", i + 1, " ", std::string(kViewNames[i]), " "), shown ? Style::kSelected : Style::kPlain);
  }
  const Column& column = ColumnsOf(controls.view)[controls.order().column];
  line.Add("  by ").Add(column.title).Add(controls.order().descending ? ", descending" : ", ascending");
  return line;
}

Line KeysLine(const Controls& controls, size_t rows, size_t page) {
  Line line;
  if (controls.editing) return line.Add("filter: ", Style::kStrong).Add(controls.filter).Add("_", Style::kSelected);
  if (controls.help) return line.Add("any key: back   q quit", Style::kFaint);
  if (!controls.filter.empty()) line.Add(absl::StrCat("filter: ", controls.filter), Style::kStrong).Add("  ");
  size_t last = std::min(rows, controls.first + page);
  if (rows > page) line.Add(absl::StrCat("rows ", controls.first + 1, "-", last, " of ", rows, "  "));
  return line.Add("h help  q quit  < > sort  r reverse  / filter  p pause", Style::kFaint);
}

std::vector<Line> Help(View view) {
  std::vector<Line> lines{Line("Keys", Style::kStrong)};
  auto entry = [&](std::string_view name, std::string_view text) {
    Line& line = lines.emplace_back(absl::StrCat("  ", std::string(name)));
    line.Pad(20);
    line.Add(text);
  };
  for (const auto& [keys, text] : kKeys) entry(keys, text);
  lines.emplace_back();
  lines.emplace_back(absl::StrCat("Columns of ", std::string(ToString(view)), "; what a narrow terminal has no room for is left out"), Style::kStrong);
  for (const Column& column : ColumnsOf(view)) entry(column.title, column.help);
  return lines;
}

// What is wrong; else how many bytes pass, and what the view leaves out.
Line ThirdLine(const Shown& shown, const Controls& controls, TimePoint time) {
  if (!shown.error.empty())
    return Line(absl::StrCat("no answer for ", Format(std::chrono::duration<double>(time - shown.now->at).count(), Unit::kSeconds), ": ", shown.error), Style::kBad);
  Line line = BytesLine(shown);
  std::optional<std::string> note = controls.view == View::kSessions ? SessionsNote(*shown.now) : std::nullopt;
  if (note.has_value()) line.Add("  ").Add(*note, Style::kWarning);
  return line;
}

// The table, or why it is empty.
std::vector<Line> TableLines(const Shown& shown, Controls& controls, Size size, size_t& rows) {
  Table table = MakeTable(controls.view, shown.before, *shown.now);
  const bool any = !table.rows.empty();
  Filter(table, controls.filter);
  Sort(table, controls.order());
  rows = table.rows.size();
  controls.Clamp(rows, RowsOn(size));
  std::vector<Line> lines = LayOut(table, &controls.order(), size.columns, controls.first, RowsOn(size));
  if (rows == 0) lines.emplace_back(any ? "nothing matches the filter" : absl::StrCat("no ", std::string(ToString(controls.view))), Style::kFaint);
  return lines;
}

}  // namespace

size_t RowsOn(Size size) { return size.lines - std::min(size.lines, kAbove + kHead + kBelow); }

std::vector<Line> Paint(const Shown& shown, Controls& controls, Size size, TimePoint time) {
  size_t rows = 0;
  std::vector<Line> table = controls.help ? Help(controls.view) : TableLines(shown, controls, size, rows);
  Line process = ProcessLine(shown);
  std::string every = controls.paused ? " paused" : absl::StrCat(" every ", Format(std::chrono::duration<double>(shown.interval).count(), Unit::kSeconds));
  process.Pad(size.columns - std::min(size.columns, every.size()));
  process.Add(every, controls.paused ? Style::kWarning : Style::kPlain);

  std::vector<Line> lines = {process, TotalsLine(shown), ThirdLine(shown, controls, time), ViewsLine(controls)};
  std::move(table.begin(), table.end(), std::back_inserter(lines));
  lines.resize(size.lines);
  if (size.lines > 0) lines.back() = KeysLine(controls, rows, RowsOn(size));
  for (Line& line : lines) line.Cut(size.columns);
  return lines;
}

Line ProcessLine(const Shown& shown) {
  const Json& status = shown.now->status;
  std::string state = Text(Member(status, "state")).value_or("?");
  Line line;
  line.Add(absl::StrCat("ringmain ", Text(Member(status, "version")).value_or("?")), Style::kStrong).Add("  ").Add(shown.admin).Add("  ");
  line.Add(state, state == "ready" ? Style::kPlain : Style::kWarning);
  line.Add(absl::StrCat("  pid ", Member(status, "pid").dump()));
  line.Add(absl::StrCat("  up ", Format(AsValue(Number(Member(status, "uptime_seconds"))), Unit::kSeconds)));
  if (Member(Member(status, "configuration"), "last_reload_failed") == true) line.Add("  ").Add("the last reload failed", Style::kBad);
  return line;
}

Line TotalsLine(const Shown& shown) {
  const Totals totals = TotalsOf(shown.before, *shown.now);
  Line line(absl::StrCat(Format(totals.active, Unit::kCount), " sessions  ", Per(totals.accepted, Unit::kPerSecond), " new  ",
                         Per(totals.closed, Unit::kPerSecond), " closed  "));
  line.Add(absl::StrCat(totals.servers_up, " of ", totals.servers, " servers up"), totals.servers_up < totals.servers ? Style::kBad : Style::kPlain);
  if (totals.failed.value_or(0) > 0) line.Add("  ").Add(absl::StrCat(Per(totals.failed, Unit::kPerSecond), " failed"), Style::kBad);
  if (totals.refused.value_or(0) > 0) line.Add("  ").Add(absl::StrCat(Per(totals.refused, Unit::kPerSecond), " refused"), Style::kWarning);
  return line;
}

Line BytesLine(const Shown& shown) {
  const Totals totals = TotalsOf(shown.before, *shown.now);
  return Line(absl::StrCat(Per(totals.to_server, Unit::kBytesPerSecond), " to servers  ", Per(totals.to_client, Unit::kBytesPerSecond), " to clients"));
}

std::optional<std::string> SessionsNote(const Sample& sample) {
  const Json& sessions = Member(sample.status, "sessions");
  std::string note;
  double total = Number(Member(sessions, "total")).value_or(0);
  size_t listed = List(sessions, "list").size();
  if (static_cast<double>(listed) < total)
    note = absl::StrCat(listed, " of ", Format(total, Unit::kCount), " sessions are listed; --sessions N asks for more");
  if (size_t missing = List(sessions, "missing_workers").size(); missing > 0)
    absl::StrAppend(&note, note.empty() ? "" : "; ", missing, missing == 1 ? " worker" : " workers", " did not answer in time");
  return note.empty() ? std::nullopt : std::optional(note);
}

}  // namespace ringmain::top
