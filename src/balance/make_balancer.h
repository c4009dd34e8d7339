// From the configured method to the balancer.
#pragma once

#include <memory>

#include "upstream/upstream.h"

namespace ringmain {

std::unique_ptr<const Balancer> MakeBalancer(BalanceMethod method);

}  // namespace ringmain
