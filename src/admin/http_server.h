// HttpServer: one HTTP/1.1 listener of civetweb's, bounded and without files. The only place that knows civetweb.
//
// Every request goes to one handler; nothing is served from the file system. Each connection carries one request (no
// keep-alive), headers are at most 16 KiB and must arrive within kHttpTimeout. civetweb gives a connection a thread, so
// idle ones hold threads: kHttpThreads of them delay the next request by that time at most, twice that if they drip
// bytes.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/socket_address.h"

namespace ringmain {

inline constexpr int kHttpThreads = 10;
inline constexpr int kHttpQueue = 10;  // accepted connections that wait for a thread
// File descriptors that a server may hold: the listening one, a connection and a /proc file per thread, the queue, and
// the one in accept.
inline constexpr int kHttpFileDescriptors = 1 + 2 * kHttpThreads + kHttpQueue + 1;
inline constexpr std::chrono::seconds kHttpTimeout{
    5};  // for the headers, and for each wait for the client to take more of a body

inline constexpr size_t kMostBody = 64 << 10;

struct HttpRequest {
  std::string method;
  std::string path;          // decoded, without query and dot segments
  std::string query;         // as it came, without the question mark
  std::string host;          // the header; empty if there is none
  std::string content_type;  // the header; empty if there is none
  std::string body;          // of a POST, if it is not too long
  bool body_too_long = false;  // more than kMostBody
  SocketAddress bound;       // the address this server is bound to
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "text/plain; charset=utf-8";
  std::string allow;  // the Allow header; none if empty
  std::string policy;  // the Content-Security-Policy header; none if empty
};

class HttpServer {
 public:
  // Called on several threads at once.
  using Handler = std::function<HttpResponse(const HttpRequest&)>;

  // Serves `listen` until destroyed. `section` is the configuration's ("admin"), and begins error messages and log
  // lines. Errors: one line with the address, the cause and the setting to change. REQUIRES: the calling thread blocks
  // the signals that civetweb's threads must not take (they inherit its mask). civetweb sets SIGPIPE to be ignored in
  // the whole process.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& section, const std::string& setting,
                                                           const SocketAddress& listen, Handler handler);
  // Waits for requests in progress; up to 2 s (civetweb's poll interval) if a client holds a connection open.
  virtual ~HttpServer() = default;

  // With the port the kernel chose where 0 was asked for.
  virtual const SocketAddress& address() const = 0;
};

}  // namespace ringmain
