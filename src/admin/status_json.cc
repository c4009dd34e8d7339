#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "admin/admin_server.h"
#include "admin/render.h"
#include "admin/sessions_json.h"
#include "admin/sum.h"
#include "config/units.h"

namespace ringmain {
namespace {

std::string Iso8601(std::chrono::system_clock::time_point time) {
  time_t seconds_since_epoch = std::chrono::system_clock::to_time_t(time);
  tm utc{};
  gmtime_r(&seconds_since_epoch, &utc);
  char text[sizeof("2000-01-01T00:00:00Z") + 8];
  strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

Json Addresses(const std::vector<SocketAddress>& addresses) {
  Json list = Json::array();
  for (const SocketAddress& address : addresses) list.push_back(address.ToString());
  return list;
}

const char* State(bool draining) { return draining ? "draining" : "active"; }

Json Rate(const std::optional<RateConfig>& rate) {
  if (!rate.has_value()) return nullptr;
  return {{"rate", FormatRate(rate->per_minute)}, {"burst", rate->burst}};
}

Json Number(const std::optional<uint32_t>& number) { return number.has_value() ? Json(*number) : Json(nullptr); }

Json Access(const std::vector<AccessRule>& rules) {
  Json list = Json::array();
  for (const AccessRule& rule : rules) {
    Json one = Json::object();
    one[rule.allow ? "allow" : "deny"] = rule.network.ToString();
    list.push_back(std::move(one));
  }
  return list;
}

Json PerSource(const ListenerLayout& listener) {
  if (listener.sources == nullptr) return nullptr;
  const PerSourceConfig& config = listener.config.per_source;
  SourceUse use = listener.sources();
  return {{"max_connections", Number(config.max_connections)},
          {"accept_rate", Rate(config.accept_rate)},
          {"ipv6_prefix", config.ipv6_prefix},
          {"sources", use.sources},
          {"table_entries", use.entries},
          {"table_full_total", use.no_entry}};
}

Json Listener(const ListenerLayout& listener) {
  const ListenerConfig& config = listener.config;
  const PerWorker<ListenerCells>& cells = listener.metrics->cells;
  Json bytes = Json::object();
  for (size_t i = 0; i < kDirectionNames.size(); ++i) {
    bytes[std::string(kDirectionNames[i])] = Sum(cells, [i](const ListenerCells& c) { return c.bytes[i].value(); });
  }
  Json closed = Json::object();
  for (size_t i = 0; i < kCloseReasons; ++i) {
    closed[std::string(kCloseReasonNames[i])] = Sum(cells, [i](const ListenerCells& c) { return c.closed[i].value(); });
  }
  return {{"name", config.name},
          {"state", State(listener.draining)},
          {"addresses", Addresses(listener.addresses)},
          {"upstream", config.upstream},
          {"max_connections", Number(config.max_connections)},
          {"access", Access(config.access)},
          {"accept_rate", Rate(config.accept_rate)},
          {"per_source", PerSource(listener)},
          {"proxy_protocol", std::string(ToString(config.proxy_protocol.accept))},
          {"connections_active", Sum(cells, [](const ListenerCells& c) { return c.active.value(); })},
          {"connections_total", Sum(cells, [](const ListenerCells& c) { return c.accepted.value(); })},
          {"bytes", bytes},
          {"closed", closed}};
}

Json ServerStatus(const ServerLayout& layout, bool health_checked, TimePoint now) {
  const Server& server = *layout.server;
  const PerWorker<ServerCells>& cells = layout.metrics->cells;
  Json failures = Json::object();
  for (size_t i = 0; i < kConnectFailures; ++i) {
    failures[std::string(kConnectFailureNames[i])] =
        Sum(cells, [i](const ServerCells& c) { return c.connect_failures[i].value(); });
  }
  const HealthCells& health = layout.metrics->health;
  Json flips = Json::array();
  for (const FlipHistory::Flip& flip : health.flips.Read())
    flips.push_back({{"time", Iso8601(std::chrono::system_clock::time_point(std::chrono::milliseconds(flip.epoch_ms)))}, {"up", flip.up}});
  std::string last_failure = health.last_failure.value();
  return {{"address", server.name()},
          {"state", State(layout.draining)},
          {"configured_state", std::string(ToString(layout.config.state))},
          {"weight", layout.config.weight},
          {"backup", layout.config.backup},
          {"max_connections", layout.config.max_connections ? Json(*layout.config.max_connections) : Json(nullptr)},
          {"up", server.up()},
          {"ejected", server.ejected(now)},
          {"ejections_total", Sum(cells, [](const ServerCells& c) { return c.ejections.value(); })},
          {"health_checked", health_checked && !layout.draining},
          {"checks", {{"succeeded", health.succeeded.value()}, {"failed", health.failed.value()}}},
          {"flips", flips},
          {"last_check_failure", last_failure.empty() ? Json(nullptr) : Json(last_failure)},
          {"connections_active", server.active()},
          {"connects_total", Sum(cells, [](const ServerCells& c) { return c.connects.value(); })},
          {"connect_failures", failures}};
}

// `epoch` is in milliseconds.
double SecondsSince(int64_t epoch) {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  int64_t since = std::chrono::duration_cast<std::chrono::milliseconds>(now).count() - epoch;
  return Seconds(std::chrono::milliseconds(std::max<int64_t>(since, 0)));  // the clock may have been set back
}

Json NameStatus(const DnsNameConfig& config, const NameMetrics& metrics) {
  int64_t epoch = LastSuccess(metrics), result = metrics.last_result.value();
  bool failed = result != NameMetrics::kNone && result != static_cast<int64_t>(LookupResult::kSuccess);
  const char* state = epoch == 0 ? "missing" : failed ? "kept" : "found";
  return {{"name", metrics.name},
          {"type", std::string(ToString(config.type))},
          {"state", state},
          {"addresses", metrics.addresses.value()},
          {"last_error", failed ? Json(std::string(ToString(static_cast<LookupResult>(result)))) : Json(nullptr)},
          {"age_seconds", epoch == 0 ? Json(nullptr) : Json(SecondsSince(epoch))}};
}

Json UpstreamStatus(const UpstreamLayout& layout) {
  const UpstreamConfig& config = layout.upstream->config();
  Json servers = Json::array();
  TimePoint now = Clock::now();
  for (const ServerLayout& server : layout.servers)
    servers.push_back(ServerStatus(server, config.health_check.has_value() && server.config.state != ServerState::kDisabled, now));
  Json names = Json::array();
  for (const auto& metrics : layout.names)
    for (const DnsNameConfig& name : config.names)
      if (name.ToString() == metrics->name) names.push_back(NameStatus(name, *metrics));
  const std::shared_ptr<ConnectQueue>& queue = layout.upstream->queue();
  return {{"name", config.name},
          {"balance", std::string(ToString(config.balance))},
          {"queued", queue != nullptr ? queue->waiting() : 0},
          {"panic", layout.upstream->Panics(now)},
          {"health_check", config.health_check ? Json(std::string(ToString(config.health_check->type))) : Json(nullptr)},
          {"send_proxy_protocol", std::string(ToString(config.send_proxy_protocol))},
          {"servers", servers},
          {"names", names}};
}

Json Worker(const WorkerLayout& worker, const WorkerCells& cells) {
  Json relays = Json::object();
  for (size_t i = 0; i < kRelayModes; ++i) relays[std::string(kRelayModeNames[i])] = cells.relays[i].value();
  return {{"worker", worker.number},
          {"state", State(worker.draining)},
          {"sessions", cells.sessions.value()},
          {"completions_total", cells.completions.value()},
          {"enters_total", cells.enters.value()},
          {"cq_overflows_total", cells.cq_overflows.value()},
          {"receive_starvations_total", cells.receive_starvations.value()},
          {"accept_pauses_total", cells.accept_pauses.value()},
          {"handed_over_total", cells.handed_over.value()},
          {"accept_paused", cells.accept_paused.value() != 0},
          {"buffers", cells.buffers.value()},
          {"buffers_held", cells.buffers_held.value()},
          {"pipes", cells.pipes.value()},
          {"pipes_lent", cells.pipes_lent.value()},
          {"spliced_bytes", cells.spliced_bytes.value()},
          {"relays", relays},
          {"buffer_bytes", cells.buffer_bytes.value()}};
}

void AppendSessions(const AdminView& view, uint32_t most, std::string& text) {
  SessionList sessions = view.list_sessions({.most = most});
  absl::StrAppend(&text, "{\n    \"total\": ", sessions.total, ",\n    \"missing_workers\": ", Dump(sessions.missing_workers, -1),
                  ",\n    \"list\": [");
  AppendSessionList(sessions.sessions, "\n      ", text);
  text += "]\n  }";
}

}  // namespace

std::string RenderReloadJson(const ReloadResult& result) {
  static constexpr std::array<const char*, 4> kWords = {"reloaded", "unchanged", "failed", "refused"};
  Json json = {{"result", kWords.at(static_cast<size_t>(result.outcome))},
               {"changes", result.changes},
               {"next_start", result.next_start},
               {"errors", result.errors}};
  return Dump(json, 2) + "\n";
}

std::string RenderStatusJson(const AdminView& view, uint32_t sessions) {
  std::shared_ptr<const Layout> layout = view.layout();
  using std::chrono::system_clock;
  auto uptime = std::chrono::duration_cast<std::chrono::seconds>(system_clock::now() - view.start_time).count();
  Json status = {{"version", RINGMAIN_VERSION},
                 {"pid", getpid()},
                 {"state", std::string(StateName(view))},
                 {"start_time", Iso8601(view.start_time)},
                 {"uptime_seconds", std::max<int64_t>(uptime, 0)},  // the clock may have been set back
                 {"features", view.features},
                 {"max_connections", layout->max_connections}};
  status["configuration"] = {
      {"file", view.config_file.empty() ? Json(nullptr) : Json(view.config_file)},
      {"read", Iso8601(system_clock::time_point(std::chrono::milliseconds(view.reloads->last_success_epoch.value())))},
      {"last_reload_failed", view.reloads->last_failed.value() != 0}};

  Json& listeners = status["listeners"] = Json::array();
  for (const ListenerLayout& listener : layout->listeners) listeners.push_back(Listener(listener));
  Json& upstreams = status["upstreams"] = Json::array();
  for (const UpstreamLayout& upstream : layout->upstreams) upstreams.push_back(UpstreamStatus(upstream));
  Json& workers = status["workers"] = Json::array();
  for (const WorkerLayout& worker : layout->workers) workers.push_back(Worker(worker, (*view.workers)[worker.number]));
  std::string text = Dump(status, 2);
  text.resize(text.size() - 2);  // the last line, "}": there is one more member
  text += ",\n  \"sessions\": ";
  AppendSessions(view, sessions, text);
  text += "\n}\n";
  return text;
}

}  // namespace ringmain
