// Whether a listener's access rules let an address in. Pure.
#pragma once

#include <vector>

#include "base/socket_address.h"
#include "config/config.h"

namespace ringmain {

using AccessRules = std::vector<AccessRule>;

// The first rule that fits decides; where none does, the address is let in.
inline bool Allowed(const AccessRules& rules, const SocketAddress& address) {
  for (const AccessRule& rule : rules)
    if (rule.network.Contains(address)) return rule.allow;
  return true;
}

}  // namespace ringmain
