// SimSocket: one TCP connection of the proxy as its kernel sees it, with the script of the peer at the far end;
// SimSession: the two of one session. Plain state: SimIo is the kernel that moves it, peers.h moves the far ends, and
// the rules read it.
//
// Content is not stored: a stream's bytes follow from its key and their position (pattern.h), so counts are enough. But a client may begin
// with bytes of its own choice (a PROXY protocol header, or what is none), which the proxy may take for itself, and the proxy may send a server
// some of its own before the client's: see passed().
#pragma once

#include <sys/uio.h>

#include <array>
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "metrics/reasons.h"
#include "protocol/proxy_protocol.h"
#include "uring/io.h"

namespace ringmain::sim {

// What a peer does.
struct PeerScript {
  enum class End : uint8_t {
    kFin,          // sends FIN after its bytes
    kFinAfterFin,  // the same, but only once it has seen the other side's FIN
    kClose,        // closes: FIN, and a reset for everything that arrives later
    kReset,        // resets the connection after its bytes
    kOpen,         // does nothing more
  };
  static constexpr uint64_t kNever = UINT64_MAX;

  std::string prelude;             // its first bytes
  uint64_t bytes = 0;              // to send, those included
  uint32_t chunk = 1 << 20;        // sent at once, at most
  uint32_t bulk = 0;               // not zero: the first so many bytes are sent as fast as they fit, every other time
  End end = End::kFin;             // after the bytes
  uint32_t read_chunk = 1 << 20;   // read at once, at most
  uint64_t stop_reading = kNever;  // reads no more for good after so many bytes
  uint64_t reset_after = kNever;   // resets the connection after having read so many bytes
  uint32_t pace = 1;               // how often it gets its turn, relative to others
  Duration pause{};                // sleeps at most so long now and then; zero is never

  uint32_t receive_capacity = 64 << 10;  // bytes that the proxy's socket takes before the proxy receives them
  uint32_t send_capacity = 64 << 10;     // bytes that the proxy's socket takes before the peer reads them

  // Servers only: how they answer a connect. No result is no answer.
  std::optional<int> connect_result = 0;
  bool is_the_proxy = false;  // nobody listens there, and a connect that succeeds has reached itself
};

inline bool IsReceive(Op op) { return op == Op::kReceiveFromClient || op == Op::kReceiveFromServer; }

// An operation that is armed in the kernel.
struct ReceiveOp {
  Token token;
  bool multishot = false;
  bool poll = false;
  uint32_t limit = 0;       // bytes of all completions (multishot; zero is none) or of the one
  bool waits = false;       // for readiness before it takes a buffer
  bool cancelled = false;   // its end was asked for
  bool missed_end = false;  // the end or reset behind its last bytes: it brings nothing more
  uint64_t received = 0;
  TimePoint armed_at{};
};
struct SendOp {
  Token token;
  Io::SendMode mode = Io::SendMode::kTry;
  bool poll = false;
  std::vector<iovec> parts;
  uint32_t length = 0;
  bool cancelled = false;
};
struct ConnectOp {
  Token token;
  bool cancelled = false;
};

struct SimSession;
struct SimSocket;

// A kernel pipe: what is in it are the next bytes of one stream.
struct SimPipe {
  uint32_t size = 0;
  bool lent = false;
  const SimSocket* source = nullptr;  // since it was lent, once bytes came
  uint64_t position = 0;              // of the first byte
  uint32_t bytes = 0;
};

struct SimSocket {
  uint64_t readable() const { return arrived - taken; }
  uint64_t send_room() const { return script.send_capacity - (accepted - read); }
  bool receive_ready() const { return readable() > 0 || fin_arrived || broken; }
  // The armed receive will complete.
  bool receive_wakes() const { return readable() > 0 || (receive_ready() && !receive->missed_end); }
  bool busy() const { return receive.has_value() || send.has_value() || connect.has_value(); }
  // The proxy knows that no more bytes come from it.
  bool ended() const { return eof_handled || receive_error_handled; }
  bool error_handled() const { return receive_error_handled || send_error_handled; }
  uint64_t payload_taken() const { return taken - std::min(taken, stripped); }
  uint64_t payload_handled() const { return received_handled - std::min(received_handled, stripped); }
  uint64_t lead_handled() const { return std::min<uint64_t>(sent_handled, lead.size()); }

  int fd = -1;
  bool is_client = false;
  uint64_t key = 0;  // of the stream that its peer sends
  SimSession* session = nullptr;
  PeerScript script;
  size_t server = 0;   // its index; servers only
  std::string source;  // the local address it was bound to, if any
  const SocketOptions* options = nullptr;  // that it was opened with
  bool transparent = false;                // `source` is the client's

  // Clients only: whether the proxy reads a header first, how many bytes of the stream are one, and what it says.
  bool reads_header = false;
  bool header_optional = false;
  uint64_t stripped = 0;
  ProxyHeader header;
  // Servers only: what the proxy is to send first.
  std::string lead;

  // From the peer to the proxy.
  uint64_t arrived = 0;
  uint64_t taken = 0;        // by receives
  bool fin_arrived = false;  // after the bytes
  // From the proxy to the peer.
  uint64_t accepted = 0;  // from sends
  uint64_t read = 0;      // by the peer
  bool fin_sent = false;
  // Life.
  bool connected = false;
  bool kept_alive = false;
  bool broken = false;    // reset or timed out
  int pending_error = 0;  // what the next operation is told then; those after it see EPIPE or the end of the stream
  bool closed = false;    // by the proxy
  bool closed_with_reset = false;
  TimePoint peer_sleeps_until{};

  bool polled = false;  // PollNow has just found something to receive

  bool spliced = false;          // the last bytes that were taken from it went into a pipe
  uint32_t splice_begins = 0;    // changes from buffers to pipes
  uint32_t splice_ends = 0;      // and back
  uint32_t copies = 0;           // direct receives into buffers
  uint32_t given_in_turn = 0;    // bytes by direct calls into it since the last Flush began

  std::optional<ReceiveOp> receive;
  bool last_receive_multishot = false;  // of the one armed last, ended or not
  std::optional<SendOp> send;
  std::optional<ConnectOp> connect;

  // What the proxy was told: completions that it has handled.
  uint64_t received_handled = 0;
  uint64_t sent_handled = 0;
  bool eof_handled = false;
  bool receive_error_handled = false;
  bool send_error_handled = false;
};

struct SimSession {
  SimSocket* client = nullptr;
  SimSocket* server = nullptr;  // of the current try
  std::vector<size_t> tried;    // servers
  bool established = false;     // the successful connect was handled
  bool closed = false;          // OnClosed was called
  bool closing = false;         // was seen to close; `closing_at` is when
  bool timer_closed = false;    // by a timer
  bool gave_up = false;         // the last connect was ended by a freeze
  bool handed_over = false;     // to another Sessions, whose token for it is not known yet
  bool client_ended_first = false;
  bool replaced = false;      // its last server ended before it was of use, by a reset if `replaced_after_reset`
  bool replaced_after_reset = false;
  bool owes_another = false;  // its server ended before it was of use, and must be replaced
  bool out_of_files = false;  // it closes because OpenSocket found no file descriptor
  std::optional<int> last_connect_result;
  bool changed_source = false;     // a connect found no port, and the next was made from another address
  bool connect_timed_out = false;  // the current or last connect was cancelled for that
  TimePoint opened_at{};
  TimePoint connecting_since{};  // opened, or without a server again
  TimePoint closing_at{};
  uint64_t client_handled = 0;  // bytes of the client that were handled when it was seen to close
  std::array<bool, 2> side_waits{};  // by Direction: when it was seen to close, its stream had not ended and none of its bytes were on their way
  TimePoint connect_started_at{};
  TimePoint connected_at{};
  TimePoint client_ended_at{};  // once client->eof_handled
  TimePoint last_byte_at{};     // handled; or when it was established
  std::array<TimePoint, 2> side_active_at{};  // the same of either side's stream: bytes that came, or were passed on; by Direction
  std::optional<TimePoint> first_byte_at;  // from the server, handled
  TimePoint last_received_at{};  // handled; or when it was established
  TimePoint undecided_until{};  // whether its server is to be replaced may not have been known before
  TimePoint half_closed_at{};   // once a direction is known to be over
  bool half_closed = false;
  // Lines of the access log, and the reason that the last one gave.
  uint32_t lines_at_start = 0;
  uint32_t lines_at_end = 0;
  CloseReason reason_told = CloseReason::kError;

  SimSocket* other(const SimSocket& socket) const { return &socket == client ? server : client; }
  // Which place of the other side's stream comes after so many bytes that were sent to `sink`.
  uint64_t place(const SimSocket& sink, uint64_t sent) const {
    return sent - std::min<uint64_t>(sent, sink.lead.size()) + other(sink)->stripped;
  }
  // How much of the other side's stream was passed on, or is not to be.
  uint64_t passed(const SimSocket& sink) const { return place(sink, sink.accepted); }
};

}  // namespace ringmain::sim
