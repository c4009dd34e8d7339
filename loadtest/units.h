// Quantities on the command line: durations `250ms 2s 10m`, sizes `64KiB 1GiB`, rates `10MiB/s`, and counts.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace ringmain::loadtest {

// Errors of all: InvalidArgument with one sentence that shows a right form.

// A whole number and one of us, ms, s, m, h.
absl::StatusOr<Duration> ParseDuration(std::string_view text);
// A whole number of bytes and optionally B, KiB, MiB, GiB.
absl::StatusOr<uint64_t> ParseSize(std::string_view text);
// A size followed by `/s`.
absl::StatusOr<uint64_t> ParseByteRate(std::string_view text);

}  // namespace ringmain::loadtest
