// AccessRecord: what a worker says of one of its sessions to the access log.
//
// A value: it passes from the worker to the thread that writes the log (log/access_log.h), which makes a line of it (log/access_line.h).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/socket_address.h"
#include "metrics/cells.h"
#include "metrics/reasons.h"
#include "metrics/session_list.h"

namespace ringmain {

enum class AccessEvent : uint8_t {
  kStart,    // it was opened
  kRunning,  // it goes on: what there is to say of it up to now
  kEnd,      // it has ended
};
inline constexpr std::array<std::string_view, 3> kAccessEventNames = {"start", "running", "end"};
static_assert(static_cast<size_t>(AccessEvent::kEnd) + 1 == kAccessEventNames.size());
inline std::string_view ToString(AccessEvent event) { return kAccessEventNames[static_cast<size_t>(event)]; }

// What the client's PROXY protocol header said.
struct ProxyFacts {
  uint8_t version = 0;                      // 0: there was none, or it said nothing
  std::optional<SocketAddress> from;        // whose connection it came on; none: not known any more
  std::optional<SocketAddress> destination; // where the client had connected to
  std::string authority;                    // the host name that the client asked for (of TLS: its SNI); empty: it does not say
  std::string tls_version;                  // such as TLSv1.3; empty: the client did not use TLS, or it does not say
};

struct AccessRecord {
  AccessEvent event = AccessEvent::kEnd;
  CloseReason reason = CloseReason::kError;  // of kEnd
  uint8_t retries = 0;  // connects beyond the first; 255: so many or more
  uint64_t number = 0;
  std::shared_ptr<const RouteNames> route;
  std::optional<uint16_t> server;       // index in the route: the one it has, or the last that was tried
  std::optional<SocketAddress> client;  // as the header says if there is one; none: not known
  ProxyFacts proxy;
  TimePoint at{};           // when it was written
  TimePoint accepted_at{};
  Duration queued{};        // in all
  std::optional<Duration> connect;     // to its server, the try that succeeded; none: none has
  std::optional<Duration> first_byte;  // from accept to the first byte of the server; none: none has come
  std::array<uint64_t, 2> bytes{};     // of payload, handed to the kernel for the receiving side; by Direction
};

// What the thread that writes counts. One writer each: that thread; at the start of a process that takes over, the process thread.
struct AccessLogCells {
  Counter written;
  Counter failed;     // lines that could not be written
  Counter over_rate;  // left out because of max_rate
};

}  // namespace ringmain
