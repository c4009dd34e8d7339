#include "driver.h"

#include <algorithm>
#include <cerrno>

namespace ringmain::sim {
namespace {

constexpr uint64_t kMaxSteps = 400'000;
constexpr Duration kLongestStep = milliseconds(20);
constexpr Duration kLoopDelay = milliseconds(1);  // between a timer's time and the turn that runs it, at most

bool PeerMayFinish(const SimSocket& socket) {
  const PeerScript& script = socket.script;
  if (socket.fin_arrived || socket.arrived < script.bytes) return false;
  bool saw_fin = socket.fin_sent && socket.read == socket.accepted;
  return script.end == PeerScript::End::kFin || script.end == PeerScript::End::kClose ||
         (script.end == PeerScript::End::kFinAfterFin && saw_fin);
}

bool PeerMayBreak(const SimSocket& socket) {
  const PeerScript& script = socket.script;
  if (script.end == PeerScript::End::kReset && socket.arrived == script.bytes) return true;
  if (script.end == PeerScript::End::kClose && socket.fin_arrived && socket.accepted > socket.read) return true;
  return socket.read >= script.reset_after;
}

bool PeerMaySend(const SimSocket& socket) {
  return !socket.fin_arrived && socket.arrived < socket.script.bytes &&
         socket.readable() < socket.script.receive_capacity;
}

bool PeerMayRead(const SimSocket& socket) {
  bool closed = socket.script.end == PeerScript::End::kClose && socket.fin_arrived;
  return !closed && socket.read < socket.accepted && socket.read < socket.script.stop_reading;
}

constexpr uint32_t kMostWaits = 200;

}  // namespace

// ---- The run ----

void Driver::Run() {
  Report& report = world_.report();
  bool shut_down = false;
  uint32_t waits = 0;  // in a row, without anything but time
  while (!report.failed()) {
    if (steps_ >= options_.close_idle_at && !closing_idle_) {
      closing_idle_ = true;
      world_.CloseIdle(Duration(random_.Below(Duration(seconds(3)).count())));
    }
    if (steps_ == options_.close_all_at) {
      world_.CloseAll(CloseReason::kShutdown);
      Turn(/*timers=*/false);
    }
    if (Step(/*time_passes=*/true)) {
      waits = 0;
      continue;
    }
    world_.rules().WhenQuiet();
    // Sockets without anything armed are swept for ever; no timeout takes so many sweeps.
    if (++waits < kMostWaits && Wait()) continue;
    waits = 0;
    world_.rules().WhenOver();
    if (world_.sessions().size() == 0) break;
    if (!report.Expect(!shut_down, "sessions do not close")) return;
    shut_down = true;
    world_.CloseAll(CloseReason::kShutdown);
    Turn(/*timers=*/false);
  }
  if (!report.failed()) world_.rules().AtEnd();
}

void Driver::RunUntilQuiet() {
  while (!world_.report().failed() && Step(/*time_passes=*/false)) {
  }
  world_.rules().WhenQuiet();
}

bool Driver::Step(bool time_passes) {
  ++steps_;
  if (!world_.report().Expect(steps_ < kMaxSteps, "the run does not end")) return false;
  ListChoices(time_passes);
  if (choices_.empty()) return false;
  Choice choice = Choose();
  Do(choice);
  return true;
}

void Driver::ListChoices(bool time_passes) {
  choices_.clear();
  if (world_.io().completions() > 0 || world_.sessions().has_deferred()) Add(Event::kTurn, nullptr, options_.turn_weight);
  for (SimSocket& socket : world_.io().sockets()) {
    if (socket.closed) continue;
    ListKernel(socket);
    ListPeer(socket);
  }
  if (accepted_ < options_.clients.size()) Add(Event::kAccept, nullptr, 1);
  if (choices_.empty() || !time_passes) return;
  // These alone would go on for ever.
  Add(Event::kTime, nullptr, options_.time_weight);
  if (options_.close_one_in > 0 && random_.OneIn(options_.close_one_in)) Add(Event::kCloseOne, nullptr, 20);
  if (options_.freeze_one_in > 0 && random_.OneIn(options_.freeze_one_in)) Add(Event::kFreeze, nullptr, 20);
  if (world_.io().published() > 0) Add(Event::kScribble, nullptr, 1);
  if (options_.health_flips) Add(Event::kFlipHealth, nullptr, 1);
  if (!options_.spurious_polls) return;
  for (SimSocket& socket : world_.io().sockets()) {
    if (socket.receive.has_value() && socket.receive->poll) Add(Event::kReceivePoll, &socket, 1);
    if (socket.send.has_value() && socket.send->poll) Add(Event::kSendPoll, &socket, 1);
  }
}

void Driver::ListKernel(SimSocket& socket) {
  uint32_t weight = options_.kernel_weight;
  if (socket.receive.has_value()) {
    Event event = socket.receive->poll ? Event::kReceivePoll : Event::kReceive;
    if (!socket.receive->waits || socket.receive_wakes()) Add(event, &socket, weight);
    if (socket.receive->cancelled) Add(Event::kEndReceive, &socket, weight);
  }
  if (socket.send.has_value() && socket.send->poll) {
    if (socket.broken || socket.send_room() > 0) Add(Event::kSendPoll, &socket, weight);
    if (socket.send->cancelled) Add(Event::kEndSend, &socket, weight);
  } else if (socket.send.has_value()) {
    bool tries = socket.send->mode == Io::SendMode::kTry;
    if (tries || socket.broken || socket.send_room() > 0) Add(Event::kSend, &socket, tries ? 2 * weight : weight);
    if (socket.send->cancelled) Add(Event::kEndSend, &socket, weight);
    if (options_.send_refusals && !socket.broken && (tries || socket.send_room() > 0))
      Add(Event::kRefuseSend, &socket, 1);
  }
  if (socket.connect.has_value()) {
    if (socket.script.connect_result.has_value()) Add(Event::kConnect, &socket, 1 + weight / 4);
    if (socket.connect->cancelled) Add(Event::kEndConnect, &socket, weight);
  }
}

void Driver::ListPeer(SimSocket& socket) {
  if (!socket.connected || socket.broken || world_.io().now() < socket.peer_sleeps_until) return;
  uint32_t weight = options_.peer_weight * socket.script.pace;
  if (PeerMaySend(socket)) Add(Event::kPeerSend, &socket, weight);
  if (PeerMayFinish(socket)) Add(Event::kPeerFin, &socket, weight);
  if (PeerMayBreak(socket)) Add(Event::kPeerBreak, &socket, weight);
  if (PeerMayRead(socket)) Add(Event::kPeerRead, &socket, weight);
}

const Driver::Choice& Driver::Choose() {
  uint64_t total = 0;
  for (const Choice& choice : choices_) total += choice.weight;
  uint64_t at = random_.Below(total);
  for (const Choice& choice : choices_) {
    if (at < choice.weight) return choice;
    at -= choice.weight;
  }
  return choices_.back();
}

// ---- What happens ----

void Driver::Do(const Choice& choice) {
  SimIo& io = world_.io();
  switch (choice.event) {
    case Event::kTurn:
      Turn(world_.TimerDue());
      return;
    case Event::kTime: {
      TimePoint until = io.now() + Duration(random_.Below(kLongestStep.count()));
      if (std::optional<TimePoint> next = world_.sessions().NextWakeUp(); next.has_value())
        until = std::min(until, std::max(*next, io.now()) + Duration(random_.Below(kLoopDelay.count())));
      io.AdvanceTo(until);
      if (world_.TimerDue()) Turn(/*timers=*/true);
      return;
    }
    case Event::kScribble:
      io.Scribble(random_.Next());
      return;
    case Event::kFlipHealth:
      if (random_.OneIn(8)) world_.SetServerUp(random_.Below(world_.options().servers), random_.OneIn(2));
      return;
    case Event::kAccept:
      world_.Accept(options_.clients[accepted_++]);
      Turn(/*timers=*/false);
      return;
    case Event::kReceive:
      io.CarryOutReceive(*choice.socket, SomeBytes(), options_.early_ends && random_.OneIn(8));
      return;
    case Event::kEndReceive:
      io.EndReceive(*choice.socket, -ECANCELED);
      return;
    case Event::kSend:
      CarryOutSend(*choice.socket);
      return;
    case Event::kEndSend:
      io.EndSend(*choice.socket, -ECANCELED);
      return;
    case Event::kRefuseSend:
      io.EndSend(*choice.socket, -ENOBUFS);
      return;
    case Event::kConnect:
      io.EndConnect(*choice.socket, *choice.socket->script.connect_result);
      return;
    case Event::kEndConnect:
      io.EndConnect(*choice.socket, -ECANCELED);
      return;
    case Event::kPeerSend:
      DoPeerSend(*choice.socket);
      return;
    case Event::kPeerFin:
      io.PeerFins(*choice.socket);
      MaybeMissEnd(*choice.socket);
      return;
    case Event::kPeerBreak:
      io.Break(*choice.socket, random_.OneIn(4) ? ETIMEDOUT : ECONNRESET);
      MaybeMissEnd(*choice.socket);
      return;
    case Event::kReceivePoll:
      io.CarryOutReceivePoll(*choice.socket);
      return;
    case Event::kSendPoll:
      io.CarryOutSendPoll(*choice.socket);
      return;
    case Event::kCloseOne:
      world_.CloseOne(1 + random_.Below(world_.worker_cells().opened.value() + 1));  // one that is there, has gone, or is still to come
      Turn(/*timers=*/false);
      return;
    case Event::kFreeze:
      FreezeForAWhile();
      return;
    case Event::kPeerRead:
      io.PeerReads(*choice.socket,
                   random_.Between(1, std::min<uint64_t>({choice.socket->script.read_chunk,
                                                          choice.socket->accepted - choice.socket->read,
                                                          choice.socket->script.stop_reading - choice.socket->read})));
      MaybeSleep(*choice.socket);
      return;
  }
}

// The kernel may find a socket's buffer full before the last byte of it is used.
void Driver::CarryOutSend(SimSocket& socket) {
  bool tries = socket.send->mode == Io::SendMode::kTry;
  if (tries && !socket.broken && socket.send_room() < socket.send->length && random_.OneIn(4))
    world_.io().EndSend(socket, -EAGAIN);
  else
    world_.io().CarryOutSend(socket, SomeBytes());
}

void Driver::DoPeerSend(SimSocket& socket) {
  const PeerScript& script = socket.script;
  uint64_t most =
      std::min<uint64_t>({script.chunk, script.bytes - socket.arrived, script.receive_capacity - socket.readable()});
  bool bulk = script.bulk > 0 && socket.arrived / script.bulk % 2 == 0;
  if (bulk) most = std::min<uint64_t>(script.bytes - socket.arrived, script.receive_capacity - socket.readable());
  world_.io().PeerSends(socket, bulk ? most : random_.Between(1, most));
  MaybeSleep(socket);
}

void Driver::MaybeMissEnd(SimSocket& socket) {
  if (!options_.missed_ends || !socket.receive.has_value() || !socket.receive->multishot) return;
  bool behind_data = socket.readable() > 0 || socket.received_handled < socket.taken;
  if (behind_data && random_.OneIn(2)) world_.io().MissEnd(socket);
}

void Driver::MaybeSleep(SimSocket& socket) {
  if (socket.script.pause.count() == 0 || !random_.OneIn(8)) return;
  socket.peer_sleeps_until = world_.io().now() + Duration(random_.Below(socket.script.pause.count()));
}

// A turn reaps what is there when it begins; timers run at any place in it, as their completion is one among the
// others.
void Driver::Turn(bool timers) {
  world_.report().Trace("turn at ",
                        (world_.io().now().time_since_epoch() - seconds(1000)) / std::chrono::microseconds(1),
                        " us, step ", steps_);
  if (timers && random_.OneIn(2)) world_.RunTimers();
  world_.HandleCompletions(random_.OneIn(2) ? SIZE_MAX : random_.Between(1, 8));
  if (timers && world_.TimerDue()) world_.RunTimers();
  world_.Flush();
  world_.rules().AfterTurn();
}

// Whatever may happen meanwhile, in whatever order, everything that was armed ends; then all go on, here or elsewhere.
void Driver::FreezeForAWhile() {
  world_.Freeze();
  ++freezes_;
  while (!world_.report().failed() && !world_.sessions().settled())
    if (!world_.report().Expect(Step(/*time_passes=*/false), "what was armed does not end")) return;
  if (world_.report().failed()) return;
  if (random_.OneIn(8)) world_.HandOverInVain();
  if (random_.OneIn(16))
    world_.CutLost();
  else if (random_.OneIn(4))
    world_.Thaw();
  else
    world_.HandOver();
  Turn(/*timers=*/false);
}

bool Driver::Wait() {
  TimePoint next = TimePoint::max();
  if (std::optional<TimePoint> timer = world_.sessions().NextWakeUp(); timer.has_value())
    next = *timer + Duration(random_.Below(kLoopDelay.count()));
  for (const SimSocket& socket : world_.io().sockets())
    if (!socket.closed && socket.peer_sleeps_until > world_.io().now()) next = std::min(next, socket.peer_sleeps_until);
  if (next == TimePoint::max()) return false;
  world_.io().AdvanceTo(std::max(next, world_.io().now()));
  if (world_.TimerDue()) Turn(/*timers=*/true);
  return true;
}

uint32_t Driver::SomeBytes() {
  if (!options_.short_operations || random_.OneIn(2)) return UINT32_MAX;
  return static_cast<uint32_t>(random_.Between(1, random_.OneIn(2) ? 64 : 4096));
}

}  // namespace ringmain::sim
