#include "health/exchange.h"

#include <gtest/gtest.h>

namespace ringmain {
namespace {

using Verdict = Exchange::Verdict;

Exchange Make(const HealthCheckConfig& check, const char* server = "10.0.0.1:80", std::string_view prologue = "") {
  std::shared_ptr<const Pattern> pattern;
  if (!check.expect_pattern.empty()) pattern = Pattern::Compile(check.expect_pattern).value();
  return Exchange(std::make_shared<const HealthCheckConfig>(check), SocketAddress::Parse(server).value(), prologue, pattern);
}

HealthCheckConfig Expecting(const std::string& expect) {
  return {.type = HealthCheckType::kSendExpect, .send = "hello", .expect = expect};
}

// Feeds the answer in two pieces: good or bad means the same however it is cut. None of the shorter beginnings may be judged otherwise.
struct Outcome {
  Verdict verdict;
  std::string reason;
  bool operator==(const Outcome&) const = default;
};
Outcome Feed(const Exchange& exchange, std::string_view answer, size_t cut) {
  Outcome outcome{Verdict::kMore, ""};
  if (cut > 0) outcome.verdict = exchange.Judge(answer.substr(0, cut), 0, outcome.reason);
  if (outcome.verdict == Verdict::kMore && cut < answer.size()) outcome.verdict = exchange.Judge(answer, cut, outcome.reason);
  return outcome;
}
void ExpectAtEveryCut(const Exchange& exchange, std::string_view answer, const Outcome& expected) {
  for (size_t cut = 0; cut <= answer.size(); ++cut)
    EXPECT_EQ(Feed(exchange, answer, cut), expected) << "cut at " << cut << " of " << answer;
  size_t seen = 0;
  Outcome outcome{Verdict::kMore, ""};
  for (; seen < answer.size() && outcome.verdict == Verdict::kMore; ++seen)
    outcome.verdict = exchange.Judge(answer.substr(0, seen + 1), seen, outcome.reason);
  EXPECT_EQ(outcome, expected) << "byte by byte: " << answer;
}

TEST(ExchangeTest, ATcpCheckSaysNothing) {
  Exchange exchange = Make({});
  EXPECT_EQ(exchange.request(), "");
  EXPECT_FALSE(exchange.wants_answer());
  EXPECT_EQ(Make({}, "10.0.0.1:80", "first").request(), "first");
}

TEST(ExchangeTest, BytesAnywhere) {
  Exchange exchange = Make(Expecting("aab"));
  EXPECT_EQ(exchange.request(), "hello");
  EXPECT_TRUE(exchange.wants_answer());
  for (const char* answer : {"aab", "aaab", "..aab", "aab..", "xxaaaaab\r\n"}) ExpectAtEveryCut(exchange, answer, {Verdict::kGood, ""});
  for (const char* answer : {"a", "aa", "abab", "AAB"}) ExpectAtEveryCut(exchange, answer, {Verdict::kMore, ""});
  std::string zeros("\0\xff\0", 3);
  ExpectAtEveryCut(Make(Expecting(zeros)), "ab" + zeros, {Verdict::kGood, ""});
  ExpectAtEveryCut(Make(Expecting("x")), "abx", {Verdict::kGood, ""});
}

TEST(ExchangeTest, APattern) {
  HealthCheckConfig check = Expecting("");
  check.expect_pattern = "^\\+(PONG|OK)\\r";
  Exchange exchange = Make(check);
  ExpectAtEveryCut(exchange, "+OK\r\n", {Verdict::kGood, ""});
  ExpectAtEveryCut(exchange, "-ERR +OK\r\n", {Verdict::kMore, ""});
  check.expect_pattern = "\\xff.\\x00[[:digit:]]";
  ExpectAtEveryCut(Make(check), std::string_view("..\xff\x80\0007", 6), {Verdict::kGood, ""});
}

TEST(ExchangeTest, AnyByteIfNothingIsExpected) {
  Exchange exchange = Make(Expecting(""));
  ExpectAtEveryCut(exchange, std::string_view("\0", 1), {Verdict::kGood, ""});
  EXPECT_EQ(exchange.Lacking(""), "an answer");
}

TEST(ExchangeTest, OnlyTheFirst16KiBCount) {
  std::string answer(Exchange::kMaxAnswer, '.');
  std::string reason;
  Exchange exchange = Make(Expecting("end"));
  EXPECT_EQ(exchange.Judge(std::string_view(answer).substr(1), 0, reason), Verdict::kMore);
  EXPECT_EQ(exchange.Judge(answer, 5, reason), Verdict::kBad);
  EXPECT_EQ(reason, "no match in the first 16 KiB");
  answer.replace(answer.size() - 3, 3, "end");
  EXPECT_EQ(exchange.Judge(answer, answer.size() - 1, reason), Verdict::kGood);
}

TEST(ExchangeTest, AnHttpRequest) {
  HealthCheckConfig check{.type = HealthCheckType::kHttp, .method = "HEAD", .path = "/up?x=1"};
  auto head = [](const std::string& host) {
    return "HEAD /up?x=1 HTTP/1.0\r\nHost: " + host + "\r\nUser-Agent: ringmain/" RINGMAIN_VERSION
           "\r\nAccept: */*\r\nConnection: close\r\n\r\n";
  };
  EXPECT_EQ(Make(check).request(), head("10.0.0.1:80"));
  EXPECT_EQ(Make(check, "[::1]:80", "PROXY UNKNOWN\r\n").request(), "PROXY UNKNOWN\r\n" + head("[::1]:80"));
  EXPECT_EQ(Make(check, "unix:/run/x").request(), head("localhost"));
  check.port = 81;
  EXPECT_EQ(Make(check).request(), head("10.0.0.1:81"));
  EXPECT_EQ(Make(check).address().ToString(), "10.0.0.1:81");
  check.port.reset();
  check.address = SocketAddress::Parse("unix:/run/y").value();
  EXPECT_EQ(Make(check).address().ToString(), "unix:/run/y");
  check.host = "example.org";
  EXPECT_EQ(Make(check).request(), head("example.org"));
  check.method = "POST";
  EXPECT_TRUE(Make(check).request().ends_with("close\r\nContent-Length: 0\r\n\r\n"));
}

TEST(ExchangeTest, TheStatusLineDecides) {
  HealthCheckConfig check{.type = HealthCheckType::kHttp, .statuses = {{200, 299}, {304, 304}}};
  Exchange exchange = Make(check);
  for (const char* answer : {"HTTP/1.1 200 OK\r\n", "HTTP/1.0 299 \r\n", "HTTP/1.1 304\r\n", "HTTP/1.1 204\n", "HTTP/2 200 "})
    ExpectAtEveryCut(exchange, answer, {Verdict::kGood, ""});
  ExpectAtEveryCut(exchange, "HTTP/1.1 503 Service Unavailable\r\n\r\n", {Verdict::kBad, "status 503"});
  ExpectAtEveryCut(exchange, "HTTP/1.0 300 Multiple Choices\r\n", {Verdict::kBad, "status 300"});
  ExpectAtEveryCut(exchange, "HTTP/1.1 199 \r\n", {Verdict::kBad, "status 199"});
  for (const char* answer : {"h", "SSH-2.0-x\r\n", "HTTP 200 OK", "HTTP/1.1  200 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 20 OK", "HTTP/1.1\r\n",
                             "HTTP/123456789 200", "HTTP/123456789", "HTTP/ 200 OK", "HTTP/1.1 abc", "\x15\x03\x01"})
    ExpectAtEveryCut(exchange, answer, {Verdict::kBad, "the answer is not HTTP"});
  for (const char* answer : {"H", "HTTP/", "HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 20", "HTTP/1.1 200"})
    ExpectAtEveryCut(exchange, answer, {Verdict::kMore, ""});
  EXPECT_EQ(exchange.Lacking("HTTP/1.1 200"), "a whole status line");
  EXPECT_EQ(exchange.Lacking(""), "an answer");
}

TEST(PatternTest, SaysWhatIsWrong) {
  EXPECT_EQ(Pattern::Compile("a(b").status().message(), "missing ): a(b");
  EXPECT_FALSE(Pattern::Compile("((a{100}){100}){100}").ok()) << "memory is bounded";
  EXPECT_TRUE(Pattern::Compile("a.c").value()->Matches("..a\xff" "c"));
  EXPECT_FALSE(Pattern::Compile("a.c").value()->Matches("a\nc"));
}

}  // namespace
}  // namespace ringmain
