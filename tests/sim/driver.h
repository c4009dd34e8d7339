// Driver: lets things happen in a World, one at a time, in an order that a seed decides.
//
// At each step it lists what could happen now (an armed operation is carried out, a peer acts, a client connects, time
// passes, the worker takes a turn) and picks one by weight. The weights differ from seed to seed, so that some runs
// have starving readers, some a lagging worker, some a clock that runs away.
#pragma once

#include <optional>
#include <vector>

#include "random.h"
#include "world.h"

namespace ringmain::sim {

// How a run is disturbed.
struct DriverOptions {
  uint64_t seed = 0;
  std::vector<PeerScript> clients;  // that connect in the course of the run
  uint32_t turn_weight = 4;
  uint32_t kernel_weight = 8;
  uint32_t peer_weight = 8;
  uint32_t time_weight = 1;
  bool short_operations = false;       // receives and sends carry less than they could
  bool early_ends = false;             // multishot receives end without a cause
  bool missed_ends = false;            // multishot receives miss an end that comes right behind data
  bool send_refusals = false;          // a send finds no memory in the kernel (-ENOBUFS)
  bool spurious_polls = false;         // polls complete though there is nothing
  bool health_flips = false;           // servers go down and come up
  uint64_t close_idle_at = UINT64_MAX;  // from this step on idle sessions are closed
  uint64_t close_all_at = UINT64_MAX;  // step
  uint32_t freeze_one_in = 0;          // steps; zero is never
  uint32_t close_one_in = 0;           // the same, of one session that is closed on request
};

class Driver {
 public:
  Driver(World& world, const DriverOptions& options) : world_(world), options_(options), random_(options.seed) {}

  // Until all is over, every session closed; those that wait for ever are closed at last, as at a shutdown.
  void Run();
  // Until nothing can happen without time passing.
  void RunUntilQuiet();

  uint64_t steps() const { return steps_; }
  uint64_t freezes() const { return freezes_; }

 private:
  enum class Event : uint8_t {
    kTurn,
    kTime,
    kScribble,
    kFlipHealth,
    kCloseOne,
    kAccept,
    kReceive,
    kEndReceive,  // by its cancel
    kSend,
    kEndSend,
    kRefuseSend,
    kConnect,
    kEndConnect,
    kPeerSend,
    kPeerFin,
    kPeerBreak,
    kPeerRead,
    kReceivePoll,
    kSendPoll,
    kFreeze,
  };
  struct Choice {
    Event event;
    SimSocket* socket;
    uint32_t weight;
  };

  bool Step(bool time_passes);
  void ListChoices(bool time_passes);
  void ListKernel(SimSocket& socket);
  void ListPeer(SimSocket& socket);
  const Choice& Choose();
  void Do(const Choice& choice);
  void CarryOutSend(SimSocket& socket);
  void DoPeerSend(SimSocket& socket);
  void Turn(bool timers);
  void FreezeForAWhile();
  // Lets time pass until something happens; false if nothing will.
  bool Wait();
  void Add(Event event, SimSocket* socket, uint32_t weight) { choices_.push_back({event, socket, weight}); }
  uint32_t SomeBytes();
  void MaybeMissEnd(SimSocket& socket);
  void MaybeSleep(SimSocket& socket);

  World& world_;
  const DriverOptions options_;
  Random random_;
  size_t accepted_ = 0;
  uint64_t steps_ = 0;
  bool closing_idle_ = false;
  uint64_t freezes_ = 0;
  std::vector<Choice> choices_;
};

}  // namespace ringmain::sim
