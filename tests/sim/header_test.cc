// PROXY protocol headers: a client's in every split and every mistake, a server's in every way it can be lost, and both at every moment at
// which sessions may stand still.
#include <cerrno>
#include <string>
#include <vector>

#include "directed.h"

namespace ringmain::sim {
namespace {

const std::string kV1 = "PROXY TCP4 192.0.2.7 198.51.100.8 40000 443\r\n";

std::string V2() {
  ProxyHeader header;
  header.source = SocketAddress::Parse("[2001:db8::7]:40000").value();
  header.destination = SocketAddress::Parse("[2001:db8::8]:443").value();
  header.tlvs = std::string("\x01\x00\x02h2\x05\x00\x03uid", 11);
  header.checksum = true;
  return ComposeProxyHeader(header);
}

class Headers : public Directed {
 protected:
  static constexpr uint64_t kPayload = 500;

  void Begin(ProxyProtocolAccept accept, ProxyProtocolSend send = ProxyProtocolSend::kOff, size_t servers = 2) {
    WorldOptions options;
    options.servers = servers;
    options.proxy_protocol.accept = accept;
    options.send_proxy_protocol = send;
    if (accept == ProxyProtocolAccept::kOptional) options.proxy_protocol.from = {Network::Parse("10.0.0.0/8").value()};
    Start(options);
  }
  // A client whose stream begins with `prelude`, of which nothing has come yet.
  SimSession& Client(const std::string& prelude, uint64_t payload = kPayload) {
    PeerScript script = Passive();
    script.prelude = prelude;
    script.bytes = prelude.size() + payload;
    SimSession& session = *world_->Accept(script).session;
    session.client->script.bytes = 0;  // it sends what a test says
    Turn();
    return session;
  }
  void Bring(SimSession& session, uint64_t bytes) {
    world_->io().PeerSends(*session.client, bytes);
    while (session.client->readable() > 0 && session.client->receive.has_value()) {
      world_->io().CarryOutReceive(*session.client);
      Turn();
    }
  }
  SessionRecord Only() {
    SessionsFound found;
    EXPECT_EQ(world_->sessions().List(0, 1000, {.most = SIZE_MAX}, found), std::nullopt);
    EXPECT_EQ(found.records.size(), 1u);
    return found.records.at(0);
  }
  bool connecting(const SimSession& session) const { return session.server != nullptr && session.server->connect.has_value(); }
  void Connect(SimSession& session) {
    world_->io().EndConnect(*session.server, 0);
    RunUntilQuiet();
  }
  // All of the payload has arrived, and nothing else but the header for the server; both directions work.
  void ExpectWhole(SimSession& session) {
    world_->io().PeerSends(*session.server, 700);
    RunUntilQuiet();
    EXPECT_EQ(session.server->accepted, session.server->lead.size() + kPayload);
    EXPECT_EQ(session.client->accepted, 700u);
  }
  void CloseAll() {
    world_->CloseAll(CloseReason::kShutdown);
    RunUntilQuiet();
    world_->rules().AtEnd();
  }
  // Everything that is armed is cancelled; then all goes on, here or elsewhere.
  void Freeze(bool elsewhere) {
    world_->Freeze();
    for (SimSocket& socket : world_->io().sockets()) {
      if (socket.closed) continue;
      if (socket.receive.has_value()) world_->io().EndReceive(socket, -ECANCELED);
      if (socket.send.has_value()) world_->io().EndSend(socket, -ECANCELED);
      if (socket.connect.has_value()) world_->io().EndConnect(socket, -ECANCELED);
    }
    Turn();
    ASSERT_TRUE(world_->sessions().settled());
    elsewhere ? world_->HandOver() : world_->Thaw();
    Turn();
  }
};

// ---- From clients ----

TEST_F(Headers, InEverySplit) {
  for (const std::string& header : {kV1, V2(), std::string("PROXY UNKNOWN\r\n")})
    for (size_t first = 0; first <= header.size(); ++first) {
      Begin(ProxyProtocolAccept::kRequired);
      SimSession& session = Client(header);
      Bring(session, first);
      EXPECT_EQ(connecting(session), first == header.size());
      EXPECT_EQ(Only().state, first < header.size() ? SessionState::kReadingHeader : SessionState::kConnecting);
      EXPECT_EQ(world_->pool().held(), 0u) << "a header that is slow in coming holds no buffer";
      Bring(session, header.size() + kPayload - first);
      ASSERT_TRUE(connecting(session)) << first;
      EXPECT_EQ(Only().relays[0].received, kPayload);
      Connect(session);
      ExpectWhole(session);
      CloseAll();
      ASSERT_FALSE(report_.failed() || HasFailure()) << "split after " << first;
    }
}

TEST_F(Headers, ByteByByte) {
  Begin(ProxyProtocolAccept::kRequired, ProxyProtocolSend::kV2);
  std::string header = V2();
  SimSession& session = Client(header);
  for (size_t i = 0; i < header.size() + kPayload; ++i) Bring(session, 1);
  Connect(session);
  EXPECT_EQ(session.server->lead, header);
  ExpectWhole(session);
}

TEST_F(Headers, TheClientIsWhomItSays) {
  Begin(ProxyProtocolAccept::kRequired);
  SimSession& session = Client(kV1);
  EXPECT_EQ(Only().client->ToString(), "10.0.0.2:0") << "as far as is known";
  Bring(session, kV1.size());
  EXPECT_EQ(Only().client->ToString(), "192.0.2.7:40000");
  Connect(session);
  EXPECT_EQ(Only().client->ToString(), "192.0.2.7:40000");
}

TEST_F(Headers, LocalIsWhomItIs) {
  for (const char* fixed : {"2000", "2100"}) {
    Begin(ProxyProtocolAccept::kRequired, ProxyProtocolSend::kV1);
    std::string header = ComposeProxyHeader({.version = 2, .local = std::string(fixed) == "2000"});
    SimSession& session = Client(header);
    Bring(session, header.size() + kPayload);
    EXPECT_EQ(Only().client->ToString(), "10.0.0.2:0");
    Connect(session);
    EXPECT_EQ(session.server->lead, "PROXY TCP4 10.0.0.2 10.0.0.3 0 80\r\n");
    ExpectWhole(session);
    CloseAll();
  }
}

TEST_F(Headers, WhatIsNoneIsRefused) {
  for (std::string prelude : {"GET / HTTP/1.1\r\n", "PROXY TCP4 1.2.3.4\r\n", "\r\n\r\nx", "PROXY UNKNOWN\n"}) {
    Begin(ProxyProtocolAccept::kRequired);
    SimSession& session = Client(prelude);
    Bring(session, prelude.size());
    RunUntilQuiet();
    EXPECT_TRUE(session.client->closed_with_reset) << prelude;
    EXPECT_EQ(world_->closed(CloseReason::kProxyProtocol), 1u) << prelude;
  }
}

TEST_F(Headers, AnEndWithinItIsRefused) {
  for (bool reset : {false, true})
    for (size_t bytes : {size_t{0}, size_t{3}, kV1.size() - 1}) {
      Begin(ProxyProtocolAccept::kRequired);
      SimSession& session = Client(kV1);
      Bring(session, bytes);
      reset ? world_->io().Break(*session.client) : world_->io().PeerFins(*session.client);
      RunUntilQuiet();
      EXPECT_TRUE(session.client->closed);
      EXPECT_EQ(world_->closed(bytes == 0 ? CloseReason::kClientLeft : CloseReason::kProxyProtocol), 1u);
    }
}

TEST_F(Headers, AfterItTheClientMayEnd) {
  Begin(ProxyProtocolAccept::kRequired);
  SimSession& session = Client(kV1);
  Bring(session, kV1.size() + kPayload);
  world_->io().PeerFins(*session.client);
  RunUntilQuiet();
  Connect(session);
  EXPECT_EQ(session.server->accepted, kPayload);
  EXPECT_TRUE(session.server->fin_sent);
}

// A proxy that looks whether we are there: a header, and the end.
TEST_F(Headers, NothingButAHeaderIsAClientThatLeft) {
  Begin(ProxyProtocolAccept::kRequired);
  std::string header = ComposeProxyHeader({.version = 2, .local = true});
  SimSession& session = Client(header, 0);
  Bring(session, header.size());
  world_->io().PeerFins(*session.client);
  RunUntilQuiet();
  PassInSteps(Sessions::kLeaveGrace + milliseconds(50));
  EXPECT_EQ(world_->closed(CloseReason::kClientLeft), 1u);
}

TEST_F(Headers, LateIsRefused) {
  for (size_t bytes : {size_t{0}, size_t{1}, kV1.size() - 1}) {
    Begin(ProxyProtocolAccept::kRequired);
    SimSession& session = Client(kV1);
    Bring(session, bytes);
    PassInSteps(milliseconds(4900));
    EXPECT_FALSE(session.client->closed);
    PassInSteps(milliseconds(200));
    EXPECT_TRUE(session.client->closed_with_reset);
    EXPECT_EQ(world_->closed(CloseReason::kProxyProtocolTimeout), 1u);
  }
}

TEST_F(Headers, InTimeIsInTime) {
  Begin(ProxyProtocolAccept::kRequired);
  SimSession& session = Client(kV1);
  Bring(session, 5);
  PassInSteps(milliseconds(4900));
  Bring(session, kV1.size() - 5 + kPayload);
  Connect(session);
  PassInSteps(seconds(10));
  ExpectWhole(session);
}

TEST_F(Headers, OthersThanTheTrusted) {
  for (ProxyProtocolAccept accept : {ProxyProtocolAccept::kRequired, ProxyProtocolAccept::kOptional}) {
    WorldOptions options;
    options.proxy_protocol = {.accept = accept, .from = {Network::Parse("10.0.1.0/24").value()}};
    Start(options);
    SimSession& session = Client(kV1);
    if (accept == ProxyProtocolAccept::kRequired) {
      EXPECT_TRUE(session.client->closed_with_reset);
      EXPECT_EQ(world_->closed(CloseReason::kProxyProtocol), 1u);
      continue;
    }
    Bring(session, kV1.size() + kPayload);
    Connect(session);
    EXPECT_EQ(session.server->accepted, kV1.size() + kPayload) << "it is payload from them";
    CloseAll();
  }
}

TEST_F(Headers, OptionalTakesBoth) {
  for (std::string prelude : {kV1, std::string("hello"), std::string("PROXX"), std::string("\r\n\r\nGET"), std::string()})
    for (size_t first = 0; first <= prelude.size(); ++first) {
      Begin(ProxyProtocolAccept::kOptional);
      SimSession& session = Client(prelude);
      Bring(session, first);
      Bring(session, prelude.size() + kPayload - first);
      ASSERT_TRUE(connecting(session)) << prelude;
      Connect(session);
      EXPECT_EQ(session.server->accepted, kPayload + (prelude == kV1 ? 0 : prelude.size()));
      CloseAll();
      ASSERT_FALSE(report_.failed() || HasFailure()) << prelude << " " << first;
    }
}

// What has not shown itself to be a header when the time is over, or the stream, is none.
TEST_F(Headers, OptionalDoesNotWaitForEver) {
  for (size_t bytes : {size_t{0}, size_t{3}, size_t{8}}) {
    Begin(ProxyProtocolAccept::kOptional);
    SimSession& session = Client(kV1);
    Bring(session, bytes);
    PassInSteps(milliseconds(5100));
    EXPECT_EQ(connecting(session), bytes < 6);
    EXPECT_EQ(world_->closed(CloseReason::kProxyProtocolTimeout), bytes < 6 ? 0u : 1u);
    if (bytes >= 6) continue;
    Connect(session);
    EXPECT_EQ(session.server->accepted, bytes);
    CloseAll();
  }
  Begin(ProxyProtocolAccept::kOptional);
  SimSession& session = Client(kV1);
  Bring(session, 3);
  world_->io().PeerFins(*session.client);
  RunUntilQuiet();
  ASSERT_TRUE(connecting(session));
  Connect(session);
  EXPECT_EQ(session.server->accepted, 3u);
  EXPECT_TRUE(session.server->fin_sent);
}

// ---- To servers ----

TEST_F(Headers, ASilentClientsServerIsToldAtOnce) {
  for (ProxyProtocolSend send : {ProxyProtocolSend::kV1, ProxyProtocolSend::kV2}) {
    Begin(ProxyProtocolAccept::kOff, send);
    SimSession& session = Client("");
    Connect(session);
    EXPECT_EQ(session.server->accepted, session.server->lead.size());
    EXPECT_GT(session.server->lead.size(), 20u);
    EXPECT_EQ(Only().relays[0].received, 0u);
    EXPECT_EQ(Only().relays[0].sent, 0u);
    EXPECT_EQ(world_->listener_cells().bytes[0].value(), session.server->lead.size()) << "bytes handed to the kernel";
    Bring(session, kPayload);
    ExpectWhole(session);
    CloseAll();
  }
}

// However little of it is taken at once, and whatever the client has sent before.
TEST_F(Headers, InPieces) {
  Begin(ProxyProtocolAccept::kOff, ProxyProtocolSend::kV2);
  SimSession& session = Client("");
  Bring(session, kPayload);
  world_->io().EndConnect(*session.server, 0);
  Turn();
  while (session.server->send.has_value()) {
    world_->io().CarryOutSend(*session.server, 3);
    Turn();
  }
  ExpectWhole(session);
}

// A server that ends after so many bytes of the header, the whole of it included, gives way to another, which gets all of it.
TEST_F(Headers, AServerIsReplacedThoughItHadTheHeader) {
  for (bool by_reset : {false, true})
    for (bool silent : {false, true})
      for (uint32_t taken : {0u, 1u, 20u, 1000u}) {
        Begin(ProxyProtocolAccept::kRequired, ProxyProtocolSend::kV1);
        SimSession& session = Client(kV1);
        Bring(session, kV1.size() + (silent ? 0 : kPayload));
        world_->io().EndConnect(*session.server, 0);
        Turn();
        SimSocket& first = *session.server;
        ASSERT_TRUE(first.send.has_value());
        uint32_t most = std::min<uint32_t>(taken, static_cast<uint32_t>(kV1.size()));
        if (most > 0) {
          first.script.send_capacity = most;
          world_->io().CarryOutSend(first, most);
          Turn();
        }
        by_reset ? world_->io().Break(first) : world_->io().PeerFins(first);
        if (first.send.has_value()) world_->io().EndSend(first, -EPIPE);  // it takes no more, and says so
        Turn();
        world_->io().CarryOutReceive(first);
        RunUntilQuiet();
        ASSERT_TRUE(first.closed && !session.client->closed) << "reset " << by_reset << " silent " << silent << " taken " << taken;
        ASSERT_TRUE(connecting(session));
        Connect(session);
        EXPECT_EQ(session.server->accepted, session.server->lead.size() + (silent ? 0 : kPayload));
        EXPECT_EQ(session.server->lead, kV1);
        if (silent) Bring(session, kPayload);
        ExpectWhole(session);
        CloseAll();
      }
}

TEST_F(Headers, NotOnceTheServerHadAByteOfTheClient) {
  Begin(ProxyProtocolAccept::kOff, ProxyProtocolSend::kV1);
  SimSession& session = Client("");
  Bring(session, 1);
  Connect(session);
  EXPECT_EQ(session.server->accepted, session.server->lead.size() + 1);
  world_->io().Break(*session.server);
  RunUntilQuiet();
  EXPECT_TRUE(session.client->closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kServerReset), 1u);
}

TEST_F(Headers, AClientThatHasEndedAndSentNothingWaitsForNoServer) {
  Begin(ProxyProtocolAccept::kOff, ProxyProtocolSend::kV1);
  SimSession& session = Client("");
  world_->io().EndConnect(*session.server, 0);
  Turn();
  world_->io().PeerFins(*session.client);
  world_->io().CarryOutReceive(*session.client);
  Turn();
  world_->io().Break(*session.server);
  RunUntilQuiet();
  EXPECT_EQ(world_->closed(CloseReason::kServerReset), 1u);
}

// ---- Standing still ----

TEST_F(Headers, AFreezeAtAnyMoment) {
  std::string header = V2();
  for (bool elsewhere : {false, true})
    for (size_t first = 0; first <= header.size() + 1; ++first) {
      Begin(ProxyProtocolAccept::kRequired, ProxyProtocolSend::kV2);
      SimSession& session = Client(header);
      Bring(session, first);
      Freeze(elsewhere);
      Bring(session, header.size() + kPayload - first);
      Freeze(elsewhere);
      ASSERT_TRUE(connecting(session)) << first;
      EXPECT_EQ(Only().client->ToString(), "[2001:db8::7]:40000");
      Connect(session);
      EXPECT_EQ(session.server->lead, header);
      Freeze(elsewhere);
      EXPECT_EQ(Only().client->ToString(), "[2001:db8::7]:40000");
      ExpectWhole(session);
      CloseAll();
      ASSERT_FALSE(report_.failed() || HasFailure()) << first << " " << elsewhere;
    }
}

// Neither twice nor cut, whatever of it was taken before; and then it is as if nothing had been sent.
TEST_F(Headers, AFreezeWithinTheHeaderForTheServer) {
  std::string header = V2();
  for (bool elsewhere : {false, true})
    for (bool lost : {false, true})
      for (uint32_t taken = 0; taken <= header.size(); ++taken) {
        Begin(ProxyProtocolAccept::kRequired, ProxyProtocolSend::kV2);
        SimSession& session = Client(header);
        Bring(session, header.size() + kPayload);
        world_->io().EndConnect(*session.server, 0);
        Turn();
        if (taken > 0) world_->io().CarryOutSend(*session.server, taken);
        Turn();
        Freeze(elsewhere);
        if (lost) {
          SimSocket& first = *session.server;
          if (first.send.has_value()) world_->io().EndSend(first, -EPIPE);
          world_->io().Break(first);
          RunUntilQuiet();
          ASSERT_TRUE(connecting(session)) << taken;
          Connect(session);
          EXPECT_EQ(session.server->lead, header);
        }
        ExpectWhole(session);
        CloseAll();
        ASSERT_FALSE(report_.failed() || HasFailure()) << taken << " " << elsewhere << " " << lost;
      }
}

TEST_F(Headers, TimeGoesOnWhileItStandsStill) {
  for (bool elsewhere : {false, true}) {
    Begin(ProxyProtocolAccept::kRequired);
    SimSession& session = Client(kV1);
    Bring(session, 7);
    PassInSteps(seconds(3));
    Freeze(elsewhere);
    PassInSteps(milliseconds(1900));
    EXPECT_FALSE(session.client->closed);
    PassInSteps(milliseconds(300));
    EXPECT_EQ(world_->closed(CloseReason::kProxyProtocolTimeout), 1u);
  }
}

// It comes while everything stands still.
TEST_F(Headers, CompleteAmongWhatEndsForTheFreeze) {
  for (bool elsewhere : {false, true})
    for (bool right : {false, true}) {
      Begin(ProxyProtocolAccept::kRequired);
      SimSession& session = Client(right ? kV1 : "GET /");
      world_->Freeze();
      world_->io().PeerSends(*session.client, session.client->script.prelude.size() + kPayload);
      world_->io().CarryOutReceive(*session.client);
      Turn();
      ASSERT_TRUE(world_->sessions().settled());
      elsewhere ? world_->HandOver() : world_->Thaw();
      RunUntilQuiet();
      EXPECT_EQ(world_->closed(CloseReason::kProxyProtocol), right ? 0u : 1u);
      if (!right) continue;
      Connect(session);
      ExpectWhole(session);
      CloseAll();
    }
}

}  // namespace
}  // namespace ringmain::sim
