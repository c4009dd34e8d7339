// What differs between two configurations, in words for operators.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace ringmain {

// A sentence for each difference, such as `listener front: idle_timeout off -> 5s` or `upstream back: server 10.0.0.1:7001 removed`. Empty if
// and only if both are the same. Pure.
std::vector<std::string> DescribeChanges(const Config& before, const Config& after);

}  // namespace ringmain
