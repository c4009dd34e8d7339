// The schema of the configuration file: what each key is, its range, and what must fit together.
#pragma once

#include <yaml-cpp/yaml.h>

#include "config/config.h"
#include "config/reader.h"

namespace ringmain {

// The configuration that `root` describes; valid only if no error was added. Bounded: at most kMaxAllServers servers
// and kMaxListeners listeners are read, whatever aliases repeat.
Config ReadConfig(const YAML::Node& root, ErrorList& errors);

}  // namespace ringmain
