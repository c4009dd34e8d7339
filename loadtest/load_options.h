// What ringmain-load was asked to do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/socket_address.h"
#include "loadtest/exchange.h"

namespace ringmain::loadtest {

enum class Mode {
  kPing,   // closed loop: send a payload, wait for all of its echo, repeat
  kRate,   // open loop: operations start on a schedule, latencies count from it
  kBulk,   // stream continuously
  kChurn,  // connect, exchange one payload, close, repeat
  kIdle,   // open connections and hold them
};
const char* ToString(Mode mode);

struct LoadOptions {
  Mode mode = Mode::kPing;
  std::vector<SocketAddress> to;                // connection i goes to address i modulo the number of addresses
  std::vector<SocketAddress> source_addresses;  // the same for local addresses; may be empty
  uint32_t connections = 1;
  uint32_t threads = 1;  // at most `connections`
  ExchangeShape shape;
  Duration duration = seconds(10);
  Duration warmup{0};
  Duration connect_timeout = seconds(5);
  Duration reply_timeout = seconds(10);
  double operations_per_second = 0;  // kRate and paced kBulk, over all connections; 0 is unpaced
  double connect_rate = 0;           // connections opened a second, over all threads; 0 is as fast as possible
  bool one_way = false;              // kBulk: the server answers nothing
  bool reset = false;                // kChurn: close with a reset
  bool ping = false;                 // kIdle: verify one exchange on every connection at start and at end
  bool reconnect = false;            // open a failed connection again
  bool quiet = false;
  std::string json;  // a file, "-" for standard output, empty for none
};

// Parses the command line. Returns true if there is something to run; false if the program ends now with `exit_code`:
// after --help (0), or after one line about what is wrong (2).
bool ParseLoadOptions(int argc, char** argv, LoadOptions& options, int& exit_code);

}  // namespace ringmain::loadtest
