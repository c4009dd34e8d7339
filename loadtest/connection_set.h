// ConnectionSet: the connections of one load thread and the ring they share.
//
// It connects, sends the requests that are asked for, checks every byte of the replies, and closes; *what* to ask for,
// and when, is the owner's (LoadWorker). Thread-bound.
//
// Lifecycle of a connection: kClosed -> Open -> kConnecting -> kOpen -> Close or Fail -> kClosing -> kClosed. kClosing
// waits until the kernel holds no operation of it any more, since the buffers may be touched until then; so a slot can
// be opened again at once when OnClosed was called.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "loadtest/exchange.h"
#include "loadtest/load_options.h"
#include "loadtest/load_stats.h"
#include "uring/ring.h"

namespace ringmain::loadtest {

struct Connection {
  enum class State : uint8_t { kClosed, kConnecting, kOpen, kClosing };

  uint32_t index = 0;
  int fd = -1;
  State state = State::kClosed;
  bool failed = false;       // Fail was called since Open
  bool half_closed = false;  // HalfClose was called: the peer's end of stream is all that is awaited
  bool reset = false;        // close with a reset
  // One each at most is with the kernel.
  bool connect_armed = false;
  bool send_armed = false;
  bool receive_armed = false;

  uint64_t requested = 0;  // bytes of requests that may be sent
  uint64_t sent = 0;
  uint32_t send_begin = 0;  // what is generated and not yet sent is [send_begin, send_end) of the send buffer
  uint32_t send_end = 0;
  std::unique_ptr<char[]> send_buffer;
  std::unique_ptr<char[]> receive_buffer;
  BytePattern pattern;
  ReplyChecker checker;
  TimePoint progress;  // when something moved last, or began to be owed

  // The owner's, not read here.
  TimePoint began;           // of the connect or the operation under way
  uint64_t assigned = 0;     // operations that the schedule gave to this slot
  uint64_t first_reply = 0;  // which of those the first reply of this connection belongs to

  // What the peer may have seen.
  uint64_t issued() const { return sent + (send_armed ? send_end - send_begin : 0); }
};

class ConnectionSet {
 public:
  // Called from Wait. A handler may call anything of the set but Wait.
  class Events {
   public:
    virtual ~Events() = default;
    virtual void OnOpen(Connection& connection) = 0;
    virtual void OnSent(Connection& connection, uint64_t bytes) = 0;  // on top of connection.sent, which follows
    virtual void OnReply(Connection& connection, bool busy) = 0;
    virtual void OnIdle(Connection& connection) = 0;  // everything requested was sent and answered
    virtual void OnClosed(Connection& connection) = 0;
  };

  // `first_number` of the patterns: distinct over the threads. What is referred to outlives the set.
  ConnectionSet(const LoadOptions& options, uint32_t count, uint64_t seed, uint64_t first_number, Ring& ring,
                LoadStats& stats, ErrorPrinter& errors, Events& events);
  ~ConnectionSet();  // REQUIRES: every connection is closed
  ConnectionSet(const ConnectionSet&) = delete;
  ConnectionSet& operator=(const ConnectionSet&) = delete;

  // Submits, waits for completions up to `timeout`, and handles them.
  void Wait(Duration timeout);
  TimePoint now() const { return now_; }  // of the last Wait

  // REQUIRES: closed.
  void Open(Connection& connection);
  // Lets requests up to byte `requested` of the stream go out. REQUIRES: open; not less than before, unless nothing
  // beyond was issued.
  void Request(Connection& connection, uint64_t requested);
  // True if everything requested was sent and answered.
  bool Idle(const Connection& connection) const;
  // Sends the end of the stream and waits for the peer's. REQUIRES: open and idle.
  void HalfClose(Connection& connection);
  // REQUIRES: not closed; does nothing if it is closing already.
  void Close(Connection& connection, bool reset);
  void Fail(Connection& connection, ErrorKind kind, const std::string& what);
  // Fails connects beyond --connect-timeout and connections without progress for --reply-timeout.
  void CheckTimeouts();

  std::vector<Connection>& connections() { return connections_; }
  const SocketAddress& to(const Connection& connection) const {
    return options_.to[connection.index % options_.to.size()];
  }
  uint32_t connecting() const { return connecting_; }
  uint32_t in_use() const { return in_use_; }                     // not closed
  void set_recording(bool recording) { recording_ = recording; }  // whether bytes count

 private:
  Token TokenOf(Op op, const Connection& connection) const { return {op, 0, connection.index}; }
  void Handle(const Completion& completion);
  void HandleConnect(Connection& connection, int result);
  void HandleSend(Connection& connection, int result);
  void HandleReceive(Connection& connection, const Completion& completion);
  void HandleEndOfStream(Connection& connection);
  bool CheckReplies(Connection& connection, std::span<const char> data);
  void ArmSend(Connection& connection);
  void ArmReceive(Connection& connection, bool poll_first);
  int OpenSocket(Connection& connection);
  void FinishClose(Connection& connection);
  std::string Name(const Connection& connection) const;

  const LoadOptions& options_;
  Ring& ring_;
  LoadStats& stats_;
  ErrorPrinter& errors_;
  Events& events_;
  const uint64_t seed_;
  uint64_t next_number_;  // of the next connection's pattern
  const uint32_t send_buffer_bytes_;
  const uint32_t receive_buffer_bytes_;
  TimePoint now_;
  bool recording_ = false;
  uint32_t connecting_ = 0;
  uint32_t in_use_ = 0;
  std::vector<Connection> connections_;
};

}  // namespace ringmain::loadtest
