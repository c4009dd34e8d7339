// The views: what each shows of a sample, or of two. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "top/sample.h"
#include "top/table.h"

namespace ringmain::top {

enum class View : uint8_t { kListeners, kUpstreams, kServers, kWorkers, kSessions };
inline constexpr std::array<std::string_view, 5> kViewNames = {"listeners", "upstreams", "servers", "workers", "sessions"};
inline std::string_view ToString(View view) { return kViewNames[static_cast<size_t>(view)]; }

std::span<const Column> ColumnsOf(View view);
// How it is sorted unless somebody says otherwise.
Order DefaultOrder(View view);

// Not sorted. `before` is an earlier sample, for rates, which are unknown without.
Table MakeTable(View view, const Sample* before, const Sample& now);

// All of it in a few figures.
struct Totals {
  double active = 0;
  std::optional<double> accepted, closed, failed, refused;  // a second
  std::optional<double> to_server, to_client;               // bytes a second
  size_t servers = 0;     // those that are meant to serve: neither taken out nor disabled
  size_t servers_up = 0;  // those of them that do
};
Totals TotalsOf(const Sample* before, const Sample& now);

}  // namespace ringmain::top
