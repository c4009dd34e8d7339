// Whether this process may have the socket options that a configuration asks for, before anything is changed for it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "config/config.h"

namespace ringmain {

// Tries every option on sockets that are thrown away. Errors: one line that names the listener or upstream, the option and the cause, such as the
// capability that is missing. Adds to `warnings` what is done without instead.
absl::Status CheckSockets(const Config& config, std::vector<std::string>& warnings);

}  // namespace ringmain
