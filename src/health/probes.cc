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
        state(target.check.rise, target.check.fall, target.server->up()) {}

  const uint32_t index;
  ProbeTarget target;
  HealthState state;
  Phase phase = Phase::kWaiting;
  uint32_t generation = 0;  // of the last probe started
  int fd = -1;
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
}

void Probes::Add(ProbeTarget target, TimePoint first) {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(probes_.size()));
    probes_.emplace_back();
  }
  uint32_t index = free_.back();
  free_.pop_back();
  probes_[index] = std::make_unique<Probe>(index, std::move(target));
  timers_.Schedule(*probes_[index], first);
}

void Probes::Change(Probe& probe, ProbeTarget target, TimePoint now) {
  bool sooner = target.check.interval < probe.target.check.interval;
  probe.target = std::move(target);
  probe.state.SetThresholds(probe.target.check.rise, probe.target.check.fall);
  if (probe.source >= probe.target.sources.size()) probe.source = 0;
  if (sooner && probe.phase == Phase::kWaiting) ScheduleNext(probe, now);
}

void Probes::Remove(Probe& probe) {
  probe.target.server->set_up(true);
  timers_.Cancel(probe);
  if (probe.phase == Phase::kWaiting) {
    Drop(probe);
    return;
  }
  probe.removed = true;
  if (probe.phase == Phase::kConnecting) io_.Cancel(TokenOf(probe));
  probe.phase = Phase::kCancelling;
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
      TimeOut(probe);
    }
  }
}

void Probes::Start(Probe& probe, TimePoint now) {
  probe.started = now;
  int fd = OpenSocket(probe);
  if (fd < 0) {
    if (fd == -EADDRNOTAVAIL)
      Failed(probe, "no interface of this machine has one of its source addresses");
    else
      CouldNotConnect(probe, -fd, now);
    ScheduleNext(probe, now);
    return;
  }
  probe.fd = fd;
  ++probe.generation;
  probe.phase = Phase::kConnecting;
  ++armed_;
  io_.Connect(TokenOf(probe), fd, probe.target.server->address());
  timers_.Schedule(probe, now + probe.target.check.timeout);
}

int Probes::OpenSocket(Probe& probe) {
  int family = probe.target.server->address().family();
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

void Probes::TimeOut(Probe& probe) {
  probe.phase = Phase::kCancelling;
  io_.Cancel(TokenOf(probe));
  Failed(probe, absl::StrCat("timed out after ", InWords(probe.target.check.timeout)));
}

void Probes::Handle(const Completion& completion, TimePoint now) {
  RINGMAIN_CHECK(completion.token.op == Op::kProbe && completion.token.index < probes_.size());
  if (probes_[completion.token.index] == nullptr) return;
  Probe& probe = *probes_[completion.token.index];
  if (completion.token != TokenOf(probe) || probe.phase == Phase::kWaiting) return;
  bool cancelled = probe.phase == Phase::kCancelling;
  int error = -completion.result;
  if (error <= 0 && io_.ConnectedToItself(probe.fd, probe.target.server->address())) error = ECONNREFUSED;
  probe.phase = Phase::kWaiting;
  --armed_;
  Close(probe);
  timers_.Cancel(probe);
  if (probe.removed) {
    Drop(probe);
    return;
  }
  if (stopped_) return;
  if (cancelled) {
    // Counted when it timed out.
  } else if (error <= 0) {
    Succeeded(probe);
  } else {
    CouldNotConnect(probe, error, now);
  }
  ScheduleNext(probe, now);
}

void Probes::ScheduleNext(Probe& probe, TimePoint now) {
  double factor = std::uniform_real_distribution<double>(0.9, 1.1)(random_);
  Duration interval(static_cast<int64_t>(static_cast<double>(Duration(probe.target.check.interval).count()) * factor));
  timers_.Schedule(probe, std::max(now, probe.started + interval));
}

void Probes::Succeeded(Probe& probe) {
  probe.target.metrics->health.succeeded.Add();
  if (!probe.state.OnSuccess()) return;
  probe.target.server->set_up(true);
  Log(LogLevel::kInfo, "server up upstream=", probe.target.upstream, " server=", probe.target.server->name());
}

void Probes::Failed(Probe& probe, const std::string& reason) {
  probe.target.metrics->health.failed.Add();
  if (!probe.state.OnFailure()) return;
  probe.target.server->set_up(false);
  Log(LogLevel::kWarn, "server down upstream=", probe.target.upstream, " server=", probe.target.server->name(),
      " reason=\"", reason, "\"");
}

void Probes::CouldNotConnect(Probe& probe, int error, TimePoint now) {
  if (!IsOurOwnShortage(error)) {
    Failed(probe, InWords(error));
    return;
  }
  if (error == EADDRNOTAVAIL) UseNextSource(probe);
  if (std::optional<uint64_t> held_back = skipped_log_.Admit(now))
    Log(LogLevel::kWarn, "health checks skipped reason=\"", InWords(error), "\" held_back=", *held_back);
}

void Probes::Close(Probe& probe) {
  if (probe.target.server->address().is_unix()) {
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
    if (probe->phase != Phase::kConnecting) continue;
    probe->phase = Phase::kCancelling;
    io_.Cancel(TokenOf(*probe));
  }
}

Token Probes::TokenOf(const Probe& probe) const {
  return {Op::kProbe, probe.generation & Token::kGenerationMask, probe.index};
}

}  // namespace ringmain
