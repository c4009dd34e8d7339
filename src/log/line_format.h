// The form of one log line, with its newline. Pure and thread-safe.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "config/config.h"

namespace ringmain {

// Text: `2026-01-02T03:04:05.678Z info  message`, control characters of the message escaped as \n, \x1b and so on.
// JSON: `{"time":"2026-01-02T03:04:05.678Z","level":"info","message":"..."}`; bytes that are not UTF-8 become U+FFFD.
std::string FormatLine(LogFormat format, std::chrono::system_clock::time_point time, LogLevel level,
                       std::string_view message);

// `2026-01-02T03:04:05.678Z`, cut to milliseconds.
std::string FormatTime(std::chrono::system_clock::time_point time);

}  // namespace ringmain
