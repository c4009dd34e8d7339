// The words for what a session does, how it ends and why a connect fails. Metrics, logs and status use the same ones.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ringmain {

enum class CloseReason : uint8_t {
  kClientClosed,       // both directions ended in order, the client's first
  kServerClosed,       // both directions ended in order, the server's first
  kClientReset,        // the client reset the connection
  kServerReset,        // the server reset the connection
  kClientLeft,         // the client went away before a server was connected
  kIdleTimeout,        // no byte in either direction for idle_timeout
  kHalfClosedTimeout,  // one direction ended, no byte in the other for half_closed_timeout
  kConnectFailed,      // no tried server accepted the connection; the last try failed
  kConnectTimeout,     // the same; the last try timed out
  kNoServer,           // no server of the upstream is up
  kListenerLimit,      // refused: the listener's max_connections
  kProcessLimit,       // refused: limits.max_connections
  kNoFiles,            // refused: no file descriptor for the server's side
  kAccessDenied,       // refused: by the listener's access rules
  kSourceLimit,        // refused: per_source.max_connections
  kAcceptRate,         // refused: the listener's accept_rate
  kSourceRate,         // refused: per_source.accept_rate
  kQueueFull,          // refused: every server is at its max_connections, and max_queue clients wait already
  kQueueTimeout,       // no server came free for queue_timeout
  kClientIdleTimeout,  // no byte from the client for client_idle_timeout
  kServerIdleTimeout,  // no byte from the server for server_idle_timeout
  kMaxLifetime,        // max_lifetime has passed
  kProxyProtocol,      // the client's PROXY protocol header is missing or malformed, or its address may not send one
  kProxyProtocolTimeout,  // it did not come within proxy_protocol.timeout
  kAdmin,              // somebody asked for it by POST /api/v1/sessions/close
  kServerRemoved,      // the server left the configuration, and the upstream's close_removed_after has passed
  kTakeoverFailed,     // handed over to a process that died before it served
  kDrainTimeout,       // still open when drain.timeout ended
  kDrainIdle,          // idle while the process drains, and drain.close_idle is set
  kShutdown,           // closed because the process was told to exit at once
  kError,              // an operation failed in a way that says nothing about the peer
};
inline constexpr std::array<std::string_view, 31> kCloseReasonNames = {
    "client_closed", "server_closed",   "client_reset", "server_reset",   "client_left",   "idle_timeout",
    "half_closed_timeout", "connect_failed", "connect_timeout", "no_server", "listener_limit", "process_limit",
    "no_files", "access_denied", "source_limit", "accept_rate", "source_rate", "queue_full", "queue_timeout", "client_idle_timeout",
    "server_idle_timeout", "max_lifetime", "proxy_protocol", "proxy_protocol_timeout", "admin", "server_removed", "takeover_failed", "drain_timeout", "drain_idle", "shutdown", "error"};
inline constexpr size_t kCloseReasons = kCloseReasonNames.size();
static_assert(static_cast<size_t>(CloseReason::kError) + 1 == kCloseReasons);
inline std::string_view ToString(CloseReason reason) { return kCloseReasonNames[static_cast<size_t>(reason)]; }

enum class ConnectFailure : uint8_t {
  kRefused,
  kTimeout,
  kUnreachable,
  kReset,
  kNoFiles,
  kLost,            // the connection was made, and the server ended it before a byte was passed either way
  kNoLocalAddress,  // no local address could be had that has a port free towards the server
  kOther
};
inline constexpr std::array<std::string_view, 8> kConnectFailureNames = {
    "refused", "timeout", "unreachable", "reset", "no_files", "lost", "no_local_address", "other"};
inline constexpr size_t kConnectFailures = kConnectFailureNames.size();
static_assert(static_cast<size_t>(ConnectFailure::kOther) + 1 == kConnectFailures);
inline std::string_view ToString(ConnectFailure failure) { return kConnectFailureNames[static_cast<size_t>(failure)]; }
// `error` is a positive errno.
ConnectFailure ConnectFailureFromErrno(int error);

// What became of a lookup by DNS. All but the first leave what was found before as it is.
enum class LookupResult : uint8_t {
  kSuccess,
  kNoName,         // there is no such name (NXDOMAIN)
  kNoRecords,      // the name has none of that type, or none that is of use
  kServerFailure,  // the resolver cannot or will not say (SERVFAIL, REFUSED, ...)
  kTimeout,        // no resolver answered
  kUnreachable,    // no resolver could be reached
  kMalformed,      // the answer is not understood
  kOther,
};
inline constexpr std::array<std::string_view, 8> kLookupResultNames = {
    "success", "no_such_name", "no_records", "server_failure", "timeout", "unreachable", "malformed", "other"};
inline constexpr size_t kLookupResults = kLookupResultNames.size();
static_assert(static_cast<size_t>(LookupResult::kOther) + 1 == kLookupResults);
inline std::string_view ToString(LookupResult result) { return kLookupResultNames[static_cast<size_t>(result)]; }

// Direction of payload, also the value of the `direction` label.
enum class Direction : uint8_t { kToServer, kToClient };
constexpr Direction Opposite(Direction direction) {
  return direction == Direction::kToServer ? Direction::kToClient : Direction::kToServer;
}
inline constexpr std::array<std::string_view, 2> kDirectionNames = {"to_server", "to_client"};

// How a direction carries its bytes, also the value of the `mode` label.
enum class RelayMode : uint8_t { kBuffered, kSpliced };
inline constexpr std::array<std::string_view, 2> kRelayModeNames = {"buffered", "spliced"};
inline constexpr size_t kRelayModes = kRelayModeNames.size();
static_assert(static_cast<size_t>(RelayMode::kSpliced) + 1 == kRelayModes);
inline std::string_view ToString(RelayMode mode) { return kRelayModeNames[static_cast<size_t>(mode)]; }

// The life of a session. From any state but the last a session may go to kClosing; there is no way back.
enum class SessionState : uint8_t {
  kQueued,         // the client is here; every server has as many connections as it may have, so it waits
  kReadingHeader,  // the client is here; its PROXY protocol header, if it has one, has not come as a whole yet
  kConnecting,     // a server is being connected, or the last try has just failed
  kEstablished,    // both sides are connected
  kClosing,        // everything armed was asked to end; waiting for the final completions
};
inline constexpr std::array<std::string_view, 5> kSessionStateNames = {"queued", "reading_header", "connecting", "established", "closing"};
static_assert(static_cast<size_t>(SessionState::kClosing) + 1 == kSessionStateNames.size());
inline std::string_view ToString(SessionState state) { return kSessionStateNames[static_cast<size_t>(state)]; }

}  // namespace ringmain
