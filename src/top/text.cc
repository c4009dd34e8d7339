#include "top/text.h"

#include <array>
#include <cmath>
#include <cstdio>

namespace ringmain::top {
namespace {

template <typename... Arguments>
std::string Print(const char* format, Arguments... arguments) {
  std::array<char, 64> text;
  int length = std::snprintf(text.data(), text.size(), format, arguments...);
  return std::string(text.data(), std::min(static_cast<size_t>(length), text.size() - 1));
}

// Three digits, with the unit that makes it so; four where the next unit begins at 1024.
std::string Scaled(double value, double step, const std::array<const char*, 6>& units) {
  size_t unit = 0;
  // Rounded before the comparison: 1023.6 KiB is 1.00 MiB, not 1024 KiB.
  while (unit + 1 < units.size() && std::round(value) >= step) {
    value /= step;
    ++unit;
  }
  int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return Print("%.*f%s", decimals, value, units[unit]);
}

std::string Count(double value) {
  if (std::round(value) < 100'000) return Print("%.0f", value);
  return Scaled(value, 1000, {"", "k", "M", "G", "T", "P"});
}

std::string PerSecond(double value) { return value > 0 && value < 9.95 ? Print("%.1f", value) : Count(value); }

std::string Bytes(double value) { return Scaled(value, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"}); }

std::string Seconds(double value) {
  if (value < 9.95) return Print("%.1fs", value);
  auto whole = static_cast<unsigned long long>(std::round(std::min(value, 1e12)));
  if (whole < 60) return Print("%llus", whole);
  if (whole < 3600) return Print("%llum%02llus", whole / 60, whole % 60);
  if (whole < 24 * 3600) return Print("%lluh%02llum", whole / 3600, whole / 60 % 60);
  return Print("%llud%02lluh", whole / 86400, whole / 3600 % 24);
}

}  // namespace

std::string Format(const Value& value, Unit unit) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  const auto* number = std::get_if<double>(&value);
  if (number == nullptr || !std::isfinite(*number)) return "-";
  switch (unit) {
    case Unit::kRatio:
      return Print("%.1f", *number);
    case Unit::kPerSecond:
      return PerSecond(*number);
    case Unit::kBytes:
    case Unit::kBytesPerSecond:
      return Bytes(*number);
    case Unit::kSeconds:
      return Seconds(*number);
    case Unit::kText:
    case Unit::kCount:
      break;
  }
  return Count(*number);
}

std::string Printable(std::string_view text) {
  std::string printable;
  printable.reserve(text.size());
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f)
      printable += c;
    else if ((byte & 0xc0) != 0x80)  // not the further bytes of a character
      printable += '?';
    else if (printable.empty() || printable.back() != '?')
      printable += '?';
  }
  return printable;
}

}  // namespace ringmain::top
