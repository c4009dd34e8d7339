// /api/v1/sessions, closing one, draining; and the live page as it is served.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "admin/query.h"
#include "admin/routes.h"
#include "admin/sessions_json.h"
#include "sample.h"

namespace ringmain {
namespace {

using nlohmann::json;

HttpResponse Get(Sample& sample, std::string path, std::string query = "") {
  return Route(sample.View(), RouteSet::kAll,
               {.method = "GET", .path = std::move(path), .query = std::move(query), .bound = Address("127.0.0.1:9900")});
}
HttpResponse Post(Sample& sample, std::string path, std::string body = "{}") {
  return Route(sample.View(), RouteSet::kAll,
               {.method = "POST",
                .path = std::move(path),
                .host = "127.0.0.1:9900",
                .content_type = "application/json",
                .body = std::move(body),
                .bound = Address("127.0.0.1:9900")});
}

SessionRecord Session(uint64_t number, uint64_t key = 0) {
  static const auto route = std::make_shared<const RouteNames>(RouteNames{"tunnel", "echo", {"127.0.0.1:7001"}});
  SessionRecord session;
  session.number = number;
  session.key = key;
  session.route = route;
  return session;
}

TEST(ReadQuery, DecodesNamesAndValues) {
  using Parameters = std::map<std::string, std::string>;
  EXPECT_EQ(ReadQuery(""), Parameters());
  EXPECT_EQ(ReadQuery("&&=x&"), Parameters());
  EXPECT_EQ(ReadQuery("a=1&b=2&a=3"), (Parameters{{"a", "3"}, {"b", "2"}}));
  EXPECT_EQ(ReadQuery("a&b=&c=d=e"), (Parameters{{"a", ""}, {"b", ""}, {"c", "d=e"}}));
  EXPECT_EQ(ReadQuery("n%61me=%3Cb%3e+%26%00x"), (Parameters{{"name", std::string("<b> &\0x", 7)}}));
  EXPECT_EQ(ReadQuery("a=%&b=%4&c=%zz&d=%-1"), (Parameters{{"a", "%"}, {"b", "%4"}, {"c", "%zz"}, {"d", "%-1"}}));
}

TEST(SessionId, IsReadAsItIsWritten) {
  for (uint64_t number : {uint64_t{0}, uint64_t{17}, (uint64_t{1} << 48) - 1, uint64_t{1} << 48, UINT64_MAX})
    EXPECT_EQ(ParseSessionId(SessionId(number)), number) << number;
  for (const char* wrong : {"", "-", "1", "1-", "-1", "1-2-3", "a-1", "1-0x2", " 1-2", "1-2 ", "+1-2", "65536-0", "0-281474976710656",
                            "0-99999999999999999999999"})
    EXPECT_EQ(ParseSessionId(wrong), std::nullopt) << wrong;
}

TEST(Sessions, TheQuerySaysWhich) {
  Sample sample;
  ASSERT_EQ(Get(sample, "/api/v1/sessions").status, 200);
  EXPECT_EQ(sample.asked.most, 101u) << "one more, to know whether there is one";
  EXPECT_EQ(sample.asked.order, SessionOrder::kId);
  EXPECT_FALSE(sample.asked.close);
  ASSERT_EQ(Get(sample, "/api/v1/sessions", "listener=a%26b&upstream=c+d&server=unix:/run/x&client=10.0.0.0/8&sort=bytes&limit=1000&after=18446744073709551615.1-7").status, 200);
  EXPECT_EQ(sample.asked.listener, "a&b");
  EXPECT_EQ(sample.asked.upstream, "c d");
  EXPECT_EQ(sample.asked.server, "unix:/run/x");
  EXPECT_EQ(sample.asked.client->ToString(), "10.0.0.0/8");
  EXPECT_EQ(sample.asked.client_port, std::nullopt);
  EXPECT_EQ(sample.asked.order, SessionOrder::kBytes);
  EXPECT_EQ(sample.asked.most, 1001u);
  EXPECT_EQ(sample.asked.after, (SessionRank{UINT64_MAX, (uint64_t{1} << 48) + 7}));
  ASSERT_EQ(Get(sample, "/api/v1/sessions", "client=[2001:db8::1]:5555&sort=age").status, 200);
  EXPECT_EQ(sample.asked.client->ToString(), Network::Parse("2001:db8::1")->ToString());
  EXPECT_EQ(sample.asked.client_port, 5555);
  EXPECT_EQ(sample.asked.order, SessionOrder::kAge);
}

TEST(Sessions, AWrongQueryIsExplained) {
  Sample sample;
  struct {
    const char* query;
    const char* begins;
  } wrong[] = {{"limit=0", "limit: "},      {"limit=1001", "limit: "}, {"limit=", "limit: "},        {"limit=-1", "limit: "},
               {"sort=size", "sort: "},     {"sort=none", "sort: "},   {"client=example", "client: "}, {"client=unix:/x", "client: "},
               {"client=10.1", "client: "}, {"after=", "after: "},     {"after=5", "after: "},       {"after=5.", "after: "},
               {"after=x.0-1", "after: "},  {"after=5.0", "after: "},  {"x=1", "unknown parameter \"x\""}};
  for (const auto& c : wrong) {
    HttpResponse response = Get(sample, "/api/v1/sessions", c.query);
    EXPECT_EQ(response.status, 400) << c.query;
    EXPECT_TRUE(response.body.starts_with(c.begins)) << response.body;
  }
}

TEST(Sessions, ThePageEndsWhereTheNextBegins) {
  Sample sample;
  sample.sessions.total = 9;
  sample.sessions.matched = 3;
  sample.sessions.sessions = {Session(4, 100), Session(5, 200), Session(6, 300)};
  json page = json::parse(Get(sample, "/api/v1/sessions", "limit=2&sort=bytes").body);
  EXPECT_EQ(page["total"], 9);
  EXPECT_EQ(page["matched"], 3);
  ASSERT_EQ(page["sessions"].size(), 2u);
  EXPECT_EQ(page["sessions"][1]["id"], "0-5");
  EXPECT_EQ(page["next"], "200.0-5");
  ASSERT_EQ(Get(sample, "/api/v1/sessions", "sort=bytes&after=" + page["next"].get<std::string>()).status, 200);
  EXPECT_EQ(sample.asked.after, sample.sessions.sessions[1].rank());
  page = json::parse(Get(sample, "/api/v1/sessions", "limit=3").body);
  EXPECT_EQ(page["sessions"].size(), 3u);
  EXPECT_EQ(page["next"], nullptr);
  sample.sessions = {};
  EXPECT_EQ(json::parse(Get(sample, "/api/v1/sessions").body),
            json::parse(R"({"total": 0, "matched": 0, "missing_workers": [], "next": null, "sessions": []})"));
}

TEST(CloseSession, SaysWhatCameOfIt) {
  Sample sample;
  using Outcome = ClosingResult::Outcome;
  sample.closing = {Outcome::kClosed, Session(17)};
  HttpResponse closed = Post(sample, "/api/v1/sessions/close", R"({"id": "1-17"})");
  EXPECT_EQ(closed.status, 200);
  EXPECT_EQ(sample.asked_to_close, (uint64_t{1} << 48) + 17);
  EXPECT_EQ(json::parse(closed.body)["result"], "closed");
  EXPECT_EQ(json::parse(closed.body)["session"]["id"], "0-17");
  for (auto [outcome, status, word] : {std::tuple(Outcome::kNotFound, 404, "not_found"), {Outcome::kUnanswered, 503, "unanswered"},
                                       {Outcome::kRefused, 409, "refused"}}) {
    sample.closing = {outcome, std::nullopt};
    HttpResponse response = Post(sample, "/api/v1/sessions/close", R"({"id": "0-17"})");
    EXPECT_EQ(response.status, status);
    EXPECT_EQ(json::parse(response.body)["result"], word);
    EXPECT_EQ(json::parse(response.body)["session"], nullptr);
    EXPECT_EQ(json::parse(response.body)["errors"].size(), 1u);
  }
  sample.asked_to_close = 0;
  for (const char* body : {"", "{}", "[]", "17", R"({"id": 17})", R"({"id": "17"})", R"({"id": "0-17", "x": 1})", R"({"id": null})"})
    EXPECT_EQ(Post(sample, "/api/v1/sessions/close", body).status, 400) << body;
  EXPECT_EQ(sample.asked_to_close, 0u);
  EXPECT_EQ(Get(sample, "/api/v1/sessions/close").allow, "POST");
  EXPECT_EQ(Post(sample, "/api/v1/sessions").allow, "GET, HEAD");
}

TEST(Drain, OnceOnly) {
  Sample sample;
  EXPECT_EQ(Get(sample, "/api/v1/drain").status, 405);
  EXPECT_EQ(Post(sample, "/api/v1/drain").status, 202);
  EXPECT_EQ(json::parse(Post(sample, "/api/v1/drain").body)["result"], "draining");
  sample.drain = DrainOutcome::kAlready;
  EXPECT_EQ(Post(sample, "/api/v1/drain").status, 409);
  EXPECT_EQ(json::parse(Post(sample, "/api/v1/drain").body)["result"], "refused");
}

// Nothing is asked of anybody but this server, and no other script or style than the page's own would run.
TEST(LivePage, IsSelfContained) {
  Sample sample;
  HttpResponse page = Get(sample, "/");
  EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  for (const char* part : {"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'"})
    EXPECT_NE(page.policy.find(part), std::string::npos) << page.policy;
  EXPECT_EQ(page.policy.find("unsafe"), std::string::npos);
  for (const char* outside : {"src=", "@import", "url(", "://", "innerHTML", "insertAdjacentHTML", "onclick", "style=\""}) {
    std::string body = page.body;
    for (size_t svg; (svg = body.find("http://www.w3.org/2000/svg")) != std::string::npos;) body.erase(svg, 26);  // a name, no address
    EXPECT_EQ(body.find(outside), std::string::npos) << outside;
  }
  EXPECT_LT(page.body.size(), 100u << 10);
}

}  // namespace
}  // namespace ringmain
