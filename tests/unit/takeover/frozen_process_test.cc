#include "takeover/frozen_process.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <random>

#include "takeover/cbor.h"
#include "takeover/frozen_metrics.h"
#include "takeover/offer.h"
#include "unit/admin/source_dir.h"

namespace ringmain {
namespace {

FrozenProcess Sample() {
  FrozenProcess process;
  process.listeners.push_back({"front", "back", {{"accepted", 7}, {"closed_idle_timeout", 2}}, {{1, 0, 2}, 99}, {}});
  FrozenUpstream& upstream = process.upstreams.emplace_back();
  upstream.name = "back";
  upstream.connect_duration = {{5}, 6};
  upstream.servers.resize(2);
  upstream.servers[0].address = "10.0.0.1:1";
  upstream.servers[0].up = false;
  upstream.servers[0].counters = {{"connects", 3}};
  upstream.servers[1].address = "unix:/x";
  process.workers.push_back({{{"opened", 12}}, {{0, 1}, 2}});
  process.routes.push_back({"front", "back", "10.0.0.1:1", milliseconds(500), milliseconds(0), seconds(30)});
  process.routes.push_back({"front", "back", "", milliseconds(0), milliseconds(7), seconds(0)});
  FrozenSession established;
  established.number = (uint64_t{3} << 48) + 17;
  established.established = established.ending = established.reset = established.kept_alive = established.passed = true;
  established.reason = CloseReason::kServerClosed;
  established.client_fd = 0;
  established.server_fd = 1;
  established.accepted_at = TimePoint(Duration(123'456'789'012));
  established.last_byte_at = TimePoint(Duration(5));
  established.quiet_checks = 3;
  established.relays[0] = {100, 90, true, false, false, false, std::string("\0\xff ten byte", 10), 0, -1, -1};
  established.relays[1] = {1 << 20, 1000, false, true, true, true, "", 5000, 2, 3};
  FrozenSession connecting;
  connecting.number = 1;
  connecting.client_fd = 4;
  connecting.lost_reason = CloseReason::kServerReset;
  connecting.leave_at = TimePoint(Duration(77));
  process.sessions = {{0, established}, {1, connecting}};
  return process;
}

// With what later versions know of sessions.
FrozenProcess LaterSample() {
  FrozenProcess process = Sample();
  FrozenSession& established = process.sessions[0].session;
  established.header = std::string("\r\n\r\n\0\xff", 6);
  established.lead = 100;
  FrozenSession& reading = process.sessions[1].session;
  reading.header = "PROXY ";
  reading.reading_header = reading.header_optional = true;
  reading.check_at = TimePoint(Duration(9));
  return process;
}

void ExpectSame(const FrozenProcess& a, const FrozenProcess& b) { EXPECT_EQ(Encode(a), Encode(b)); }

TEST(FrozenProcess, ComesBackAsItWas) {
  absl::StatusOr<FrozenProcess> decoded = DecodeProcess(Encode(Sample()), 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, Sample());
  const FrozenSession& session = decoded->sessions[0].session;
  EXPECT_EQ(session.number, Sample().sessions[0].session.number);
  EXPECT_EQ(session.accepted_at, TimePoint(Duration(123'456'789'012)));
  EXPECT_EQ(session.relays[0].bytes.size(), 10u);
  EXPECT_EQ(session.relays[1].in_pipe, 5000u);
  EXPECT_EQ(session.relays[1].pipe_write, 3);
  EXPECT_EQ(session.reason, CloseReason::kServerClosed);
  EXPECT_EQ(session.leave_at, TimePoint::max());
  EXPECT_FALSE(decoded->sessions[1].session.established);
  EXPECT_EQ(decoded->sessions[1].session.leave_at, TimePoint(Duration(77)));
  EXPECT_EQ(decoded->routes[0].idle_timeout, milliseconds(500));
  EXPECT_FALSE(decoded->upstreams[0].servers[0].up);
}

TEST(FrozenProcess, NamesComeBackWithWhatWasFound) {
  FrozenProcess process = Sample();
  process.upstreams[0].names.push_back({"db:5", {{"lookups_success", 4}}, 1'700'000'000'123, {{"10.0.0.1:5", 0, false}, {"[::1]:5", 256, true}}});
  process.upstreams[0].names.push_back({"_x._tcp.y", {}, 0, {}});
  absl::StatusOr<FrozenProcess> decoded = DecodeProcess(Encode(process), 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, process);
  const FrozenName& name = decoded->upstreams[0].names.at(0);
  EXPECT_EQ(name.last_success_epoch, 1'700'000'000'123);
  EXPECT_EQ(name.found.at(1).address, "[::1]:5");
  EXPECT_TRUE(name.found[1].backup);
  EXPECT_TRUE(decoded->upstreams[0].names.at(1).found.empty());
}

// What ringmain 0.1.0 sent (takeover version 1). A newer one must go on from it for as long as kOldestTakeoverVersion says so: the file stays
// as it is, and the next version gets one of its own.
TEST(FrozenProcess, VersionOneIsStillUnderstood) {
  std::ifstream file(RINGMAIN_SOURCE_DIR "/tests/unit/takeover/state-1.cbor", std::ios::binary);
  std::string recorded((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  ASSERT_FALSE(recorded.empty());
  absl::StatusOr<FrozenProcess> decoded = DecodeProcess(recorded, 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  FrozenProcess expected = Sample();
  expected.sessions[0].session.passed = false;  // told of since
  expected.sessions[1].session.lost_reason = CloseReason::kError;
  ExpectSame(*decoded, expected);
}

TEST(FrozenProcess, LimitsOfListenersComeBack) {
  FrozenProcess process = Sample();
  FrozenListener& listener = process.listeners[0];
  listener.access = {"allow 10.0.0.0/8", "deny all"};
  listener.accept_pace = Pace::Of(60, 5);
  listener.accept_paid_until_ns = 123'456'789'012'345;
  listener.source_pace = Pace::Of(7, 1);
  listener.sources = std::string("\0\xff any bytes", 12);
  absl::StatusOr<FrozenProcess> decoded = DecodeProcess(Encode(process), 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, process);
  const FrozenListener& same = decoded->listeners[0];
  EXPECT_EQ(same.access, listener.access);
  EXPECT_EQ(same.accept_pace, listener.accept_pace);
  EXPECT_EQ(same.accept_paid_until_ns, listener.accept_paid_until_ns);
  EXPECT_EQ(same.source_pace, listener.source_pace);
  EXPECT_EQ(same.sources, listener.sources);
  listener.source_pace.depth_ns = INT64_MAX;
  EXPECT_FALSE(DecodeProcess(Encode(process), 5).ok()) << "no pace has that depth";
}

// They came after version 1, and are told of only where they are set.
TEST(FrozenProcess, TimeoutsOfOneSideAndOfAge) {
  FrozenProcess process = Sample();
  FrozenRoute& route = process.routes[0];
  route.client_idle_timeout = milliseconds(11);
  route.server_idle_timeout = milliseconds(12);
  route.max_lifetime = milliseconds(13);
  route.lifetime_jitter_percent = 14;
  process.sessions[0].session.active_at = {TimePoint(Duration(1000)), TimePoint(Duration(2000))};
  process.sessions[1].session.connecting_since = TimePoint(Duration(3000));
  absl::StatusOr<FrozenProcess> decoded = DecodeProcess(Encode(process), 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, process);
  EXPECT_EQ(decoded->routes[0].client_idle_timeout, milliseconds(11));
  EXPECT_EQ(decoded->routes[0].server_idle_timeout, milliseconds(12));
  EXPECT_EQ(decoded->routes[0].max_lifetime, milliseconds(13));
  EXPECT_EQ(decoded->routes[0].lifetime_jitter_percent, 14u);
  EXPECT_EQ(decoded->routes[1].max_lifetime, milliseconds(0));
  EXPECT_EQ(decoded->sessions[0].session.active_at[1], TimePoint(Duration(2000)));
  EXPECT_EQ(decoded->sessions[1].session.connecting_since, TimePoint(Duration(3000)));
  EXPECT_FALSE(decoded->sessions[1].session.active_at[0].has_value());
}

TEST(FrozenProcess, WhatIsOwedByBandwidthLimits) {
  FrozenProcess process = Sample();
  process.listeners[0].bandwidth_paid_until_ns = {7, 8};
  process.sessions[0].session.bandwidth = {FrozenBandwidth{1, 2, 3, 4}, FrozenBandwidth{5, 6, 7, 8}};
  absl::StatusOr<FrozenProcess> decoded = DecodeProcess(Encode(process), 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, process);
  EXPECT_EQ(decoded->listeners[0].bandwidth_paid_until_ns, process.listeners[0].bandwidth_paid_until_ns);
  EXPECT_EQ(decoded->sessions[0].session.bandwidth, process.sessions[0].session.bandwidth);
  EXPECT_EQ(decoded->sessions[1].session.bandwidth, FrozenSession().bandwidth);
}

TEST(FrozenProcess, HeadersComeBackAsTheyWere) {
  absl::StatusOr<FrozenProcess> decoded = DecodeProcess(Encode(LaterSample()), 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, LaterSample());
  EXPECT_EQ(decoded->sessions[0].session.header, LaterSample().sessions[0].session.header);
  EXPECT_EQ(decoded->sessions[0].session.lead, 100u);
  EXPECT_FALSE(decoded->sessions[0].session.reading_header);
  EXPECT_TRUE(decoded->sessions[1].session.reading_header && decoded->sessions[1].session.header_optional);
  EXPECT_EQ(decoded->sessions[1].session.check_at, TimePoint(Duration(9)));
}

TEST(FrozenProcess, WhatIsNotKnownIsSkipped) {
  Json json = Json::from_cbor(Encode(Sample()));
  json["later"] = {1, 2};
  json["listeners"][0]["colour"] = "blue";
  json["sessions"][0]["to_client"]["mood"] = nullptr;
  json["sessions"][0]["reason"] = "a reason of a later version";
  std::string bytes;
  Json::to_cbor(json, bytes);
  absl::StatusOr<FrozenProcess> decoded = DecodeProcess(bytes, 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->sessions[0].session.reason, CloseReason::kError);
}

TEST(FrozenProcess, WhatDoesNotFitIsRefused) {
  EXPECT_FALSE(DecodeProcess(Encode(Sample()), 4).ok()) << "a file descriptor beyond the last";
  auto refused = [](auto change) {
    Json json = Json::from_cbor(Encode(Sample()));
    change(json);
    std::string bytes;
    Json::to_cbor(json, bytes);
    return !DecodeProcess(bytes, 5).ok();
  };
  EXPECT_FALSE(refused([](Json&) {}));
  EXPECT_TRUE(refused([](Json& json) { json.erase("routes"); }));
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["route"] = 2; }));
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["route"] = 1; })) << "established, without a server";
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["client"] = 1; })) << "one file descriptor twice";
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["client"] = -1; }));
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["to_server"]["sent"] = 91; })) << "more than was received";
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["to_server"]["bytes"] = "text"; }));
  EXPECT_TRUE(refused([](Json& json) { json["sessions"] = 5; }));
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["to_server"]["received"] = -1; }));
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["quiet_checks"] = 256; }));
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["lead"] = 101; })) << "of which less is queued";
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["lead"] = 1 << 16; }));
  EXPECT_TRUE(refused([](Json& json) { json["sessions"][0]["header"] = "PROXY"; }));
  EXPECT_TRUE(refused([](Json& json) {
    json["sessions"][1]["header"] = {{"bytes", Json::binary(std::vector<uint8_t>())}, {"reading", true}};
  })) << "with no end";
  EXPECT_TRUE(refused([](Json& json) {
    json["sessions"][0]["header"] = {{"bytes", Json::binary(std::vector<uint8_t>())}, {"reading", true}};
    json["sessions"][0]["check_at"] = 5;
  })) << "though it is established";
  EXPECT_FALSE(DecodeProcess(std::string(1 << 20, '\x81'), 5).ok()) << "nested a million deep";
}

// Whatever comes, it is decoded or refused, within bounds (the sanitizers watch).
TEST(FrozenProcess, AnyBytesAreDecodedOrRefused) {
  std::mt19937_64 random(7);
  std::string good = Encode(LaterSample());
  for (size_t length = 0; length < good.size(); ++length) EXPECT_FALSE(DecodeProcess(good.substr(0, length), 5).ok());
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = good;
    for (uint64_t changes = random() % 4 + 1; changes > 0; --changes) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (absl::StatusOr<FrozenProcess> decoded = DecodeProcess(bytes, 5); decoded.ok()) (void)Encode(*decoded);
  }
}

TEST(FrozenMetrics, TotalsComeBack) {
  ListenerMetrics before("front", 3), after("front", 2);
  before.cells[0].accepted.Add(3);
  before.cells[2].accepted.Add(4);
  before.cells[1].bytes[1].Add(1ull << 40);
  before.cells[1].closed[static_cast<size_t>(CloseReason::kNoServer)].Add(9);
  before.cells[0].duration.Observe(seconds(2));
  before.cells[2].duration.Observe(seconds(2));
  before.cells[2].first_byte.Observe(seconds(3));
  before.cells[1].session_bytes[1].Observe(5000);
  Add(Freeze(before), after.cells[0]);
  EXPECT_EQ(after.cells[0].accepted.value(), 7u);
  EXPECT_EQ(after.cells[0].bytes[1].value(), 1ull << 40);
  EXPECT_EQ(after.cells[0].closed[static_cast<size_t>(CloseReason::kNoServer)].value(), 9u);
  EXPECT_EQ(after.cells[0].duration.sum(), 4'000'000'000u);
  EXPECT_EQ(Freeze(after).duration.buckets, Freeze(before).duration.buckets);
  EXPECT_EQ(after.cells[0].first_byte.sum(), 3'000'000'000u);
  EXPECT_EQ(after.cells[0].session_bytes[1].sum(), 5000u);
  EXPECT_EQ(after.cells[0].session_bytes[0].sum(), 0u);
  FrozenListener other = Freeze(before);
  other.duration.buckets.assign(3, 5);
  Add(other, after.cells[1]);
  EXPECT_EQ(after.cells[1].duration.bucket(decltype(after.cells[1].duration)::kBuckets - 1), 15u) << "other bounds: none is lost";
}

TEST(FrozenProcess, LaterCountsComeBack) {
  FrozenProcess process = Sample();
  process.listeners[0].histograms["first_byte"] = {{1, 2, 3}, 4};
  process.upstreams[0].histograms["queue_wait"] = {{5}, 6};
  process.reloads = {{"succeeded", 7}, {"failed", 8}};
  FrozenSession& session = process.sessions[0].session;
  session.first_byte_at = TimePoint(Duration(123));
  session.sampled_segments = UINT32_MAX;
  session.sampled_retransmits = 9;
  absl::StatusOr<FrozenProcess> decoded = DecodeProcess(Encode(process), 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, process);
  EXPECT_EQ(decoded->listeners[0].histograms["first_byte"].buckets, (std::vector<uint64_t>{1, 2, 3}));
  EXPECT_EQ(decoded->upstreams[0].histograms["queue_wait"].sum, 6u);
  EXPECT_EQ(decoded->reloads["failed"], 8u);
  EXPECT_EQ(decoded->sessions[0].session.first_byte_at, TimePoint(Duration(123)));
  EXPECT_EQ(decoded->sessions[0].session.sampled_segments, UINT32_MAX);
  EXPECT_EQ(decoded->sessions[0].session.sampled_retransmits, 9u);
}

TEST(FrozenMetrics, UpstreamsAndReloadsComeBack) {
  UpstreamMetrics before("back", 3), after("back", 1);
  before.cells[1].queue_wait.Observe(seconds(1));
  before.cells[2].queue_wait.Observe(seconds(2));
  before.cells[0].connect_duration.Observe(milliseconds(1));
  before.health_check_duration.Observe(milliseconds(3));
  Add(Freeze(before), after);
  EXPECT_EQ(after.cells[0].queue_wait.sum(), 3'000'000'000u);
  EXPECT_EQ(after.cells[0].connect_duration.sum(), 1'000'000u);
  EXPECT_EQ(after.health_check_duration.sum(), 3'000'000u);
  ServerMetrics server("10.0.0.1:1", 2), same("10.0.0.1:1", 1);
  server.cells[0].rtt_samples.Add(2);
  server.cells[1].rtt_ns.Add(3);
  server.cells[1].sampled_segments.Add(4);
  server.cells[0].sampled_retransmits.Add(5);
  Add(Freeze(server), same);
  EXPECT_EQ(Freeze(same).counters, Freeze(server).counters);
  EXPECT_EQ(same.cells[0].sampled_retransmits.value(), 5u);
  ReloadCells reloads, later;
  reloads.failed.Add(2);
  Add(Freeze(reloads), later);
  EXPECT_EQ(later.failed.value(), 2u);
  WorkerCells worker, next;
  worker.messages.Add(6);
  worker.cpu_ns.Add(7);
  Add(Freeze(worker), next);
  EXPECT_EQ(next.messages.value(), 6u);
  EXPECT_EQ(next.cpu_ns.value(), 7u);
}

TEST(FrozenMetrics, LookupsComeBack) {
  NameMetrics before("db:5"), after("db:5");
  before.cells[0].ended[0].Add(3);
  before.cells[1].ended[0].Add(4);
  before.cells[1].last_success_epoch.Set(77);
  after.cells[0].ended[0].Add(1);  // by the discovery thread, at the same time
  Add(Freeze(before), after.cells[1]);
  EXPECT_EQ(after.cells[1].ended[0].value(), 7u);
  EXPECT_EQ(Freeze(after).counters["lookups_success"], 8u);
  EXPECT_EQ(Freeze(after).last_success_epoch, 77);
}

TEST(Offer, ComesBackAsItWas) {
  Offer offer;
  offer.listening.push_back({"front", "127.0.0.1:0", "127.0.0.1:8080", 3, 0, 0});
  offer.listening.push_back({"side", "unix:/x", "unix:/x", 1, 66, 77});
  std::optional<Offer> decoded = DecodeOffer(Encode(offer));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(Encode(*decoded), Encode(offer));
  EXPECT_EQ(decoded->listening[1].inode, 77u);
  EXPECT_FALSE(DecodeOffer("").has_value());
  EXPECT_FALSE(DecodeOffer(Encode(offer).substr(1)).has_value());
}

TEST(Hello, VersionsMustOverlap) {
  EXPECT_TRUE(CheckHello(EncodeHello()).ok());
  auto hello = [](uint32_t oldest, uint32_t newest) {
    std::string bytes;
    Json::to_cbor({{"oldest", oldest}, {"newest", newest}, {"program", "9.9"}, {"more", true}}, bytes);
    return CheckHello(bytes);
  };
  EXPECT_TRUE(hello(kTakeoverVersion, 99).ok());
  absl::Status later = hello(kTakeoverVersion + 1, 99);
  EXPECT_NE(later.message().find("ringmain 9.9 speaks takeover"), absl::string_view::npos) << later;
  EXPECT_FALSE(CheckHello("x").ok());
}

}  // namespace
}  // namespace ringmain
