#include "discovery/discovery.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <span>

#include "absl/strings/str_cat.h"
#include "discovery/lookup.h"
#include "log/log.h"

namespace ringmain {

// ---- The thread ----

class Discovery::Loop {
 public:
  explicit Loop(Mailbox& mailbox) : mailbox_(mailbox), names_(std::random_device{}()) {}

  // Returns once it was told to stop.
  void Run() {
    pthread_setname_np(pthread_self(), "rm-dns");
    while (OpenMailbox()) {
      StartDue();
      EndLookups();
      Wait();
    }
  }

 private:
  struct Running {
    Names::Work work;
    std::unique_ptr<Lookup> lookup;
    size_t files = 0;  // in files_
  };

  bool OpenMailbox() {
    eventfd_t count;
    eventfd_read(mailbox_.wake.get(), &count);
    std::lock_guard<std::mutex> lock(mailbox_.mutex);
    if (mailbox_.stop) return false;
    if (!mailbox_.targets.has_value()) return true;
    names_.Follow(*mailbox_.targets, Clock::now());
    metrics_.clear();
    for (const auto& [key, target] : *mailbox_.targets) metrics_[key] = target.metrics;
    mailbox_.targets.reset();
    mailbox_.unanswered = names_.unanswered();
    eventfd_write(mailbox_.ready.get(), 1);
    std::erase_if(running_, [this](const Running& one) { return !names_.Wants(one.work); });
    return true;
  }

  void StartDue() {
    TimePoint now = Clock::now();
    while (running_.size() < kMaxLookups) {
      std::optional<Names::Work> work = names_.TakeDue(now);
      if (!work.has_value()) return;
      auto lookup = std::make_unique<Lookup>(work->name, work->dns);
      running_.push_back({*std::move(work), std::move(lookup)});
    }
  }

  void EndLookups() {
    std::vector<std::pair<NameKey, std::vector<FoundServer>>> found;
    bool ended = false;
    for (Running& one : running_) {
      if (!one.lookup->ended()) continue;
      ended = true;
      Names::Outcome outcome = names_.Ended(one.work, one.lookup->found(), Clock::now());
      Note(one.work.key, outcome);
      if (outcome.servers.has_value()) found.emplace_back(one.work.key, *std::move(outcome.servers));
    }
    if (!ended) return;
    std::erase_if(running_, [](const Running& one) { return one.lookup->ended(); });
    std::lock_guard<std::mutex> lock(mailbox_.mutex);
    for (auto& one : found) mailbox_.found.push_back(std::move(one));
    // Targets that nobody has looked at yet may be more.
    if (!mailbox_.targets.has_value()) mailbox_.unanswered = names_.unanswered();
    eventfd_write(mailbox_.ready.get(), 1);
  }

  void Note(const NameKey& key, const Names::Outcome& outcome) {
    NameMetrics& metrics = *metrics_[key];
    metrics.cells[0].ended[static_cast<size_t>(outcome.result)].Add();
    metrics.last_result.Set(static_cast<int64_t>(outcome.result));
    bool success = outcome.result == LookupResult::kSuccess;
    if (success) {
      auto now = std::chrono::system_clock::now().time_since_epoch();
      metrics.cells[0].last_success_epoch.Set(std::chrono::duration_cast<milliseconds>(now).count());
    }
    if (!outcome.news || (success && outcome.first)) return;
    std::optional<uint64_t> held_back = limiter_.Admit(Clock::now());
    if (!held_back.has_value()) return;
    std::string more = *held_back > 0 ? absl::StrCat(" not_logged=", *held_back) : "";
    if (success)
      Log(LogLevel::kInfo, "name is found again upstream=", key.first, " name=", key.second, " addresses=", outcome.held, more);
    else
      Log(LogLevel::kWarn, "name is not found upstream=", key.first, " name=", key.second, " reason=", std::string(ToString(outcome.result)),
          ": what was found before stays", more);
  }

  void Wait() {
    files_.assign(1, {mailbox_.wake.get(), POLLIN, 0});
    std::optional<TimePoint> wake_up = running_.size() < kMaxLookups ? names_.NextDue() : std::nullopt;
    TimePoint now = Clock::now();
    for (Running& one : running_) {
      size_t before = files_.size();
      one.lookup->AddFiles(files_);
      one.files = files_.size() - before;
      if (std::optional<Duration> left = one.lookup->TimeLeft())
        wake_up = wake_up.has_value() ? std::min(*wake_up, now + *left) : now + *left;
    }
    int timeout_ms = -1;
    if (wake_up.has_value())
      timeout_ms = static_cast<int>(std::clamp<int64_t>(std::chrono::ceil<milliseconds>(*wake_up - now).count(), 0, 3'600'000));
    if (poll(files_.data(), files_.size(), timeout_ms) < 0) return;  // EINTR, or for want of memory: again
    std::span<const pollfd> files = std::span(files_).subspan(1);
    for (Running& one : running_) {
      one.lookup->Process(files.first(one.files));
      files = files.subspan(one.files);
    }
  }

  Mailbox& mailbox_;
  Names names_;
  std::map<NameKey, std::shared_ptr<NameMetrics>> metrics_;
  std::vector<Running> running_;
  std::vector<pollfd> files_;
  LogLimiter limiter_;
};

// ---- Whoever uses it ----

absl::Status Discovery::Start() {
  for (UniqueFd* fd : {&mailbox_.wake, &mailbox_.ready}) {
    fd->reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd->valid()) return absl::ResourceExhaustedError(absl::StrCat("discovery thread: eventfd: ", strerrordesc_np(errno)));
  }
  thread_ = std::thread([this] { Loop(mailbox_).Run(); });
  return absl::OkStatus();
}

Discovery::~Discovery() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard<std::mutex> lock(mailbox_.mutex);
    mailbox_.stop = true;
  }
  eventfd_write(mailbox_.wake.get(), 1);
  thread_.join();
}

absl::Status Discovery::Add(const Config& config) {
  bool any = false;
  for (const UpstreamConfig& upstream : config.upstreams)
    for (const DnsNameConfig& name : upstream.names) {
      NameTarget& target = targets_[{upstream.name, name.ToString()}];
      if (target.metrics == nullptr) target.metrics = std::make_shared<NameMetrics>(name.ToString());
      target.name = name;
      target.dns = upstream.dns;
      any = true;
    }
  if (!any) return absl::OkStatus();
  if (!thread_.joinable())
    if (absl::Status status = Start(); !status.ok()) return status;
  Post();
  return absl::OkStatus();
}

void Discovery::Keep(const Config& config) {
  NameTargets kept;
  for (const UpstreamConfig& upstream : config.upstreams)
    for (const DnsNameConfig& name : upstream.names)
      if (auto found = targets_.find({upstream.name, name.ToString()}); found != targets_.end())
        kept[found->first] = {name, upstream.dns, found->second.metrics};
  targets_ = std::move(kept);
  std::erase_if(answers_, [this](const auto& answer) { return !targets_.contains(answer.first); });
  if (thread_.joinable()) Post();
}

void Discovery::Post() {
  {
    std::lock_guard<std::mutex> lock(mailbox_.mutex);
    mailbox_.targets = targets_;
  }
  eventfd_write(mailbox_.wake.get(), 1);
}

void Discovery::WaitForFirst(TimePoint deadline, int interrupt) {
  while (thread_.joinable()) {
    {
      std::lock_guard<std::mutex> lock(mailbox_.mutex);
      if (!mailbox_.targets.has_value() && mailbox_.unanswered == 0) return;
    }
    auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return;
    pollfd files[] = {{mailbox_.ready.get(), POLLIN, 0}, {interrupt, POLLIN, 0}};
    if (poll(files, std::size(files), static_cast<int>(left)) > 0 && files[1].revents != 0) return;
    eventfd_t count;
    eventfd_read(mailbox_.ready.get(), &count);  // it is taken without
  }
}

bool Discovery::Take() {
  if (!thread_.joinable()) return false;
  eventfd_t count;
  eventfd_read(mailbox_.ready.get(), &count);
  std::vector<std::pair<NameKey, std::vector<FoundServer>>> found;
  {
    std::lock_guard<std::mutex> lock(mailbox_.mutex);
    found.swap(mailbox_.found);
  }
  bool changed = false;
  for (auto& [key, servers] : found) {
    auto target = targets_.find(key);
    if (target == targets_.end()) continue;
    target->second.metrics->addresses.Set(static_cast<int64_t>(servers.size()));
    std::vector<FoundServer>& answer = answers_[key];
    changed = changed || answer != servers;
    answer = std::move(servers);
  }
  return changed;
}

void Discovery::Inherit(const NameKey& key, std::vector<FoundServer> servers) {
  auto target = targets_.find(key);
  if (target == targets_.end() || servers.empty() || answers_.contains(key)) return;
  target->second.metrics->addresses.Set(static_cast<int64_t>(servers.size()));
  answers_[key] = std::move(servers);
}

std::shared_ptr<NameMetrics> Discovery::metrics(const NameKey& key) const {
  auto found = targets_.find(key);
  return found != targets_.end() ? found->second.metrics : nullptr;
}

std::vector<NameKey> Discovery::Missing(const Config& config) const {
  std::vector<NameKey> missing;
  for (const UpstreamConfig& upstream : config.upstreams)
    for (const DnsNameConfig& name : upstream.names)
      if (NameKey key{upstream.name, name.ToString()}; !answers_.contains(key)) missing.push_back(std::move(key));
  return missing;
}

}  // namespace ringmain
