// HttpServer: one bounded HTTP/1.1 listener, without files, TLS or keep-alive: each connection carries one request and one response.
//
// One thread does all the waiting: it accepts, reads requests until they are whole (http_message.h) and writes responses, on non-blocking
// sockets. kHttpThreads others run the handler. So a connection that drips bytes, or sends none, or does not read, holds a socket and its few
// bytes but no thread. Each phase of a connection has a limit in all, not since the last byte. When there are kHttpConnections, a new one takes
// the place of that which has been in its phase longest, if that is beyond the phase's grace; so clients that never finish delay others by
// kReadGrace at most for each kHttpConnections of them that wait.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "admin/http_message.h"
#include "base/clock.h"
#include "base/socket_address.h"

namespace ringmain {

inline constexpr size_t kHttpConnections = 64;
inline constexpr int kHttpThreads = 4;
// File descriptors that a server may hold: the listening one, the one that wakes it, connections, and a /proc file per thread.
inline constexpr int kHttpFileDescriptors = 2 + static_cast<int>(kHttpConnections) + kHttpThreads;
inline constexpr Duration kReadLimit = seconds(5);    // until the request is whole
inline constexpr Duration kWriteLimit = seconds(30);  // until the response is taken
inline constexpr Duration kCloseLimit = seconds(1);   // from then until the client closes
inline constexpr Duration kReadGrace = milliseconds(50);
inline constexpr Duration kWriteGrace = seconds(2);
// Bytes of responses that wait for their clients; beyond that the oldest of these are cut.
inline constexpr size_t kMostUnsent = 64 << 20;

class HttpServer {
 public:
  // Called on several threads at once; may wait.
  using Handler = std::function<HttpResponse(const HttpRequest&)>;

  // Serves `listen` until destroyed. `section` is the configuration's ("admin"), and begins error messages and log
  // lines. Errors: one line with the address, the cause and the setting to change. REQUIRES: the calling thread blocks
  // the signals that the server's threads must not take (they inherit its mask).
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& section, const std::string& setting,
                                                           const SocketAddress& listen, Handler handler);
  // Accepts no more, waits for handlers in progress, and for clients that take their responses: 1 s at most.
  virtual ~HttpServer() = default;

  // With the port the kernel chose where 0 was asked for.
  virtual const SocketAddress& address() const = 0;
};

}  // namespace ringmain
