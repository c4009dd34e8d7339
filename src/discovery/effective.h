// The configuration that runs: the one that was read, with the servers that were found by name. Pure.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "discovery/names.h"

namespace ringmain {

using Answers = std::map<NameKey, std::vector<FoundServer>>;

struct EffectiveConfig {
  std::shared_ptr<const Config> config;
  std::vector<std::string> left_out;  // sentences: which servers could not be put in, and why
};

// After the servers with addresses come those of each name, in the order of the names and of the answers. An address that is there already is
// not added again. `configured` itself if it has no names.
EffectiveConfig PutIn(std::shared_ptr<const Config> configured, const Answers& answers);

}  // namespace ringmain
