#include "balance/make_balancer.h"

#include "balance/least_connections.h"
#include "balance/least_latency.h"
#include "balance/maglev.h"
#include "balance/random_of_two.h"
#include "balance/round_robin.h"
#include "balance/source_hash.h"
#include "base/check.h"

namespace ringmain {

std::unique_ptr<const Balancer> MakeBalancer(const UpstreamConfig& config) {
  switch (config.balance) {
    case BalanceMethod::kRoundRobin:
      return std::make_unique<RoundRobin>();
    case BalanceMethod::kLeastConnections:
      return std::make_unique<LeastConnections>();
    case BalanceMethod::kRandom:
      return std::make_unique<RandomOfTwo>();
    case BalanceMethod::kSourceHash:
      return std::make_unique<SourceHash>(config);
    case BalanceMethod::kMaglev:
      return std::make_unique<Maglev>(config);
    case BalanceMethod::kLeastLatency:
      return std::make_unique<LeastLatency>();
  }
  RINGMAIN_CHECK(false);
}

}  // namespace ringmain
