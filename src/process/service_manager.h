// What systemd is told of the process's life: the protocol of sd_notify(3), a datagram to the socket that $NOTIFY_SOCKET names. Where there is no
// such variable nothing is sent.
#pragma once

#include <optional>
#include <string_view>

#include "base/clock.h"

namespace ringmain {

// Any thread; waits a second at most. `state` is one or more assignments, a line each, such as "READY=1".
void NotifyServiceManager(std::string_view state);

// The assignments.
void NotifyReady();        // it serves
void NotifyMainProcess();  // it is the service's main process from now on, in another's place
void NotifyReloading();
void NotifyStopping();
void NotifyAlive();

// When the service manager wants a sign of life (WatchdogSec= of a systemd unit, sd_watchdog_enabled(3)): four times in the time that
// $WATCHDOG_USEC gives, so that a few may be late. $WATCHDOG_PID is not looked at: a process that has taken over has the one of the process
// before it.
class Watchdog {
 public:
  // `microseconds` is what the variable says; null: nobody wants any.
  Watchdog(const char* microseconds, TimePoint now);

  // True when it is time, and then not before the next time.
  bool Due(TimePoint now);
  // The earlier one of `deadline` and that time.
  std::optional<TimePoint> Sooner(std::optional<TimePoint> deadline) const;

 private:
  Duration interval_{0};  // 0: never
  TimePoint next_{};
};

}  // namespace ringmain
