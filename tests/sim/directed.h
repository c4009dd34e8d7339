// Directed: a World for plain scenarios, in which the test says what the kernel does and in what order.
#pragma once

#include <gtest/gtest.h>

#include <cerrno>

#include "driver.h"
#include "world.h"

namespace ringmain::sim {

class Directed : public testing::Test {
 protected:
  ~Directed() override {
    if (world_ == nullptr) return;
    if (!report_.failed()) {
      world_->CloseAll(CloseReason::kShutdown);
      RunUntilQuiet();
      world_->rules().AtEnd();
    }
    EXPECT_FALSE(report_.failed()) << report_.failure() << "\n" << report_.TraceText();
    // Sessions that are left cannot be destroyed.
    if (world_->sessions().size() > 0) static_cast<void>(world_.release());
  }

  // Peers that do nothing of themselves; the test drives them.
  static PeerScript Passive() {
    return {.end = PeerScript::End::kOpen, .stop_reading = 0, .connect_result = std::nullopt};
  }

  World& Start(WorldOptions options = {}) {
    options.server_script = [](size_t) { return Passive(); };
    world_ = std::make_unique<World>(options, report_);
    return *world_;
  }

  void Turn() {
    world_->Turn();
    world_->rules().AfterTurn();
  }
  // Everything that can happen happens, but no peer acts unless its script says so.
  void RunUntilQuiet() {
    Turn();
    Driver(*world_, {.seed = 1}).RunUntilQuiet();
  }
  void Pass(Duration time) {
    world_->io().AdvanceTo(world_->io().now() + time);
    if (world_->TimerDue()) Turn();
  }
  // Time passes as it does for the worker, which wakes up for each timer.
  void PassInSteps(Duration time) {
    TimePoint end = world_->io().now() + time;
    while (world_->io().now() < end) {
      TimePoint next = world_->sessions().NextWakeUp().value_or(end);
      world_->io().AdvanceTo(std::min(end, std::max(next, world_->io().now())));
      if (!world_->TimerDue()) continue;
      RunUntilQuiet();
    }
  }

  // All sessions go on in another Sessions; what was armed has done nothing any more.
  void HandOver() {
    world_->Freeze();
    for (SimSocket& socket : world_->io().sockets()) {
      if (socket.connect.has_value()) world_->io().EndConnect(socket, -ECANCELED);
      if (socket.receive.has_value()) world_->io().EndReceive(socket, -ECANCELED);
      if (socket.send.has_value()) world_->io().EndSend(socket, -ECANCELED);
    }
    Turn();
    ASSERT_TRUE(world_->sessions().settled());
    world_->HandOver();
    Turn();
  }

  // An established session with passive peers.
  SimSession& Established() {
    SimSocket& client = world_->Accept(Passive());
    Turn();
    world_->io().EndConnect(*client.session->server, 0);
    Turn();
    return *client.session;
  }

  Report report_{/*tracing=*/true};
  std::unique_ptr<World> world_;
};

}  // namespace ringmain::sim
