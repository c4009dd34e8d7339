#include "admin/http_message.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

// The status that the head is refused with; 0 if it is not.
int Refusal(std::string_view bytes, HttpHead& head) {
  EXPECT_EQ(HttpHeadLength(bytes), bytes.size()) << bytes;
  auto refusal = ReadHttpHead(bytes, head);
  if (!refusal.has_value()) return 0;
  EXPECT_FALSE(refusal->body.empty());
  return refusal->status;
}
int Refusal(std::string_view bytes) {
  HttpHead head;
  return Refusal(bytes, head);
}
int RefusalOfPath(const std::string& path) { return Refusal("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"); }
int RefusalOfHeaders(const std::string& headers) { return Refusal("POST / HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n"); }

TEST(HttpHead, EndsWithAnEmptyLine) {
  struct {
    std::string_view bytes;
    size_t length;
  } cases[] = {{"", 0},          {"GET / HTTP/1.1\r\n", 0}, {"a\r\n\r", 0}, {"a\r\n\r\n", 5}, {"a\n\n", 3},        {"a\n\r\n", 4},
               {"a\r\n\nb", 4},  {"a\r\n\r\nb\r\n\r\n", 5}, {"\r\n\r\n", 4}, {"a\r\r\n", 0},   {"a\n \n\nb", 5},   {"a\r\n\r\r\n", 0}};
  for (const auto& c : cases) {
    EXPECT_EQ(HttpHeadLength(c.bytes), c.length) << c.bytes;
    // The same, whatever was looked at before.
    for (size_t looked_at = 0; looked_at < (c.length == 0 ? c.bytes.size() + 1 : c.length); ++looked_at)
      EXPECT_EQ(HttpHeadLength(c.bytes, looked_at), c.length) << c.bytes << " " << looked_at;
  }
}

TEST(HttpHead, IsRead) {
  HttpHead head;
  ASSERT_EQ(Refusal("POST /api/v1/x%20y?a=%31&b HTTP/1.1\r\nhost:\t127.0.0.1:1 \r\nCONTENT-TYPE: application/json\r\n"
                    "Authorization: Bearer abc\r\nContent-Length: 12\r\nExpect: 100-Continue\r\nX-Other: \xc3\xa9\r\nEmpty:\r\n\r\n",
                    head),
            0);
  EXPECT_EQ(head.request.method, "POST");
  EXPECT_EQ(head.request.path, "/api/v1/x y");
  EXPECT_EQ(head.request.query, "a=%31&b");
  EXPECT_EQ(head.request.host, "127.0.0.1:1");
  EXPECT_EQ(head.request.content_type, "application/json");
  EXPECT_EQ(head.request.authorization, "Bearer abc");
  EXPECT_EQ(head.body_bytes, 12u);
  EXPECT_TRUE(head.expects_continue);

  HttpHead least;
  ASSERT_EQ(Refusal("GET / HTTP/1.0\n\n", least), 0);
  EXPECT_EQ(least.request.path, "/");
  EXPECT_EQ(least.request.query, "");
  EXPECT_EQ(least.body_bytes, 0u);
  EXPECT_FALSE(least.expects_continue);
}

TEST(HttpHead, RequestLines) {
  for (const char* line : {"", "GET", "GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "GET / x HTTP/1.1", "G(T / HTTP/1.1",
                           "GET / HTTQ/1.1", "GET / http/1.1", "GET /\x7f HTTP/1.1", "GET /\t HTTP/1.1"})
    EXPECT_EQ(Refusal(std::string(line) + "\r\nHost: x\r\n\r\n"), 400) << line;
  for (const char* version : {"HTTP/0.9", "HTTP/2.0", "HTTP/1.10", "HTTP/1.x", "HTTP/1.", "HTTP/1.1\r"})
    EXPECT_EQ(Refusal(std::string("GET / ") + version + "\r\nHost: x\r\n\r\n"), 505) << version;
  EXPECT_EQ(Refusal("GET / HTTP/1.1\r\n\r\n"), 400) << "without a Host";
}

TEST(HttpHead, Paths) {
  for (const char* path : {"/", "/a/b", "/a%2fb", "/...", "/.a", "/a..", "//", "/%c3%a9"}) EXPECT_EQ(RefusalOfPath(path), 0) << path;
  for (const char* path : {"*", "a", "http://x/", "/.", "/..", "/../a", "/a/../b", "/a/./b", "/a/..", "/%2e%2e/a", "/a%2f..%2fb", "/%", "/%4",
                           "/%4g", "/%00", "/%0a", "/a%7f", "?x"})
    EXPECT_EQ(RefusalOfPath(path), 400) << path;
}

TEST(HttpHead, Headers) {
  for (const char* header : {"X", ": x", "X : y", " X: y", "X: a\r\n folded", "X: \x01", "X: a\rb", "X\x80: y", "Host: y", "Content-Type: a\r\ncontent-type: a",
                             "Authorization: a\r\nAuthorization: b", "Content-Length: 1\r\nContent-Length: 1", "Content-Length:", "Content-Length: -1",
                             "Content-Length: +1", "Content-Length: 1x", "Content-Length: 0x1", "Content-Length: 1, 1", "Content-Length: 1 1"})
    EXPECT_EQ(RefusalOfHeaders(std::string(header) + "\r\n"), 400) << header;
  EXPECT_EQ(RefusalOfHeaders(std::string("X: \0\r\n", 6)), 400);
  for (const char* header : {"Content-Length: 65537", "Content-Length: 99999999999999999999999999"})
    EXPECT_EQ(RefusalOfHeaders(std::string(header) + "\r\n"), 413) << header;
  EXPECT_EQ(RefusalOfHeaders("Content-Length: 65536\r\n"), 0);
  for (const char* header : {"Transfer-Encoding: chunked", "transfer-encoding:", "Content-Length: 1\r\nTransfer-Encoding: chunked"})
    EXPECT_EQ(RefusalOfHeaders(std::string(header) + "\r\n"), 501) << header;
  std::string many;
  for (size_t i = 1; i < kMostHeaders; ++i) many += "A: b\r\n";
  EXPECT_EQ(RefusalOfHeaders(many), 0);
  EXPECT_EQ(RefusalOfHeaders(many + "A: b\r\n"), 431);
}

TEST(HttpResponse, IsWritten) {
  EXPECT_EQ(WriteHttpResponse({.status = 405, .body = "no\n", .allow = "GET, HEAD"}, true),
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nCache-Control: no-store\r\n"
            "X-Content-Type-Options: nosniff\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\nno\n");
  std::string head = WriteHttpResponse({.status = 401, .body = "no\n", .asks_token = true}, false);
  EXPECT_TRUE(head.ends_with("\r\nWWW-Authenticate: Bearer\r\nConnection: close\r\n\r\n")) << head;
  EXPECT_NE(head.find("\r\nContent-Length: 3\r\n"), std::string::npos);
}

}  // namespace
}  // namespace ringmain
