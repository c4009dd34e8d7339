#include <array>

#include "top/views.h"

namespace ringmain::top {
namespace {

constexpr std::array<Column, 17> kListenerColumns{{
    {"name", "LISTENER", Unit::kText, 0, "its name"},
    {"state", "STATE", Unit::kText, 3, "active, or draining: taken out, and its sessions go on"},
    {"addresses", "ADDRESS", Unit::kText, 5, "where it listens"},
    {"upstream", "UPSTREAM", Unit::kText, 6, "where its clients go"},
    {"connections_active", "ACTIVE", Unit::kCount, 0, "sessions now"},
    {"max_connections", "LIMIT", Unit::kCount, 8, "how many there may be"},
    {"accepted_per_second", "NEW/s", Unit::kPerSecond, 1, "clients accepted, refused ones included"},
    {"closed_per_second", "CLOSED/s", Unit::kPerSecond, 4, "sessions ended, whatever the reason"},
    {"failed_per_second", "FAILED/s", Unit::kPerSecond, 2, "of these: there was no server for them, or an error"},
    {"refused_per_second", "REFUSED/s", Unit::kPerSecond, 2, "of these: refused by limits, access rules, PROXY protocol"},
    {"to_server_per_second", "TO SERVER/s", Unit::kBytesPerSecond, 1, "bytes from clients"},
    {"to_client_per_second", "TO CLIENT/s", Unit::kBytesPerSecond, 1, "bytes from servers"},
    {"connections_total", "TOTAL", Unit::kCount, 7, "clients accepted so far"},
    {"failed_total", "FAILED", Unit::kCount, 9, "sessions failed so far"},
    {"refused_total", "REFUSED", Unit::kCount, 9, "clients refused so far"},
    {"to_server_bytes", "TO SERVER", Unit::kBytes, 8, "bytes from clients so far"},
    {"to_client_bytes", "TO CLIENT", Unit::kBytes, 8, "bytes from servers so far"},
}};

constexpr std::array<Column, 11> kUpstreamColumns{{
    {"name", "UPSTREAM", Unit::kText, 0, "its name"},
    {"state", "STATE", Unit::kText, 0, "up, degraded (some servers are down or ejected), panic (so many that all are used), down (all), empty"},
    {"servers_up", "UP", Unit::kCount, 1, "servers that are up"},
    {"servers", "SERVERS", Unit::kCount, 1, "servers that are meant to serve: neither drained nor disabled"},
    {"connections_active", "ACTIVE", Unit::kCount, 0, "connections to its servers now"},
    {"queued", "QUEUED", Unit::kCount, 1, "clients that wait for room on a server"},
    {"connects_per_second", "CONNECTS/s", Unit::kPerSecond, 1, "connections made"},
    {"failures_per_second", "FAILURES/s", Unit::kPerSecond, 1, "connects that failed, each try by itself"},
    {"balance", "BALANCE", Unit::kText, 3, "how a server is chosen"},
    {"health_check", "CHECK", Unit::kText, 4, "how health is found out"},
    {"names", "NAMES", Unit::kText, 4, "its DNS names: found, kept (the last lookup failed), missing (none ever succeeded)"},
}};

constexpr std::array<Column, 12> kServerColumns{{
    {"upstream", "UPSTREAM", Unit::kText, 2, "its upstream"},
    {"address", "SERVER", Unit::kText, 0, "its address"},
    {"state", "STATE", Unit::kText, 0, "up, down (by health checks), ejected (failed in use), drain, disabled, draining (taken out)"},
    {"connections_active", "ACTIVE", Unit::kCount, 0, "connections to it now"},
    {"max_connections", "LIMIT", Unit::kCount, 7, "how many there may be"},
    {"weight", "WEIGHT", Unit::kCount, 5, "its share"},
    {"connects_per_second", "CONNECTS/s", Unit::kPerSecond, 1, "connections made"},
    {"failures_per_second", "FAILURES/s", Unit::kPerSecond, 1, "connects that failed"},
    {"connects_total", "CONNECTS", Unit::kCount, 6, "connections made so far"},
    {"failures_total", "FAILURES", Unit::kCount, 4, "connects failed so far"},
    {"ejections_total", "EJECTED", Unit::kCount, 8, "how often it was ejected so far"},
    {"last_check_failure", "LAST FAILED CHECK", Unit::kText, 3, "what the last health check that failed said"},
}};

constexpr std::array<Column, 16> kWorkerColumns{{
    {"worker", "WORKER", Unit::kCount, 0, "its number"},
    {"state", "STATE", Unit::kText, 3, "active, draining, or paused: it does not accept, for want of file descriptors or memory"},
    {"sessions", "SESSIONS", Unit::kCount, 0, "sessions now"},
    {"completions_per_second", "EVENTS/s", Unit::kPerSecond, 1, "completions taken from its ring"},
    {"enters_per_second", "ENTERS/s", Unit::kPerSecond, 2, "io_uring_enter calls"},
    {"completions_per_enter", "EVENTS/ENTER", Unit::kRatio, 2, "completions for each call: more under load is better"},
    {"spliced_per_second", "SPLICED/s", Unit::kBytesPerSecond, 1, "bytes moved as bulk, without being copied"},
    {"spliced_relays", "BULK", Unit::kCount, 4, "directions that are moved as bulk"},
    {"buffer_bytes", "MEMORY", Unit::kBytes, 3, "receive buffers and what sessions hold"},
    {"buffers_held", "HELD", Unit::kCount, 5, "receive buffers with bytes that wait to be sent"},
    {"buffers", "BUFFERS", Unit::kCount, 6, "receive buffers"},
    {"pipes_lent", "LENT", Unit::kCount, 7, "kernel pipes with bytes in them"},
    {"pipes", "PIPES", Unit::kCount, 8, "kernel pipes"},
    {"starvations_per_second", "STARVED/s", Unit::kPerSecond, 4, "receives that found no buffer"},
    {"handed_over_per_second", "PASSED ON/s", Unit::kPerSecond, 9, "clients handed to a worker with fewer sessions"},
    {"overflows_total", "OVERFLOWS", Unit::kCount, 9, "completions that found the ring full, so far"},
}};

constexpr std::array<Column, 15> kSessionColumns{{
    {"id", "SESSION", Unit::kText, 4, "its id, as in logs"},
    {"client", "CLIENT", Unit::kText, 0, "where it comes from"},
    {"listener", "LISTENER", Unit::kText, 5, "where it came in"},
    {"upstream", "UPSTREAM", Unit::kText, 6, "where it goes"},
    {"server", "SERVER", Unit::kText, 1, "the server it has"},
    {"state", "STATE", Unit::kText, 3, "reading_header, queued, connecting, established or closing"},
    {"age_seconds", "AGE", Unit::kSeconds, 1, "since it began"},
    {"idle_seconds", "IDLE", Unit::kSeconds, 2, "since a byte came from either side"},
    {"bytes_per_second", "BYTES/s", Unit::kBytesPerSecond, 0, "bytes passed on, both ways"},
    {"to_server_per_second", "TO SERVER/s", Unit::kBytesPerSecond, 7, "bytes passed on to the server"},
    {"to_client_per_second", "TO CLIENT/s", Unit::kBytesPerSecond, 7, "bytes passed on to the client"},
    {"to_server_bytes", "TO SERVER", Unit::kBytes, 2, "bytes passed on to the server so far"},
    {"to_client_bytes", "TO CLIENT", Unit::kBytes, 2, "bytes passed on to the client so far"},
    {"queued_bytes", "QUEUED", Unit::kBytes, 4, "bytes received and not passed on yet"},
    {"worker", "WORKER", Unit::kCount, 8, "the worker that carries it"},
}};

}  // namespace

std::span<const Column> ColumnsOf(View view) {
  static constexpr std::array<std::span<const Column>, kViewNames.size()> kColumns = {kListenerColumns, kUpstreamColumns, kServerColumns,
                                                                                      kWorkerColumns, kSessionColumns};
  return kColumns.at(static_cast<size_t>(view));
}

Order DefaultOrder(View view) {
  if (view != View::kSessions) return {};  // by name or number; servers stay as they are configured within their upstream
  return OrderBy(kSessionColumns, *FindColumn(kSessionColumns, "bytes_per_second"));
}

}  // namespace ringmain::top
