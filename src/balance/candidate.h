// What every balancer asks before it prefers one server to another.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "upstream/upstream.h"

namespace ringmain {

// `server` may be picked: it is up and not one that this connection tried already.
inline bool IsCandidate(const Upstream& upstream, uint16_t server, std::span<const uint16_t> tried) {
  return upstream.server(server).up() && std::find(tried.begin(), tried.end(), server) == tried.end();
}

}  // namespace ringmain
