// Scenario: everything about a random run that its seed decides before it starts.
#pragma once

#include "driver.h"
#include "world.h"

namespace ringmain::sim {

struct Scenario {
  WorldOptions world;
  DriverOptions driver;
};

// What runs went through.
struct Coverage {
  uint64_t splice_begins = 0;  // changes from buffers to pipes, in the middle of a stream
  uint64_t splice_ends = 0;    // and back
  uint64_t copies = 0;         // direct receives into buffers
  uint64_t source_changes = 0;  // sessions that found no port at one local address, and a server from another
  uint64_t self_connects = 0;   // connects that reached themselves
  uint64_t replaced = 0;        // servers that ended before they were of use, and gave way to another
  uint64_t freezes = 0;         // times that all sessions stood still
  uint64_t headers_read = 0;    // PROXY protocol headers of clients whose server was connected then
  uint64_t headers_refused = 0;
  uint64_t bandwidth_waits = 0;  // times that a direction was held back by a limit
  uint64_t headers_sent = 0;    // to servers, as a whole
};

Scenario MakeScenario(uint64_t seed);

// Runs it and returns what rule it broke, with the trace of the way there; empty if none. Adds to `coverage`.
std::string RunScenario(uint64_t seed, Coverage& coverage);

}  // namespace ringmain::sim
