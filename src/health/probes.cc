#include "health/probes.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>

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
  Probe(uint32_t index_in, const ProbeTarget& target_in)
      : index(index_in), target(target_in), state(target_in.check.rise, target_in.check.fall) {}

  const uint32_t index;
  const ProbeTarget target;
  HealthState state;
  Phase phase = Phase::kWaiting;
  uint32_t generation = 0;  // of the last probe started
  int fd = -1;
  size_t source = 0;  // of the server's source addresses
  TimePoint started;
};

Probes::Probes(const std::vector<ProbeTarget>& targets, Io& io, uint64_t seed, TimePoint now)
    : io_(io), timers_(now), random_(seed) {
  for (const ProbeTarget& target : targets) {
    uint32_t index = static_cast<uint32_t>(probes_.size());
    probes_.push_back(std::make_unique<Probe>(index, target));
    timers_.Schedule(*probes_.back(), now + kFirstProbesWithin * index / targets.size());
  }
}

Probes::~Probes() { RINGMAIN_CHECK(armed_ == 0 && timers_.size() == 0); }

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
  const Server& server = *probe.target.server;
  int family = server.address().family();
  if (server.sources().empty()) return io_.OpenSocket(family, nullptr);
  int fd = -EADDRNOTAVAIL;
  for (size_t tries = 0; tries < server.sources().size() && fd == -EADDRNOTAVAIL; ++tries) {
    fd = io_.OpenSocket(family, &server.sources()[probe.source]);
    if (fd == -EADDRNOTAVAIL) UseNextSource(probe);
  }
  return fd;
}

void Probes::UseNextSource(Probe& probe) {
  if (++probe.source >= probe.target.server->sources().size()) probe.source = 0;
}

void Probes::TimeOut(Probe& probe) {
  probe.phase = Phase::kCancelling;
  io_.Cancel(TokenOf(probe));
  Failed(probe, absl::StrCat("timed out after ", InWords(probe.target.check.timeout)));
}

void Probes::Handle(const Completion& completion, TimePoint now) {
  RINGMAIN_CHECK(completion.token.op == Op::kProbe && completion.token.index < probes_.size());
  Probe& probe = *probes_[completion.token.index];
  if (completion.token != TokenOf(probe) || probe.phase == Phase::kWaiting) return;
  bool cancelled = probe.phase == Phase::kCancelling;
  int error = -completion.result;
  if (error <= 0 && io_.ConnectedToItself(probe.fd, probe.target.server->address())) error = ECONNREFUSED;
  probe.phase = Phase::kWaiting;
  --armed_;
  Close(probe);
  timers_.Cancel(probe);
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
  probe.target.cells->succeeded.Add();
  if (!probe.state.OnSuccess()) return;
  probe.target.server->set_up(true);
  Log(LogLevel::kInfo, "server up upstream=", probe.target.upstream, " server=", probe.target.server->name());
}

void Probes::Failed(Probe& probe, const std::string& reason) {
  probe.target.cells->failed.Add();
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
