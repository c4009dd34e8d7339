#include "log/access_log.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "log/access_line.h"

namespace ringmain {
namespace {

// So many bytes of lines are written at once, or a few more.
constexpr size_t kBatchBytes = 64 << 10;
// Records of one worker are taken in a row, before the next has its turn.
constexpr int kTurnRecords = 64;
// A sink that cannot be polled is asked again after so long.
constexpr Duration kAskAgain = milliseconds(10);

}  // namespace

AccessLog::AccessLog(AccessLogCells& cells, size_t queue_records)
    : cells_(cells), queue_records_(queue_records), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_.valid()) throw std::system_error(errno, std::generic_category(), "eventfd");
  queues_[0].Allocate(queue_records_);
}

bool AccessLog::Offer(uint32_t worker, AccessRecord record) {
  if (!queues_[worker].Push(record)) return false;
  if (asleep_.load(std::memory_order_seq_cst) && asleep_.exchange(false, std::memory_order_seq_cst)) Wake();
  return true;
}

void AccessLog::GrowTo(size_t workers) {
  // A queue has its memory before its worker knows of it.
  for (size_t size = queues_.size(); size < workers; ++size) {
    queues_.Grow(size + 1);
    queues_[size].Allocate(queue_records_);
  }
}

void AccessLog::Change(const AccessLogConfig& config, std::optional<LineSink> sink) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    next_config_ = config;
    if (sink.has_value()) next_sink_ = std::move(sink);
  }
  changed_.store(true, std::memory_order_release);
  Wake();
}

void AccessLog::End() {
  ended_at_ = Clock::now();
  ending_.store(true, std::memory_order_release);
  Wake();
}

void AccessLog::Wake() { eventfd_write(wake_.get(), 1); }

// ---- The thread that writes ----

void AccessLog::Run() {
  while (true) {
    TakeChanges();
    bool ending = ending_.load(std::memory_order_acquire);
    while (FormatSome()) WriteOut();
    if (ending) return;
    SleepUntilWoken();
    if (!ending_.load(std::memory_order_acquire)) WaitFor(kGather);
  }
}

void AccessLog::TakeChanges() {
  if (!changed_.exchange(false, std::memory_order_acquire)) return;
  std::lock_guard<std::mutex> lock(mutex_);
  format_ = next_config_->format;
  const std::optional<RateConfig>& rate = next_config_->max_rate;
  rate_.Set(rate.has_value() ? Pace::Of(rate->per_minute, rate->burst) : Pace(), Clock::now());
  if (!next_sink_.has_value()) return;
  sink_ = std::exchange(next_sink_, std::nullopt);
  in_line_ = false;
  // What the one before took half of a line of, this one gets as a whole.
  if (written_ > 0) written_ = lines_.rfind('\n', written_ - 1) + 1;  // npos + 1 is 0
}

// Who offers something either sees that it sleeps, or is seen.
void AccessLog::SleepUntilWoken() {
  asleep_.store(true, std::memory_order_seq_cst);
  bool idle = !changed_.load(std::memory_order_acquire) && !ending_.load(std::memory_order_acquire);
  for (size_t i = 0; i < queues_.size(); ++i) idle &= queues_[i].empty();
  if (idle) WaitFor(Duration::max());
  asleep_.store(false, std::memory_order_seq_cst);
}

// Until then, or until it is woken, or `writable` is.
bool AccessLog::WaitFor(Duration time, int writable) {
  pollfd files[] = {{wake_.get(), POLLIN, 0}, {writable, POLLOUT, 0}};
  int timeout_ms = time == Duration::max() ? -1 : static_cast<int>(std::chrono::ceil<milliseconds>(time).count());
  if (poll(files, 2, timeout_ms) <= 0) return false;
  eventfd_t count;
  if (files[0].revents != 0) eventfd_read(wake_.get(), &count);
  return true;
}

// Appends lines until there are enough. False if there are none.
bool AccessLog::FormatSome() {
  TimePoint now = Clock::now();
  auto wall_now = std::chrono::system_clock::now();
  AccessRecord record;
  ends_line_ = std::exchange(in_line_, false);
  if (ends_line_) lines_.push_back('\n');
  for (bool more = true; more && lines_.size() < kBatchBytes;) {
    more = false;
    for (size_t i = 0; i < queues_.size(); ++i)
      for (int left = kTurnRecords; left > 0 && queues_[i].Pop(record); --left) {
        more = true;
        if (rate_.TryTake(now))
          lines_ += FormatAccessLine(format_, record, now, wall_now);
        else
          cells_.over_rate.Add();
      }
  }
  return !lines_.empty();
}

// All of `lines_`, however long it takes; if it is to end meanwhile, or the sink fails, they are given up.
void AccessLog::WriteOut() {
  TimePoint progress = Clock::now();
  while (written_ < lines_.size()) {
    TakeChanges();
    std::string_view rest = std::string_view(lines_).substr(written_);
    ssize_t taken = sink_->Write(rest);
    if (taken > 0) {
      cells_.written.Add(LinesIn(rest.substr(0, static_cast<size_t>(taken))));
      written_ += static_cast<size_t>(taken);
      progress = Clock::now();
    } else if (taken != -EAGAIN) {
      DropRest(static_cast<int>(-taken));
    } else if (given_up_ || OutOfPatience(progress)) {
      given_up_ = true;
      DropRest(ETIMEDOUT);
    } else {
      bool ending = ending_.load(std::memory_order_acquire);
      WaitFor(sink_->pollable() < 0 ? kAskAgain : ending ? kPatience : Duration::max(), sink_->pollable());
    }
  }
  lines_.clear();
  written_ = 0;
}

bool AccessLog::OutOfPatience(TimePoint progress) const {
  if (!ending_.load(std::memory_order_acquire)) return false;
  TimePoint now = Clock::now();
  return now - progress >= kPatience || now - ended_at_ >= 10 * kPatience;
}

// Whose fate is decided now, each once: the end of one whose rest was lost is none.
uint64_t AccessLog::LinesIn(std::string_view text) {
  auto lines = static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
  return lines - (std::exchange(ends_line_, false) ? 1 : 0);
}

void AccessLog::DropRest(int error) {
  uint64_t lost = LinesIn(std::string_view(lines_).substr(written_));
  cells_.failed.Add(lost);
  if (std::optional<uint64_t> more = failed_.Admit(Clock::now()))
    Log(LogLevel::kError, "access log: lines lost: ", std::strerror(error), " lines=", lost, " not_logged=", *more);
  in_line_ = written_ > 0 && lines_[written_ - 1] != '\n';
  written_ = lines_.size();
}

}  // namespace ringmain
