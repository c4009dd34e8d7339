// The form of one line of the access log, with its newline. Pure and thread-safe.
#pragma once

#include <chrono>
#include <string>

#include "config/config.h"
#include "metrics/access_record.h"

namespace ringmain {

// Text: `2026-01-02T03:04:05.678Z end id=0-17 listener=...`, where what is not known or has not happened is `-`, and a value that holds anything
// but printable ASCII, or spaces, quotes, equal signs or backslashes, is quoted and escaped. JSON: the same as an object, with null.
// Times of the record are of the steady clock: `now` and `wall_now` are one moment by both clocks.
std::string FormatAccessLine(LogFormat format, const AccessRecord& record, TimePoint now, std::chrono::system_clock::time_point wall_now);

}  // namespace ringmain
