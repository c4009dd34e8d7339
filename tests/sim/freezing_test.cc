// Standing still with operations in flight, and going on, here or elsewhere: every order in which they may end, and every way.
#include <algorithm>
#include <array>
#include <cerrno>

#include "directed.h"

namespace ringmain::sim {
namespace {

constexpr uint64_t kEach = 6000;  // bytes that each peer has sent when the freeze begins; more than one buffer, so some wait in the socket

class Freezing : public Directed {
 protected:
  // What becomes of an operation that was armed when the freeze began.
  enum class End { kCancelled, kPart, kWhole };
  static constexpr std::array<End, 3> kEnds = {End::kCancelled, End::kPart, End::kWhole};

  // A session with a receive and a send armed on either side.
  SimSession& Busy() {
    SimSession& session = Established();
    for (SimSocket* socket : {session.client, session.server}) {
      socket->script.stop_reading = PeerScript::kNever;
      world_->io().PeerSends(*socket, kEach);
      world_->io().CarryOutReceive(*socket);
    }
    Turn();
    EXPECT_TRUE(session.client->receive && session.client->send && session.server->receive && session.server->send);
    return session;
  }
  // Operations 0 to 3: the client's receive and send, the server's receive and send.
  void Finish(SimSession& session, int operation, End end) {
    SimSocket& socket = operation < 2 ? *session.client : *session.server;
    SimIo& io = world_->io();
    if (operation % 2 == 0) {
      if (!socket.receive.has_value()) return;
      if (end == End::kCancelled)
        io.EndReceive(socket, -ECANCELED);
      else
        io.CarryOutReceive(socket, end == End::kPart ? 10 : UINT32_MAX);
      if (socket.receive.has_value()) io.EndReceive(socket, -ECANCELED);  // a multishot one
    } else if (socket.send.has_value()) {
      if (end == End::kCancelled)
        io.EndSend(socket, -ECANCELED);
      else
        io.CarryOutSend(socket, end == End::kPart ? 10 : UINT32_MAX);
    }
  }
  void GoOn(bool elsewhere) {
    ASSERT_TRUE(world_->sessions().settled());
    elsewhere ? world_->HandOver() : world_->Thaw();
    Turn();
  }
  // Everything that was sent has arrived, and the session works.
  void ExpectWhole(SimSession& session) {
    for (SimSocket* socket : {session.client, session.server}) world_->io().PeerSends(*socket, 500);
    RunUntilQuiet();
    EXPECT_EQ(session.server->accepted, kEach + 500);
    EXPECT_EQ(session.client->accepted, kEach + 500);
    EXPECT_FALSE(session.client->closed || session.server->closed);
  }
  void CloseAll() {
    world_->CloseAll(CloseReason::kShutdown);
    RunUntilQuiet();
    world_->rules().AtEnd();
  }
};

TEST_F(Freezing, InEveryOrderAndEveryWay) {
  size_t schedules = 0;
  std::array<int, 4> order = {0, 1, 2, 3};
  do {
    for (int ends = 0; ends < 81; ++ends)
      for (bool elsewhere : {false, true})
        for (bool at_once : {false, true}) {  // all completions in one turn, or each in its own
          Start();
          SimSession& session = Busy();
          world_->Freeze();
          for (int i = 0, rest = ends; i < 4; ++i, rest /= 3) {
            Finish(session, order[static_cast<size_t>(i)], kEnds[static_cast<size_t>(rest % 3)]);
            if (!at_once) Turn();
          }
          if (at_once) Turn();
          GoOn(elsewhere);
          ExpectWhole(session);
          CloseAll();
          ASSERT_FALSE(report_.failed() || HasFailure()) << "schedule " << schedules;
          ++schedules;
        }
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(schedules, 24u * 81u * 4u);
}

// An end, or a reset, that is told of among what ends because of the freeze.
TEST_F(Freezing, AnEndInBetweenIsPassedOn) {
  for (bool elsewhere : {false, true})
    for (bool reset : {false, true}) {
      Start();
      SimSession& session = Established();
      world_->io().PeerSends(*session.client, 100);
      RunUntilQuiet();
      world_->Freeze();
      reset ? world_->io().Break(*session.server) : world_->io().PeerFins(*session.server);
      world_->io().CarryOutReceive(*session.server);
      world_->io().EndReceive(*session.client, -ECANCELED);
      Turn();
      GoOn(elsewhere);
      RunUntilQuiet();
      EXPECT_EQ(session.client->closed_with_reset, reset);
      EXPECT_EQ(session.client->fin_sent, !reset);
      CloseAll();
    }
}

TEST_F(Freezing, AHalfClosedSessionStaysHalfClosed) {
  for (bool elsewhere : {false, true}) {
    Start();
    SimSession& session = Established();
    world_->io().PeerFins(*session.client);
    RunUntilQuiet();
    ASSERT_TRUE(session.server->fin_sent);
    world_->Freeze();
    world_->io().EndReceive(*session.server, -ECANCELED);
    Turn();
    GoOn(elsewhere);
    world_->io().PeerSends(*session.server, 9000);
    world_->io().PeerFins(*session.server);
    session.client->script.stop_reading = PeerScript::kNever;
    RunUntilQuiet();
    EXPECT_EQ(session.client->accepted, 9000u);
    EXPECT_EQ(world_->closed(CloseReason::kClientClosed), 1u);
  }
}

TEST_F(Freezing, AConnectBeginsAnew) {
  for (bool elsewhere : {false, true}) {
    Start();
    SimSocket& client = world_->Accept(Passive());
    Turn();
    world_->io().PeerSends(client, 100);
    world_->io().CarryOutReceive(client);
    world_->Freeze();
    world_->io().EndConnect(*client.session->server, -ECANCELED);
    Turn();
    GoOn(elsewhere);
    ASSERT_TRUE(client.session->server->connect.has_value());
    world_->io().EndConnect(*client.session->server, 0);
    RunUntilQuiet();
    EXPECT_EQ(client.session->server->accepted, 100u);
    CloseAll();
  }
}

// The successor that had been passed everything dies before it served: nobody knows which bytes it moved.
TEST_F(Freezing, WhatIsLostIsReset) {
  Start();
  SimSession& session = Busy();
  world_->Freeze();
  for (int operation = 0; operation < 4; ++operation) Finish(session, operation, End::kCancelled);
  Turn();
  ASSERT_TRUE(world_->sessions().settled());
  world_->CutLost();
  Turn();
  EXPECT_TRUE(session.client->closed_with_reset && session.server->closed_with_reset);
  EXPECT_EQ(world_->closed(CloseReason::kTakeoverFailed), 1u);
}

// A successor gives up after it was passed everything: its copies are forgotten, and the sessions go on here.
TEST_F(Freezing, CopiesAreForgotten) {
  Start();
  SimSession& session = Busy();
  world_->Freeze();
  for (int operation = 0; operation < 4; ++operation) Finish(session, operation, End::kPart);
  Turn();
  world_->HandOverInVain();
  GoOn(/*elsewhere=*/false);
  ExpectWhole(session);
}

}  // namespace
}  // namespace ringmain::sim
