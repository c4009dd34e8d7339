// From the configured method to the balancer.
#pragma once

#include <memory>

#include "upstream/upstream.h"

namespace ringmain {

// For an upstream of this configuration.
std::unique_ptr<const Balancer> MakeBalancer(const UpstreamConfig& config);

}  // namespace ringmain
