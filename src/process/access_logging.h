// AccessLogging: the process's access log: where it goes, and the thread that writes it ("rm-access-log"), which there is only while it is on.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "config/config.h"
#include "log/access_log.h"
#include "worker/update.h"

namespace ringmain {

// The process thread's.
class AccessLogging {
 public:
  // `cells` outlives it.
  explicit AccessLogging(AccessLogCells& cells) : cells_(cells) {}
  // As Stop.
  ~AccessLogging() { Stop(); }
  AccessLogging(const AccessLogging&) = delete;
  AccessLogging& operator=(const AccessLogging&) = delete;

  // ---- A change: Prepare, then Abandon; or Commit, then, once workers were told of use(), EndUnused ----

  // Errors: it cannot be written there. May throw std::system_error, if there is no thread or file descriptor.
  absl::Status Prepare(const std::optional<AccessLogConfig>& next);
  void Abandon();
  void Commit();
  void EndUnused();

  // What workers are to write records to. `workers` is how many there may be.
  std::optional<AccessLogUse> use(size_t workers);
  // Opens the file anew, if it is one: it may have been renamed. Errors: it cannot be opened; the old one is written on.
  absl::Status Reopen();
  // Writes what there is and ends the thread. Workers offer nothing any more, or their process is about to end.
  void Stop();

 private:
  AccessLogCells& cells_;
  std::optional<AccessLogConfig> config_;  // that is in force; none: off
  std::optional<AccessLogConfig> next_config_;
  std::optional<LineSink> next_sink_;
  std::unique_ptr<AccessLog> log_;  // null while there is no thread
  std::thread thread_;
};

}  // namespace ringmain
