// Session: one client connection and its connection to a server.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "base/timer_wheel.h"
#include "metrics/board.h"
#include "metrics/session_list.h"
#include "protocol/proxy_protocol.h"
#include "session/bandwidth.h"
#include "session/relay.h"
#include "session/source_turns.h"
#include "upstream/upstream.h"

namespace ringmain {

// What the kernel has counted of a connection, modulo 2^32.
struct SampledConnection {
  uint32_t segments = 0;  // that were sent with payload
  uint32_t retransmits = 0;
};

// What they share about one server.
struct RouteServer {
  ServerCells* cells = nullptr;
  SourceTurns sources{0};
  bool may_meet_itself = true;  // a connect to it may reach itself (Io::ConnectedToItself), so each is checked
};

// What sessions of one listener share on one worker: where they go, by which rules, and the cells they count in. The worker owns it; it
// and what it points to outlive its sessions, which keep it though a reload gives later ones another. Only what is said to changes while
// there are sessions.
struct Route {
  Upstream* upstream = nullptr;
  std::shared_ptr<const RouteNames> names;
  ListenerCells* listener_cells = nullptr;
  Bandwidth* bandwidth = nullptr;  // null: no limits; changes
  UpstreamCells* upstream_cells = nullptr;
  std::vector<RouteServer> servers;  // by server index; their `sources` change
  const SocketOptions* socket = nullptr;  // of the server's side; null: none
  bool transparent = false;               // the server sees the client's address
  seconds keepalive{};         // of the server's side, idle time before the first probe; zero is off
  Duration connect_timeout{};  // per try
  Duration queue_timeout{};    // zero is off
  uint32_t max_queue = 0;
  Duration connect_total_timeout{};  // of all tries; zero is off
  uint32_t connect_tries = 1;
  Duration idle_timeout{};         // zero is off
  Duration half_closed_timeout{};  // zero is off
  std::array<Duration, 2> side_idle_timeouts{};  // of the side that a Direction comes from; zero is off
  Duration max_lifetime{};                       // zero is off
  uint32_t lifetime_jitter_percent = 0;          // of max_lifetime; each session's own is shorter by up to so much
  ProxyProtocolConfig proxy_protocol;  // from clients
  ProxyProtocolSend send_proxy_protocol = ProxyProtocolSend::kOff;
  uint32_t sessions = 0;           // that use it; changes
  bool retired = false;            // another has taken its place, or it came from elsewhere; changes
};

// No entry in a table of sources.
inline constexpr uint32_t kNoClientSource = UINT32_MAX;

// Where in a span over which sessions are spread one has its place: of 2^32. Multiples of the golden ratio spread evenly however many there
// are (Knuth, The Art of Computer Programming 3, section 6.4).
inline uint64_t PlaceInSpan(uint64_t number) { return (number * 0x9e3779b97f4a7c15) >> 32; }

// What a client's PROXY protocol header says, or what is there of it. Of sessions that have, or may have, one; Sessions keeps them apart.
struct ClientHeader {
  bool optional = false;  // what cannot be a header is payload
  std::string bytes;      // while it is read: what has come of it
  ProxyHeader header;     // once it was read
};

// Plain state; the rules are in Sessions. The base class is its one timer: that of a header (header.cc), then those of timeouts.cc.
struct Session : TimerWheel::Timer {
  Session(uint32_t index_in, uint32_t generation_in, RelayEnv& env, Route& route_in, int client, uint32_t client_source_in)
      : relays{Relay(env, Op::kReceiveFromClient, Op::kSendToServer, generation_in, index_in, true),
               Relay(env, Op::kReceiveFromServer, Op::kSendToClient, generation_in, index_in, false)},
        route(&route_in),
        index(index_in),
        generation(generation_in),
        client_source(client_source_in),
        client_fd(client) {}

  static constexpr uint16_t kClientsAddress = UINT16_MAX;

  // What the last sweep knew about a direction.
  struct Swept {
    uint64_t received = 0;
    CoarseTime active_at;  // when a sweep last found that bytes had come, or that some were still on their way to the other side;
                           // at first, when the server was connected
    bool checked = false;  // since it last received something
    bool held = false;     // bytes were on their way to the other side
  };

  Relay& relay(Direction direction) { return relays[static_cast<size_t>(direction)]; }

  // In the cache line of the timer, which has room.
  uint64_t number = 0;        // counts the sessions that its worker opened, from 1
  TimePoint check_at = TimePoint::max();  // established: when it is next looked whether bytes have been moved, if that matters
  TimePoint last_byte_at{};   // when a sweep last found that bytes had come from either side; at first, when it was opened,
                              // then when its server was connected

  // Written per message.
  std::array<Relay, 2> relays;  // by Direction
  ListLink<Session> dirty;      // linked: something happened in this turn
  ListLink<Session> lively;     // linked: something happened since a sweep last found it quiet

  // Written when the state changes.
  Route* route;
  uint32_t index;
  uint32_t generation;
  uint32_t client_source;  // the observer's: where it counts the client's address, or kNoClientSource
  int client_fd;
  int server_fd = -1;
  SessionState state = SessionState::kConnecting;
  CloseReason reason = CloseReason::kError;  // once `ending`
  CloseReason lost_reason = CloseReason::kError;  // how its last server, which was replaced, had ended; kError: none was
  bool server_lost = false;    // the server has ended, perhaps before it was of use: what becomes of the session is not decided yet
  bool ending = false;         // a direction has ended: `reason` is settled
  bool reset = false;          // both sides are closed with a reset
  bool connect_armed = false;  // the connect is armed and its completion has not come
  bool connect_timed_out = false;  // the current connect is ended for that, or the last one was
  bool passed = false;      // to another process that did not take it over, and may have its files open still
  bool kept_alive = false;  // keep-alive probes were asked for on the server's side
  bool has_server = false;  // a connection is reserved on tried[tries - 1]
  bool has_header = false;  // a ClientHeader is kept for it
  uint8_t tries = 0;        // servers tried, the current one included
  uint16_t source = 0;      // the index of the source address of the current connect, or kClientsAddress
  uint16_t lead = 0;        // bytes of the header that the current server is sent, which relays[0] counts as if the client had sent them
  std::array<uint16_t, kMaxConnectTries> tried{};
  ListLink<Session> starved;  // linked: a relay waits for a receive buffer
  ListLink<Session> waiting;  // linked: in the queue of its upstream; SessionState::kQueued
  std::unique_ptr<SessionBandwidth> bandwidth;  // once it was pumped with limits
  TimePoint accepted_at{};
  TimePoint connect_started_at{};         // queued: since when it waits
  TimePoint connecting_since{};           // when the first try began; or the first after a wait, or after a server was lost
  TimePoint leave_at = TimePoint::max();  // queued or connecting: when a client that ended its stream is taken for gone
  std::array<Swept, 2> swept{};           // by Direction
  uint64_t quiet_bytes = 0;               // bytes moved until the last check
  TimePoint first_byte_at{};              // when the first byte from the server came; the epoch: none has
  SampledConnection sampled;              // what was told of the server's connection last (measuring.cc)
  std::array<RelayEvent, 2> lost_events{};  // while `server_lost`: how the server ended, by Direction
  uint8_t quiet_checks = 0;               // checks in a row that saw no byte

  uint16_t server() const { return tried[tries - 1u]; }  // REQUIRES: tries > 0
  // No server is connected yet, or not any more.
  bool without_server() const { return state == SessionState::kQueued || state == SessionState::kConnecting; }
};
static_assert(sizeof(Session) <= 512, "an idle session stays far below one KiB: eight cache lines, two of them written per message");

}  // namespace ringmain
