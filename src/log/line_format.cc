#include "log/line_format.h"

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

namespace ringmain {
namespace {

// So that a message is one line and a terminal obeys none of it. Also the C1 controls, which are two bytes in UTF-8
// (0xc2 0x80 to 0x9f).
void AppendEscaped(std::string_view message, std::string& line) {
  constexpr char kHex[] = "0123456789abcdef";
  for (size_t i = 0; i < message.size(); ++i) {
    auto byte = static_cast<unsigned char>(message[i]);
    auto next = i + 1 < message.size() ? static_cast<unsigned char>(message[i + 1]) : '\0';
    if (byte == '\n') {
      line += "\\n";
    } else if (byte == '\r') {
      line += "\\r";
    } else if (byte == '\t') {
      line += "\\t";
    } else if (byte < 0x20 || byte == 0x7f || (byte == 0xc2 && next >= 0x80 && next <= 0x9f)) {
      line += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      line += message[i];
    }
  }
}

}  // namespace

std::string FormatTime(std::chrono::system_clock::time_point time) {
  auto since_epoch = std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch());
  auto whole_seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  time_t unix_time = whole_seconds.count();
  tm utc{};
  gmtime_r(&unix_time, &utc);
  char date[32];
  size_t length = std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
  char fraction[16];
  std::snprintf(fraction, sizeof(fraction), ".%03dZ", static_cast<int>((since_epoch - whole_seconds).count()));
  return std::string(date, length) + fraction;
}

std::string FormatLine(LogFormat format, std::chrono::system_clock::time_point time, LogLevel level,
                       std::string_view message) {
  std::string line;
  std::string name(ToString(level));
  if (format == LogFormat::kJson) {
    nlohmann::ordered_json object;
    object["time"] = FormatTime(time);
    object["level"] = name;
    object["message"] = std::string(message);
    line = object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  } else {
    constexpr size_t kLevelWidth = 5;  // of the longest: trace, debug, error
    name.resize(kLevelWidth, ' ');
    line = FormatTime(time) + " " + name + " ";
    AppendEscaped(message, line);
  }
  line += '\n';
  return line;
}

}  // namespace ringmain
