// Process: the composition root. Creates the threads, wires them, and decides how long each lives.
#pragma once

#include <memory>
#include <string>

#include "config/config.h"

namespace ringmain {

// Exit codes of the program.
inline constexpr int kExitClean = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;  // bad command line or configuration

// Runs the proxy until a signal ends it: SIGTERM and SIGINT drain, a second one exits at once. Returns an exit code; what went wrong
// was logged (it sets the log up and shuts it down). `disabled_features` is the value of RINGMAIN_DISABLE. REQUIRES: called once, by the main thread, before any other
// thread exists (it blocks the signals that it waits for).
int RunProcess(std::shared_ptr<const Config> config, std::string disabled_features);

}  // namespace ringmain
