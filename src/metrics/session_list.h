// What workers tell of their live sessions when somebody asks.
//
// Plain values, not cells: a worker writes a record while it walks its sessions, hands all over when it is through, and no one changes
// them any more. A list is as consistent as that allows: what it says of one session was true at one moment, each session has its own.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/network.h"
#include "base/socket_address.h"
#include "metrics/reasons.h"

namespace ringmain {

// What is armed on the source of a direction.
enum class ReceiveKind : uint8_t {
  kNone,  // nothing: the stream has ended, its bytes have nowhere to go, or no server is connected yet
  kSingle,
  kMultishot,
  kPoll,  // of bulk, which is moved directly when it is announced
};
inline constexpr std::array<std::string_view, 4> kReceiveKindNames = {"none", "single", "multishot", "poll"};
static_assert(static_cast<size_t>(ReceiveKind::kPoll) + 1 == kReceiveKindNames.size());
inline std::string_view ToString(ReceiveKind kind) { return kReceiveKindNames[static_cast<size_t>(kind)]; }

// One direction.
struct RelayRecord {
  RelayMode mode = RelayMode::kBuffered;
  ReceiveKind receive = ReceiveKind::kNone;
  bool ended = false;  // the source will bring no more bytes
  uint64_t received = 0;  // bytes
  uint64_t sent = 0;      // bytes
  uint32_t queued = 0;    // bytes received and not sent; what else is missing in `sent` was discarded
};

// Where the sessions of a listener go, in words.
struct RouteNames {
  std::string listener;
  std::string upstream;
  std::vector<std::string> servers;
};

enum class SessionOrder : uint8_t {
  kNone,   // as they are found; the search ends with the last that is wanted
  kId,     // the lowest number first
  kBytes,  // those that have received the most, of both directions together, first
  kAge,    // the oldest first
};
inline constexpr std::array<std::string_view, 4> kSessionOrderNames = {"none", "id", "bytes", "age"};

// Where a session stands in an order: the lower, the earlier. No two are equal.
struct SessionRank {
  uint64_t key = 0;
  uint64_t number = 0;
  auto operator<=>(const SessionRank&) const = default;
};

// Which sessions are wanted, and how many.
struct SessionQuery {
  size_t most = 0;
  SessionOrder order = SessionOrder::kNone;
  std::optional<SessionRank> after;  // only those that come later in the order
  // What is empty or not there fits every session.
  std::string listener;
  std::string upstream;
  std::string server;
  std::optional<Network> client;
  std::optional<uint16_t> client_port;
  std::optional<uint64_t> number;
  bool close = false;  // those that are found are closed: CloseReason::kAdmin. One that is closing already is not found.
};

struct SessionRecord {
  uint32_t worker = 0;
  uint64_t number = 0;
  std::shared_ptr<const RouteNames> route;  // when it was opened: a reload may have changed the listener since
  std::optional<uint16_t> server;       // index in the route; none: not connected, and not being connected
  std::optional<SocketAddress> client;  // none: the socket is not connected any more
  SessionState state = SessionState::kConnecting;
  Duration age{};
  Duration idle{};  // since a byte last came from either side, to within a tenth of a second
  std::array<RelayRecord, 2> relays;  // by Direction
  uint64_t key = 0;  // SessionRank::key in the order that was asked for
  SessionRank rank() const { return {key, number}; }
};

// What one worker has found.
struct SessionsFound {
  uint64_t matched = 0;  // that fit the query, those before `after` and those beyond `most` included, unless there is no order
  std::vector<SessionRecord> records;  // in no order
};

struct SessionList {
  uint64_t total = 0;  // live sessions of the process, those that are not listed included
  uint64_t matched = 0;  // as in SessionsFound
  std::vector<SessionRecord> sessions;  // in the order that was asked for
  std::vector<uint32_t> missing_workers;  // they did not answer in time; their sessions are not listed
};

// What a session is called in the status and in logs: the worker that opened it, in the upper bits of its number, and its count there.
// It keeps its name wherever it goes, and no other gets it, here or in a process that takes over.
inline constexpr int kSessionNumberBits = 48;
inline std::string SessionId(uint64_t number) {
  return std::to_string(number >> kSessionNumberBits) + "-" + std::to_string(number & ((uint64_t{1} << kSessionNumberBits) - 1));
}
// None if it is no such name.
std::optional<uint64_t> ParseSessionId(std::string_view id);

}  // namespace ringmain
