#include "admin/server_change.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

using Json = nlohmann::json;

constexpr const char* kForm =
    R"(write a JSON object such as {"upstream": "echo", "server": "127.0.0.1:7001", "state": "drain"})";

absl::Status Wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::Status ReadText(const Json& json, const char* key, std::string* out) {
  auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return Wrong(absl::StrCat(key, " is missing, or no string; ", kForm));
  *out = found->get<std::string>();
  return absl::OkStatus();
}

absl::Status ReadState(const Json& value, ServerChange& change) {
  if (value.is_string())
    for (ServerState state : {ServerState::kEnabled, ServerState::kDrain, ServerState::kDisabled})
      if (value.get<std::string>() == ToString(state)) {
        change.state = state;
        return absl::OkStatus();
      }
  return Wrong("state: write enabled, drain or disabled");
}

std::optional<uint32_t> NumberWithin(const Json& value, uint32_t most) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() < 1 || value.get<uint64_t>() > most) return std::nullopt;
  return value.get<uint32_t>();
}

absl::Status ReadWeight(const Json& value, ServerChange& change) {
  change.weight = NumberWithin(value, kMaxServerWeight);
  return change.weight.has_value() ? absl::OkStatus() : Wrong(absl::StrCat("weight: write a number from 1 to ", kMaxServerWeight));
}

absl::Status ReadMaxConnections(const Json& value, ServerChange& change) {
  std::optional<uint32_t> most = NumberWithin(value, kMaxConnections);
  if (!most.has_value() && value != "off")
    return Wrong(absl::StrCat("max_connections: write a number from 1 to ", kMaxConnections, ", or \"off\""));
  change.max_connections.emplace(most);
  return absl::OkStatus();
}

absl::Status ReadReset(const Json& value, ServerChange& change) {
  if (!value.is_boolean()) return Wrong("reset: write true to go back to what the configuration says");
  change.reset = value.get<bool>();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ServerChange> ParseServerChange(std::string_view body) {
  Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Wrong(absl::StrCat("the body is no JSON object; ", kForm));
  ServerChange change;
  absl::Status status = ReadText(json, "upstream", &change.upstream);
  if (status.ok()) status = ReadText(json, "server", &change.server);
  for (auto entry = json.begin(); status.ok() && entry != json.end(); ++entry) {
    if (entry.key() == "upstream" || entry.key() == "server") continue;
    if (entry.key() == "state")
      status = ReadState(*entry, change);
    else if (entry.key() == "weight")
      status = ReadWeight(*entry, change);
    else if (entry.key() == "max_connections")
      status = ReadMaxConnections(*entry, change);
    else if (entry.key() == "reset")
      status = ReadReset(*entry, change);
    else
      status = Wrong(absl::StrCat("unknown key \"", entry.key(), "\"; known are upstream, server, state, weight, max_connections, reset"));
  }
  if (!status.ok()) return status;
  if (!change.reset && !change.state && !change.weight && !change.max_connections)
    return Wrong("nothing is to change; write state, weight, max_connections or reset");
  return change;
}

}  // namespace ringmain
