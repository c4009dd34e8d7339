#include "top/views.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "statuses.h"
#include "unit/admin/sample.h"

namespace ringmain::top {
namespace {

constexpr std::array kViews = {View::kListeners, View::kUpstreams, View::kServers, View::kWorkers, View::kSessions};

const Cell& CellOf(const Table& table, size_t row, std::string_view key) { return table.rows.at(row).at(*FindColumn(table.columns, key)); }

// As it is shown, with a sign for its mark.
std::string Shown(const Table& table, size_t row, std::string_view key) {
  const Cell& cell = CellOf(table, row, key);
  std::string sign = cell.mark == Mark::kBad ? "!" : cell.mark == Mark::kWarning ? "?" : "";
  return sign + Format(cell.value, table.columns[*FindColumn(table.columns, key)].unit);
}

TEST(TopViews, ListenersWithRates) {
  const Sample after = After();
  Table table = MakeTable(View::kListeners, &kBefore, after);
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(Shown(table, 0, "name"), "front");
  EXPECT_EQ(Shown(table, 0, "addresses"), "127.0.0.1:8080 unix:/run/f.sock");
  EXPECT_EQ(Shown(table, 0, "connections_active"), "12");
  EXPECT_EQ(Shown(table, 0, "max_connections"), "100");
  EXPECT_EQ(Shown(table, 0, "accepted_per_second"), "5.0");
  EXPECT_EQ(Shown(table, 0, "closed_per_second"), "2.5");
  EXPECT_EQ(Shown(table, 0, "failed_per_second"), "!0.5");
  EXPECT_EQ(Shown(table, 0, "refused_per_second"), "?1.5");
  EXPECT_EQ(Shown(table, 0, "to_server_per_second"), "1.00KiB");
  EXPECT_EQ(Shown(table, 0, "to_client_per_second"), "0B");
  EXPECT_EQ(Shown(table, 0, "connections_total"), "110");
  EXPECT_EQ(Shown(table, 0, "failed_total"), "4");
  EXPECT_EQ(Shown(table, 0, "refused_total"), "13");
  EXPECT_EQ(Shown(table, 0, "to_server_bytes"), "2.98KiB");
  EXPECT_EQ(Shown(table, 1, "state"), "draining");
  EXPECT_EQ(Shown(table, 1, "max_connections"), "-");
  EXPECT_EQ(Shown(table, 1, "failed_per_second"), "0");
}

TEST(TopViews, RatesAreUnknownWithoutASampleBefore) {
  for (View view : kViews)
    for (const Row& row : MakeTable(view, nullptr, kBefore).rows)
      for (size_t i = 0; i < row.size(); ++i)
        EXPECT_EQ(ColumnsOf(view)[i].key.ends_with("_per_second") && row[i].value != Value(), false) << ColumnsOf(view)[i].key;
}

TEST(TopViews, RatesAreUnknownAfterARestart) {
  Table table = MakeTable(View::kListeners, &kBefore, [] {
    Sample restarted = After();
    restarted.status["listeners"][0]["connections_total"] = 3;
    restarted.status["listeners"][0]["closed"] = Json::object();
    return restarted;
  }());
  EXPECT_EQ(Shown(table, 0, "accepted_per_second"), "-");
  EXPECT_EQ(Shown(table, 0, "closed_per_second"), "-");
  EXPECT_EQ(Shown(table, 0, "to_server_per_second"), "1.00KiB");
}

TEST(TopViews, Upstreams) {
  const Sample after = After();
  Table table = MakeTable(View::kUpstreams, &kBefore, after);
  EXPECT_EQ(Shown(table, 0, "state"), "?degraded");
  EXPECT_EQ(Shown(table, 0, "servers_up"), "1");
  EXPECT_EQ(Shown(table, 0, "servers"), "2");
  EXPECT_EQ(Shown(table, 0, "connections_active"), "7");
  EXPECT_EQ(Shown(table, 0, "queued"), "?3");
  EXPECT_EQ(Shown(table, 0, "connects_per_second"), "5.0");
  EXPECT_EQ(Shown(table, 0, "failures_per_second"), "!2.0");
  EXPECT_EQ(Shown(table, 0, "names"), "-");
}

TEST(TopViews, StatesOfUpstreams) {
  auto state = [](auto change) {
    Sample sample = kBefore;
    change(sample.status["upstreams"][0]);
    return Shown(MakeTable(View::kUpstreams, nullptr, sample), 0, "state");
  };
  auto down = [](Json& upstream) {
    for (Json& server : upstream["servers"]) server["up"] = false;
  };
  EXPECT_EQ(state([](Json&) {}), "up");
  EXPECT_EQ(state(down), "!down");
  EXPECT_EQ(state([&](Json& upstream) { down(upstream), upstream["panic"] = true; }), "!panic");
  EXPECT_EQ(state([](Json& upstream) { upstream["servers"][0]["ejected"] = true; }), "?degraded");
  EXPECT_EQ(state([](Json& upstream) { upstream["servers"] = Json::array(); }), "?empty");
  // What the operator took out is not missed.
  EXPECT_EQ(state([](Json& upstream) { upstream["servers"][0]["configured_state"] = "disabled", upstream["servers"][0]["up"] = false; }), "up");
}

TEST(TopViews, NamesShowTheWorst) {
  auto names = [](std::vector<std::string> states) {
    Sample sample = kBefore;
    for (const std::string& state : states) sample.status["upstreams"][0]["names"].push_back({{"state", state}});
    return Shown(MakeTable(View::kUpstreams, nullptr, sample), 0, "names");
  };
  EXPECT_EQ(names({"found", "found"}), "found");
  EXPECT_EQ(names({"found", "kept"}), "?kept");
  EXPECT_EQ(names({"missing", "kept", "found"}), "!missing");
}

TEST(TopViews, Servers) {
  const Sample after = After();
  Table table = MakeTable(View::kServers, &kBefore, after);
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(Shown(table, 0, "upstream"), "back");
  EXPECT_EQ(Shown(table, 0, "state"), "up");
  EXPECT_EQ(Shown(table, 0, "connects_per_second"), "5.0");
  EXPECT_EQ(Shown(table, 0, "failures_total"), "1");
  EXPECT_EQ(Shown(table, 0, "failures_per_second"), "0");
  EXPECT_EQ(Shown(table, 1, "address"), "10.0.0.2:7001");
  EXPECT_EQ(Shown(table, 1, "state"), "!down");
  EXPECT_EQ(Shown(table, 1, "failures_per_second"), "!2.0");
  EXPECT_EQ(Shown(table, 1, "last_check_failure"), "connection refused");
  EXPECT_EQ(Shown(table, 1, "weight"), "2");
  EXPECT_EQ(Shown(table, 1, "max_connections"), "50");
}

TEST(TopViews, StatesOfServers) {
  auto state = [](Json change) {
    Sample sample = kBefore;
    sample.status["upstreams"][0]["servers"][0].update(change);
    return Shown(MakeTable(View::kServers, nullptr, sample), 0, "state");
  };
  EXPECT_EQ(state({{"ejected", true}}), "?ejected");
  EXPECT_EQ(state({{"ejected", true}, {"up", false}}), "!down");
  EXPECT_EQ(state({{"configured_state", "drain"}}), "drain");
  EXPECT_EQ(state({{"configured_state", "disabled"}, {"up", false}}), "disabled");
  EXPECT_EQ(state({{"state", "draining"}, {"up", false}}), "draining");
}

TEST(TopViews, TwoUpstreamsMayHaveTheSameServer) {
  Sample before = kBefore, after = After();
  for (Sample* sample : {&before, &after}) {
    Json other = sample->status["upstreams"][0];
    other["name"] = "other";
    if (sample == &after) other["servers"][0]["connects_total"] = 260;
    sample->status["upstreams"].push_back(other);
  }
  Table table = MakeTable(View::kServers, &before, after);
  ASSERT_EQ(table.rows.size(), 4u);
  EXPECT_EQ(Shown(table, 0, "connects_per_second"), "5.0");
  EXPECT_EQ(Shown(table, 2, "upstream"), "other");
  EXPECT_EQ(Shown(table, 2, "connects_per_second"), "100");
}

TEST(TopViews, Workers) {
  const Sample after = After();
  Table table = MakeTable(View::kWorkers, &kBefore, after);
  EXPECT_EQ(Shown(table, 0, "worker"), "0");
  EXPECT_EQ(Shown(table, 0, "state"), "!paused");
  EXPECT_EQ(Shown(table, 0, "completions_per_second"), "300");
  EXPECT_EQ(Shown(table, 0, "enters_per_second"), "50");
  EXPECT_EQ(Shown(table, 0, "completions_per_enter"), "6.0");
  EXPECT_EQ(Shown(table, 0, "buffer_bytes"), "4.00MiB");
  EXPECT_EQ(Shown(table, 0, "spliced_relays"), "0");
}

TEST(TopViews, Sessions) {
  const Sample after = After();
  Table table = MakeTable(View::kSessions, &kBefore, after);
  ASSERT_EQ(table.rows.size(), 2u);
  Sort(table, DefaultOrder(View::kSessions));
  EXPECT_EQ(Shown(table, 0, "client"), "192.0.2.1:40000");
  EXPECT_EQ(Shown(table, 0, "bytes_per_second"), "1.07KiB");
  EXPECT_EQ(Shown(table, 0, "to_server_per_second"), "100B");
  EXPECT_EQ(Shown(table, 0, "to_client_per_second"), "1000B");
  EXPECT_EQ(Shown(table, 0, "to_client_bytes"), "2.93KiB");
  EXPECT_EQ(Shown(table, 0, "queued_bytes"), "5B");
  EXPECT_EQ(Shown(table, 0, "age_seconds"), "10s");
  EXPECT_EQ(Shown(table, 1, "server"), "-");
}

TEST(TopViews, TotalsAreOverAllListeners) {
  Sample after = After();
  after.status["listeners"][1]["connections_total"] = 60;
  Totals totals = TotalsOf(&kBefore, after);
  EXPECT_EQ(totals.active, 13);
  EXPECT_EQ(totals.accepted, 10);
  EXPECT_EQ(totals.closed, 2.5);
  EXPECT_EQ(totals.failed, 0.5);
  EXPECT_EQ(totals.refused, 1.5);
  EXPECT_EQ(totals.to_server, 1024);
  EXPECT_EQ(totals.to_client, 0);
  EXPECT_EQ(totals.servers, 2u);
  EXPECT_EQ(totals.servers_up, 1u);
  EXPECT_EQ(TotalsOf(nullptr, after).accepted, std::nullopt);
}

// What another version may send.
TEST(TopViews, WhatIsMissingOrOfAnotherKindIsUnknown) {
  const Json wrong[] = {nullptr, 1, "x", true, Json::array({1, "x", nullptr, Json::object()}), Json::object({{"a", 1}})};
  for (const Json& value : wrong) {
    Sample sample{{{"listeners", value}, {"upstreams", value}, {"workers", value}, {"sessions", value}}, TimePoint()};
    for (View view : kViews)
      for (const Row& row : MakeTable(view, &sample, sample).rows) EXPECT_EQ(row.size(), ColumnsOf(view).size());
    TotalsOf(&sample, sample);
  }
  for (const char* list : {"listeners", "upstreams", "workers"}) {
    for (const auto& [key, value] : kBefore.status[list][0].items()) {
      for (const Json& other : wrong) {
        Sample sample = After();
        sample.status[list][0][key] = other;
        for (View view : kViews) MakeTable(view, &kBefore, sample), MakeTable(view, &sample, kBefore);
      }
    }
  }
}

TEST(TopViews, EveryRowHasACellForEachColumnAndEveryColumnItsWords) {
  const Sample after = After();
  for (View view : kViews) {
    Table table = MakeTable(view, &kBefore, after);
    EXPECT_FALSE(table.rows.empty());
    for (const Row& row : table.rows) EXPECT_EQ(row.size(), table.columns.size());
    bool stays = false;
    for (size_t i = 0; i < table.columns.size(); ++i) {
      const Column& column = table.columns[i];
      stays |= column.rank == 0;
      EXPECT_EQ(FindColumn(table.columns, column.key), i) << column.key << " is there twice";
      EXPECT_FALSE(column.title.empty() || column.help.empty()) << column.key;
    }
    EXPECT_TRUE(stays) << ToString(view);
  }
}

// The API's own words: each figure is found where the views look for it.
TEST(TopViews, UnderstandTheStatusThatRingmainRenders) {
  ringmain::Sample admin;
  absl::StatusOr<Json> status = ParseStatus(RenderStatusJson(admin.View(), 10));
  ASSERT_TRUE(status.ok()) << status.status();
  Sample before{*status, TimePoint()}, now{*status, TimePoint(seconds(1))};
  // Null unless there is such a thing: a limit, a name, a failure, a session that came before.
  const std::set<std::string_view> may_be_unknown = {"max_connections", "names", "last_check_failure", "health_check", "completions_per_enter", "server", "client"};
  for (View view : kViews) {
    Table table = MakeTable(view, &before, now);
    EXPECT_FALSE(table.rows.empty() && view != View::kSessions) << ToString(view);
    for (const Row& row : table.rows)
      for (size_t i = 0; i < row.size(); ++i)
        EXPECT_TRUE(row[i].value != Value() || may_be_unknown.contains(table.columns[i].key)) << ToString(view) << " " << table.columns[i].key;
  }
}

TEST(TopSample, IsAStatusOrAnError) {
  EXPECT_TRUE(ParseStatus(kBefore.status.dump()).ok());
  for (const char* text : {"", "{", "[]", "1", "ok\n", "{}", R"({"version":"1"})", "\xff"}) EXPECT_FALSE(ParseStatus(text).ok()) << text;
  EXPECT_EQ(ParseStatus(R"({"version":"1","listeners":[]})").status().message(), "the answer is no status of ringmain: there is no upstreams");
}

TEST(TopSample, Rates) {
  EXPECT_EQ(Rate(1, 5, seconds(2)), 2);
  EXPECT_EQ(Rate(5, 5, seconds(2)), 0);
  EXPECT_EQ(Rate(5, 4, seconds(2)), std::nullopt);
  EXPECT_EQ(Rate(std::nullopt, 4, seconds(2)), std::nullopt);
  EXPECT_EQ(Rate(4, std::nullopt, seconds(2)), std::nullopt);
  EXPECT_EQ(Rate(4, 5, seconds(0)), std::nullopt);
}

}  // namespace
}  // namespace ringmain::top
