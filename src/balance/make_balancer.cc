#include "balance/make_balancer.h"

#include "balance/least_connections.h"
#include "balance/round_robin.h"

namespace ringmain {

std::unique_ptr<const Balancer> MakeBalancer(BalanceMethod method) {
  switch (method) {
    case BalanceMethod::kRoundRobin:
      return std::make_unique<RoundRobin>();
    case BalanceMethod::kLeastConnections:
      return std::make_unique<LeastConnections>();
    default:
      break;
  }
  RINGMAIN_CHECK(false);
}

}  // namespace ringmain
