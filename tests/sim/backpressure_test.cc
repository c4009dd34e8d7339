// A slow sink: what a direction holds at most, and how the receive changes with it.
#include "directed.h"

namespace ringmain::sim {
namespace {

class Backpressure : public Directed {
 protected:
  static constexpr uint32_t kBuffer = 4096;
  static constexpr uint32_t kHighWater = 16 * kBuffer;

  SimSession& OpenWith(Io::Abilities abilities) {
    WorldOptions options;
    options.abilities = abilities;
    options.buffers = {kBuffer, 16, 64 * kBuffer};
    options.high_water = kHighWater;
    Start(options);
    return Established();
  }
  static uint64_t Queued(const SimSession& session) {
    return session.client->received_handled - session.server->sent_handled;
  }
  // A flow that has lasted, and whose sink keeps up, is received by multishot.
  void MakeMultishot(SimSession& session) {
    session.server->script.send_capacity = 1 << 20;
    SendPieces(session, 50, 10);
    ASSERT_TRUE(session.client->receive.has_value() && session.client->receive->multishot);
    session.server->script.send_capacity = static_cast<uint32_t>(session.server->accepted) + 1;
  }
  // One turn for each piece, as with a sender of small messages.
  void SendPieces(SimSession& session, uint32_t pieces, uint32_t size) {
    for (uint32_t i = 0; i < pieces && session.client->receive.has_value(); ++i) {
      world_->io().PeerSends(*session.client, size);
      world_->io().CarryOutReceive(*session.client);
      Turn();
      if (session.server->send.has_value()) world_->io().CarryOutSend(*session.server);
      Turn();
    }
  }
};

TEST_F(Backpressure, CreditBoundsWhatIsHeld) {
  SimSession& session = OpenWith({.multishot_receive = true, .receive_credit = true});
  MakeMultishot(session);
  SendPieces(session, 1000, kBuffer - 1);
  EXPECT_FALSE(session.client->receive.has_value());
  EXPECT_LE(Queued(session), kHighWater);
  EXPECT_GT(Queued(session), kHighWater / 2);
  EXPECT_LE(world_->pool().held(), kHighWater / kBuffer);
  // The sink reads on: below half it is received from again.
  session.server->script.send_capacity += kHighWater / 2;
  RunUntilQuiet();
  EXPECT_TRUE(session.client->receive.has_value());
}

TEST_F(Backpressure, TinyPiecesShareBuffers) {
  SimSession& session = OpenWith({.multishot_receive = true, .receive_credit = true});
  session.server->script.send_capacity = 1;
  SendPieces(session, 2000, 10);
  EXPECT_EQ(Queued(session), 2000u * 10 - 1);
  EXPECT_LE(world_->pool().held(), 6u);
}

TEST_F(Backpressure, WithoutCreditsSingleReceivesTakeOverAndGiveBack) {
  SimSession& session = OpenWith({.multishot_receive = true, .receive_credit = false});
  MakeMultishot(session);
  SendPieces(session, 4, kBuffer - 1);
  EXPECT_FALSE(session.client->receive->cancelled) << "at the low-water mark";
  SendPieces(session, 1, kBuffer - 1);
  ASSERT_TRUE(session.client->receive->cancelled) << "above it";
  world_->io().EndReceive(*session.client, -ECANCELED);
  Turn();
  ASSERT_TRUE(session.client->receive.has_value());
  EXPECT_FALSE(session.client->receive->multishot);
  EXPECT_FALSE(session.closing);
  SendPieces(session, 1000, kBuffer - 1);
  EXPECT_FALSE(session.client->receive.has_value()) << "full";
  EXPECT_LE(Queued(session), kHighWater);
  // The sink keeps up again; after some calm receives multishot comes back.
  session.server->script.send_capacity = 1 << 20;
  RunUntilQuiet();
  SendPieces(session, 100, 10);
  ASSERT_TRUE(session.client->receive.has_value());
  EXPECT_TRUE(session.client->receive->multishot);
  EXPECT_EQ(Queued(session), 0u);
}

// One burst may bring many buffers before a cancel is carried out, so a flow that fills them is not left to multishot.
TEST_F(Backpressure, WithoutCreditsAFullBufferEndsMultishot) {
  SimSession& session = OpenWith({.multishot_receive = true, .receive_credit = false});
  MakeMultishot(session);
  SendPieces(session, 1, kBuffer - 1);
  EXPECT_FALSE(session.client->receive->cancelled);
  SendPieces(session, 1, kBuffer);
  EXPECT_TRUE(session.client->receive->cancelled);
}

// A multishot receive that has ended by itself is not armed again where the low-water mark asks for single ones.
TEST_F(Backpressure, WithoutCreditsNoMultishotIsArmedAboveLowWater) {
  SimSession& session = OpenWith({.multishot_receive = true, .receive_credit = false});
  MakeMultishot(session);
  SendPieces(session, 4, kBuffer - 1);
  world_->io().PeerSends(*session.client, kBuffer);
  world_->io().CarryOutReceive(*session.client, kBuffer, /*end_early=*/true);
  Turn();
  ASSERT_TRUE(session.client->receive.has_value());
  EXPECT_FALSE(session.client->receive->multishot);
}

TEST_F(Backpressure, SingleReceivesOnly) {
  SimSession& session = OpenWith({.multishot_receive = false, .receive_credit = false});
  session.server->script.send_capacity = 1;
  SendPieces(session, 1000, kBuffer - 1);
  EXPECT_LE(Queued(session), kHighWater);
  EXPECT_GT(Queued(session), kHighWater / 2);
}

// One slow sink does not touch the buffers of others: what it holds is replaced in the ring.
TEST_F(Backpressure, HeldBuffersAreReplaced) {
  SimSession& slow = OpenWith({});
  slow.server->script.send_capacity = 1;
  SendPieces(slow, 1000, kBuffer - 1);
  EXPECT_GE(world_->pool().held(), 8u);
  EXPECT_EQ(world_->io().published(), world_->options().buffers.ring_buffers);
}

}  // namespace
}  // namespace ringmain::sim
