#include "config/units.h"

#include <array>
#include <charconv>
#include <limits>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

// Smallest first.
constexpr std::array<Unit, 4> kDurations{{{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}}};
constexpr std::array<Unit, 3> kFineDurations{{{"us", 1}, {"ms", 1000}, {"s", 1000 * 1000}}};
constexpr std::array<Unit, 5> kSizes{
    {{"B", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"TiB", 1ull << 40}}};
// Each with how many a minute it makes.
constexpr std::array<Unit, 2> kRates{{{"/m", 1}, {"/s", 60}}};

// Takes the digits off the front of `text`. None if there are none.
std::optional<uint64_t> TakeNumber(std::string_view& text) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::invalid_argument) return std::nullopt;
  if (error == std::errc::result_out_of_range) value = std::numeric_limits<uint64_t>::max();
  text.remove_prefix(end - text.data());
  return value;
}

template <size_t N>
std::optional<uint64_t> ParseWithUnit(std::string_view text, const std::array<Unit, N>& units, uint64_t max) {
  std::optional<uint64_t> number = TakeNumber(text);
  if (!number) return std::nullopt;
  for (const Unit& unit : units) {
    if (text == unit.name) return *number > max / unit.factor ? max : *number * unit.factor;
  }
  return std::nullopt;
}

template <size_t N>
std::string FormatWithUnit(uint64_t value, const std::array<Unit, N>& units) {
  size_t i = value == 0 ? 0 : N - 1;
  while (value % units[i].factor != 0) --i;
  return absl::StrCat(value / units[i].factor, std::string(units[i].name));
}

}  // namespace

std::optional<uint64_t> ParseNumber(std::string_view text) {
  std::optional<uint64_t> number = TakeNumber(text);
  return text.empty() ? number : std::nullopt;
}

std::optional<milliseconds> ParseDuration(std::string_view text) {
  // In nanoseconds it must fit too: all arithmetic with time points is in nanoseconds.
  constexpr auto kMax = std::chrono::duration_cast<milliseconds>(Duration::max());
  std::optional<uint64_t> value = ParseWithUnit(text, kDurations, kMax.count());
  if (!value) return std::nullopt;
  return milliseconds(*value);
}

std::optional<microseconds> ParseFineDuration(std::string_view text) {
  constexpr auto kMax = std::chrono::duration_cast<microseconds>(Duration::max());
  std::optional<uint64_t> value = ParseWithUnit(text, kFineDurations, kMax.count());
  if (!value) return std::nullopt;
  return microseconds(*value);
}

std::optional<uint64_t> ParseSize(std::string_view text) {
  return ParseWithUnit(text, kSizes, std::numeric_limits<uint64_t>::max());
}

std::optional<uint64_t> ParsePercent(std::string_view text) {
  std::optional<uint64_t> number = TakeNumber(text);
  return text == "%" ? number : std::nullopt;
}

std::optional<uint64_t> ParseRate(std::string_view text) {
  return ParseWithUnit(text, kRates, std::numeric_limits<uint64_t>::max());
}

std::optional<uint64_t> ParseByteRate(std::string_view text) {
  constexpr std::string_view kPerSecond = "/s";
  if (!text.ends_with(kPerSecond)) return std::nullopt;
  text.remove_suffix(kPerSecond.size());
  return ParseSize(text);
}

std::string FormatDuration(milliseconds value) {
  return value.count() == 0 ? "0s" : FormatWithUnit(value.count(), kDurations);
}

std::string FormatFineDuration(microseconds value) { return FormatWithUnit(value.count(), kFineDurations); }

std::string FormatSize(uint64_t bytes) { return FormatWithUnit(bytes, kSizes); }

std::string FormatPercent(uint64_t percent) { return absl::StrCat(percent, "%"); }
std::string FormatRate(uint64_t per_minute) { return FormatWithUnit(per_minute, kRates); }
std::string FormatByteRate(uint64_t per_second) { return absl::StrCat(FormatSize(per_second), "/s"); }

}  // namespace ringmain
