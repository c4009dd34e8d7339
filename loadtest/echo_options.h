// What ringmain-echo was asked to do.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/socket_address.h"

namespace ringmain::loadtest {

enum class EchoMode {
  kEcho,     // every byte comes back; after the peer's end of stream, so does that
  kDiscard,  // bytes are thrown away; closes at the peer's end of stream
  kFrames,   // requests and replies of protocol/frame.h, handled by a pool of threads
};

struct EchoOptions {
  std::vector<SocketAddress> listen;
  EchoMode mode = EchoMode::kEcho;
  uint32_t threads = 1;
  Duration delay{0};                     // kEcho: before what was received is sent back
  uint32_t workers = 4;                  // kFrames: threads that handle requests
  uint32_t queue = 1024;                 // kFrames: requests that may wait for one; beyond that they are answered busy
  Duration work{0};                      // kFrames: what handling one takes
  std::optional<SocketAddress> metrics;  // GET /metrics
};

// Parses the command line. Returns true if there is something to run; false if the program ends now with `exit_code`:
// after --help (0), or after one line about what is wrong (2).
bool ParseEchoOptions(int argc, char** argv, EchoOptions& options, int& exit_code);

}  // namespace ringmain::loadtest
