#include "admin/sessions_json.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "admin/query.h"
#include "admin/render.h"

namespace ringmain {
namespace {

absl::Status Wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

Json Relay(const RelayRecord& relay) {
  return {{"mode", std::string(ToString(relay.mode))},
          {"receive", std::string(ToString(relay.receive))},
          {"ended", relay.ended},
          {"received_bytes", relay.received},
          {"sent_bytes", relay.sent},
          {"queued_bytes", relay.queued}};
}

Json Session(const SessionRecord& session) {
  const RouteNames& route = *session.route;
  Json json = {{"id", SessionId(session.number)},
               {"worker", session.worker},
               {"listener", route.listener},
               {"upstream", route.upstream},
               {"server", session.server.has_value() ? Json(route.servers.at(*session.server)) : Json(nullptr)},
               {"client", session.client.has_value() ? Json(session.client->ToString()) : Json(nullptr)},
               {"state", std::string(ToString(session.state))},
               {"age_seconds", Seconds(session.age)},
               {"idle_seconds", Seconds(session.idle)}};
  for (size_t i = 0; i < kDirectionNames.size(); ++i) json[std::string(kDirectionNames[i])] = Relay(session.relays[i]);
  return json;
}


// Where a page ends, and the next begins: the key of its last session, and its name.
std::string CursorOf(const SessionRecord& session) { return absl::StrCat(session.key, ".", SessionId(session.number)); }

std::optional<SessionRank> ParseCursor(std::string_view text) {
  SessionRank rank;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rank.key);
  size_t length = static_cast<size_t>(end - text.data());
  if (error != std::errc() || length == text.size() || *end != '.') return std::nullopt;
  std::optional<uint64_t> number = ParseSessionId(text.substr(length + 1));
  if (!number.has_value()) return std::nullopt;
  rank.number = *number;
  return rank;
}

// A network, an address, or an address with a port.
absl::Status ReadClient(const std::string& value, SessionQuery& query) {
  if (auto network = Network::Parse(value); network.ok()) {
    query.client = *network;
    return absl::OkStatus();
  }
  if (auto address = SocketAddress::Parse(value); address.ok() && !address->is_unix()) {
    auto host = Network::Parse(address->host());
    if (!host.ok()) return host.status();
    query.client = *host;
    query.client_port = address->port();
    return absl::OkStatus();
  }
  return Wrong("client: write an address (10.0.0.1), one with a port (10.0.0.1:5555), or a network (10.0.0.0/8)");
}

absl::Status ReadSort(const std::string& value, SessionQuery& query) {
  for (SessionOrder order : {SessionOrder::kId, SessionOrder::kBytes, SessionOrder::kAge})
    if (kSessionOrderNames[static_cast<size_t>(order)] == value) {
      query.order = order;
      return absl::OkStatus();
    }
  return Wrong("sort: write id, bytes or age");
}

absl::Status ReadLimit(const std::string& value, SessionQuery& query) {
  uint32_t limit = 0;
  auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), limit);
  if (error != std::errc() || end != value.data() + value.size() || limit < 1 || limit > kMostSessionsPerPage)
    return Wrong(absl::StrCat("limit: write a number from 1 to ", kMostSessionsPerPage));
  query.most = limit + 1;
  return absl::OkStatus();
}

absl::Status ReadParameter(const std::string& name, const std::string& value, SessionQuery& query) {
  static const std::map<std::string_view, std::string SessionQuery::*> kNames = {
      {"listener", &SessionQuery::listener}, {"upstream", &SessionQuery::upstream}, {"server", &SessionQuery::server}};
  if (auto found = kNames.find(name); found != kNames.end()) {
    query.*found->second = value;
    return absl::OkStatus();
  }
  if (name == "client") return value.empty() ? absl::OkStatus() : ReadClient(value, query);
  if (name == "sort") return ReadSort(value, query);
  if (name == "limit") return ReadLimit(value, query);
  if (name != "after")
    return Wrong(absl::StrCat("unknown parameter \"", name, "\"; known are listener, upstream, server, client, sort, limit, after"));
  query.after = ParseCursor(value);
  return query.after.has_value() ? absl::OkStatus() : Wrong("after: write the `next` of the page before");
}

}  // namespace

absl::StatusOr<SessionQuery> ParseSessionQuery(std::string_view text) {
  SessionQuery query{.most = kDefaultSessions + 1, .order = SessionOrder::kId};
  for (const auto& [name, value] : ReadQuery(text))
    if (absl::Status status = ReadParameter(name, value, query); !status.ok()) return status;
  return query;
}

std::string RenderSession(const SessionRecord& session) { return Dump(Session(session), -1); }

void AppendSessionList(const std::vector<SessionRecord>& sessions, std::string_view indent, std::string& text) {
  text.reserve(text.size() + 500 * (sessions.size() + 1));
  const char* separator = "";
  for (const SessionRecord& session : sessions) absl::StrAppend(&text, std::exchange(separator, ","), std::string(indent), RenderSession(session));
}

std::string RenderSessionsJson(const SessionQuery& query, const SessionList& list) {
  std::vector<SessionRecord> page(list.sessions.begin(), list.sessions.begin() + static_cast<ptrdiff_t>(
                                                             std::min(list.sessions.size(), query.most - 1)));
  bool more = page.size() < list.sessions.size();
  std::string text = absl::StrCat("{\n  \"total\": ", list.total, ",\n  \"matched\": ", list.matched, ",\n  \"missing_workers\": ",
                                  Dump(list.missing_workers, -1), ",\n  \"next\": ",
                                  more ? Dump(CursorOf(page.back()), -1) : "null", ",\n  \"sessions\": [");
  AppendSessionList(page, "\n    ", text);
  text += "]\n}\n";
  return text;
}

absl::StatusOr<uint64_t> ParseSessionToClose(std::string_view body) {
  constexpr const char* kForm = R"(write a JSON object such as {"id": "0-17"}, with the id of a session)";
  Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.size() != 1 || !json.contains("id") || !json["id"].is_string()) return Wrong(kForm);
  std::optional<uint64_t> number = ParseSessionId(json["id"].get<std::string>());
  if (!number.has_value()) return Wrong(kForm);
  return *number;
}

std::string RenderClosingJson(uint64_t number, const ClosingResult& result) {
  static constexpr std::array<const char*, 4> kWords = {"closed", "not_found", "unanswered", "refused"};
  Json errors = Json::array();
  if (result.outcome == ClosingResult::Outcome::kNotFound) errors.push_back("there is no session " + SessionId(number) + " any more, or never was");
  if (result.outcome == ClosingResult::Outcome::kUnanswered) errors.push_back("a worker that may have the session does not answer: nothing was closed");
  if (result.outcome == ClosingResult::Outcome::kRefused) errors.push_back("the process is ending");
  Json json = {{"result", kWords.at(static_cast<size_t>(result.outcome))},
               {"session", result.session.has_value() ? Session(*result.session) : Json(nullptr)},
               {"errors", errors}};
  return Dump(json, 2) + "\n";
}

}  // namespace ringmain
