// Logs: set-up, and a limiter for messages that a peer can cause at will. The only place that knows spdlog.
//
// Lines go to standard error, or to a file, through a bounded queue and one background thread; a full queue drops the oldest line, so
// a caller never waits. Use: Log(LogLevel::kInfo, "listening name=", name, " address=", address).
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "config/config.h"

namespace ringmain {

// Call once before other threads start; until then lines go straight to standard error. The background thread has all
// signals blocked, so the caller may block its own afterwards. Throws std::exception, if there is no thread or OpenLog fails. REQUIRES: not
// set up, or shut down since.
void SetUpLog(const LogConfig& config);
// The file of `config`, to be added to, made if it is not there; of standard error a copy. Errors: it cannot be opened; one line that names it.
absl::StatusOr<UniqueFd> OpenLog(const LogConfig& config);
// Another level and format, and another place to write to, from the next line on. One thread at a time.
void ChangeLog(const LogConfig& config, UniqueFd opened);
// Writes what is queued and ends the background thread. Later lines go straight to standard error. REQUIRES: no other
// thread logs.
void ShutDownLog();

bool LogEnabled(LogLevel level);
// Thread-safe. One line; control characters in `message` are escaped.
void LogLine(LogLevel level, std::string_view message);

template <typename... Parts>
void Log(LogLevel level, const Parts&... parts) {
  if (LogEnabled(level)) LogLine(level, absl::StrCat(parts...));
}

// Lets one message of a kind through per interval and counts the others. Pure but for its own state; one per kind of
// message. Thread-safe, lock-free.
class LogLimiter {
 public:
  explicit LogLimiter(Duration interval = seconds(1)) : interval_(interval) {}
  // The number of messages held back since the last that passed, if this one may pass.
  std::optional<uint64_t> Admit(TimePoint now);

 private:
  const Duration interval_;
  std::atomic<int64_t> next_ns_{INT64_MIN};
  std::atomic<uint64_t> held_back_{0};
};

}  // namespace ringmain
