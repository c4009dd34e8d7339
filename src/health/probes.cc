#include "health/probes.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace ringmain {
namespace {

std::string InWords(milliseconds duration) {
  int64_t ms = duration.count();
  return ms % 1000 == 0 ? absl::StrCat(ms / 1000, "s") : absl::StrCat(ms, "ms");
}

// The kernel's words for a positive errno: "connection refused".
std::string InWords(int error) {
  const char* words = strerrordesc_np(error);  // unlike strerror, thread-safe
  if (words == nullptr) return absl::StrCat("error ", error);
  std::string text(words);
  text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return text;
}

// We lack something; it says nothing about the server. EADDRNOTAVAIL is of connect(2): no local port is free.
bool IsOurOwnShortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == EADDRNOTAVAIL;
}

}  // namespace

struct Probes::Probe : TimerWheel::Timer {
  Probe(uint32_t index_in, ProbeTarget target_in)
      : index(index_in),
        target(std::move(target_in)),
        state(target.check->rise, target.check->fall, target.server->up()) {}

  milliseconds interval() const {
    const HealthCheckConfig& check = *target.check;
    return state.contradicted() && check.fast_interval.count() > 0 ? check.fast_interval : check.interval;
  }

  const uint32_t index;
  ProbeTarget target;
  std::shared_ptr<const Exchange> next;  // of the probes to come
  HealthState state;
  Phase phase = Phase::kWaiting;
  uint32_t generation = 0;  // of the last probe started
  // Of the probe under way, which a change does not touch.
  std::shared_ptr<const Exchange> exchange;
  int fd = -1;
  size_t sent = 0;  // of the request
  std::string answer;
  size_t source = 0;  // of the server's source addresses
  TimePoint started;
  bool removed = false;  // goes with the final completion
};

Probes::Probes(Io& io, uint64_t seed, TimePoint now) : io_(io), timers_(now), random_(seed) {}

Probes::~Probes() { RINGMAIN_CHECK(armed_ == 0 && timers_.size() == 0); }

void Probes::Check(std::vector<ProbeTarget> targets, TimePoint now) {
  std::map<const Server*, Probe*> before;
  for (auto& probe : probes_)
    if (probe != nullptr && !probe->removed) before.emplace(probe->target.server.get(), probe.get());
  size_t count = targets.size(), i = 0;
  for (ProbeTarget& target : targets) {
    auto found = before.find(target.server.get());
    TimePoint first = now + kFirstProbesWithin * i++ / count;
    if (found == before.end()) {
      Add(std::move(target), first);
    } else {
      Change(*found->second, std::move(target), now);
      before.erase(found);
    }
  }
  for (auto [server, probe] : before) Remove(*probe);
  std::erase_if(patterns_, [](const auto& pattern) { return pattern.second.expired(); });
}

std::shared_ptr<const Exchange> Probes::ExchangeWith(const ProbeTarget& target) {
  std::shared_ptr<const Pattern> pattern;
  if (const std::string& text = target.check->expect_pattern; !text.empty()) {
    std::weak_ptr<const Pattern>& known = patterns_[text];
    pattern = known.lock();
    if (pattern == nullptr) known = pattern = Pattern::Compile(text).value();  // a Config that exists is valid
  }
  return std::make_shared<const Exchange>(target.check, target.server->address(), target.prologue, std::move(pattern));
}

void Probes::Add(ProbeTarget target, TimePoint first) {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(probes_.size()));
    probes_.emplace_back();
  }
  uint32_t index = free_.back();
  free_.pop_back();
  probes_[index] = std::make_unique<Probe>(index, std::move(target));
  probes_[index]->next = ExchangeWith(probes_[index]->target);
  timers_.Schedule(*probes_[index], first);
}

void Probes::Change(Probe& probe, ProbeTarget target, TimePoint now) {
  milliseconds before = probe.interval();
  probe.target = std::move(target);
  probe.next = ExchangeWith(probe.target);
  probe.state.SetThresholds(probe.target.check->rise, probe.target.check->fall);
  if (probe.source >= probe.target.sources.size()) probe.source = 0;
  if (probe.interval() < before && probe.phase == Phase::kWaiting) ScheduleNext(probe, now);
}

void Probes::Remove(Probe& probe) {
  probe.target.server->set_up(true);
  timers_.Cancel(probe);
  if (probe.phase == Phase::kWaiting) {
    Drop(probe);
    return;
  }
  probe.removed = true;
  Cancel(probe);
}

void Probes::Cancel(Probe& probe) {
  if (probe.phase == Phase::kCancelling) return;
  probe.phase = Phase::kCancelling;
  io_.Cancel(TokenOf(probe));
}

void Probes::Drop(Probe& probe) {
  free_.push_back(probe.index);
  probes_[probe.index].reset();
}

void Probes::RunTimers(TimePoint now) {
  while (TimerWheel::Timer* timer = timers_.PopDue(now)) {
    Probe& probe = static_cast<Probe&>(*timer);
    if (probe.phase == Phase::kWaiting) {
      Start(probe, now);
    } else {
      TimeOut(probe, now);
    }
  }
}

void Probes::Start(Probe& probe, TimePoint now) {
  probe.started = now;
  probe.exchange = probe.next;
  int fd = OpenSocket(probe);
  if (fd < 0) {
    if (fd == -EADDRNOTAVAIL)
      Failed(probe, "no interface of this machine has one of its source addresses", now);
    else
      Broke(probe, -fd, now);
    ScheduleNext(probe, now);
    return;
  }
  probe.fd = fd;
  probe.sent = 0;
  ++probe.generation;
  probe.phase = Phase::kConnecting;
  ++armed_;
  io_.Connect(TokenOf(probe), fd, probe.exchange->address());
  timers_.Schedule(probe, now + probe.target.check->timeout);
}

int Probes::OpenSocket(Probe& probe) {
  int family = probe.exchange->address().family();
  const std::vector<SocketAddress>& sources = probe.target.sources;
  if (sources.empty()) return io_.OpenSocket(family, nullptr, &probe.target.socket);
  int fd = -EADDRNOTAVAIL;
  for (size_t tries = 0; tries < sources.size() && fd == -EADDRNOTAVAIL; ++tries) {
    fd = io_.OpenSocket(family, &sources[probe.source], &probe.target.socket);
    if (fd == -EADDRNOTAVAIL) UseNextSource(probe);
  }
  return fd;
}

void Probes::UseNextSource(Probe& probe) {
  if (++probe.source >= probe.target.sources.size()) probe.source = 0;
}

void Probes::Handle(const Completion& completion, TimePoint now) {
  RINGMAIN_CHECK(completion.token.op == Op::kProbe && completion.token.index < probes_.size());
  if (probes_[completion.token.index] == nullptr) return;
  Probe& probe = *probes_[completion.token.index];
  if (completion.token != TokenOf(probe) || probe.phase == Phase::kWaiting) return;
  --armed_;
  if (probe.phase == Phase::kCancelling) return Finish(probe, now);  // counted when it timed out
  int error = completion.result < 0 ? -completion.result : 0;
  if (error == 0 && probe.phase == Phase::kConnecting && io_.ConnectedToItself(probe.fd, probe.exchange->address()))
    error = ECONNREFUSED;
  if (error != 0) {
    Broke(probe, error, now);
    Finish(probe, now);
  } else if (probe.phase == Phase::kReceiving) {
    Receive(probe, now);
  } else {
    Send(probe, now);
  }
}

void Probes::Poll(Probe& probe, Phase phase, short events) {
  probe.phase = phase;
  ++armed_;
  io_.Poll(TokenOf(probe), probe.fd, events);
}

void Probes::Send(Probe& probe, TimePoint now) {
  const std::string& request = probe.exchange->request();
  if (probe.sent < request.size()) {
    iovec rest{const_cast<char*>(request.data()) + probe.sent, request.size() - probe.sent};  // only read
    int sent = io_.SendNow(probe.fd, {&rest, 1});
    if (sent < 0 && sent != -EAGAIN) {
      Broke(probe, -sent, now);
      return Finish(probe, now);
    }
    if (sent > 0) probe.sent += static_cast<size_t>(sent);
  }
  if (probe.sent < request.size()) return Poll(probe, Phase::kSending, POLLOUT);
  if (probe.exchange->wants_answer()) return Poll(probe, Phase::kReceiving, POLLIN);
  Succeeded(probe, now);
  Finish(probe, now);
}

void Probes::Receive(Probe& probe, TimePoint now) {
  size_t seen = probe.answer.size();
  iovec room{received_.data(), Exchange::kMaxAnswer - seen};
  int received = io_.ReceiveNow(probe.fd, {&room, 1});
  if (received == -EAGAIN) return Poll(probe, Phase::kReceiving, POLLIN);
  if (received < 0) {
    Broke(probe, -received, now);
    return Finish(probe, now);
  }
  if (received == 0) {
    Failed(probe, absl::StrCat("closed without ", std::string(probe.exchange->Lacking(probe.answer))), now);
    return Finish(probe, now);
  }
  probe.answer.append(received_.data(), static_cast<size_t>(received));
  std::string reason;
  switch (probe.exchange->Judge(probe.answer, seen, reason)) {
    case Exchange::Verdict::kMore:
      return Poll(probe, Phase::kReceiving, POLLIN);
    case Exchange::Verdict::kGood:
      Succeeded(probe, now);
      break;
    case Exchange::Verdict::kBad:
      Failed(probe, reason, now);
      break;
  }
  Finish(probe, now);
}

void Probes::TimeOut(Probe& probe, TimePoint now) {
  std::string reason = absl::StrCat("timed out after ", InWords(probe.target.check->timeout));
  if (probe.phase == Phase::kSending) reason += " before all was sent";
  if (probe.phase == Phase::kReceiving) absl::StrAppend(&reason, " without ", std::string(probe.exchange->Lacking(probe.answer)));
  Cancel(probe);
  Failed(probe, reason, now);
}

void Probes::Finish(Probe& probe, TimePoint now) {
  Close(probe);
  timers_.Cancel(probe);
  probe.phase = Phase::kWaiting;
  probe.exchange.reset();
  probe.answer = std::string();  // with its memory
  if (probe.removed) return Drop(probe);
  if (!stopped_) ScheduleNext(probe, now);
}

void Probes::ScheduleNext(Probe& probe, TimePoint now) {
  double most = probe.target.check->jitter_percent / 100.0;
  double factor = std::uniform_real_distribution<double>(1 - most, 1 + most)(random_);
  Duration interval(static_cast<int64_t>(static_cast<double>(Duration(probe.interval()).count()) * factor));
  timers_.Schedule(probe, std::max(now, probe.started + interval));
}

// A server without a socket to be checked by was not waited for.
void Probes::CountTime(const Probe& probe, TimePoint now) {
  if (probe.fd >= 0) probe.target.upstream_metrics->health_check_duration.Observe(now - probe.started);
}

void Probes::Succeeded(Probe& probe, TimePoint now) {
  CountTime(probe, now);
  probe.target.metrics->health.succeeded.Add();
  if (!probe.state.OnSuccess()) return;
  probe.target.server->set_started_at(now);
  probe.target.server->set_up(true);
  Log(LogLevel::kInfo, "server up upstream=", probe.target.upstream, " server=", probe.target.server->name());
}

void Probes::Failed(Probe& probe, const std::string& reason, TimePoint now) {
  CountTime(probe, now);
  probe.target.metrics->health.failed.Add();
  probe.target.metrics->health.last_failure.Set(reason);
  if (!probe.state.OnFailure()) return;
  probe.target.server->set_up(false);
  Log(LogLevel::kWarn, "server down upstream=", probe.target.upstream, " server=", probe.target.server->name(),
      " reason=\"", reason, "\"");
}

void Probes::Broke(Probe& probe, int error, TimePoint now) {
  if (!IsOurOwnShortage(error)) {
    Failed(probe, InWords(error), now);
    return;
  }
  if (error == EADDRNOTAVAIL) UseNextSource(probe);
  if (std::optional<uint64_t> held_back = skipped_log_.Admit(now))
    Log(LogLevel::kWarn, "health checks skipped reason=\"", InWords(error), "\" held_back=", *held_back);
}

void Probes::Close(Probe& probe) {
  if (probe.exchange->address().is_unix()) {
    io_.Close(probe.fd);
  } else {
    io_.CloseWithReset(probe.fd);
  }
  probe.fd = -1;
}

void Probes::Stop() {
  stopped_ = true;
  for (auto& probe : probes_) {
    if (probe == nullptr) continue;
    timers_.Cancel(*probe);
    if (probe->phase != Phase::kWaiting) Cancel(*probe);
  }
}

Token Probes::TokenOf(const Probe& probe) const {
  return {Op::kProbe, probe.generation & Token::kGenerationMask, probe.index};
}

}  // namespace ringmain
