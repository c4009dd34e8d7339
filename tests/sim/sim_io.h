// SimIo: the kernel of the simulation. To the proxy it is Io and the ring of receive buffers; to a test it is a set of
// sockets with armed operations, of which each call below carries one out.
//
// It holds the proxy to the contract of Io (io.h) and of the buffer ring, and reports what breaks it:
//   - at most one receive and one send are armed on a socket, none on a closed one, and none when it is closed;
//   - memory that the kernel may read (an armed send) or write (a published buffer) does not change and is not handed
//   out again;
//   - what is sent is the other side's stream, byte by byte; FIN comes after the whole of it;
//   - a pipe is lent to one direction at a time and given back empty, unless it is discarded; no direct call is made
//   from or to a socket that has such an operation armed.
// Completions come in the order in which operations were carried out, as on a real ring; which one is next is the
// test's choice.
#pragma once

#include <poll.h>

#include <climits>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "report.h"
#include "sim_socket.h"
#include "uring/buffer_pool.h"
#include "uring/io.h"

namespace ringmain::sim {

// Which call of the proxy is running. Tells why it cancels or closes something.
enum class Phase : uint8_t { kHandle, kTimers, kFlush, kCloseAll, kFreeze };

class SimIo final : public Io, public BufferPublisher {
 public:
  struct Options {
    Abilities abilities;
    uint32_t buffer_bytes = 4096;
    Duration leave_grace{};  // Sessions::kLeaveGrace
    std::function<PeerScript(size_t server)> server_script;
    std::function<int()> open_result;  // of OpenSocket: 0 or -errno
    std::function<bool(const std::string& source)> has_source = [](const std::string&) { return true; };
    std::vector<uint32_t> pipes{};     // the size of each
    std::function<bool()> pipe_refused = [] { return false; };
    size_t servers = 1;
    uint32_t connect_tries = 1;
    std::function<int()> direct_limit = [] { return INT_MAX; };  // bytes that a direct call moves at most, or -errno
    Duration max_lifetime{};  // of sessions
    std::function<std::string(const SimSocket& client)> lead = [](const SimSocket&) { return ""; };  // what servers are sent first
  };
  SimIo(Options options, Report& report) : options_(std::move(options)), report_(report) {
    for (uint32_t size : options_.pipes) pipes_.push_back({.size = size});
  }

  // ---- Io and BufferPublisher ----

  const Abilities& abilities() const override { return options_.abilities; }
  void ReceiveMultishot(Token token, int fd, uint32_t credit_bytes) override;
  void ReceiveOnce(Token token, int fd, uint32_t max_bytes, bool poll_first) override;
  void Send(Token token, int fd, std::span<const iovec> parts, SendMode mode) override;
  void Connect(Token token, int fd, const SocketAddress& address) override;
  void Cancel(Token target) override;
  int OpenSocket(int family, const SocketAddress* source, const SocketOptions* options = nullptr, bool transparent = false) override;
  void KeepAlive(int fd, seconds idle, const SocketOptions* options) override;
  bool ConnectedToItself(int fd, const SocketAddress& server) override;
  void ShutdownSend(int fd) override;
  void Close(int fd) override { CloseSocket(fd, /*reset=*/false); }
  void CloseWithReset(int fd) override { CloseSocket(fd, /*reset=*/true); }
  void EndForAll(int fd, bool) override { Usable(fd, "end"); }
  void PollNow(std::span<pollfd> files) override;
  void Poll(Token token, int fd, short events) override;
  std::optional<uint16_t> AcquirePipe() override;
  void ReleasePipe(uint16_t pipe) override;
  void DiscardPipe(uint16_t pipe) override;
  std::array<int, 2> PipeEnds(uint16_t pipe) override { return {pipe, pipe}; }  // its number
  uint16_t AdoptPipe(int read_end, int write_end) override;
  int SpliceToPipe(int fd, uint16_t pipe, uint32_t max_bytes) override;
  int SpliceFromPipe(uint16_t pipe, int fd, uint32_t bytes) override;
  int ReceiveNow(int fd, std::span<const iovec> parts) override;
  int SendNow(int fd, std::span<const iovec> parts) override;
  bool HasBytes(int fd) override;
  std::optional<TcpSample> SampleTcp(int fd) override;
  std::optional<SocketAddress> PeerAddress(int fd) override;
  std::optional<SocketAddress> LocalAddress(int) override { return SocketAddress::Parse("10.0.0.3:80").value(); }
  TimePoint Now() override { return now_; }
  void Publish(uint16_t buffer, char* data, uint32_t size) override;

  // ---- What the kernel does ----

  // A client connects; the socket is for Sessions::Open, which connects to a server or, if a header is to be read, receives. Servers connect by
  // Connect.
  SimSocket& AddClient(const PeerScript& script, bool reads_header = false);
  // Carries out an armed receive with at most `max_bytes`: bytes, else the end, else nothing. `end_early` ends a
  // multishot one though nothing is wrong, as an overflow of the completion queue does.
  void CarryOutReceive(SimSocket& socket, uint32_t max_bytes = UINT32_MAX, bool end_early = false);
  // Carries out an armed send with at most `max_bytes`. One that waits goes on waiting if nothing fits.
  void CarryOutSend(SimSocket& socket, uint32_t max_bytes = UINT32_MAX);
  // Ends an armed operation with `result`, which is an error (or 0 for a connect).
  void EndReceive(SimSocket& socket, int result);
  void EndSend(SimSocket& socket, int result);
  void EndConnect(SimSocket& socket, int result);
  // Carry out an armed poll, which completes though there is nothing if there is nothing. REQUIRES: it is a poll.
  void CarryOutReceivePoll(SimSocket& socket);
  void CarryOutSendPoll(SimSocket& socket);
  // Writes into a buffer that is published. REQUIRES: published() > 0.
  void Scribble(uint64_t random);
  void AdvanceTo(TimePoint now) { now_ = now; }

  // The client that was added last is not being connected to a server yet: it waits for its turn, after those before it.
  void ConnectLater();

  // ---- What the peer does ----

  void PeerSends(SimSocket& socket, uint64_t bytes);
  void PeerFins(SimSocket& socket);
  // The connection breaks: by a reset, or by a timeout of the kernel's.
  void Break(SimSocket& socket, int error = ECONNRESET);
  // The armed multishot receive will not notice that the peer has ended: what Linux 6.18 does now and then when an end
  // comes right behind data (axboe/liburing#1549). REQUIRES: a multishot receive is armed.
  void MissEnd(SimSocket& socket);
  void PeerReads(SimSocket& socket, uint64_t bytes);

  // ---- Completions ----

  size_t completions() const { return posted_.size(); }
  // The oldest; the caller hands it to the proxy at once. REQUIRES: completions() > 0.
  Completion TakeCompletion();
  // A completion that no armed operation has: a stale one; and one that brings a buffer of one byte. REQUIRES:
  // published() > 0.
  void Post(const Completion& completion) { posted_.push_back({completion}); }
  void PostWithBuffer(Token token);

  // ---- State ----

  TimePoint now() const { return now_; }

  std::deque<SimSocket>& sockets() { return sockets_; }  // also the closed ones; fds are indices and never used again
  std::deque<SimSession>& sessions() { return sessions_; }
  size_t published() const { return published_.size(); }
  uint64_t samples() const { return samples_; }  // answers to SampleTcp
  // Buffers that completions hold which the proxy has not handled yet.
  size_t buffers_under_way() const;
  // The first bytes of what the peer of a socket sends.
  std::string StreamOf(const SimSocket& socket, size_t bytes);
  SimSession* FindSession(Token token) const;
  bool open_failed() const { return open_failed_; }  // OpenSocket failed at least once, but for want of the source
  // Whether a connect to this server from this local address found no port, so recently that the address rests; and whether this machine
  // did not have the address when a socket was to be bound to it.
  bool NoPort(size_t server, const std::string& source) const;
  bool Missing(const std::string& source) const;
  SimSession* last_closed() const { return last_closed_; }
  const std::vector<SimPipe>& pipes() const { return pipes_; }
  // Connections to the server that ended before a byte was passed, and were replaced by others.
  uint64_t replaced(size_t server) const;
  bool did_without_pipe() const { return refused_pipes_ > 0 || !options_.abilities.splice; }
  uint64_t Piped(const SimSocket& source) const;           // bytes from it that are in a pipe
  uint32_t taken_in_turn() const { return taken_in_turn_; }  // by direct calls since the last Flush began
  uint32_t most_given() const { return most_given_; }        // by direct calls into one socket in one turn
  void set_phase(Phase phase);
  // What the proxy arms now ends for that reason, and is no failure.
  void set_frozen(bool frozen);
  // All sessions pass to another Sessions, which has other tokens for them.
  void ForgetTokens();
  // Sessions that have no server connect next, in the order of their clients here, or close.
  void ExpectConnects(const std::vector<int>& clients);
  // The relay is tested without sessions: what Connect does otherwise.
  void Bind(Token token, SimSession& session);

 private:
  SimSocket& NewSocket(bool is_client, const PeerScript& script);
  SimSocket* Usable(int fd, const char* what);
  SimSocket* FindOwned(Token token, int fd, const char* what);
  void Arm(SimSocket& socket, ReceiveOp operation);
  void NoteNoHeader(SimSocket& client);
  void FillStream(const SimSocket& source, uint64_t position, char* to, size_t size);
  bool IsRight(const SimSocket& sink, uint64_t sent, const char* data, size_t size);
  void CheckPayload(const SimSocket& sink, const SendOp& send, const char* when);
  uint16_t SelectBuffer();
  void CheckPoison(uint16_t buffer);
  SimPipe* Lent(uint16_t pipe, const char* what);
  SimSocket* DirectSource(int fd);
  SimSocket* DirectSink(int fd);
  SimSocket* Direct(int fd, const char* what);
  int TakeDirectly(SimSocket& source, uint64_t room, const char* what);
  int GiveDirectly(SimSocket& sink, uint32_t bytes, const char* what);
  bool IsOfNoUse(const SimSession& session) const;
  void NoteUseless(SimSession& session);
  void NoteReplaced(SimSession& session);
  // Of the stream that comes from `source`.
  void NoteByte(const SimSocket& source);
  void NoteClosing(SimSession& session);
  void CloseSocket(int fd, bool reset);
  struct Posted {
    Completion completion;
    bool poll = false;
  };
  void OnHandled(const Posted& posted);
  void OnReceiveHandled(SimSocket& socket, int result);
  void OnSendHandled(SimSocket& socket, int result);
  void OnConnectHandled(SimSession& session, int result);
  void NoteHalfClosed(SimSession& session);
  SimSocket* SocketOf(const SimSession& session, Op op) const;

  struct Buffer {
    char* data = nullptr;
    uint8_t poison = 0;  // what the whole of it holds while it is published
    bool published = false;
  };

  Options options_;
  Report& report_;
  TimePoint now_{seconds(1000)};
  Phase phase_ = Phase::kHandle;
  std::deque<SimSocket> sockets_;
  std::deque<SimSession> sessions_;
  SimSession* opening_ = nullptr;
  std::deque<SimSession*> expected_connects_;
  bool frozen_ = false;
  SimSession* last_closed_ = nullptr;
  bool open_failed_ = false;
  std::map<std::pair<size_t, std::string>, TimePoint> no_port_at_;  // by server and local address
  std::map<std::string, TimePoint> missing_at_;                     // by local address
  bool out_of_files_ = false;                 // OpenSocket said so, in the handling of the last completion
  std::map<uint64_t, SimSession*> by_token_;  // Op::kNone, generation and index of the proxy's session
  std::deque<uint16_t> published_;            // first in, first out, like the kernel's ring
  std::vector<Buffer> buffers_;
  std::deque<Posted> posted_;
  std::vector<SimPipe> pipes_;
  std::map<size_t, uint64_t> replaced_;  // by server
  uint64_t refused_pipes_ = 0;
  uint64_t samples_ = 0;
  uint32_t most_given_ = 0;
  uint32_t taken_in_turn_ = 0;
};

}  // namespace ringmain::sim
