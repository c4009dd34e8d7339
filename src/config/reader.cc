#include "config/reader.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "config/nearest.h"
#include "config/units.h"

namespace ringmain {
namespace {

constexpr size_t kMaxQuoted = 80;
constexpr size_t kMaxName = 64;
constexpr std::string_view kNumberForm = "a whole number";
constexpr std::string_view kDurationForm = "a duration such as 250ms, 2s, 10m or 1h";
constexpr std::string_view kFineDurationForm = "a duration such as 50us, 1ms or 1s";
constexpr std::string_view kPercentForm = "a percentage such as 10%";
constexpr std::string_view kSizeForm = "a size such as 512B, 64KiB, 16MiB or 1GiB";
constexpr std::string_view kByteRateForm = "a rate such as 512KiB/s or 10MiB/s";
constexpr std::string_view kRateForm = "a rate such as 1000/s or 60/m";

std::string KindOf(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Map:
      return "a map";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Scalar:
      return "a single value";
    default:
      return "empty";
  }
}

// A value stands after what holds it, unless it is an alias: then its own mark is that of the anchor, somewhere before.
Place PlaceWithin(const YAML::Node& node, Place holder) { return std::max(PlaceOf(node.Mark()), holder); }

// The value of a scalar that must be of a form and in a range, both of which the errors name. `word` is an alternative
// that the caller has ruled out already; empty if there is none.
template <typename T, typename Parse, typename Format>
std::optional<T> InRange(const Value& value, T min, T max, std::string_view word, std::string_view form, Parse parse,
                         Format format, ErrorList& errors) {
  std::string or_word = word.empty() ? "" : absl::StrCat(", or ", std::string(word));
  std::optional<T> result = parse(value.text());
  if (!result) {
    errors.Add(value.place, absl::StrCat(value.name, ": ", Quote(value.text()), " is not valid; write ",
                                         std::string(form), or_word));
    return std::nullopt;
  }
  if (*result < min || *result > max) {
    errors.Add(value.place, absl::StrCat(value.name, ": ", Quote(value.text()), " is out of range; write ", format(min),
                                         " to ", format(max), or_word));
    return std::nullopt;
  }
  return result;
}

std::optional<uint64_t> NumberInRange(const Value& value, uint64_t min, uint64_t max, std::string_view word,
                                      ErrorList& errors) {
  return InRange<uint64_t>(
      value, min, max, word, kNumberForm, ParseNumber, [](uint64_t number) { return absl::StrCat(number); }, errors);
}

std::optional<milliseconds> TimeInRange(const Value& value, milliseconds min, milliseconds max, std::string_view word,
                                        ErrorList& errors) {
  return InRange<milliseconds>(value, min, max, word, kDurationForm, ParseDuration, FormatDuration, errors);
}

std::optional<uint64_t> SizeInRange(const Value& value, uint64_t min, uint64_t max, std::string_view word,
                                    ErrorList& errors) {
  return InRange<uint64_t>(value, min, max, word, kSizeForm, ParseSize, FormatSize, errors);
}

bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

template <typename T>
std::optional<T> ReadBy(absl::StatusOr<T> (*parse)(std::string_view), const Value& value, ErrorList& errors) {
  if (!CheckScalar(value, errors)) return std::nullopt;
  absl::StatusOr<T> result = parse(value.text());
  if (result.ok()) return *result;
  errors.Add(value.place, absl::StrCat(value.name, ": ", result.status().message()));
  return std::nullopt;
}

}  // namespace

Place PlaceOf(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {mark.line + 1, mark.column + 1};
}

void ErrorList::Add(Place place, std::string_view message) {
  if (full()) return;
  std::string line;
  for (char c : message) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c)))
      absl::StrAppend(&line, absl::CHexEscape(std::string(1, c)));
    else
      line += c;
  }
  errors_.push_back({place, std::move(line)});
}

absl::Status ErrorList::ToStatus(const std::string& file) const {
  std::vector<Error> sorted = errors_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Error& a, const Error& b) { return a.place < b.place; });
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::vector<std::string> lines;
  for (const Error& error : sorted)
    lines.push_back(absl::StrCat(file, ":", error.place.line, ":", error.place.column, ": ", error.message));
  if (full()) lines.push_back(absl::StrCat(file, ": more errors may follow; these are the first ", kMax, " found"));
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

std::string Quote(std::string_view text) {
  if (text.size() > kMaxQuoted) return absl::StrCat("'", std::string(text.substr(0, kMaxQuoted)), "...'");
  return absl::StrCat("'", std::string(text), "'");
}

bool CheckScalar(const Value& value, ErrorList& errors) {
  if (value.node.IsScalar()) return true;
  errors.Add(value.place, absl::StrCat(value.name, " must be a single value, not ", KindOf(value.node)));
  return false;
}

std::vector<Value> Items(const Value& value, std::string_view item_name, size_t max, ErrorList& errors) {
  std::vector<Value> items;
  if (!value.node.IsSequence()) {
    errors.Add(value.place, absl::StrCat(value.name, " must be a list, not ", KindOf(value.node)));
    return items;
  }
  size_t size = value.node.size();
  if (size == 0) errors.Add(value.place, absl::StrCat(value.name, " is empty; it needs at least one item"));
  if (size > max) {
    errors.Add(value.place, absl::StrCat(value.name, " has ", size, " items; at most ", max, " are allowed"));
    return items;
  }
  Place last = PlaceOf(value.node.Mark());
  for (const YAML::Node& node : value.node) {
    last = PlaceWithin(node, last);
    if (node.IsNull())
      errors.Add(last, absl::StrCat(value.name, " has an item without a value; fill it in or take it out"));
    else
      items.push_back({node, last, std::string(item_name)});
  }
  return items;
}

std::optional<SocketAddress> ReadAddress(const Value& value, ErrorList& errors) {
  return ReadBy(SocketAddress::Parse, value, errors);
}

std::optional<SocketAddress> ReadHost(const Value& value, ErrorList& errors) {
  return ReadBy(SocketAddress::ParseHost, value, errors);
}

std::optional<Network> ReadNetwork(const Value& value, ErrorList& errors) { return ReadBy(Network::Parse, value, errors); }

MapReader::MapReader(const Value& value, ErrorList& errors)
    : errors_(errors), place_(PlaceOf(value.node.Mark())), is_map_(value.node.IsMap()) {
  if (!is_map_) {
    errors_.Add(value.place, absl::StrCat(value.name, " must be a map of keys, not ", KindOf(value.node)));
    return;
  }
  for (const auto& pair : value.node) {
    if (errors_.full()) return;
    Place key_place = PlaceWithin(pair.first, place_);
    if (!pair.first.IsScalar()) {
      errors_.Add(key_place, absl::StrCat("a key must be a word, not ", KindOf(pair.first)));
      continue;
    }
    const std::string& key = pair.first.Scalar();
    Place place = pair.second.IsNull() ? key_place : PlaceWithin(pair.second, key_place);
    auto [it, inserted] = entries_.try_emplace(key, Entry{{pair.second, place, key}, key_place});
    if (!inserted)
      errors_.Add(key_place, absl::StrCat("duplicate key ", Quote(key), "; it is first at line ",
                                          it->second.key_place.line, ", keep one of them"));
  }
}

const Value* MapReader::Find(std::string_view key, Need need) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  auto it = entries_.find(key);
  if (it == entries_.end()) {
    if (is_map_ && need == Need::kRequired) errors_.Add(place_, absl::StrCat("missing key ", Quote(key)));
    return nullptr;
  }
  const Value& value = it->second.value;
  if (!value.node.IsNull()) return &value;
  errors_.Add(value.place, absl::StrCat(value.name, " has no value; give it one or leave the key out"));
  return nullptr;
}

const Value* MapReader::FindScalar(std::string_view key, Need need) {
  const Value* value = Find(key, need);
  return value != nullptr && CheckScalar(*value, errors_) ? value : nullptr;
}

std::optional<PlacedName> MapReader::Name(std::string_view key) {
  const Value* value = FindScalar(key, Need::kRequired);
  if (value == nullptr) return std::nullopt;
  if (IsName(value->text())) return PlacedName{value->text(), value->place};
  errors_.Add(value->place, absl::StrCat(value->name, ": ", Quote(value->text()), " is not valid; write 1 to ",
                                         kMaxName, " letters, digits, '.', '_' or '-'"));
  return std::nullopt;
}

void MapReader::Number(std::string_view key, uint32_t min, uint32_t max, uint32_t* out) {
  const Value* value = FindScalar(key);
  if (value == nullptr) return;
  if (auto number = NumberInRange(*value, min, max, "", errors_)) *out = static_cast<uint32_t>(*number);
}

void MapReader::NumberOr(std::string_view word, std::string_view key, uint32_t min, uint32_t max,
                         std::optional<uint32_t>* out) {
  const Value* value = FindScalar(key);
  if (value == nullptr) return;
  if (value->text() == word)
    out->reset();
  else if (auto number = NumberInRange(*value, min, max, word, errors_))
    *out = static_cast<uint32_t>(*number);
}

void MapReader::Time(std::string_view key, milliseconds min, milliseconds max, milliseconds* out) {
  const Value* value = FindScalar(key);
  if (value == nullptr) return;
  if (auto time = TimeInRange(*value, min, max, "", errors_)) *out = *time;
}

void MapReader::TimeOrOff(std::string_view key, milliseconds min, milliseconds max, milliseconds* out) {
  const Value* value = FindScalar(key);
  if (value == nullptr) return;
  if (value->text() == kOff)
    *out = milliseconds(0);
  else if (auto time = TimeInRange(*value, min, max, kOff, errors_))
    *out = *time;
}

void MapReader::MicrosecondsOrOff(std::string_view key, microseconds min, microseconds max, microseconds* out) {
  const Value* value = FindScalar(key);
  if (value == nullptr) return;
  if (value->text() == kOff)
    *out = microseconds(0);
  else if (auto time = InRange<microseconds>(*value, min, max, kOff, kFineDurationForm, ParseFineDuration, FormatFineDuration,
                                             errors_))
    *out = *time;
}

void MapReader::SecondsOrOff(std::string_view key, seconds min, seconds max, seconds* out) {
  milliseconds time = *out;
  TimeOrOff(key, min, max, &time);
  WholeSeconds(key, time, out);
}

void MapReader::Seconds(std::string_view key, seconds min, seconds max, seconds* out) {
  milliseconds time = *out;
  Time(key, min, max, &time);
  WholeSeconds(key, time, out);
}

void MapReader::WholeSeconds(std::string_view key, milliseconds time, seconds* out) {
  auto whole = std::chrono::ceil<seconds>(time);
  if (whole == time) {
    *out = whole;
    return;
  }
  const Value& value = entries_.find(key)->second.value;
  errors_.Add(value.place, absl::StrCat(value.name, ": ", Quote(value.text()),
                                        " is not a whole number of seconds; write such as ", FormatDuration(whole)));
}

void MapReader::Percent(std::string_view key, uint32_t min, uint32_t max, uint32_t* out) {
  const Value* value = FindScalar(key);
  if (value == nullptr) return;
  if (auto percent = InRange<uint64_t>(*value, min, max, "", kPercentForm, ParsePercent, FormatPercent, errors_))
    *out = static_cast<uint32_t>(*percent);
}

void MapReader::PercentOrOff(std::string_view key, uint32_t min, uint32_t max, uint32_t* out) {
  if (Is(key, kOff))
    *out = 0;
  else
    Percent(key, min, max, out);
}

bool MapReader::Is(std::string_view key, std::string_view word) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  auto it = entries_.find(key);
  return it != entries_.end() && it->second.value.node.IsScalar() && it->second.value.text() == word;
}

void MapReader::Size(std::string_view key, uint64_t min, uint64_t max, uint64_t* out) {
  const Value* value = FindScalar(key);
  if (value == nullptr) return;
  if (auto size = SizeInRange(*value, min, max, "", errors_)) *out = *size;
}

void MapReader::SizeOr(std::string_view word, std::string_view key, uint64_t min, uint64_t max,
                       std::optional<uint64_t>* out) {
  const Value* value = FindScalar(key);
  if (value == nullptr) return;
  if (value->text() == word)
    out->reset();
  else if (auto size = SizeInRange(*value, min, max, word, errors_))
    *out = *size;
}

void MapReader::RateOr(std::string_view word, std::string_view key, std::optional<RateConfig>* out) {
  const Value* value = Find(key);
  if (value == nullptr) return;
  if (!value->node.IsMap()) {
    if (!CheckScalar(*value, errors_)) return;
    if (value->text() == word)
      out->reset();
    else if (auto rate = Rate(*value, word))
      *out = rate;
    return;
  }
  MapReader map(*value, errors_);
  const Value* number = map.FindScalar("rate", Need::kRequired);
  std::optional<RateConfig> rate = number != nullptr ? map.Rate(*number, "") : std::nullopt;
  uint32_t burst = rate.has_value() ? rate->burst : 1;
  map.Number("burst", 1, kMaxBurst, &burst);
  map.Finish();
  if (rate.has_value()) *out = RateConfig{rate->per_minute, burst};
}

void MapReader::ByteRateOrOff(std::string_view key, uint64_t* per_second) {
  const Value* value = FindScalar(key);
  if (value == nullptr) return;
  if (value->text() == kOff)
    *per_second = 0;
  else if (auto rate = InRange<uint64_t>(*value, kMinByteRate, kMaxByteRate, kOff, kByteRateForm, ParseByteRate, FormatByteRate, errors_))
    *per_second = *rate;
}

std::optional<RateConfig> MapReader::Rate(const Value& value, std::string_view word) {
  auto per_minute = InRange<uint64_t>(value, 1, kMaxRatePerMinute, word, kRateForm, ParseRate, FormatRate, errors_);
  if (!per_minute.has_value()) return std::nullopt;
  return RateConfig{static_cast<uint32_t>(*per_minute), static_cast<uint32_t>(std::max<uint64_t>(*per_minute / 60, 1))};
}

void MapReader::AddUnknownChoice(const Value& value, const std::vector<std::string>& known) {
  errors_.Add(value.place, absl::StrCat(value.name, ": ", Quote(value.text()), " is not known; write ",
                                        absl::StrJoin(known, " or ")));
}

void MapReader::Finish() {
  for (const auto& [key, entry] : entries_) {
    if (errors_.full()) return;
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    errors_.Add(entry.key_place, absl::StrCat("unknown key ", Quote(key), "; ", NearestHint(key, known_)));
  }
}

}  // namespace ringmain
