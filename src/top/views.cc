#include "top/views.h"

#include <string>
#include <utility>

namespace ringmain::top {
namespace {

// Of the reasons for which sessions end (README): there was no server for them, or the proxy could not.
constexpr std::array kFailed = {"connect_failed", "connect_timeout", "no_server", "queue_full", "queue_timeout", "no_files", "takeover_failed", "error"};
// The client was not let in.
constexpr std::array kRefused = {"access_denied",  "source_limit",   "source_rate",           "accept_rate", "listener_limit", "process_limit",
                                 "proxy_protocol", "proxy_protocol_timeout"};

std::optional<double> Closed(const Json& listener) {
  const Json& closed = Member(listener, "closed");
  return closed.is_object() ? std::optional(SumOf(closed)) : std::nullopt;
}

template <size_t N>
std::optional<double> ClosedFor(const Json& listener, const std::array<const char*, N>& reasons) {
  const Json& closed = Member(listener, "closed");
  if (!closed.is_object()) return std::nullopt;
  double sum = 0;
  for (const char* reason : reasons) sum += Number(Member(closed, reason)).value_or(0);
  return sum;
}

std::optional<double> Bytes(const Json& listener, const char* direction) { return Number(Member(Member(listener, "bytes"), direction)); }

std::optional<double> Failures(const Json& server) {
  const Json& failures = Member(server, "connect_failures");
  return failures.is_object() ? std::optional(SumOf(failures)) : std::nullopt;
}

// By a number, if it is known.
void Increase(std::optional<double>& sum, const std::optional<double>& number) {
  if (number.has_value()) sum = sum.value_or(0) + *number;
}

// A figure that should be zero.
Cell Marked(const std::optional<double>& number, Mark mark) { return {AsValue(number), number.value_or(0) > 0 ? mark : Mark::kNone}; }

// The cells of a row, one after the other. `earlier` is what the row was in the sample before.
class RowOf {
 public:
  RowOf(const Json& now, const Json& earlier, Duration between) : now_(now), earlier_(earlier), between_(between) {}

  void Add(Cell cell) { row_.push_back(std::move(cell)); }
  void AddText(const char* key) { Add({AsValue(Text(Member(now_, key)))}); }
  void AddNumber(const char* key, Mark mark = Mark::kNone) { Add(Marked(Number(Member(now_, key)), mark)); }
  // `read` is a function that reads a counter out of a thing.
  template <typename Read>
  void AddRate(Read read, Mark mark = Mark::kNone) {
    Add(Marked(Rate(read(earlier_), read(now_), between_), mark));
  }
  void AddRate(const char* key, Mark mark = Mark::kNone) {
    AddRate([key](const Json& thing) { return Number(Member(thing, key)); }, mark);
  }

  Row Take() { return std::move(row_); }

 private:
  const Json& now_;
  const Json& earlier_;
  const Duration between_;
  Row row_;
};

// `key` is what they are known by.
Earlier ByKey(const Json& things, const char* key) {
  Earlier earlier;
  for (const Json& thing : things) earlier.Add(Member(thing, key).dump(), thing);
  return earlier;
}
const Json& SameAs(const Json& thing, const Earlier& earlier, const char* key) { return earlier.Find(Member(thing, key).dump()); }

std::string Joined(const Json& texts) {
  std::string joined;
  for (const Json& text : texts) {
    if (!joined.empty()) joined += ' ';
    joined += Text(text).value_or("?");
  }
  return joined;
}

Row ListenerRow(const Json& listener, const Json& earlier, Duration between) {
  RowOf row(listener, earlier, between);
  row.AddText("name");
  row.AddText("state");
  row.Add({Joined(List(listener, "addresses"))});
  row.AddText("upstream");
  row.AddNumber("connections_active");
  row.AddNumber("max_connections");
  row.AddRate("connections_total");
  row.AddRate(Closed);
  row.AddRate([](const Json& thing) { return ClosedFor(thing, kFailed); }, Mark::kBad);
  row.AddRate([](const Json& thing) { return ClosedFor(thing, kRefused); }, Mark::kWarning);
  row.AddRate([](const Json& thing) { return Bytes(thing, "to_server"); });
  row.AddRate([](const Json& thing) { return Bytes(thing, "to_client"); });
  row.AddNumber("connections_total");
  row.Add({AsValue(ClosedFor(listener, kFailed))});
  row.Add({AsValue(ClosedFor(listener, kRefused))});
  row.Add({AsValue(Bytes(listener, "to_server"))});
  row.Add({AsValue(Bytes(listener, "to_client"))});
  return row.Take();
}

Cell ServerState(const Json& server) {
  if (Member(server, "state") == "draining") return {"draining"};
  std::string configured = Text(Member(server, "configured_state")).value_or("enabled");
  if (configured != "enabled") return {configured};
  if (Member(server, "up") == false) return {"down", Mark::kBad};
  if (Member(server, "ejected") == true) return {"ejected", Mark::kWarning};
  return {"up"};
}

// A state is marked if it is not what the operator wants.
bool Serves(const Cell& state) { return state.value == Value("up"); }
bool ShouldServe(const Cell& state) { return Serves(state) || state.mark != Mark::kNone; }

// The servers of an upstream, together. Rates are those of the servers whose rates are known.
struct ServerSums {
  size_t servers = 0, up = 0;  // of those that should serve
  std::optional<double> active, connects, failures;
};

ServerSums SumServers(const Json& upstream, const Json& earlier_upstream, Duration between) {
  ServerSums sums;
  const Earlier earlier = ByKey(List(earlier_upstream, "servers"), "address");
  for (const Json& server : List(upstream, "servers")) {
    Cell state = ServerState(server);
    sums.servers += ShouldServe(state);
    sums.up += Serves(state);
    const Json& same = SameAs(server, earlier, "address");
    Increase(sums.active, Number(Member(server, "connections_active")));
    Increase(sums.connects, Rate(Number(Member(same, "connects_total")), Number(Member(server, "connects_total")), between));
    Increase(sums.failures, Rate(Failures(same), Failures(server), between));
  }
  return sums;
}

Cell UpstreamState(const Json& upstream, const ServerSums& sums) {
  if (sums.servers == 0) return {"empty", Mark::kWarning};
  if (Member(upstream, "panic") == true) return {"panic", Mark::kBad};
  if (sums.up == 0) return {"down", Mark::kBad};
  if (sums.up < sums.servers) return {"degraded", Mark::kWarning};
  return {"up"};
}

// The worst of its names.
Cell NamesState(const Json& upstream) {
  Cell worst;
  for (const Json& name : List(upstream, "names")) {
    std::string state = Text(Member(name, "state")).value_or("");
    Mark mark = state == "missing" ? Mark::kBad : state == "kept" ? Mark::kWarning : Mark::kNone;
    if (worst.value == Value() || mark > worst.mark) worst = {state, mark};
  }
  return worst;
}

Row UpstreamRow(const Json& upstream, const Json& earlier, Duration between) {
  const ServerSums sums = SumServers(upstream, earlier, between);
  RowOf row(upstream, earlier, between);
  row.AddText("name");
  row.Add(UpstreamState(upstream, sums));
  row.Add({static_cast<double>(sums.up)});
  row.Add({static_cast<double>(sums.servers)});
  row.Add({AsValue(sums.active)});
  row.AddNumber("queued", Mark::kWarning);
  row.Add({AsValue(sums.connects)});
  row.Add(Marked(sums.failures, Mark::kBad));
  row.AddText("balance");
  row.AddText("health_check");
  row.Add(NamesState(upstream));
  return row.Take();
}

Row ServerRow(const Json& upstream_name, const Json& server, const Json& earlier, Duration between) {
  RowOf row(server, earlier, between);
  row.Add({AsValue(Text(upstream_name))});
  row.AddText("address");
  row.Add(ServerState(server));
  row.AddNumber("connections_active");
  row.AddNumber("max_connections");
  row.AddNumber("weight");
  row.AddRate("connects_total");
  row.AddRate(Failures, Mark::kBad);
  row.AddNumber("connects_total");
  row.Add({AsValue(Failures(server))});
  row.AddNumber("ejections_total");
  row.AddText("last_check_failure");
  return row.Take();
}

Cell WorkerState(const Json& worker) {
  if (Member(worker, "accept_paused") == true) return {"paused", Mark::kBad};
  return {AsValue(Text(Member(worker, "state")))};
}

Row WorkerRow(const Json& worker, const Json& earlier, Duration between) {
  RowOf row(worker, earlier, between);
  row.AddNumber("worker");
  row.Add(WorkerState(worker));
  row.AddNumber("sessions");
  row.AddRate("completions_total");
  row.AddRate("enters_total");
  auto rate = [&](const char* key) { return Rate(Number(Member(earlier, key)), Number(Member(worker, key)), between); };
  std::optional<double> completions = rate("completions_total"), enters = rate("enters_total");
  row.Add({enters.value_or(0) > 0 && completions.has_value() ? Value(*completions / *enters) : Value()});
  row.AddRate("spliced_bytes");
  row.Add({AsValue(Number(Member(Member(worker, "relays"), "spliced")))});
  row.AddNumber("buffer_bytes");
  row.AddNumber("buffers_held");
  row.AddNumber("buffers");
  row.AddNumber("pipes_lent");
  row.AddNumber("pipes");
  row.AddRate("receive_starvations_total", Mark::kWarning);
  row.AddRate("handed_over_total");
  row.AddNumber("cq_overflows_total", Mark::kWarning);
  return row.Take();
}

std::optional<double> Sent(const Json& session, const char* direction) { return Number(Member(Member(session, direction), "sent_bytes")); }

std::optional<double> SentBothWays(const Json& session) {
  std::optional<double> to_server = Sent(session, "to_server"), to_client = Sent(session, "to_client");
  return to_server.has_value() && to_client.has_value() ? std::optional(*to_server + *to_client) : std::nullopt;
}

Row SessionRow(const Json& session, const Json& earlier, Duration between) {
  RowOf row(session, earlier, between);
  for (const char* key : {"id", "client", "listener", "upstream", "server", "state"}) row.AddText(key);
  row.AddNumber("age_seconds");
  row.AddNumber("idle_seconds");
  row.AddRate(SentBothWays);
  row.AddRate([](const Json& thing) { return Sent(thing, "to_server"); });
  row.AddRate([](const Json& thing) { return Sent(thing, "to_client"); });
  row.Add({AsValue(Sent(session, "to_server"))});
  row.Add({AsValue(Sent(session, "to_client"))});
  std::optional<double> queued;
  for (const char* direction : {"to_server", "to_client"})
    Increase(queued, Number(Member(Member(session, direction), "queued_bytes")));
  row.Add({AsValue(queued)});
  row.AddNumber("worker");
  return row.Take();
}

}  // namespace

Table MakeTable(View view, const Sample* before, const Sample& now) {
  const Duration between = before != nullptr ? now.at - before->at : Duration(0);
  const Json nothing;
  const Json& status = now.status;
  const Json& old = before != nullptr ? before->status : nothing;
  Table table{ColumnsOf(view), {}};
  auto add = [&](const Json& things, const Json& old_things, const char* key, auto make_row) {
    const Earlier earlier = ByKey(old_things, key);
    for (const Json& thing : things) table.rows.push_back(make_row(thing, SameAs(thing, earlier, key), between));
  };
  switch (view) {
    case View::kListeners:
      add(List(status, "listeners"), List(old, "listeners"), "name", ListenerRow);
      break;
    case View::kUpstreams:
      add(List(status, "upstreams"), List(old, "upstreams"), "name", UpstreamRow);
      break;
    case View::kServers: {
      const Earlier upstreams = ByKey(List(old, "upstreams"), "name");
      for (const Json& upstream : List(status, "upstreams")) {
        const Json& name = Member(upstream, "name");
        add(List(upstream, "servers"), List(SameAs(upstream, upstreams, "name"), "servers"), "address",
            [&name](const Json& server, const Json& earlier, Duration time) { return ServerRow(name, server, earlier, time); });
      }
      break;
    }
    case View::kWorkers:
      add(List(status, "workers"), List(old, "workers"), "worker", WorkerRow);
      break;
    case View::kSessions:
      add(List(Member(status, "sessions"), "list"), List(Member(old, "sessions"), "list"), "id", SessionRow);
      break;
  }
  return table;
}

Totals TotalsOf(const Sample* before, const Sample& now) {
  Totals totals;
  const Table listeners = MakeTable(View::kListeners, before, now);
  auto sum = [&](std::string_view key) {
    const size_t column = *FindColumn(listeners.columns, key);
    std::optional<double> all;
    for (const Row& row : listeners.rows)
      if (const auto* number = std::get_if<double>(&row[column].value)) Increase(all, *number);
    return all;
  };
  totals.active = sum("connections_active").value_or(0);
  totals.accepted = sum("accepted_per_second");
  totals.closed = sum("closed_per_second");
  totals.failed = sum("failed_per_second");
  totals.refused = sum("refused_per_second");
  totals.to_server = sum("to_server_per_second");
  totals.to_client = sum("to_client_per_second");
  for (const Json& upstream : List(now.status, "upstreams")) {
    const ServerSums servers = SumServers(upstream, nullptr, Duration(0));
    totals.servers += servers.servers;
    totals.servers_up += servers.up;
  }
  return totals;
}

}  // namespace ringmain::top
