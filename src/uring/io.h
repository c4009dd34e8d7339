// Io: every system call of a session, so that a simulated one can fail, shorten or delay each of them.
//
// RingIo (ring_io.h) is the real one; tests/sim has the other. Thread-bound, like the ring.
//
// Contract of the ring operations: each call arms one operation; it produces completions with its token, the last of which, and only
// the last, has more == false. Memory handed over (payload, addresses) belongs to the kernel until then; iovec arrays and
// SocketAddress objects are only read until the next wait.
#pragma once

#include <poll.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "base/clock.h"
#include "base/socket_address.h"
#include "config/socket_options.h"
#include "uring/token.h"

namespace ringmain {

// The options that the TCP sockets of both sides of a session get. A listening socket passes them on to what it accepts (man 7 tcp; true of
// SO_KEEPALIVE, the TCP_KEEP* values and TCP_NODELAY on Linux), so an accepted socket needs no calls of its own.
void DisableSendDelay(int fd);
// `idle` is the time without a byte before the first probe; zero turns them off. The time between probes and their number are those of `options`,
// where it has them.
void SetKeepAlive(int fd, seconds idle, const SocketOptions* options = nullptr);

// How a TCP connection fares (TCP_INFO, man 7 tcp). Counts are from its beginning, modulo 2^32.
struct TcpSample {
  Duration round_trip{};     // smoothed
  uint32_t segments = 0;     // that were sent with payload, retransmits included (tcpi_data_segs_out, Linux 4.6)
  uint32_t retransmits = 0;  // tcpi_total_retrans
};

class Io {
 public:
  enum class SendMode {
    kTry,   // completes at once: what fits into the socket now, or -EAGAIN (MSG_DONTWAIT)
    kWait,  // completes when at least one byte was taken, or with an error
  };
  // What the running kernel offers; fixed for the lifetime.
  struct Abilities {
    bool multishot_receive = true;
    bool receive_credit = true;  // ReceiveMultishot honours credit_bytes; false: it goes on until cancelled
    bool splice = false;         // AcquirePipe may succeed
  };

  virtual ~Io() = default;

  virtual const Abilities& abilities() const = 0;

  // ---- Ring operations ----

  // Receives into buffers of the pool, one completion per buffer, until `credit_bytes` were received (the last completion may go
  // beyond by less than one buffer), the stream ends (result 0), fails, no buffer is free (-ENOBUFS), or the kernel ends it for
  // reasons of its own.
  virtual void ReceiveMultishot(Token token, int fd, uint32_t credit_bytes) = 0;
  // The same for one buffer of at most `max_bytes`. `poll_first` waits for readiness before it takes a buffer.
  virtual void ReceiveOnce(Token token, int fd, uint32_t max_bytes, bool poll_first) = 0;
  // Sends the parts in order; completes once with the bytes taken, which may be fewer. REQUIRES: no other send armed on this fd;
  // 1 to kMaxParts parts.
  virtual void Send(Token token, int fd, std::span<const iovec> parts, SendMode mode) = 0;
  // Completes once, with the poll(2) events that are there, when one of `events` (or an error) is.
  virtual void Poll(Token token, int fd, short events) = 0;
  // Completes with 0 or -errno.
  virtual void Connect(Token token, int fd, const SocketAddress& address) = 0;
  // Asks for an early end of one armed operation. Its final completion still arrives, with -ECANCELED or with what it did.
  virtual void Cancel(Token target) = 0;

  // ---- Immediate calls ----

  // A non-blocking, close-on-exec stream socket that sends without delay; or -errno. Its connect will be made from the address `source`, and
  // from a port that is free towards the server then; -EADDRNOTAVAIL if this machine does not have that address, unless it is `transparent` and
  // need not have it. Null: the kernel chooses. What `options` ask for is set, but for unix sockets; null: nothing.
  virtual int OpenSocket(int family, const SocketAddress* source, const SocketOptions* options = nullptr, bool transparent = false) = 0;
  // SetKeepAlive. REQUIRES: a TCP socket.
  virtual void KeepAlive(int fd, seconds idle, const SocketOptions* options) = 0;
  // A connect to a port of this machine that nobody listens on may be given just that port to connect from, and then it reaches itself.
  // REQUIRES: `fd` was connected to `server`.
  virtual bool ConnectedToItself(int fd, const SocketAddress& server) = 0;
  // Sends FIN after what was sent. Errors are ignored: the receive side reports a dead connection.
  virtual void ShutdownSend(int fd) = 0;
  // REQUIRES: nothing is armed on `fd`.
  virtual void Close(int fd) = 0;
  // The same, but the peer sees a reset (SO_LINGER 0).
  virtual void CloseWithReset(int fd) = 0;
  // Ends the connection itself, in order or by a reset: another process may have `fd` open too, and then closing it ends nothing. It is still
  // to be closed. REQUIRES: nothing is armed on `fd`.
  virtual void EndForAll(int fd, bool reset) = 0;
  // A kernel pipe to splice through, empty; none if there is none to be had now.
  virtual std::optional<uint16_t> AcquirePipe() = 0;
  // Gives an empty pipe back.
  virtual void ReleasePipe(uint16_t pipe) = 0;
  // Gives a pipe back with what is in it, which is lost.
  virtual void DiscardPipe(uint16_t pipe) = 0;
  // The two ends of a lent pipe, which stay the pool's: for reading and for writing.
  virtual std::array<int, 2> PipeEnds(uint16_t pipe) = 0;
  // Takes over a pipe, by its ends, with what is in it; it is lent.
  virtual uint16_t AdoptPipe(int read_end, int write_end) = 0;
  // Moves what there is from a socket into an empty pipe, up to its size and `max_bytes`: the number of bytes, 0 at the end of the
  // stream, or -errno; -EAGAIN if there is nothing now.
  virtual int SpliceToPipe(int fd, uint16_t pipe, uint32_t max_bytes) = 0;
  // Moves up to `bytes`, which are in the pipe, into a socket: the number of bytes or -errno; -EAGAIN if it is full now.
  virtual int SpliceFromPipe(uint16_t pipe, int fd, uint32_t bytes) = 0;
  // Receives what there is into the parts, in order: the number of bytes, 0 at the end of the stream, or -errno; -EAGAIN if there is
  // nothing now. REQUIRES: 1 to kMaxParts parts, as for SendNow.
  virtual int ReceiveNow(int fd, std::span<const iovec> parts) = 0;
  // Sends what fits into the socket now: the number of bytes or -errno; -EAGAIN if it is full.
  virtual int SendNow(int fd, std::span<const iovec> parts) = 0;
  // Fills in which of `files` have an event to report at this moment (poll(2), without waiting).
  virtual void PollNow(std::span<pollfd> files) = 0;
  // There is something to read besides the end of the stream (FIONREAD).
  virtual bool HasBytes(int fd) = 0;
  // None if the kernel does not say. REQUIRES: a TCP socket.
  virtual std::optional<TcpSample> SampleTcp(int fd) = 0;
  // Whom a socket is connected to (getpeername); none once it is not connected any more.
  virtual std::optional<SocketAddress> PeerAddress(int fd) = 0;
  // Its own end (getsockname).
  virtual std::optional<SocketAddress> LocalAddress(int fd) = 0;
  virtual TimePoint Now() = 0;
};

inline constexpr size_t kMaxParts = 16;

}  // namespace ringmain
