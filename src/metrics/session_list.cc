#include "metrics/session_list.h"

#include <charconv>

namespace ringmain {
namespace {

// All of `text`, as a decimal number of up to `bits` bits.
std::optional<uint64_t> ParseBits(std::string_view text, int bits) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value >> bits != 0) return std::nullopt;
  return value;
}

}  // namespace

std::optional<uint64_t> ParseSessionId(std::string_view id) {
  size_t dash = id.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  std::optional<uint64_t> worker = ParseBits(id.substr(0, dash), 64 - kSessionNumberBits);
  std::optional<uint64_t> count = ParseBits(id.substr(dash + 1), kSessionNumberBits);
  if (!worker.has_value() || !count.has_value()) return std::nullopt;
  return *worker << kSessionNumberBits | *count;
}

}  // namespace ringmain
