// Closing: every armed operation ends before its socket is closed, and what gets lost is not passed off as complete.
#include "directed.h"

namespace ringmain::sim {
namespace {

using Closing = Directed;

TEST_F(Closing, WaitsForSendsInFlight) {
  Start();
  SimSession& session = Established();
  session.server->script.send_capacity = 100;
  world_->io().PeerSends(*session.client, 1000);
  RunUntilQuiet();
  ASSERT_TRUE(session.server->send.has_value());
  world_->CloseAll(CloseReason::kShutdown);
  Turn();
  EXPECT_FALSE(session.client->closed || session.server->closed);
  world_->io().EndReceive(*session.client, -ECANCELED);
  world_->io().EndReceive(*session.server, -ECANCELED);
  Turn();
  EXPECT_FALSE(session.client->closed || session.server->closed);
  // The cancelled send still reports a part.
  session.server->read = 50;
  world_->io().CarryOutSend(*session.server);
  Turn();
  EXPECT_TRUE(session.client->closed_with_reset && session.server->closed_with_reset);
  EXPECT_EQ(world_->listener_cells().bytes[0].value(), 150u);
  EXPECT_EQ(world_->closed(CloseReason::kShutdown), 1u);
}

// A receive may bring bytes after its cancel. They are dropped, so the other side must not see an orderly end.
TEST_F(Closing, BytesThatArriveTooLateMakeItAReset) {
  Start();
  SimSession& session = Established();
  world_->io().PeerSends(*session.client, 10);
  world_->CloseAll(CloseReason::kShutdown);
  world_->io().CarryOutReceive(*session.client);
  RunUntilQuiet();
  EXPECT_TRUE(session.server->closed_with_reset);
}

// Or it is cancelled before it could bring them.
TEST_F(Closing, BytesThatAreLeftUnreadMakeItAReset) {
  Start();
  SimSession& session = Established();
  world_->io().PeerSends(*session.client, 10);
  world_->CloseAll(CloseReason::kDrainTimeout);
  world_->io().EndReceive(*session.client, -ECANCELED);
  RunUntilQuiet();
  EXPECT_TRUE(session.closed && session.server->closed_with_reset);
}

TEST_F(Closing, IdleSessionsCloseInOrder) {
  Start();
  SimSession& session = Established();
  world_->io().PeerSends(*session.client, 10);
  RunUntilQuiet();
  world_->CloseAll(CloseReason::kDrainTimeout);
  RunUntilQuiet();
  EXPECT_TRUE(session.server->closed);
  EXPECT_FALSE(session.server->closed_with_reset);
}

TEST_F(Closing, WhileConnectingWaitsForTheConnect) {
  Start();
  SimSocket& client = world_->Accept(Passive());
  Turn();
  world_->CloseAll(CloseReason::kShutdown);
  world_->io().EndReceive(client, -ECANCELED);
  Turn();
  EXPECT_FALSE(client.closed);
  world_->io().EndConnect(*client.session->server, 0);  // the cancel came too late
  Turn();
  EXPECT_TRUE(client.closed && client.session->server->closed);
  EXPECT_EQ(world_->sessions().size(), 0u);
}

TEST_F(Closing, StaleCompletionsAreDropped) {
  Start();
  SimSession& old = Established();
  Token receive = old.client->receive->token, send{Op::kSendToServer, receive.generation, receive.index};
  world_->CloseAll(CloseReason::kShutdown);
  RunUntilQuiet();
  ASSERT_TRUE(old.closed);
  SimSession& session = Established();  // in the slot of the old one
  ASSERT_EQ(session.client->receive->token.index, receive.index);
  ASSERT_NE(session.client->receive->token.generation, receive.generation);
  world_->io().Post({.token = receive, .result = 0});
  world_->io().Post({.token = send, .result = -EPIPE});
  world_->io().Post({.token = {Op::kConnect, receive.generation, receive.index}, .result = -ECONNREFUSED});
  Turn();
  EXPECT_EQ(world_->sessions().size(), 1u);
  world_->io().PeerSends(*session.client, 500);
  RunUntilQuiet();
  EXPECT_EQ(session.server->accepted, 500u);
}

TEST_F(Closing, OnlyThoseOfAServerThatIsRemoved) {
  Start({.servers = 2});
  SimSession& first = Established();
  SimSession& second = Established();
  ASSERT_NE(first.server->server, second.server->server);
  world_->io().PeerSends(*first.client, 100);
  world_->sessions().CloseThoseOf(world_->upstream().server(first.server->server), CloseReason::kServerRemoved);
  RunUntilQuiet();
  EXPECT_TRUE(first.closed);
  EXPECT_EQ(world_->closed(CloseReason::kServerRemoved), 1u);
  world_->io().PeerSends(*second.client, 100);
  RunUntilQuiet();
  EXPECT_EQ(second.server->accepted, 100u) << "the other goes on";
}

TEST_F(Closing, ALowerHighWaterHoldsFromTheNextReceive) {
  Start({.high_water = 16 * 4096});
  SimSession& session = Established();
  world_->sessions().SetHighWater(1);  // raised to more than two buffers
  world_->io().PeerSends(*session.client, 1 << 20);
  RunUntilQuiet();
  EXPECT_LE(session.client->taken - session.server->accepted, 3u * 4096);
}

TEST_F(Closing, StaleCompletionGivesItsBufferBack) {
  Start();
  SimSession& session = Established();
  Token receive = session.client->receive->token;
  world_->io().PeerSends(*session.client, 100);
  world_->CloseAll(CloseReason::kShutdown);
  world_->io().EndReceive(*session.client, -ECANCELED);
  RunUntilQuiet();
  ASSERT_TRUE(session.closed);
  world_->io().PostWithBuffer(receive);
  Turn();  // the rules count the buffers
  EXPECT_EQ(world_->io().published(), world_->options().buffers.ring_buffers);
}

}  // namespace
}  // namespace ringmain::sim
