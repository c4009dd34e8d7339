// AccessLog: takes records of sessions from the workers and writes a line for each.
//
// Each worker has a queue of its own, bounded and without locks, which one thread empties: whoever writes a record never waits, and finds
// no room if lines are written too slowly, which is counted. The thread is the process's (process/access_logging.h): it calls Run. It sleeps
// while there is nothing to do, and once it was woken it waits a little, so that a busy proxy does not wake it for each line.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/per_worker.h"
#include "base/spsc_queue.h"
#include "base/token_bucket.h"
#include "base/unique_fd.h"
#include "log/line_sink.h"
#include "log/log.h"
#include "metrics/access_record.h"

namespace ringmain {

class AccessLog {
 public:
  // Of one worker: what ends within a fifth of a second at 20,000 sessions a second.
  static constexpr size_t kQueueRecords = 4096;
  // A line is written so late at most while the sink takes lines.
  static constexpr Duration kGather = milliseconds(20);
  // Once it is told to end, a sink that takes nothing is waited for so long; one that takes little, ten times as long in all.
  static constexpr Duration kPatience = milliseconds(500);

  // `cells` outlives it. `queue_records` is a power of two.
  explicit AccessLog(AccessLogCells& cells, size_t queue_records = kQueueRecords);

  // ---- Workers ----

  // False if there is no room: the record is lost. Only from the worker of that number. REQUIRES: GrowTo was called for it.
  bool Offer(uint32_t worker, AccessRecord record);

  // ---- The process thread ----

  // Makes queues for so many workers, if there are fewer.
  void GrowTo(size_t workers);
  // From now on lines go there; none: to the same place as before, but in the form, and at most at the rate, that `config` says.
  void Change(const AccessLogConfig& config, std::optional<LineSink> sink);
  // Run returns once all that is queued has been written, or given up. Workers are to offer nothing any more.
  void End();

  // ---- The thread that writes ----

  // REQUIRES: a sink was given.
  void Run();

 private:
  void Wake();
  void TakeChanges();
  void SleepUntilWoken();
  bool WaitFor(Duration time, int writable = -1);
  bool FormatSome();
  void WriteOut();
  bool OutOfPatience(TimePoint progress) const;
  void DropRest(int error);
  uint64_t LinesIn(std::string_view text);

  AccessLogCells& cells_;
  const size_t queue_records_;
  PerWorker<SpscQueue<AccessRecord>> queues_{1};  // grows
  UniqueFd wake_;                                 // an eventfd
  std::atomic<bool> asleep_{false};

  // Written by the process thread, taken by the thread that writes.
  std::mutex mutex_;
  std::optional<AccessLogConfig> next_config_;
  std::optional<LineSink> next_sink_;
  std::atomic<bool> changed_{false};
  std::atomic<bool> ending_{false};
  TimePoint ended_at_{};  // once `ending_`

  // The thread that writes.
  std::optional<LineSink> sink_;
  LogFormat format_ = LogFormat::kText;
  TokenBucket rate_;
  std::string lines_;
  size_t written_ = 0;    // bytes of `lines_`
  bool in_line_ = false;  // the sink took the beginning of a line whose rest is lost
  bool ends_line_ = false;  // `lines_` begin with the end of such a line
  bool given_up_ = false;
  LogLimiter failed_;
};

}  // namespace ringmain
