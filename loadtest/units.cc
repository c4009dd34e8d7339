#include "loadtest/units.h"

#include <charconv>
#include <limits>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ringmain::loadtest {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr Unit kTimes[] = {
    {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}, {"m", 60'000'000'000}, {"h", 3'600'000'000'000}};
constexpr Unit kSizes[] = {{"", 1}, {"B", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}};

// A whole number followed by one of the units; false for anything else, and for what 63 bits do not hold.
bool ParseWithUnit(std::string_view text, std::span<const Unit> units, uint64_t& value) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  std::string_view rest = text.substr(end - text.data());
  for (const Unit& unit : units) {
    if (rest != unit.name) continue;
    if (number > std::numeric_limits<int64_t>::max() / unit.factor) return false;
    value = number * unit.factor;
    return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<Duration> ParseDuration(std::string_view text) {
  uint64_t nanoseconds = 0;
  if (!ParseWithUnit(text, kTimes, nanoseconds))
    return absl::InvalidArgumentError(
        absl::StrCat("'", std::string(text), "' is not a duration; write it like 250ms, 2s or 10m"));
  return Duration(nanoseconds);
}

absl::StatusOr<uint64_t> ParseSize(std::string_view text) {
  uint64_t bytes = 0;
  if (!ParseWithUnit(text, kSizes, bytes))
    return absl::InvalidArgumentError(
        absl::StrCat("'", std::string(text), "' is not a size; write it like 64, 64KiB or 1MiB"));
  return bytes;
}

absl::StatusOr<uint64_t> ParseByteRate(std::string_view text) {
  uint64_t bytes = 0;
  if (!text.ends_with("/s") || !ParseWithUnit(text.substr(0, text.size() - 2), kSizes, bytes))
    return absl::InvalidArgumentError(
        absl::StrCat("'", std::string(text), "' is not a rate of bytes; write it like 10MiB/s"));
  return bytes;
}

}  // namespace ringmain::loadtest
