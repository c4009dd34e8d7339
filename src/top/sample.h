// Sample: one answer of /api/v1/status, and how its figures are read. Pure.
//
// Of another version of ringmain a member may be missing or of another kind: then it is not known, and nothing else suffers.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "top/text.h"

namespace ringmain::top {

using Json = nlohmann::json;

struct Sample {
  Json status;  // an object
  TimePoint at;  // when it was asked for
};

// Errors: a sentence, if this is no status of ringmain's.
absl::StatusOr<Json> ParseStatus(std::string_view text);

// null, if `parent` is no object or has no such member.
const Json& Member(const Json& parent, const char* key);
// The elements of an array; of anything else none.
const Json& List(const Json& parent, const char* key);
// None, if it is not of that kind. Null is none, too.
std::optional<double> Number(const Json& json);
std::optional<std::string> Text(const Json& json);
// The sum of the numbers among an object's members.
double SumOf(const Json& json);

inline Value AsValue(const std::optional<double>& number) { return number.has_value() ? Value(*number) : Value(); }
inline Value AsValue(const std::optional<std::string>& text) { return text.has_value() ? Value(*text) : Value(); }

// The things of an earlier sample, by their names, to compare those of a later one with. Points into what it was given.
class Earlier {
 public:
  void Add(std::string name, const Json& thing) { things_.emplace(std::move(name), &thing); }
  // null, if there was none.
  const Json& Find(const std::string& name) const;

 private:
  std::unordered_map<std::string, const Json*> things_;
};

// By how much a counter grew a second. None if one of the two is not known, or if it shrank: then another process counts.
std::optional<double> Rate(std::optional<double> before, std::optional<double> now, Duration between);

}  // namespace ringmain::top
