// What the access log is told of sessions. That each has one line at its end, and what that says, is a rule of the random runs (rules.cc).
#include <cerrno>
#include <map>

#include "directed.h"

namespace ringmain::sim {
namespace {

class Logging : public Directed {
 protected:
  static constexpr AccessLogRules kAll{};

  World& StartLogging(const AccessLogRules& rules = kAll, WorldOptions options = {}) {
    options.access_log = rules;
    return Start(options);
  }
  void Later(Duration time) { world_->io().AdvanceTo(world_->io().now() + time); }
  const AccessRecord& Last() {
    EXPECT_FALSE(world_->logged().empty());
    return world_->logged().back();
  }
  void End(SimSession& session) {
    world_->io().PeerFins(*session.client);
    world_->io().PeerFins(*session.server);
    RunUntilQuiet();
    EXPECT_TRUE(session.closed);
  }
  size_t Lines(AccessEvent event) {
    size_t lines = 0;
    for (const AccessRecord& record : world_->logged()) lines += record.event == event ? 1 : 0;
    return lines;
  }
};

TEST_F(Logging, TheEndOfASession) {
  StartLogging();
  TimePoint accepted = world_->io().now();
  SimSocket& client = world_->Accept(Passive());
  Turn();
  Later(milliseconds(5));
  world_->io().EndConnect(*client.session->server, 0);
  Turn();
  Later(milliseconds(20));
  world_->io().PeerSends(client, 1000);
  world_->io().PeerSends(*client.session->server, 300);
  RunUntilQuiet();
  Later(milliseconds(3));
  world_->io().PeerSends(*client.session->server, 50);
  RunUntilQuiet();
  EXPECT_TRUE(world_->logged().empty());
  End(*client.session);
  ASSERT_EQ(world_->logged().size(), 1u);
  const AccessRecord& record = Last();
  EXPECT_EQ(record.event, AccessEvent::kEnd);
  EXPECT_EQ(record.reason, CloseReason::kClientClosed);
  EXPECT_EQ(record.number, 1u);
  EXPECT_EQ(record.server, 0);
  EXPECT_EQ(record.client->ToString(), "10.0.0.2:" + std::to_string(client.fd));
  EXPECT_EQ(record.accepted_at, accepted);
  EXPECT_EQ(record.at, accepted + milliseconds(28));
  EXPECT_EQ(record.queued, Duration(0));
  EXPECT_EQ(record.connect, milliseconds(5));
  EXPECT_EQ(record.first_byte, milliseconds(25));
  EXPECT_EQ(record.bytes[0], 1000u);
  EXPECT_EQ(record.bytes[1], 350u);
  EXPECT_EQ(record.retries, 0);
  EXPECT_EQ(record.proxy.version, 0);
}

TEST_F(Logging, TriesAndTheServerOfTheLastOne) {
  WorldOptions options;
  options.servers = 3;
  StartLogging(kAll, options);
  SimSocket& client = world_->Accept(Passive());
  Turn();
  world_->io().EndConnect(*client.session->server, -ECONNREFUSED);
  Turn();
  Later(milliseconds(7));
  world_->io().EndConnect(*client.session->server, 0);
  Turn();
  End(*client.session);
  EXPECT_EQ(Last().retries, 1);
  EXPECT_EQ(Last().server, client.session->server->server);
  EXPECT_EQ(Last().connect, milliseconds(7)) << "of the try that succeeded";
  EXPECT_EQ(Last().first_byte, std::nullopt);

  SimSocket& refused = world_->Accept(Passive());
  Turn();
  for (int i = 0; i < 3; ++i) {
    world_->io().EndConnect(*refused.session->server, -ECONNREFUSED);
    Turn();
  }
  RunUntilQuiet();
  EXPECT_EQ(Last().reason, CloseReason::kConnectFailed);
  EXPECT_EQ(Last().retries, 2);
  EXPECT_EQ(Last().server, refused.session->server->server);
  EXPECT_EQ(Last().connect, std::nullopt);
}

TEST_F(Logging, TimeInTheQueue) {
  WorldOptions options;
  options.server_max_connections = 1;
  options.max_queue = 2;
  options.queue_timeout = seconds(5);
  AccessLogRules rules;
  rules.every = milliseconds(200);
  StartLogging(rules, options);
  SimSession& first = Established();
  SimSocket& second = world_->Accept(Passive());
  world_->Accept(Passive());
  Turn();
  PassInSteps(milliseconds(1250));
  bool waiting_told = false;
  for (const AccessRecord& record : world_->logged())
    if (record.number == 2 && record.event == AccessEvent::kRunning) waiting_told |= record.queued == record.at - record.accepted_at;
  EXPECT_TRUE(waiting_told);
  world_->io().Break(*first.client);
  RunUntilQuiet();
  world_->io().EndConnect(*second.session->server, 0);
  RunUntilQuiet();
  world_->io().Break(second);
  RunUntilQuiet();
  EXPECT_EQ(Last().number, 2u);
  EXPECT_EQ(Last().queued, milliseconds(1250));
  world_->CloseAll(CloseReason::kShutdown);
  RunUntilQuiet();
}

TEST_F(Logging, AHeaderTellsWhoTheClientIs) {
  WorldOptions options;
  options.proxy_protocol.accept = ProxyProtocolAccept::kRequired;
  options.send_proxy_protocol = ProxyProtocolSend::kV2;
  AccessLogRules rules;
  rules.at_start = true;
  StartLogging(rules, options);
  ProxyHeader header;
  header.source = SocketAddress::Parse("192.0.2.7:40000").value();
  header.destination = SocketAddress::Parse("198.51.100.8:443").value();
  header.tlvs = std::string("\x02\x00\x07" "a.test\n" "\x20\x00\x0f" "\x07\0\0\0\0" "\x21\x00\x07" "TLSv1.3", 10 + 18);
  PeerScript script = Passive();
  script.prelude = ComposeProxyHeader(header);
  script.bytes = script.prelude.size() + 40;
  SimSocket& client = world_->Accept(script);
  EXPECT_EQ(Last().event, AccessEvent::kStart);
  EXPECT_EQ(Last().client->ToString(), "10.0.0.2:" + std::to_string(client.fd)) << "nothing has come yet";
  RunUntilQuiet();
  world_->io().EndConnect(*client.session->server, 0);
  RunUntilQuiet();
  HandOver();
  RunUntilQuiet();
  End(*client.session);
  const AccessRecord& record = Last();
  EXPECT_EQ(record.event, AccessEvent::kEnd);
  EXPECT_EQ(record.client->ToString(), "192.0.2.7:40000");
  EXPECT_EQ(record.proxy.version, 2);
  EXPECT_EQ(record.proxy.from->ToString(), "10.0.0.2:" + std::to_string(client.fd));
  EXPECT_EQ(record.proxy.destination->ToString(), "198.51.100.8:443");
  EXPECT_EQ(record.proxy.authority, "a.test\n");
  EXPECT_EQ(record.proxy.tls_version, "TLSv1.3");
  EXPECT_EQ(record.bytes[0], 40u) << "neither header is payload";
}

// With the same facts, by whoever ends it; also if its client cannot be asked any more who it is.
TEST_F(Logging, ASessionThatWasHandedOver) {
  StartLogging();
  SimSocket& client = world_->Accept(Passive());
  Turn();
  Later(milliseconds(5));
  world_->io().EndConnect(*client.session->server, 0);
  Turn();
  Later(milliseconds(10));
  world_->io().PeerSends(*client.session->server, 300);
  RunUntilQuiet();
  world_->io().Break(client);
  HandOver();
  EXPECT_TRUE(world_->logged().empty());
  RunUntilQuiet();
  ASSERT_EQ(world_->logged().size(), 1u);
  EXPECT_EQ(Last().client->ToString(), "10.0.0.2:" + std::to_string(client.fd));
  EXPECT_EQ(Last().connect, milliseconds(5));
  EXPECT_EQ(Last().first_byte, milliseconds(15));
  EXPECT_EQ(Last().bytes[1], 300u);
  EXPECT_EQ(Last().reason, CloseReason::kClientReset);
}

TEST_F(Logging, SomeWhileItGoesOn) {
  AccessLogRules rules;
  rules.every = seconds(2);
  rules.at_start = true;
  StartLogging(rules);
  SimSession& session = Established();
  TimePoint accepted = session.opened_at;
  PassInSteps(milliseconds(5500));
  HandOver();
  PassInSteps(seconds(3));
  End(session);
  EXPECT_EQ(Lines(AccessEvent::kStart), 1u);
  ASSERT_EQ(Lines(AccessEvent::kRunning), 4u);
  for (int i = 1; i <= 4; ++i) {
    const AccessRecord& record = world_->logged()[static_cast<size_t>(i)];
    EXPECT_GE(record.at, accepted + i * seconds(2));
    EXPECT_LE(record.at, accepted + i * seconds(2) + milliseconds(1300)) << "a walk takes a second";
  }
}

TEST_F(Logging, TheLogComesAndGoes) {
  Start();
  std::vector<SimSession*> sessions;
  for (int i = 0; i < 200; ++i) sessions.push_back(&Established());
  EXPECT_FALSE(world_->sessions().NextWakeUp().has_value() && *world_->sessions().NextWakeUp() < world_->io().now());
  world_->SetAccessLog(kAll);
  End(*sessions[0]);
  EXPECT_TRUE(Last().client.has_value()) << "the walk has hardly begun";
  PassInSteps(seconds(2));
  world_->io().Break(*sessions[1]->client);
  RunUntilQuiet();
  EXPECT_EQ(world_->logged().size(), 2u);
  EXPECT_EQ(Last().client->ToString(), "10.0.0.2:" + std::to_string(sessions[1]->client->fd)) << "it was asked in time";
  PassInSteps(seconds(1));
  EXPECT_FALSE(world_->sessions().NextWakeUp().has_value()) << "the walk has ended";
  world_->SetAccessLog(std::nullopt);
  End(*sessions[2]);
  EXPECT_EQ(world_->logged().size(), 2u);
}

TEST_F(Logging, ASampleOfAll) {
  AccessLogRules rules;
  rules.sampled = (uint64_t{1} << 32) / 4;
  rules.at_start = true;
  Start();
  world_->SetAccessLog(rules);
  std::vector<SimSession*> sessions;
  for (int i = 0; i < 400; ++i) sessions.push_back(&Established());
  HandOver();
  for (SimSession* session : sessions) End(*session);
  std::map<uint64_t, int> lines;
  for (const AccessRecord& record : world_->logged()) ++lines[record.number];
  EXPECT_GT(lines.size(), 60u);
  EXPECT_LT(lines.size(), 140u);
  for (auto [number, count] : lines) EXPECT_EQ(count, 2) << number;
}

TEST_F(Logging, AListenerMayBeLeftOut) {
  Start();
  world_->LeaveOutOfLog();
  AccessLogRules rules;
  rules.at_start = true;
  rules.every = milliseconds(100);
  world_->SetAccessLog(rules);
  SimSession& session = Established();
  PassInSteps(seconds(3));
  End(session);
  EXPECT_TRUE(world_->logged().empty());
}

}  // namespace
}  // namespace ringmain::sim
