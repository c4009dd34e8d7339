// Sockets that the service manager has opened for this process: sd_listen_fds(3), as a systemd socket unit has it.
//
// They listen while no process does, so a restart refuses nobody. A socket belongs to the listener that is configured with its address; of the
// configuration nothing else is new.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "process/listen_table.h"

namespace ringmain {

// Those that $LISTEN_FDS counts, if $LISTEN_PID is this process. `warnings` gets a sentence for each that no listener has; those are closed.
// REQUIRES: called once; nobody has closed them.
std::vector<ListenTable::Entry> TakeActivationSockets(const Config& config, std::vector<std::string>& warnings);

}  // namespace ringmain
