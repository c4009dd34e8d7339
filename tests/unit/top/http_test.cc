#include "top/http.h"

#include <gtest/gtest.h>

namespace ringmain::top {
namespace {

std::string Failure(std::string_view response) {
  auto body = BodyOf(response);
  EXPECT_FALSE(body.ok());
  return std::string(body.status().message());
}

bool Has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

TEST(TopHttp, AsksAsTheApiWantsIt) {
  EXPECT_EQ(StatusRequest("127.0.0.1:9900", 20, ""),
            "GET /api/v1/status?sessions=20 HTTP/1.0\r\nHost: 127.0.0.1:9900\r\nAccept: application/json\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(Has(StatusRequest("a:1", 0, "s3cret"), "\r\nAuthorization: Bearer s3cret\r\n\r\n"));
}

TEST(TopHttp, TakesTheBodyOfAnAnswer) {
  EXPECT_EQ(*BodyOf("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), "{}");
  EXPECT_EQ(*BodyOf("HTTP/1.0 200 OK\r\n\r\n{}"), "{}");                           // no length: to the end
  EXPECT_EQ(*BodyOf("HTTP/1.1 200 OK\r\nContent-Length:  2 \r\n\r\n{}more"), "{}");
  EXPECT_EQ(*BodyOf("HTTP/1.1 200\r\nContent-Length: x\r\n\r\n{}"), "{}");
}

TEST(TopHttp, SaysWhatIsWrongWithAnAnswer) {
  EXPECT_TRUE(Has(Failure(""), "without an answer"));
  EXPECT_TRUE(Has(Failure("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"), "broke off after 2 of 10 bytes"));
  EXPECT_TRUE(Has(Failure("SSH-2.0-OpenSSH_9.2p1\r\n"), "does not speak HTTP: 'SSH-2.0-OpenSSH_9.2p1'"));
  EXPECT_TRUE(Has(Failure("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n"), "does not speak HTTP"));  // no end of the head
  EXPECT_TRUE(Has(Failure("HTTP/1.1 2"), "does not speak HTTP"));
  EXPECT_TRUE(Has(Failure("HTTP/1.1 abc\r\n\r\n"), "does not speak HTTP"));
}

TEST(TopHttp, SaysWhatToDo) {
  std::string forbidden = Failure("HTTP/1.1 403 Forbidden\r\n\r\nthis needs a token\n");
  EXPECT_TRUE(Has(forbidden, "403 Forbidden: this needs a token")) << forbidden;
  EXPECT_TRUE(Has(forbidden, "--token-file")) << forbidden;
  EXPECT_TRUE(Has(Failure("HTTP/1.1 401 Unauthorized\r\n\r\n"), "--token-file"));
  EXPECT_TRUE(Has(Failure("HTTP/1.1 404 Not Found\r\n\r\nnot found\n"), "admin.listen"));
  EXPECT_TRUE(Has(Failure("HTTP/1.1 500 Oops\r\n\r\ninternal error\n"), "500 Oops: internal error"));
}

TEST(TopHttp, WhatTheOtherSideSaysIsMadeHarmless) {
  std::string message = Failure("HTTP/1.1 503 \x1b]0;x\x07\r\n\r\n\x1b[2J" + std::string(10'000, 'x'));
  EXPECT_TRUE(Has(message, "503 ?]0;x?: ?[2Jxxx")) << message;
  EXPECT_LT(message.size(), 500u);
}

TEST(TopHttp, TokensAreOneWord) {
  EXPECT_EQ(*TokenOf(" abc.DEF-123~\n", "f"), "abc.DEF-123~");
  EXPECT_TRUE(Has(std::string(TokenOf(" \n", "/etc/t").status().message()), "/etc/t: there is no token"));
  for (const char* bad : {"a b", "a\r\nX: y", "a\x01", "\xc3\xa4"}) EXPECT_FALSE(TokenOf(bad, "f").ok()) << bad;
}

}  // namespace
}  // namespace ringmain::top
