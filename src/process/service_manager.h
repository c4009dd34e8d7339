// What systemd is told of the process's life: the protocol of sd_notify(3), a datagram to the socket that $NOTIFY_SOCKET names. Where there is no
// such variable nothing is sent.
#pragma once

#include <string_view>

namespace ringmain {

// Any thread; waits a second at most. `state` is one or more assignments, a line each, such as "READY=1".
void NotifyServiceManager(std::string_view state);

// The assignments.
void NotifyReady();        // it serves
void NotifyMainProcess();  // it is the service's main process from now on, in another's place
void NotifyReloading();
void NotifyStopping();

}  // namespace ringmain
