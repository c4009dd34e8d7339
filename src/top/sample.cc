#include "top/sample.h"

#include "absl/status/status.h"

namespace ringmain::top {
namespace {

const Json kNull = nullptr;
const Json kEmpty = Json::array();

}  // namespace

absl::StatusOr<Json> ParseStatus(std::string_view text) {
  Json status = Json::parse(text, nullptr, false);
  if (status.is_discarded() || !status.is_object()) return absl::UnavailableError("the answer is no JSON object");
  for (const char* key : {"version", "listeners", "upstreams", "workers"})
    if (Member(status, key).is_null()) return absl::UnavailableError(std::string("the answer is no status of ringmain: there is no ") + key);
  return status;
}

const Json& Member(const Json& parent, const char* key) {
  if (!parent.is_object()) return kNull;
  auto found = parent.find(key);
  return found != parent.end() ? *found : kNull;
}

const Json& List(const Json& parent, const char* key) {
  const Json& list = Member(parent, key);
  return list.is_array() ? list : kEmpty;
}

std::optional<double> Number(const Json& json) { return json.is_number() ? std::optional(json.get<double>()) : std::nullopt; }

std::optional<std::string> Text(const Json& json) { return json.is_string() ? std::optional(json.get<std::string>()) : std::nullopt; }

double SumOf(const Json& json) {
  double sum = 0;
  if (!json.is_object()) return sum;
  for (const Json& member : json) sum += Number(member).value_or(0);
  return sum;
}

const Json& Earlier::Find(const std::string& name) const {
  auto found = things_.find(name);
  return found != things_.end() ? *found->second : kNull;
}

std::optional<double> Rate(std::optional<double> before, std::optional<double> now, Duration between) {
  if (!before.has_value() || !now.has_value() || *now < *before || between <= Duration(0)) return std::nullopt;
  return (*now - *before) / std::chrono::duration<double>(between).count();
}

}  // namespace ringmain::top
