// The units of the configuration: durations (`250ms 2s 10m 1h`), sizes (`512B 64KiB 16MiB 1GiB 2TiB`), rates (`1000/s 30/m`),
// rates of bytes (`10MiB/s`), percentages (`10%`) and plain numbers. Pure.
//
// A value is decimal digits followed by its unit, without a sign, a fraction or a space. A value too large to hold
// becomes the largest that can be held, so that the caller's check of the range refuses it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace ringmain {

// None if `text` is not of the form.
std::optional<uint64_t> ParseNumber(std::string_view text);
std::optional<milliseconds> ParseDuration(std::string_view text);
// Knows `us`, too.
std::optional<microseconds> ParseFineDuration(std::string_view text);
std::optional<uint64_t> ParseSize(std::string_view text);  // bytes
std::optional<uint64_t> ParsePercent(std::string_view text);  // `10%`
std::optional<uint64_t> ParseRate(std::string_view text);  // a minute
std::optional<uint64_t> ParseByteRate(std::string_view text);  // bytes a second

// The form that the parsers take, in the largest unit that holds the value exactly. REQUIRES: not negative.
std::string FormatDuration(milliseconds value);
std::string FormatFineDuration(microseconds value);
std::string FormatSize(uint64_t bytes);
std::string FormatPercent(uint64_t percent);
std::string FormatRate(uint64_t per_minute);
std::string FormatByteRate(uint64_t per_second);

}  // namespace ringmain
