// Probes: the health checks of all servers, over an Io. What runs them is HealthThread (prober.h).
//
//   kWaiting ─► kConnecting ─► kSending ─► kReceiving
//                    │             │            │
//                    └─────────────┴────────────┴─┬─ judged ─────────────────────────────────► kWaiting
//                                                 └─ timed out, removed ─► kCancelling ─ final completion ─► kWaiting, or gone
//
// A probe connects, sends what its Exchange says (often at once, without kSending), looks at what comes until that is enough, and closes at
// once with a reset, which leaves no TIME_WAIT behind. What is armed is the connect, or a poll: sending and receiving themselves are
// immediate, so no memory of a probe is ever the kernel's. The timeout is of the whole probe. It comes from the first of the source
// addresses; from the next one if that cannot be had. A server never has two probes at once; all servers are probed independently of each
// other. Thread-bound.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/timer_wheel.h"
#include "config/config.h"
#include "config/pattern.h"
#include "health/exchange.h"
#include "health/health_state.h"
#include "log/log.h"
#include "metrics/board.h"
#include "upstream/upstream.h"
#include "uring/io.h"

namespace ringmain {

// One server to check.
struct ProbeTarget {
  std::string upstream;
  std::shared_ptr<Server> server;
  std::shared_ptr<ServerMetrics> metrics;
  std::shared_ptr<UpstreamMetrics> upstream_metrics;
  std::shared_ptr<const HealthCheckConfig> check;
  std::vector<SocketAddress> sources;  // of probes, all of the family of what is checked; empty: the kernel chooses
  SocketOptions socket{};              // of probes
  std::string prologue{};              // what every probe sends first, whatever its type
};

class Probes {
 public:
  // The first probe of every server starts within this time, spread evenly.
  static constexpr Duration kFirstProbesWithin = milliseconds(100);

  // Nothing is checked at first. `io` outlives the probes. `seed` is of the jitter.
  Probes(Io& io, uint64_t seed, TimePoint now);
  // REQUIRES: armed() == 0 and Stop was called.
  ~Probes();
  Probes(const Probes&) = delete;
  Probes& operator=(const Probes&) = delete;

  // Checks these from now on. A server that was checked before goes on as it stands: up or down, with its count of results in a row. One
  // that is not to be checked any more is up. REQUIRES: no server twice; not stopped.
  void Check(std::vector<ProbeTarget> targets, TimePoint now);
  // Takes a completion whose token says Op::kProbe.
  void Handle(const Completion& completion, TimePoint now);
  // Starts the probes that are due, and gives up those that took too long.
  void RunTimers(TimePoint now);
  // When RunTimers must be called next; none when stopped.
  std::optional<TimePoint> NextWakeUp() const { return timers_.NextWakeUp(); }

  // Starts no probe any more and cancels what is armed. Results that still come do not count.
  void Stop();
  // Probes whose final completion is still to come.
  size_t armed() const { return armed_; }

 private:
  enum class Phase {
    kWaiting,     // no socket; the timer starts the next probe
    kConnecting,  // the connect is armed; the timer is the timeout, as in the next two
    kSending,     // connected; a poll for room to send the rest of the request is armed
    kReceiving,   // all is sent; a poll for an answer, or more of it, is armed
    kCancelling,  // timed out, removed or stopped; the final completion is still to come
  };
  struct Probe;

  void Add(ProbeTarget target, TimePoint first);
  void Change(Probe& probe, ProbeTarget target, TimePoint now);
  void Remove(Probe& probe);
  void Drop(Probe& probe);
  void Start(Probe& probe, TimePoint now);
  int OpenSocket(Probe& probe);
  void Poll(Probe& probe, Phase phase, short events);
  void Send(Probe& probe, TimePoint now);
  void Receive(Probe& probe, TimePoint now);
  void TimeOut(Probe& probe, TimePoint now);
  void Cancel(Probe& probe);
  // The probe has nothing armed any more, and was judged.
  void Finish(Probe& probe, TimePoint now);
  void ScheduleNext(Probe& probe, TimePoint now);
  static void CountTime(const Probe& probe, TimePoint now);
  void Succeeded(Probe& probe, TimePoint now);
  void Failed(Probe& probe, const std::string& reason, TimePoint now);
  void Broke(Probe& probe, int error, TimePoint now);
  std::shared_ptr<const Exchange> ExchangeWith(const ProbeTarget& target);
  static void UseNextSource(Probe& probe);
  void Close(Probe& probe);
  Token TokenOf(const Probe& probe) const;

  Io& io_;
  TimerWheel timers_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Probe>> probes_;  // by the index in their tokens; null where one is gone
  std::vector<uint32_t> free_;                  // indices of those
  size_t armed_ = 0;
  bool stopped_ = false;
  LogLimiter skipped_log_;
  std::map<std::string, std::weak_ptr<const Pattern>> patterns_;  // of many servers one
  std::array<char, Exchange::kMaxAnswer> received_;               // by one receive
};

}  // namespace ringmain
