// One HTTP/1.1 message each way: a request read, a response written. Pure; fuzzed (tests/fuzz/http_fuzz.cc).
//
// What is not needed is refused rather than interpreted: transfer codings, folded lines, targets that are no path, headers that count said
// twice. Numbers in comments are sections of RFC 9112, or of RFC 9110 where it says so.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/socket_address.h"

namespace ringmain {

inline constexpr size_t kMostHead = 16 << 10;  // bytes of a request up to its body
inline constexpr size_t kMostHeaders = 100;
inline constexpr size_t kMostBody = 64 << 10;

struct HttpRequest {
  std::string method;
  std::string path;           // decoded, without query and dot segments
  std::string query;          // as it came, without the question mark
  std::string host;           // this header and those below: empty if there is none
  std::string content_type;
  std::string authorization;
  std::string body;
  SocketAddress bound;        // the address that the server is bound to
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "text/plain; charset=utf-8";
  std::string allow;        // the Allow header; none if empty
  std::string policy;       // the Content-Security-Policy header; none if empty
  bool asks_token = false;  // WWW-Authenticate: Bearer
};

// What comes before the body.
struct HttpHead {
  HttpRequest request;           // without body and `bound`
  size_t body_bytes = 0;         // that follow
  bool expects_continue = false; // the client waits for "100 Continue" before it sends them
};

// How long the head at the start of `bytes` is, its empty line included; 0 if that has not come yet. The first `looked_at` bytes are known
// to hold no whole one. Lines end with LF; a CR before it is part of the end (2.2).
size_t HttpHeadLength(std::string_view bytes, size_t looked_at = 0);
// The answer to give instead, if the request is refused: `head` is then of no use. REQUIRES: `bytes` are one whole head.
std::optional<HttpResponse> ReadHttpHead(std::string_view bytes, HttpHead& head);
// All that is sent, or the same without the body (of a response to HEAD).
std::string WriteHttpResponse(const HttpResponse& response, bool with_body);

}  // namespace ringmain
