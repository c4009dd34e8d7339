#include "log/access_line.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <sys/un.h>

namespace ringmain {
namespace {

using std::chrono::system_clock;

constexpr TimePoint kNow{seconds(5000)};
const system_clock::time_point kWallNow{milliseconds(1'767'323'045'678)};  // 2026-01-02T03:04:05.678Z

SocketAddress Address(const std::string& text) { return SocketAddress::Parse(text).value(); }

// A unix address whose path holds what a peer likes.
SocketAddress UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&address),
                                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1));
}

AccessRecord Sample() {
  AccessRecord record;
  record.event = AccessEvent::kEnd;
  record.reason = CloseReason::kServerReset;
  record.retries = 2;
  record.number = (uint64_t{3} << kSessionNumberBits) + 17;
  record.route = std::make_shared<RouteNames>(RouteNames{"front", "back", {"10.0.0.1:7001", "unix:/run/b.sock"}});
  record.server = 1;
  record.client = Address("[2001:db8::7]:40112");
  record.at = kNow - milliseconds(10);
  record.accepted_at = record.at - milliseconds(1234);
  record.queued = milliseconds(250);
  record.connect = microseconds(1500);
  record.first_byte = microseconds(300'001);
  record.bytes = {5120, 7340032};
  return record;
}

std::string Text(const AccessRecord& record) { return FormatAccessLine(LogFormat::kText, record, kNow, kWallNow); }
nlohmann::json Json(const AccessRecord& record) {
  std::string line = FormatAccessLine(LogFormat::kJson, record, kNow, kWallNow);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  return nlohmann::json::parse(line);
}

TEST(AccessLineTest, AsText) {
  EXPECT_EQ(Text(Sample()),
            "2026-01-02T03:04:05.668Z end id=3-17 listener=front client=[2001:db8::7]:40112 upstream=back server=unix:/run/b.sock "
            "reason=server_reset started=2026-01-02T03:04:04.434Z duration=1.234000 queued=0.250000 connect=0.001500 first_byte=0.300001 "
            "to_server=5120 to_client=7340032 retries=2 proxy_protocol=-\n");
}

TEST(AccessLineTest, WhatIsNotKnownInText) {
  AccessRecord record = Sample();
  record.event = AccessEvent::kStart;
  record.server.reset();
  record.client.reset();
  record.connect.reset();
  record.first_byte.reset();
  record.at = record.accepted_at = kNow;
  record.queued = {};
  record.bytes = {};
  record.retries = 0;
  EXPECT_EQ(Text(record),
            "2026-01-02T03:04:05.678Z start id=3-17 listener=front client=- upstream=back server=- reason=- "
            "started=2026-01-02T03:04:05.678Z duration=0.000000 queued=0.000000 connect=- first_byte=- to_server=0 to_client=0 retries=0 "
            "proxy_protocol=-\n");
}

TEST(AccessLineTest, AsJson) {
  nlohmann::json json = Json(Sample());
  EXPECT_EQ(json, nlohmann::json::parse(R"({"time": "2026-01-02T03:04:05.668Z", "event": "end", "id": "3-17", "listener": "front",
      "client": "[2001:db8::7]:40112", "upstream": "back", "server": "unix:/run/b.sock", "reason": "server_reset",
      "started": "2026-01-02T03:04:04.434Z", "duration_seconds": 1.234, "queued_seconds": 0.25, "connect_seconds": 0.0015,
      "first_byte_seconds": 0.300001, "to_server_bytes": 5120, "to_client_bytes": 7340032, "retries": 2, "proxy_protocol": null})"));
  AccessRecord record = Sample();
  record.event = AccessEvent::kRunning;
  record.server.reset();
  record.client.reset();
  record.connect.reset();
  record.first_byte.reset();
  json = Json(record);
  EXPECT_EQ(json["event"], "running");
  for (const char* key : {"server", "client", "reason", "connect_seconds", "first_byte_seconds"}) EXPECT_TRUE(json.at(key).is_null()) << key;
}

TEST(AccessLineTest, WhatAHeaderSaid) {
  AccessRecord record = Sample();
  record.proxy = {1, Address("10.0.0.9:5"), Address("198.51.100.8:443"), "", ""};
  EXPECT_TRUE(Text(record).ends_with(" proxy_protocol=v1 from=10.0.0.9:5 destination=198.51.100.8:443\n")) << Text(record);
  record.proxy = {2, Address("10.0.0.9:5"), std::nullopt, "db.example.org", "TLSv1.3"};
  EXPECT_TRUE(Text(record).ends_with(" proxy_protocol=v2 from=10.0.0.9:5 destination=- authority=db.example.org tls_version=TLSv1.3\n"))
      << Text(record);
  EXPECT_EQ(Json(record)["proxy_protocol"],
            nlohmann::json::parse(R"({"version": 2, "from": "10.0.0.9:5", "destination": null, "authority": "db.example.org",
                                      "tls_version": "TLSv1.3"})"));
}

// Whatever a client claims, a line is one line, and its fields are those that it has.
TEST(AccessLineTest, EscapesWhatComesFromOutside) {
  AccessRecord record = Sample();
  record.client = UnixAddress("/a b=\"c\"\n\x1b[31m\xc2\x9b\xff");
  record.proxy = {2, Address("10.0.0.9:5"), std::nullopt, "a.test reason=x\n2026", "-"};
  std::string line = Text(record);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_NE(line.find(" client=\"unix:/a b=\\\"c\\\"\\n\\x1b[31m\\xc2\\x9b\\xff\" upstream="), std::string::npos) << line;
  EXPECT_NE(line.find(" authority=\"a.test reason=x\\n2026\" tls_version=\"-\"\n"), std::string::npos) << line;
  std::string json = FormatAccessLine(LogFormat::kJson, record, kNow, kWallNow);
  for (char c : json.substr(0, json.size() - 1)) EXPECT_TRUE(c >= ' ' && c < 0x7f) << json;
  EXPECT_EQ(nlohmann::json::parse(json)["client"], "unix:/a b=\"c\"\n\x1b[31m\xc2\x9b\xef\xbf\xbd");
}

TEST(AccessLineTest, CutsWhatIsLong) {
  AccessRecord record = Sample();
  record.proxy = {2, Address("10.0.0.9:5"), std::nullopt, std::string(4000, 'a'), std::string(4000, '\n')};
  EXPECT_NE(Text(record).find(" authority=" + std::string(255, 'a') + " "), std::string::npos);
  EXPECT_LT(Text(record).size(), 2000u);
  EXPECT_EQ(Json(record)["proxy_protocol"]["authority"], std::string(255, 'a'));
}

}  // namespace
}  // namespace ringmain
