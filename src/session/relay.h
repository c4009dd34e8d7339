// Relay: ONE direction of a session: receive from the source, send to the sink, pass the end of the stream on.
//
// A session has two, one for each direction; nothing here knows which one it is. A relay decides about bytes; what an ended or broken
// socket means for the whole session is the session's decision (sessions.h), which learns of it by the RelayEvent that a completion
// returns.
//
// Invariants:
//   1. At most one receive and one send are armed; `receiving()` and `sending()` say so until their final completion.
//   2. received = sent + queued + discarded.
//   3. A buffer that is part of the armed send is neither moved nor released before that send's completion.
//   4. Without a fast sink at most `high_water` bytes are queued: a receive is armed with a credit that, with what is queued, stays
//      below it, and nothing else brings bytes; but for a direct one, which takes in at most that much, or what one pipe holds.
//   5. Idle, it holds no buffer.
//
// Bytes that arrive are sent from the buffer they arrived in, in the same loop turn (SendMode::kTry). Only if the sink does not take
// them all does the relay become blocked: it holds its buffers (copying what is small into the last one), and sends when the kernel
// says that there is room (SendMode::kWait).
//
// Receives are single at first, and multishot once the flow has shown that it lasts and that its sink keeps up. A multishot receive may
// miss a reset or an end that comes right behind data (seen on Linux 6.18; axboe/liburing#1549): short exchanges, where that is common,
// do not depend on it, and for long ones the sessions look after those that fell quiet (LeaveMultishot).
//
// A limited one (Allow) receives by single receives, so that each brings no more than it may; bulk in rounds that do.
//
// Bulk is moved directly (relay_direct.cc): once receives have filled whole buffers for a while and the queue is empty, a poll is armed
// in place of the receive, and what it announces goes from socket to socket by system calls of the relay's own, much at a time: through
// a kernel pipe, without a copy; where no pipe is to be had (not enough privilege, too many in use, or the kernel cannot), through
// several buffers at once. The pipe is lent, and the buffers are held, while bytes are in them. A direction that moves little at a
// time for a while goes back to receives, and so does one that has come to the end of its stream: a receive brings that. A relay
// becomes direct, or ceases to be, only while nothing is armed.
//
// Thread-bound; it belongs to its session.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "metrics/cells.h"
#include "metrics/reasons.h"
#include "takeover/frozen_session.h"
#include "uring/buffer_pool.h"
#include "uring/io.h"
#include "uring/token.h"

namespace ringmain {

// What all relays of a worker share.
struct RelayEnv {
  Io& io;
  BufferPool& buffers;
  uint32_t high_water;                    // bytes a direction may hold; more than two buffers
  std::array<Gauge, kRelayModes>& modes;  // kept up to date at each change of a relay's mode
  uint64_t spliced_bytes = 0;             // sent through pipes since whoever counts them last looked
  // What all direct ones may still take in in this turn. Whoever finds it used up has its turn in the next one.
  uint32_t direct_budget = 0;
};

enum class RelayEvent : uint8_t {
  kNone,
  kSourceEnded,  // the source sent its last byte (FIN)
  kSourceReset,  // the source is gone: reset, timed out, or broken on its sending side
  kSinkFailed,   // the sink takes no more bytes
  kDeferred,     // there may be something to move directly, but this turn's budget is used up; call Pump in the next one
  kStarved,      // there is something to read and no receive buffer was free; call Feed when one is
};

class alignas(64) Relay {
 public:
  // Its operations carry the tokens {receive|send, generation, index}. `expect_data` tells that the source may have sent already.
  Relay(RelayEnv& env, Op receive, Op send, uint32_t generation, uint32_t index, bool expect_data)
      : env_(&env), generation_(generation), index_(index), receive_op_(receive), send_op_(send), poll_first_(!expect_data) {}

  void SetSource(int fd) { source_ = fd; }
  void SetSink(int fd) { sink_ = fd; }

  // ---- Completions ----

  RelayEvent OnReceive(const Completion& completion);
  // Adds the bytes that were sent to `bytes`.
  RelayEvent OnSend(const Completion& completion, Counter& bytes);

  // ---- Decisions of the session ----

  // Arms what should be armed now, and moves what is to be moved directly; adds the bytes that were sent to `bytes`. Called at the end of each
  // loop turn in which something happened.
  RelayEvent Pump(Counter& bytes);
  // A buffer is free again. True if a starved receive was armed for it; there is something to read then, so it will complete.
  bool Feed();
  // Goes on with single receives: the armed multishot receive, if it is one, brings too much or may have missed something.
  void LeaveMultishot();
  // What a receive may bring from now on, in whole KiB: 0 is nothing until that changes.
  static constexpr uint32_t kUnlimited = UINT32_MAX;
  void Allow(uint32_t bytes);
  // The sink is gone: drops what is queued, receives no more, and drops what still arrives.
  void Discard();
  // The sink has failed and may get a successor: what is queued is kept for that.
  void LoseSink();
  // The source's socket is known to be broken: its end, however it shows, is not an orderly one.
  void BreakSource() { source_broken_ = true; }
  // The end was passed on to the sink.
  void Finish() { finished_ = true; }
  // Asks for an early end of all that is armed.
  void Cancel();
  // The same, and drops the rest as Discard does.
  void Stop();

  // ---- What comes before the payload (header.cc) ----

  // Appends the first bytes of the queue, at most so many.
  void Peek(size_t most, std::string& to) const;
  // Takes the first bytes out of the queue, as if they had never been received. Receives are single from here on: what is received does not show,
  // and an end that a multishot one missed would go unnoticed. REQUIRES: no send is armed.
  void Withdraw(uint32_t bytes);
  // Puts bytes in front of the queue, as if they had been received first. False if there is no memory for them: it is to be closed. REQUIRES: no
  // send is armed.
  bool Prepend(std::string_view bytes);
  // The sink is to get another; the first `lead` bytes, of which alone some were sent, are not for that one: as if they had never been.
  void ForgetLead(uint32_t lead);

  // All that is to be known to go on elsewhere. REQUIRES: nothing is armed.
  FrozenRelay Save() const;
  // Goes on from there. False if there is no memory for what was queued. REQUIRES: nothing has happened yet.
  bool Restore(const FrozenRelay& frozen);

  // ---- State ----

  bool receiving() const { return receiving_; }
  // A multishot receive is armed.
  bool multishot() const { return receiving_ && multishot_; }
  // Nothing is armed on the source that would report its failure, and none was reported: it has ended, or is held back.
  bool unwatched() const { return source_ >= 0 && !receiving_ && !source_broken_; }
  int source() const { return source_; }
  bool sending() const { return sending_; }
  bool in_flight() const { return receiving_ || sending_; }
  bool ended() const { return ended_; }
  // The source ended and every byte of it was sent: its end can be passed on.
  bool drained() const { return ended_ && queued_ == 0 && !sending_; }
  // Nothing more will happen in this direction.
  bool complete() const { return finished_ || (discarding_ && !sending_); }
  // The source ended or the sink is gone: this direction is over but for what is still to be sent.
  bool over() const { return ended_ || discarding_; }
  bool starved() const { return starved_; }
  // Bytes of the source are on their way to the sink, or may wait for a buffer or for being allowed.
  bool held() const { return queued_ > 0 || sending_ || starved_ || (allowed_kib_ == 0 && !receiving_); }
  bool direct() const { return direct_; }
  RelayMode mode() const { return spliced_ ? RelayMode::kSpliced : RelayMode::kBuffered; }
  uint32_t queued() const { return queued_; }
  uint64_t received() const { return received_; }
  uint64_t sent() const { return sent_; }
  uint64_t discarded() const { return received_ - sent_ - queued_; }

 private:
  static constexpr uint16_t kNoLimit = UINT16_MAX;

  bool limited() const { return allowed_kib_ != kNoLimit; }
  uint32_t allowed() const { return limited() ? uint32_t{std::max<uint16_t>(allowed_kib_, 1)} << 10 : kUnlimited; }
  void UseUp(uint32_t bytes);
  void Enqueue(uint16_t buffer);
  void Keep(uint16_t buffer);
  void KeepAll();
  void Link(uint16_t buffer);
  void Consume(uint32_t bytes);
  void DropQueue();
  using Parts = std::array<iovec, kMaxParts>;
  size_t QueueParts(Parts& parts) const;
  bool WantsReceive() const;
  void ArmReceive();
  void ArmSend();
  bool AboveLowWater() const { return queued_ > env_->high_water / 4; }
  void UseSingleReceives();

  bool IsBulk() const;
  bool BecomeDirect();
  RelayEvent MoveDirectly(Counter& bytes);
  void EndRound(uint32_t moved);
  void LeaveDirect();
  void ChooseCarrier();
  void ShowMode(RelayMode mode);
  void ReleasePipe();
  int TakeIn(uint32_t max_bytes);
  int GiveOut();
  uint32_t MostCopied() const;
  int CopyIn(uint32_t max_bytes);

  Token receive_token() const { return {receive_op_, generation_, index_}; }
  Token send_token() const { return {send_op_, generation_, index_}; }

  RelayEnv* env_;
  int source_ = -1;
  int sink_ = -1;
  uint64_t received_ = 0;
  uint64_t sent_ = 0;
  uint32_t generation_;
  uint32_t index_;

  uint32_t queued_ = 0;       // bytes in the queue
  uint32_t send_length_ = 0;  // bytes of the armed send
  uint16_t head_ = BufferPool::kNone;
  uint16_t tail_ = BufferPool::kNone;
  uint16_t pipe_ = BufferPool::kNone;  // lent while bytes are in it
  uint16_t allowed_kib_ = kNoLimit;    // of the next receive; direct: of the next round
  Op receive_op_;
  Op send_op_;

  bool receiving_ : 1 = false;      // a receive is armed and its final completion has not come
  bool multishot_ : 1 = false;      // the armed receive is a multishot one
  bool leaving_multishot_ : 1 = false;  // its cancel was requested, to go on with single receives
  bool sending_ : 1 = false;        // a send is armed and its completion has not come
  bool blocked_ : 1 = false;        // the sink did not take all: buffers are held until the queue is empty
  bool single_ : 1 = true;          // single receives instead of multishot ones
  bool poll_first_ : 1;             // the next receive would find nothing now
  bool filled_ : 1 = false;         // a receive filled a whole buffer since the last one was armed
  bool readable_ : 1 = false;       // if the armed receive finds no buffer, there is something to read
  bool starved_ : 1 = false;        // had something to read and no buffer; waits for Feed
  bool ended_ : 1 = false;          // the source will bring no more bytes
  bool source_broken_ : 1 = false;  // the source's socket failed on its other direction
  bool discarding_ : 1 = false;     // the sink is gone
  bool finished_ : 1 = false;       // the end was passed on
  bool direct_ : 1 = false;         // moves bytes itself; a poll is what is armed in place of a receive or send
  bool spliced_ : 1 = false;        // direct, and through a pipe when it last did
  uint8_t calm_ = 0;                // single receives in a row that found the queue empty
  uint8_t run_ = 0;                 // receives in a row that filled a buffer; direct: rounds in a row that moved little
};
static_assert(sizeof(Relay) == 64, "one cache line of state per direction");

}  // namespace ringmain
