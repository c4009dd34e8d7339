// Scenario: everything about a random run that its seed decides before it starts.
#pragma once

#include "driver.h"
#include "world.h"

namespace ringmain::sim {

struct Scenario {
  WorldOptions world;
  DriverOptions driver;
};

Scenario MakeScenario(uint64_t seed);

// Runs it and returns what rule it broke, with the trace of the way there; empty if none.
std::string RunScenario(uint64_t seed);

}  // namespace ringmain::sim
