#include "takeover/frozen_process.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "takeover/cbor.h"

namespace ringmain {
namespace {

// ---- Writing ----

Json ToJson(const FrozenUpstream& upstream);
Json ToJson(const FrozenName& name);
Json ToJson(const FrozenName::Found& found);
Json ToJson(const FrozenRoute& route);
Json ToJson(const FrozenProcess::Entry& entry);

int64_t Nanoseconds(TimePoint time) { return time.time_since_epoch().count(); }

Json ToJson(const FrozenHistogram& histogram) { return {{"buckets", histogram.buckets}, {"sum_ns", histogram.sum}}; }

Json ToJson(const FrozenHistograms& histograms) {
  Json json = Json::object();
  for (const auto& [name, histogram] : histograms) json[name] = ToJson(histogram);
  return json;
}

Json ToJson(const Pace& pace) { return {{"interval_ns", pace.interval_ns}, {"depth_ns", pace.depth_ns}}; }

Json Binary(const std::string& bytes) { return Json::binary({bytes.begin(), bytes.end()}); }

Json ToJson(const FrozenListener& listener) {
  Json json = {{"name", listener.name}, {"upstream", listener.upstream}, {"counters", listener.counters}, {"duration", ToJson(listener.duration)}};
  if (!listener.histograms.empty()) json["histograms"] = ToJson(listener.histograms);
  if (!listener.access.empty()) json["access"] = listener.access;
  if (listener.accept_pace.on())
    json["accept_rate"] = {{"pace", ToJson(listener.accept_pace)}, {"paid_until_ns", listener.accept_paid_until_ns}};
  if (listener.bandwidth_paid_until_ns != FrozenListener().bandwidth_paid_until_ns)
    json["bandwidth_paid_until_ns"] = listener.bandwidth_paid_until_ns;
  if (listener.source_pace.on()) json["source_rate"] = {{"pace", ToJson(listener.source_pace)}, {"sources", Binary(listener.sources)}};
  return json;
}

Json ToJson(const ServerSettings& settings) {
  Json json = {{"state", std::string(ToString(settings.state))}, {"weight", settings.weight}};
  if (settings.max_connections.has_value()) json["max_connections"] = *settings.max_connections;
  return json;
}

Json ToJson(const FrozenServer& server) {
  Json json = {{"address", server.address}, {"up", server.up}, {"counters", server.counters}};
  if (server.configured.has_value()) json["configured"] = ToJson(*server.configured);
  if (server.changed.has_value()) json["changed"] = ToJson(*server.changed);
  if (server.ejections > 0) json["ejected"] = {{"until", Nanoseconds(server.ejected_until)}, {"in_a_row", server.ejections}};
  return json;
}

Json ToJson(const FrozenWorker& worker) { return {{"counters", worker.counters}, {"loop_turn", ToJson(worker.loop_turn)}}; }

template <typename T>
Json ToJson(const std::vector<T>& list) {
  Json json = Json::array();
  for (const T& one : list) json.push_back(ToJson(one));
  return json;
}

Json ToJson(const FrozenUpstream& upstream) {
  Json json = {{"name", upstream.name}, {"connect_duration", ToJson(upstream.connect_duration)}, {"servers", ToJson(upstream.servers)}};
  if (!upstream.histograms.empty()) json["histograms"] = ToJson(upstream.histograms);
  if (upstream.retries_denied > 0) json["retries_denied"] = upstream.retries_denied;
  if (!upstream.names.empty()) json["names"] = ToJson(upstream.names);
  return json;
}

Json ToJson(const FrozenName& name) {
  return {{"name", name.name}, {"counters", name.counters}, {"last_success_epoch", name.last_success_epoch}, {"found", ToJson(name.found)}};
}

Json ToJson(const FrozenName::Found& found) {
  return {{"address", found.address}, {"weight", found.weight}, {"backup", found.backup}};
}

Json ToJson(const FrozenRoute& route) {
  Json json = {{"listener", route.listener},
               {"upstream", route.upstream},
               {"server", route.server},
               {"idle_timeout_ms", route.idle_timeout.count()},
               {"half_closed_timeout_ms", route.half_closed_timeout.count()},
               {"keepalive_s", route.keepalive.count()}};
  for (auto [name, value] : {std::pair("client_idle_timeout_ms", route.client_idle_timeout),
                             std::pair("server_idle_timeout_ms", route.server_idle_timeout),
                             std::pair("max_lifetime_ms", route.max_lifetime)})
    if (value.count() != 0) json[name] = value.count();
  if (route.lifetime_jitter_percent != 0) json["lifetime_jitter_percent"] = route.lifetime_jitter_percent;
  return json;
}

Json ToJson(const FrozenRelay& relay) {
  Json json = {{"received", relay.received}, {"sent", relay.sent}};
  // What is seldom true is left out.
  for (auto [name, value] : {std::pair("ended", relay.ended), std::pair("source_broken", relay.source_broken),
                             std::pair("discarding", relay.discarding), std::pair("finished", relay.finished)})
    if (value) json[name] = true;
  if (!relay.bytes.empty()) json["bytes"] = Binary(relay.bytes);
  if (relay.in_pipe > 0) json["pipe"] = {{"bytes", relay.in_pipe}, {"read", relay.pipe_read}, {"write", relay.pipe_write}};
  return json;
}

Json ToJson(const FrozenBandwidth& bandwidth) {
  return {{"paid_until_ns", bandwidth.paid_until_ns}, {"go_on_at_ns", bandwidth.go_on_at_ns}, {"counted", bandwidth.counted}, {"prepaid", bandwidth.prepaid}};
}

Json ToJson(const FrozenProcess::Entry& entry) {
  const FrozenSession& session = entry.session;
  Json json = {{"route", entry.route},
               {"number", session.number},
               {"client", session.client_fd},
               {"accepted_at", Nanoseconds(session.accepted_at)},
               {"last_byte_at", Nanoseconds(session.last_byte_at)},
               {"quiet_bytes", session.quiet_bytes},
               {"quiet_checks", session.quiet_checks},
               {"to_server", ToJson(session.relays[0])},
               {"to_client", ToJson(session.relays[1])}};
  if (session.established) json["server"] = session.server_fd;
  if (session.ending) json["reason"] = std::string(ToString(session.reason));
  if (session.reset) json["reset"] = true;
  if (!session.header.empty() || session.reading_header)
    json["header"] = {{"bytes", Json::binary({session.header.begin(), session.header.end()})},
                      {"reading", session.reading_header},
                      {"optional", session.header_optional}};
  if (session.lead > 0) json["lead"] = session.lead;
  if (session.bandwidth != FrozenSession().bandwidth) json["bandwidth"] = {ToJson(session.bandwidth[0]), ToJson(session.bandwidth[1])};
  if (session.first_byte_at != TimePoint()) json["first_byte_at"] = Nanoseconds(session.first_byte_at);
  if (session.sampled_segments > 0)
    json["sampled"] = {{"segments", session.sampled_segments}, {"retransmits", session.sampled_retransmits}};
  if (session.kept_alive) json["kept_alive"] = true;
  if (session.passed) json["passed"] = true;
  if (session.lost_reason != CloseReason::kError) json["lost_reason"] = std::string(ToString(session.lost_reason));
  if (session.connecting_since.has_value()) json["connecting_since"] = Nanoseconds(*session.connecting_since);
  if (session.active_at[0].has_value()) json["client_active_at"] = Nanoseconds(*session.active_at[0]);
  if (session.active_at[1].has_value()) json["server_active_at"] = Nanoseconds(*session.active_at[1]);
  if (session.leave_at != TimePoint::max()) json["leave_at"] = Nanoseconds(session.leave_at);
  if (session.queued_at != TimePoint::max()) json["queued_at"] = Nanoseconds(session.queued_at);
  if (session.check_at != TimePoint::max()) json["check_at"] = Nanoseconds(session.check_at);
  return json;
}

// ---- Reading: whatever is not as it should be throws a Json::exception or a Malformed ----

struct Malformed {
  const char* what;
};

void Read(const Json& json, FrozenUpstream& upstream);
void Read(const Json& json, FrozenName& name);
void Read(const Json& json, FrozenName::Found& found);
void Read(const Json& json, FrozenWorker& worker);
void Read(const Json& json, FrozenRoute& route);
void Read(const Json& json, FrozenProcess::Entry& entry);

TimePoint Time(const Json& json) { return TimePoint(Duration(Number<int64_t>(json))); }

// A later version may count what is no number.
FrozenCounters ReadCounters(const Json& json) {
  FrozenCounters counters;
  for (auto& [name, value] : json.items())
    if (value.is_number_unsigned()) counters.emplace(name, value.get<uint64_t>());
  return counters;
}

FrozenHistogram ReadHistogram(const Json& json) {
  return {json.at("buckets").get<std::vector<uint64_t>>(), Number<uint64_t>(json.at("sum_ns"))};
}

// None of an earlier version.
FrozenHistograms ReadHistograms(const Json& json) {
  FrozenHistograms histograms;
  if (auto found = json.find("histograms"); found != json.end())
    for (auto& [name, histogram] : found->items()) histograms.emplace(name, ReadHistogram(histogram));
  return histograms;
}

std::string ReadBinary(const Json& json) {
  const Json::binary_t& binary = json.get_binary();
  return {binary.begin(), binary.end()};
}

Pace ReadPace(const Json& json) {
  Pace pace{Number<int64_t>(json.at("interval_ns")), Number<int64_t>(json.at("depth_ns"))};
  if (!pace.valid()) throw Malformed{"a pace that cannot be"};
  return pace;
}

void Read(const Json& json, FrozenListener& listener) {
  listener = {json.at("name"), json.at("upstream"), ReadCounters(json.at("counters")), ReadHistogram(json.at("duration"))};
  listener.histograms = ReadHistograms(json);
  if (auto access = json.find("access"); access != json.end()) listener.access = access->get<std::vector<std::string>>();
  if (auto rate = json.find("accept_rate"); rate != json.end()) {
    listener.accept_pace = ReadPace(rate->at("pace"));
    listener.accept_paid_until_ns = Number<int64_t>(rate->at("paid_until_ns"));
  }
  if (auto paid = json.find("bandwidth_paid_until_ns"); paid != json.end())
    for (size_t i = 0; i < listener.bandwidth_paid_until_ns.size(); ++i) listener.bandwidth_paid_until_ns[i] = Number<int64_t>(paid->at(i));
  if (auto rate = json.find("source_rate"); rate != json.end()) {
    listener.source_pace = ReadPace(rate->at("pace"));
    listener.sources = ReadBinary(rate->at("sources"));
  }
}

ServerSettings ReadSettings(const Json& json) {
  ServerSettings settings;
  std::string state = json.at("state");
  for (ServerState one : {ServerState::kDrain, ServerState::kDisabled})
    if (state == ToString(one)) settings.state = one;
  settings.weight = Number<uint32_t>(json.at("weight"));
  if (settings.weight < 1 || settings.weight > kMaxServerWeight) throw Malformed{"a weight that cannot be"};
  if (auto most = json.find("max_connections"); most != json.end()) settings.max_connections = Number<uint32_t>(*most);
  return settings;
}

void Read(const Json& json, FrozenServer& server) {
  server.address = json.at("address");
  server.up = json.at("up").get<bool>();
  server.counters = ReadCounters(json.at("counters"));
  if (json.contains("configured") && json.contains("changed")) {
    server.configured = ReadSettings(json["configured"]);
    server.changed = ReadSettings(json["changed"]);
  }
  if (auto ejected = json.find("ejected"); ejected != json.end()) {
    server.ejected_until = Time(ejected->at("until"));
    server.ejections = Number<uint32_t>(ejected->at("in_a_row"));
  }
}

template <typename T>
void Read(const Json& json, std::vector<T>& list) {
  if (!json.is_array()) throw Malformed{"no list"};
  list.resize(json.size());
  for (size_t i = 0; i < list.size(); ++i) Read(json[i], list[i]);
}

void Read(const Json& json, FrozenUpstream& upstream) {
  upstream.name = json.at("name");
  upstream.connect_duration = ReadHistogram(json.at("connect_duration"));
  upstream.histograms = ReadHistograms(json);
  Read(json.at("servers"), upstream.servers);
  if (auto denied = json.find("retries_denied"); denied != json.end()) upstream.retries_denied = Number<uint64_t>(*denied);
  if (auto names = json.find("names"); names != json.end()) Read(*names, upstream.names);
}

void Read(const Json& json, FrozenName& name) {
  name.name = json.at("name");
  name.counters = ReadCounters(json.at("counters"));
  name.last_success_epoch = Number<int64_t>(json.at("last_success_epoch"));
  Read(json.at("found"), name.found);
}

void Read(const Json& json, FrozenName::Found& found) {
  found = {json.at("address"), Number<uint32_t>(json.at("weight")), json.at("backup").get<bool>()};
}

void Read(const Json& json, FrozenWorker& worker) {
  worker = {ReadCounters(json.at("counters")), ReadHistogram(json.at("loop_turn"))};
}

void Read(const Json& json, FrozenRoute& route) {
  route = {json.at("listener"),
           json.at("upstream"),
           json.at("server"),
           milliseconds(Number<int64_t>(json.at("idle_timeout_ms"))),
           milliseconds(Number<int64_t>(json.at("half_closed_timeout_ms"))),
           seconds(Number<int64_t>(json.at("keepalive_s")))};
  for (auto [name, value] : {std::pair("client_idle_timeout_ms", &route.client_idle_timeout),
                             std::pair("server_idle_timeout_ms", &route.server_idle_timeout),
                             std::pair("max_lifetime_ms", &route.max_lifetime)})
    if (auto found = json.find(name); found != json.end()) *value = milliseconds(Number<int64_t>(*found));
  if (auto found = json.find("lifetime_jitter_percent"); found != json.end())
    route.lifetime_jitter_percent = std::min(Number<uint32_t>(*found), 100u);
}

// The word of a later version may be unknown.
CloseReason ReadReason(const std::string& word) {
  for (size_t i = 0; i < kCloseReasons; ++i)
    if (kCloseReasonNames[i] == word) return static_cast<CloseReason>(i);
  return CloseReason::kError;
}

void Read(const Json& json, FrozenBandwidth& bandwidth) {
  bandwidth = {Number<int64_t>(json.at("paid_until_ns")), Number<int64_t>(json.at("go_on_at_ns")), Number<uint64_t>(json.at("counted")),
               Number<uint64_t>(json.at("prepaid"))};
}

void Read(const Json& json, FrozenRelay& relay) {
  relay.received = Number<uint64_t>(json.at("received"));
  relay.sent = Number<uint64_t>(json.at("sent"));
  relay.ended = json.value("ended", false);
  relay.source_broken = json.value("source_broken", false);
  relay.discarding = json.value("discarding", false);
  relay.finished = json.value("finished", false);
  if (auto bytes = json.find("bytes"); bytes != json.end()) relay.bytes = ReadBinary(*bytes);
  if (auto pipe = json.find("pipe"); pipe != json.end()) {
    relay.in_pipe = Number<uint32_t>(pipe->at("bytes"));
    relay.pipe_read = Number<int>(pipe->at("read"));
    relay.pipe_write = Number<int>(pipe->at("write"));
  }
  if (relay.received < relay.sent || relay.received - relay.sent < relay.bytes.size() + relay.in_pipe)
    throw Malformed{"more is queued than was received"};
}

void ReadHeader(const Json& json, FrozenSession& session) {
  const Json::binary_t& binary = json.at("bytes").get_binary();
  session.header.assign(binary.begin(), binary.end());
  session.reading_header = json.value("reading", false);
  session.header_optional = json.value("optional", false);
}

void Read(const Json& json, FrozenProcess::Entry& entry) {
  FrozenSession& session = entry.session;
  entry.route = Number<uint64_t>(json.at("route"));
  session.number = Number<uint64_t>(json.at("number"));
  session.client_fd = Number<int>(json.at("client"));
  session.accepted_at = Time(json.at("accepted_at"));
  session.last_byte_at = Time(json.at("last_byte_at"));
  session.quiet_bytes = json.contains("quiet_bytes") ? Number<uint64_t>(json["quiet_bytes"]) : 0;
  session.quiet_checks = Number<uint8_t>(json.at("quiet_checks"));
  Read(json.at("to_server"), session.relays[0]);
  Read(json.at("to_client"), session.relays[1]);
  if (auto server = json.find("server"); server != json.end()) {
    session.established = true;
    session.server_fd = Number<int>(*server);
  }
  if (auto reason = json.find("reason"); reason != json.end()) {
    session.ending = true;
    session.reason = ReadReason(*reason);
  }
  for (bool to_server : {true, false})
    if (FrozenRelay& relay = session.relays[to_server ? 0 : 1]; (relay.ended || relay.discarding) && !session.ending) {
      session.ending = true;
      session.reason = to_server ? CloseReason::kClientClosed : CloseReason::kServerClosed;
    }
  if (auto header = json.find("header"); header != json.end()) ReadHeader(*header, session);
  if (auto lead = json.find("lead"); lead != json.end()) session.lead = Number<uint16_t>(*lead);
  const FrozenRelay& to_server = session.relays[0];
  if (!to_server.discarding && session.lead > to_server.sent + to_server.bytes.size()) throw Malformed{"less is queued than a header"};
  if (auto bandwidth = json.find("bandwidth"); bandwidth != json.end())
    for (size_t i = 0; i < session.bandwidth.size(); ++i) Read(bandwidth->at(i), session.bandwidth[i]);
  if (auto first = json.find("first_byte_at"); first != json.end()) session.first_byte_at = Time(*first);
  if (auto sampled = json.find("sampled"); sampled != json.end()) {
    session.sampled_segments = Number<uint32_t>(sampled->at("segments"));
    session.sampled_retransmits = Number<uint32_t>(sampled->at("retransmits"));
  }
  session.reset = json.value("reset", false);
  session.kept_alive = json.value("kept_alive", false);
  session.passed = json.value("passed", false);
  if (auto lost = json.find("lost_reason"); lost != json.end()) session.lost_reason = ReadReason(*lost);
  if (auto since = json.find("connecting_since"); since != json.end()) session.connecting_since = Time(*since);
  if (auto active = json.find("client_active_at"); active != json.end()) session.active_at[0] = Time(*active);
  if (auto active = json.find("server_active_at"); active != json.end()) session.active_at[1] = Time(*active);
  if (auto leave = json.find("leave_at"); leave != json.end()) session.leave_at = Time(*leave);
  if (auto queued = json.find("queued_at"); queued != json.end() && !session.established) session.queued_at = Time(*queued);
  if (auto check = json.find("check_at"); check != json.end()) session.check_at = Time(*check);
  if (session.reading_header && (session.established || session.check_at == TimePoint::max()))
    throw Malformed{"a header that is read at the wrong time"};
}

// Every file descriptor is named once, and there is one for each name.
class FileCheck {
 public:
  explicit FileCheck(size_t files) : named_(files, false) {}
  void Name(int file) {
    if (file < 0 || static_cast<size_t>(file) >= named_.size() || named_[static_cast<size_t>(file)])
      throw Malformed{"a file descriptor that is not there, or another session's"};
    named_[static_cast<size_t>(file)] = true;
  }

 private:
  std::vector<bool> named_;
};

void CheckReferences(const FrozenProcess& process, size_t files) {
  FileCheck check(files);
  for (const FrozenProcess::Entry& entry : process.sessions) {
    const FrozenSession& session = entry.session;
    if (entry.route >= process.routes.size() || session.established == process.routes[entry.route].server.empty())
      throw Malformed{"a session without a route that fits"};
    ForEachFile(session, [&check](int file) { check.Name(file); });
  }
}

}  // namespace

std::string Encode(const FrozenProcess& process) {
  Json json = {{"listeners", ToJson(process.listeners)}, {"upstreams", ToJson(process.upstreams)},
               {"workers", ToJson(process.workers)},     {"routes", ToJson(process.routes)},
               {"sessions", ToJson(process.sessions)}};
  if (!process.reloads.empty()) json["reloads"] = process.reloads;
  return ToCbor(json);
}

absl::StatusOr<FrozenProcess> DecodeProcess(std::string_view bytes, size_t fds) {
  absl::StatusOr<Json> json = FromCbor(bytes);
  if (!json.ok()) return json.status();
  try {
    FrozenProcess process;
    Read(json->at("listeners"), process.listeners);
    Read(json->at("upstreams"), process.upstreams);
    Read(json->at("workers"), process.workers);
    Read(json->at("routes"), process.routes);
    Read(json->at("sessions"), process.sessions);
    if (auto reloads = json->find("reloads"); reloads != json->end()) process.reloads = ReadCounters(*reloads);
    CheckReferences(process, fds);
    return process;
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const Malformed& error) {
    return absl::InvalidArgumentError(error.what);
  }
}

}  // namespace ringmain
