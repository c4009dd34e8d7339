#include "process/access_logging.h"

#include <pthread.h>

#include <utility>

namespace ringmain {
namespace {

bool SameTarget(const AccessLogConfig& a, const AccessLogConfig& b) { return a.to == b.to && a.path == b.path; }

}  // namespace

absl::Status AccessLogging::Prepare(const std::optional<AccessLogConfig>& next) {
  next_config_ = next;
  next_sink_.reset();
  if (!next.has_value()) return absl::OkStatus();
  if (!config_.has_value() || !SameTarget(*config_, *next)) {
    absl::StatusOr<LineSink> sink = LineSink::Open(*next);
    if (!sink.ok()) return sink.status();
    next_sink_ = *std::move(sink);
  }
  if (log_ != nullptr) return absl::OkStatus();
  log_ = std::make_unique<AccessLog>(cells_);
  try {
    thread_ = std::thread([log = log_.get()] {
      pthread_setname_np(pthread_self(), "rm-access-log");
      log->Run();
    });
  } catch (...) {
    log_.reset();
    throw;
  }
  return absl::OkStatus();
}

void AccessLogging::Abandon() {
  next_sink_.reset();
  if (!config_.has_value()) Stop();
}

void AccessLogging::Commit() {
  config_ = std::exchange(next_config_, std::nullopt);
  if (config_.has_value()) log_->Change(*config_, std::exchange(next_sink_, std::nullopt));
}

void AccessLogging::EndUnused() {
  if (!config_.has_value()) Stop();
}

std::optional<AccessLogUse> AccessLogging::use(size_t workers) {
  if (!config_.has_value()) return std::nullopt;
  log_->GrowTo(workers);
  AccessLogRules rules;
  rules.sampled = rules.sampled * config_->sample_percent / 100;
  rules.at_start = config_->at_start;
  rules.every = config_->every;
  return AccessLogUse{log_.get(), rules};
}

absl::Status AccessLogging::Reopen() {
  if (!config_.has_value() || config_->to != AccessLogTarget::kFile) return absl::OkStatus();
  absl::StatusOr<LineSink> sink = LineSink::Open(*config_);
  if (sink.ok()) log_->Change(*config_, *std::move(sink));
  return sink.status();
}

void AccessLogging::Stop() {
  if (log_ == nullptr) return;
  log_->End();
  thread_.join();
  log_.reset();
}

}  // namespace ringmain
