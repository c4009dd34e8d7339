#include "log/log.h"

#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/formatter.h>
#include <fcntl.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "log/line_format.h"

namespace ringmain {
namespace {

constexpr size_t kQueueLines = 8192;

// The order and the numbers are the same as far as ours go.
static_assert(static_cast<int>(LogLevel::kTrace) == spdlog::level::trace);
static_assert(static_cast<int>(LogLevel::kDebug) == spdlog::level::debug);
static_assert(static_cast<int>(LogLevel::kInfo) == spdlog::level::info);
static_assert(static_cast<int>(LogLevel::kWarn) == spdlog::level::warn);
static_assert(static_cast<int>(LogLevel::kError) == spdlog::level::err);

std::atomic<LogLevel> g_level{LogLevel::kInfo};
std::atomic<LogFormat> g_format{LogFormat::kText};

// Runs in the background thread.
class LineFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    std::string line = FormatLine(g_format, message.time, static_cast<LogLevel>(message.level),
                                  std::string_view(message.payload.data(), message.payload.size()));
    out.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<LineFormatter>(); }
};

void WriteAll(int fd, std::string_view lines) {
  while (!lines.empty()) {
    ssize_t written = write(fd, lines.data(), lines.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // nowhere left to complain
    lines.remove_prefix(static_cast<size_t>(written));
  }
}

// Runs in the background thread. The file behind its descriptor may be changed at any time (ChangeLog).
class FdSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FdSink(UniqueFd fd) : fd_(std::move(fd)) {}
  int fd() const { return fd_.get(); }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    WriteAll(fd_.get(), {line.data(), line.size()});
  }
  void flush_() override {}

 private:
  const UniqueFd fd_;
};

struct Backend {
  std::shared_ptr<spdlog::details::thread_pool> threads;
  std::shared_ptr<FdSink> sink;
  std::shared_ptr<spdlog::async_logger> logger;
};

// Written by SetUpLog and ShutDownLog only.
std::unique_ptr<Backend> g_backend;
std::atomic<spdlog::async_logger*> g_logger{nullptr};  // null: lines go straight to standard error

void SetForm(const LogConfig& config) {
  g_level = config.level;
  g_format = config.format;
}

}  // namespace

void SetUpLog(const LogConfig& config) {
  RINGMAIN_CHECK(g_backend == nullptr);
  SetForm(config);
  absl::StatusOr<UniqueFd> opened = OpenLog(config);
  if (!opened.ok()) throw std::runtime_error(std::string(opened.status().message()));
  // The new thread inherits a mask that blocks every signal, so that none is ever delivered to it.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto backend = std::make_unique<Backend>();
  backend->threads = std::make_shared<spdlog::details::thread_pool>(kQueueLines, 1);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  backend->sink = std::make_shared<FdSink>(*std::move(opened));
  backend->sink->set_formatter(std::make_unique<LineFormatter>());
  backend->logger = std::make_shared<spdlog::async_logger>("ringmain", backend->sink, backend->threads,
                                                           spdlog::async_overflow_policy::overrun_oldest);
  backend->logger->set_level(spdlog::level::trace);  // LogEnabled decides
  g_backend = std::move(backend);
  g_logger.store(g_backend->logger.get(), std::memory_order_release);
}

absl::StatusOr<UniqueFd> OpenLog(const LogConfig& config) {
  UniqueFd fd;
  if (config.file.empty())
    fd.reset(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
  else
    fd.reset(open(config.file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640));
  // Without waiting for a reader of a FIFO; but lines do wait for one.
  if (fd.valid() && (config.file.empty() || fcntl(fd.get(), F_SETFL, O_APPEND) == 0)) return fd;
  return absl::NotFoundError(absl::StrCat("log.to: ", config.file.empty() ? "stderr" : config.file, ": ", std::generic_category().message(errno)));
}

// In one step for whoever writes a line in that moment.
void ChangeLog(const LogConfig& config, UniqueFd opened) {
  SetForm(config);
  if (g_backend != nullptr && opened.valid()) dup3(opened.get(), g_backend->sink->fd(), O_CLOEXEC);
}

void ShutDownLog() {
  if (g_backend == nullptr) return;
  g_logger.store(nullptr, std::memory_order_release);
  size_t dropped = g_backend->threads->overrun_counter();
  g_backend->threads.reset();  // writes what is queued and joins the thread
  g_backend.reset();
  if (dropped > 0) Log(LogLevel::kWarn, "dropped ", dropped, " log lines: they could not be written fast enough");
}

bool LogEnabled(LogLevel level) { return level >= g_level.load(std::memory_order_relaxed); }

void LogLine(LogLevel level, std::string_view message) {
  if (spdlog::async_logger* logger = g_logger.load(std::memory_order_acquire)) {
    logger->log(static_cast<spdlog::level::level_enum>(level), spdlog::string_view_t(message.data(), message.size()));
    return;
  }
  WriteAll(STDERR_FILENO, FormatLine(g_format, std::chrono::system_clock::now(), level, message));
}

std::optional<uint64_t> LogLimiter::Admit(TimePoint now) {
  int64_t now_ns = std::chrono::duration_cast<Duration>(now.time_since_epoch()).count();
  int64_t next_ns = next_ns_.load(std::memory_order_relaxed);
  // A failed exchange means that another thread's message passes at this instant.
  if (now_ns < next_ns ||
      !next_ns_.compare_exchange_strong(next_ns, now_ns + interval_.count(), std::memory_order_relaxed)) {
    held_back_.fetch_add(1, std::memory_order_relaxed);
    return std::nullopt;
  }
  return held_back_.exchange(0, std::memory_order_relaxed);
}

}  // namespace ringmain
