// The configuration of a ringmain process, as immutable values.
//
// Invariant: a Config that exists is valid (LoadFile, LoadText and FromCommandLine return one or an error), and is
// never mutated; threads share it as std::shared_ptr<const Config>. Defaults here are the documented defaults.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/network.h"
#include "base/socket_address.h"
#include "config/socket_options.h"

namespace ringmain {

enum class BalanceMethod { kRoundRobin, kLeastConnections, kRandom, kSourceHash, kMaglev, kLeastLatency };
enum class HealthCheckType { kTcp, kSendExpect, kHttp };
enum class ProxyProtocolAccept { kOff, kOptional, kRequired };
enum class ProxyProtocolSend { kOff, kV1, kV2 };
// What an operator wants of a server; whether it is up is another matter.
enum class ServerState : uint8_t {
  kEnabled,
  kDrain,     // no new sessions; those that are there go on
  kDisabled,  // the same, and no health checks either
};
// What a name is looked up for.
enum class DnsType : uint8_t {
  kAny,  // A and AAAA
  kA,
  kAaaa,
  kSrv,  // then A and AAAA of each host that the records name
};
enum class LogFormat { kText, kJson };
enum class LogLevel { kTrace, kDebug, kInfo, kWarn, kError };

// The names used in YAML, in metrics and in the status, e.g. "round_robin".
std::string_view ToString(BalanceMethod method);
std::string_view ToString(HealthCheckType type);
std::string_view ToString(ServerState state);
std::string_view ToString(DnsType type);
std::string_view ToString(ProxyProtocolAccept accept);
std::string_view ToString(ProxyProtocolSend send);
std::string_view ToString(LogFormat format);
std::string_view ToString(LogLevel level);

// Zero stands for "off" in every optional timeout.
struct HealthCheckConfig {
  HealthCheckType type = HealthCheckType::kTcp;
  milliseconds interval{2000};
  milliseconds timeout{1000};
  milliseconds fast_interval{0};  // while results contradict the state; 0: `interval`
  uint32_t rise = 2;  // consecutive successes until up
  uint32_t fall = 3;  // consecutive failures until down
  uint32_t jitter_percent = 10;  // each interval is so much longer or shorter at most
  bool start_up = true;          // a server that was never checked is up
  std::optional<SocketAddress> address;  // checked instead of the server's own
  std::optional<uint16_t> port;          // checked instead of the server's own
  bool send_proxy_protocol = false;      // as sessions begin: the upstream's send_proxy_protocol, with LOCAL or UNKNOWN
  // kSendExpect: bytes to send, if any; then what has to come: these bytes, anywhere, or a match of this pattern (RE2). Not both.
  std::string send;
  std::string expect;
  std::string expect_pattern;
  // kHttp: HTTP/1.0 with this request, answered by one of these.
  std::string method = "GET";
  std::string path = "/";
  std::string host;  // empty: the server's address
  struct StatusRange {
    uint32_t first = 200;
    uint32_t last = 399;
    bool operator==(const StatusRange&) const = default;
  };
  std::vector<StatusRange> statuses{{}};
  bool operator==(const HealthCheckConfig&) const = default;
};

// What operators change of a server while it runs.
struct ServerSettings {
  ServerState state = ServerState::kEnabled;
  uint32_t weight = 1;
  std::optional<uint32_t> max_connections;
  bool operator==(const ServerSettings&) const = default;
};

struct ServerConfig {
  SocketAddress address;
  uint32_t weight = 1;  // 1 to 256
  bool backup = false;  // picked only when no other can be
  std::optional<uint32_t> max_connections;
  ServerState state = ServerState::kEnabled;
  bool operator==(const ServerConfig&) const = default;
};

// A name whose addresses are servers (discovery/ looks it up).
struct DnsNameConfig {
  std::string host;   // an ASCII host name, of kSrv a service such as _pg._tcp.example.org
  uint16_t port = 0;  // of every server; kSrv: 0, since the records say it
  DnsType type = DnsType::kAny;
  ServerConfig each;  // each server, but for its address; kSrv: and for what the records say: weight, backup if it is off here
  // As it is configured, shown and counted: `host:port`, or `host` of kSrv.
  std::string ToString() const;
  bool operator==(const DnsNameConfig&) const = default;
};

// How the names of an upstream are looked up.
struct DnsConfig {
  std::vector<SocketAddress> resolvers;  // empty: the system's (/etc/resolv.conf, and /etc/hosts before them)
  // An answer is good for as long as it says, within these bounds.
  milliseconds min_ttl{5000};
  milliseconds max_ttl{300000};
  milliseconds timeout{2000};  // of the first try at each resolver; each further one waits twice as long
  uint32_t tries = 3;          // at each resolver
  bool operator==(const DnsConfig&) const = default;
};

// A server that fails in use is left out for a while.
struct EjectionConfig {
  uint32_t consecutive_failures = 5;   // of connects
  bool count_early_ends = false;       // connections that the server ends before a byte was passed count as failures
  milliseconds time{10000};            // of the first; each further one is longer by as much
  milliseconds max_time{300000};
  uint32_t max_ejected_percent = 50;   // of the servers; one may always be
  bool operator==(const EjectionConfig&) const = default;
};

// Connects beyond the first of each session, over all sessions of an upstream.
struct RetryBudgetConfig {
  uint32_t percent = 20;    // of the first connects
  uint32_t per_second = 10; // always allowed
  bool operator==(const RetryBudgetConfig&) const = default;
};

struct UpstreamConfig {
  std::string name;
  BalanceMethod balance = BalanceMethod::kRoundRobin;
  milliseconds connect_timeout{2000};  // per try
  uint32_t connect_tries = 3;          // distinct servers, 1 to kMaxConnectTries
  milliseconds connect_total_timeout{0};  // all tries together; 0 is off
  std::optional<RetryBudgetConfig> retry_budget;
  milliseconds slow_start{0};  // a server that comes up gets its full weight after so long; 0 is off
  // When every server is at its max_connections, so many clients wait, each so long at most.
  uint32_t max_queue = 1024;
  milliseconds queue_timeout{10000};
  std::optional<EjectionConfig> ejection;
  uint32_t panic_threshold_percent = 0;  // with fewer servers up than that, health is ignored; 0 is off
  ProxyProtocolSend send_proxy_protocol = ProxyProtocolSend::kOff;
  bool transparent = false;  // connections to servers come from the client's address
  SocketOptions socket;      // of connections to servers
  std::optional<HealthCheckConfig> health_check;
  // Connections to servers are made from these in turn (port 0); none: the kernel chooses. Distinct, at most kMaxSourceAddresses, and if
  // there are any, one at least of the family of each server that is not unix.
  std::vector<SocketAddress> source_addresses;
  // Sessions with a server that a reload has taken out go on for so long. 0 is off: until they end.
  milliseconds close_removed_after{0};
  std::vector<ServerConfig> servers;  // at most kMaxServers, addresses distinct
  // Of a loaded configuration, `servers` and these hold one entry at least. In the one that runs (discovery/effective.h) the servers found
  // by names follow the others. ToString() distinct.
  std::vector<DnsNameConfig> names;
  DnsConfig dns;
  bool operator==(const UpstreamConfig&) const = default;
};

// So many at once and so many a minute.
struct RateConfig {
  uint32_t per_minute = 0;
  uint32_t burst = 0;
  bool operator==(const RateConfig&) const = default;
};

struct AccessRule {
  bool allow = true;
  Network network;
  bool operator==(const AccessRule&) const = default;
};

// Limits for each address that clients come from.
struct PerSourceConfig {
  std::optional<uint32_t> max_connections;
  std::optional<RateConfig> accept_rate;
  uint32_t ipv6_prefix = 64;  // IPv6 addresses with so many bits in common are one source
  bool on() const { return max_connections.has_value() || accept_rate.has_value(); }
  bool operator==(const PerSourceConfig&) const = default;
};

// Bytes a second by the side that they go to; 0 is off.
struct BandwidthConfig {
  struct Rates {
    uint64_t to_server = 0;
    uint64_t to_client = 0;
    bool on() const { return to_server != 0 || to_client != 0; }
    bool operator==(const Rates&) const = default;
  };
  Rates listener;     // all sessions together
  Rates per_session;  // each
  bool on() const { return listener.on() || per_session.on(); }
  bool operator==(const BandwidthConfig&) const = default;
};

struct ProxyProtocolConfig {
  ProxyProtocolAccept accept = ProxyProtocolAccept::kOff;
  // From others no header is taken: they are served without one if it is optional, and refused if it is required. Empty: everybody may send one.
  std::vector<Network> from;
  milliseconds timeout{5000};  // until the header is there
  bool operator==(const ProxyProtocolConfig&) const = default;
};

struct ListenerConfig {
  std::string name;
  std::vector<SocketAddress> listen;  // at least one
  std::string upstream;               // the name of an existing upstream
  std::optional<uint32_t> max_connections;
  milliseconds idle_timeout{0};              // off
  milliseconds half_closed_timeout{300000};  // without a byte; 0 is off
  seconds keepalive{30};                     // idle time before the first TCP keep-alive probe; 0 is off
  uint32_t backlog = 4096;
  milliseconds client_idle_timeout{0};  // without a byte from the client; off
  milliseconds server_idle_timeout{0};  // without a byte from the server; off
  milliseconds max_lifetime{0};         // off
  uint32_t lifetime_jitter_percent = 10;  // each session's is shorter by up to so much
  std::vector<AccessRule> access;       // the first that fits decides; none: allowed
  std::optional<RateConfig> accept_rate;
  PerSourceConfig per_source;
  BandwidthConfig bandwidth;
  ProxyProtocolConfig proxy_protocol;
  SocketOptions socket;                 // of listening sockets and clients
  bool operator==(const ListenerConfig&) const = default;
};

struct LogConfig {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
  bool operator==(const LogConfig&) const = default;
};

struct LimitsConfig {
  std::optional<uint32_t> max_connections;          // none: (file descriptors - reserve) / 2
  uint64_t buffer_per_direction_bytes = 256 << 10;  // what one direction of a session may hold, 16 KiB to 64 MiB
  std::optional<uint64_t> memory_bytes;             // none: a quarter of the cgroup's limit or of RAM
  bool operator==(const LimitsConfig&) const = default;
};

struct DrainConfig {
  milliseconds delay{0};
  milliseconds timeout{30000};
  milliseconds close_idle{0};  // off; at most `timeout`
  bool operator==(const DrainConfig&) const = default;
};

struct ReloadConfig {
  bool watch = false;  // reload whenever the file changes
  bool operator==(const ReloadConfig&) const = default;
};

struct TakeoverConfig {
  std::string socket;  // a path; empty: nobody may take over
  bool operator==(const TakeoverConfig&) const = default;
};

inline constexpr std::string_view kDefaultAdminAddress = "127.0.0.1:9900";

inline constexpr uint32_t kMaxConnectTries = 8;
inline constexpr uint32_t kMaxServers = 4096;  // of one upstream
inline constexpr uint32_t kMaxServerWeight = 256;
inline constexpr uint32_t kMaxResolvers = 8;  // of one upstream
inline constexpr uint32_t kMaxSourceAddresses = 256;  // of one upstream
inline constexpr uint32_t kMaxWorkers = 256;
inline constexpr uint32_t kMaxUpstreams = 1024;
inline constexpr uint32_t kMaxAllServers = 65536;  // of all upstreams
inline constexpr uint32_t kMaxListeners = 1024;
inline constexpr uint32_t kMaxListenAddresses = 64;  // of one listener
inline constexpr uint32_t kMaxConnections = 10'000'000;
inline constexpr uint32_t kMaxAccessNetworks = 4096;  // of all rules of one listener
inline constexpr uint32_t kMaxRatePerMinute = 60 * 1'000'000;
inline constexpr uint64_t kMinByteRate = 1 << 10;   // a second
inline constexpr uint64_t kMaxByteRate = 1ull << 40;
inline constexpr uint32_t kMaxBurst = 1'000'000;
inline constexpr size_t kMaxConfigFileBytes = 4 << 20;

struct Config {
  std::optional<uint32_t> workers;  // none: the CPUs this process may use
  // Before a worker sleeps it looks for work that long: shorter round trips for a core kept busy. 0 is off.
  microseconds busy_poll{0};
  SocketAddress admin_listen;       // kDefaultAdminAddress unless configured; never unix
  std::string admin_token_file;     // a path; empty: none
  std::optional<SocketAddress> metrics_listen;
  LogConfig log;
  LimitsConfig limits;
  DrainConfig drain;
  ReloadConfig reload;
  TakeoverConfig takeover;
  std::vector<ListenerConfig> listeners;  // at least one
  std::vector<UpstreamConfig> upstreams;  // at least one
  bool operator==(const Config&) const = default;
};

// Errors: InvalidArgument whose message is one line per error found, each `file:line:col: message` (1-based), in the
// order of the file. A file that cannot be read is `file: reason`.
absl::StatusOr<std::shared_ptr<const Config>> LoadFile(const std::string& path);
// The text of a configuration file. Errors: as above.
absl::StatusOr<std::string> ReadConfigFile(const std::string& path);
// The same from memory; `file` is what error messages call it.
absl::StatusOr<std::shared_ptr<const Config>> LoadText(std::string_view yaml, const std::string& file);

// `ringmain run --listen ADDR --to ADDR[,ADDR...] [--admin ADDR]`: one listener named "listen", one upstream named "to"
// with a TCP health check. `to` takes host names, too. An empty `admin` means the default.
absl::StatusOr<std::shared_ptr<const Config>> FromCommandLine(std::string_view listen, std::string_view to,
                                                              std::string_view admin);

}  // namespace ringmain
