#include "config/diff.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "config/names.h"
#include "config/units.h"

namespace ringmain {
namespace {

std::string Text(milliseconds value) { return value.count() == 0 ? "off" : FormatDuration(value); }
std::string Text(microseconds value) { return value.count() == 0 ? "off" : FormatFineDuration(value); }
std::string Text(seconds value) { return Text(milliseconds(value)); }
std::string Text(const std::string& value) { return value; }
std::string Text(const SocketAddress& value) { return value.ToString(); }
std::string Text(uint32_t value) { return absl::StrCat(value); }
std::string Text(bool value) { return value ? "on" : "off"; }
std::string Text(BalanceMethod value) { return std::string(ToString(value)); }
std::string Text(ServerState value) { return std::string(ToString(value)); }
std::string Text(HealthCheckType value) { return std::string(ToString(value)); }
std::string Text(uint16_t value) { return absl::StrCat(value); }
std::string Text(const std::vector<HealthCheckConfig::StatusRange>& values) {
  return absl::StrJoin(values, ",", [](std::string* out, const HealthCheckConfig::StatusRange& range) {
    absl::StrAppend(out, range.first);
    if (range.last != range.first) absl::StrAppend(out, "-", range.last);
  });
}
// Bytes that were sent or looked for.
std::string Quoted(const std::string& bytes) {
  return bytes.empty() ? "none" : absl::StrCat("\"", absl::CHexEscape(bytes), "\"");
}
std::string Text(LogLevel value) { return std::string(ToString(value)); }
std::string Text(LogFormat value) { return std::string(ToString(value)); }
std::string Text(const RateConfig& value) { return absl::StrCat(FormatRate(value.per_minute), " burst ", value.burst); }
// A long list has room in the file, not in a sentence.
std::string Text(const std::vector<AccessRule>& values) {
  constexpr size_t kShown = 8;
  if (values.empty()) return "none";
  std::vector<AccessRule> shown(values.begin(), values.begin() + static_cast<ptrdiff_t>(std::min(values.size(), kShown)));
  std::string text = absl::StrJoin(shown, ", ", [](std::string* out, const AccessRule& rule) {
    absl::StrAppend(out, rule.allow ? "allow " : "deny ", rule.network.ToString());
  });
  return values.size() > kShown ? absl::StrCat(text, " and ", values.size() - kShown, " more") : text;
}
std::string Text(const HealthCheckConfig& value) {
  return absl::StrCat(std::string(ToString(value.type)), " interval ", Text(value.interval), " timeout ",
                      Text(value.timeout), " rise ", value.rise, " fall ", value.fall,
                      value.send_proxy_protocol ? " send_proxy_protocol on" : "");
}
std::string Text(ProxyProtocolSend value) { return std::string(NameOf(kProxyProtocolSendNames, value)); }
std::string Text(const ProxyProtocolConfig& value) {
  std::string text(NameOf(kProxyProtocolAcceptNames, value.accept));
  if (!value.from.empty())
    absl::StrAppend(&text, " from ", absl::StrJoin(value.from, ", ", [](std::string* out, const Network& one) { *out += one.ToString(); }));
  if (value.accept != ProxyProtocolAccept::kOff) absl::StrAppend(&text, " timeout ", Text(value.timeout));
  return text;
}
std::string Text(const EjectionConfig& value) {
  return absl::StrCat("after ", value.consecutive_failures, " failures for ", Text(value.time), " to ", Text(value.max_time), " of ",
                      FormatPercent(value.max_ejected_percent), " at most", value.count_early_ends ? ", early ends too" : "");
}
std::string Text(const RetryBudgetConfig& value) {
  return absl::StrCat(FormatPercent(value.percent), " and ", value.per_second, " a second");
}
// A percentage of which zero is off.
std::string PercentOrOff(uint32_t value) { return value == 0 ? "off" : FormatPercent(value); }
std::string Text(DnsType value) { return std::string(ToString(value)); }
std::string Text(const std::vector<SocketAddress>& values) {
  if (values.empty()) return "none";
  return absl::StrJoin(values, ", ", [](std::string* out, const SocketAddress& value) {
    absl::StrAppend(out, value.is_unix() || value.port() != 0 ? value.ToString() : value.host());
  });
}

std::string Text(uint8_t value) { return absl::StrCat(static_cast<uint32_t>(value)); }

class Differences {
 public:
  // `where` comes before each of the following.
  void In(std::string where) { where_ = std::move(where); }
  void Add(const std::string& what) { list_.push_back(where_ + what); }

  template <typename T>
  void Compare(const std::string& name, const T& before, const T& after) {
    if (!(before == after)) Add(absl::StrCat(name, " ", Text(before), " -> ", Text(after)));
  }
  // `none` is what the absence of a value is called.
  template <typename T>
  void Compare(const std::string& name, const std::optional<T>& before, const std::optional<T>& after, const char* none) {
    auto text = [none](const std::optional<T>& value) { return value.has_value() ? Text(*value) : none; };
    if (before != after) Add(absl::StrCat(name, " ", text(before), " -> ", text(after)));
  }
  void ComparePercents(const char* name, uint32_t before, uint32_t after) {
    if (before != after) Add(absl::StrCat(name, " ", before, "% -> ", after, "%"));
  }
  void CompareSizes(const char* name, std::optional<uint64_t> before, std::optional<uint64_t> after) {
    auto text = [](std::optional<uint64_t> value) { return value.has_value() ? FormatSize(*value) : "auto"; };
    if (before != after) Add(absl::StrCat(name, " ", text(before), " -> ", text(after)));
  }
  void CompareByteRates(const std::string& name, uint64_t before, uint64_t after) {
    auto text = [](uint64_t value) { return value != 0 ? FormatByteRate(value) : "off"; };
    if (before != after) Add(absl::StrCat(name, " ", text(before), " -> ", text(after)));
  }
  // What is in one list and not in the other, by what `key` gives; what is in both goes to `both`.
  template <typename T, typename Key, typename Both>
  void Match(const std::string& kind, const std::vector<T>& before, const std::vector<T>& after, Key key, Both both) {
    std::map<std::string, const T*> old, now;
    for (const T& one : before) old.emplace(key(one), &one);
    for (const T& one : after) now.emplace(key(one), &one);
    for (const T& one : before)
      if (!now.contains(key(one))) Add(absl::StrCat(kind, key(one), " removed"));
    for (const T& one : after) {
      auto found = old.find(key(one));
      if (found == old.end())
        Add(absl::StrCat(kind, key(one), " added"));
      else
        both(*found->second, one);
    }
  }

  std::vector<std::string> Take() { return std::move(list_); }

 private:
  std::string where_;
  std::vector<std::string> list_;
};

void CompareSockets(const SocketOptions& before, const SocketOptions& after, bool listens, Differences& differences) {
  auto asked = [](auto value) { return value != decltype(value)() ? std::optional(value) : std::nullopt; };
  auto compare = [&](const char* name, auto old, auto now, const char* none) { differences.Compare(name, asked(old), asked(now), none); };
  compare("socket.keepalive_interval", before.keepalive_interval, after.keepalive_interval, "default");
  compare("socket.keepalive_count", before.keepalive_count, after.keepalive_count, "default");
  compare("socket.user_timeout", before.user_timeout, after.user_timeout, "off");
  compare("socket.congestion_control", before.congestion_control, after.congestion_control, "default");
  compare("socket.max_segment", before.max_segment, after.max_segment, "default");
  differences.Compare("socket.mark", before.mark, after.mark, "off");
  differences.Compare("socket.dscp", before.dscp, after.dscp, "off");
  compare("socket.interface", before.interface, after.interface, "any");
  differences.Compare("socket.mptcp", before.mptcp, after.mptcp);
  if (listens)
    compare("socket.fast_open", before.fast_open, after.fast_open, "off");
  else
    differences.Compare("socket.fast_open", before.fast_open != 0, after.fast_open != 0);
  compare("socket.defer_accept", before.defer_accept, after.defer_accept, "off");
}

void CompareListeners(const ListenerConfig& before, const ListenerConfig& after, Differences& differences) {
  differences.In(absl::StrCat("listener ", after.name, ": "));
  differences.Compare("listen", before.listen, after.listen);
  differences.Compare("upstream", before.upstream, after.upstream);
  differences.Compare("max_connections", before.max_connections, after.max_connections, "off");
  differences.Compare("idle_timeout", before.idle_timeout, after.idle_timeout);
  differences.Compare("half_closed_timeout", before.half_closed_timeout, after.half_closed_timeout);
  differences.Compare("client_idle_timeout", before.client_idle_timeout, after.client_idle_timeout);
  differences.Compare("server_idle_timeout", before.server_idle_timeout, after.server_idle_timeout);
  differences.Compare("max_lifetime", before.max_lifetime, after.max_lifetime);
  differences.ComparePercents("lifetime_jitter", before.lifetime_jitter_percent, after.lifetime_jitter_percent);
  differences.Compare("keepalive", before.keepalive, after.keepalive);
  differences.Compare("backlog", before.backlog, after.backlog);
  differences.Compare("access", before.access, after.access);
  differences.Compare("accept_rate", before.accept_rate, after.accept_rate, "off");
  differences.Compare("per_source.max_connections", before.per_source.max_connections, after.per_source.max_connections, "off");
  differences.Compare("per_source.accept_rate", before.per_source.accept_rate, after.per_source.accept_rate, "off");
  differences.Compare("per_source.ipv6_prefix", before.per_source.ipv6_prefix, after.per_source.ipv6_prefix);
  auto compare_rates = [&](const std::string& name, const BandwidthConfig::Rates& old, const BandwidthConfig::Rates& now) {
    differences.CompareByteRates(name + "to_server", old.to_server, now.to_server);
    differences.CompareByteRates(name + "to_client", old.to_client, now.to_client);
  };
  compare_rates("bandwidth.", before.bandwidth.listener, after.bandwidth.listener);
  compare_rates("bandwidth.per_session.", before.bandwidth.per_session, after.bandwidth.per_session);
  CompareSockets(before.socket, after.socket, /*listens=*/true, differences);
  differences.Compare("proxy_protocol", before.proxy_protocol, after.proxy_protocol);
  differences.In("");
}

// What a server may have beside its address, and a name gives to each of its servers.
void CompareServers(const std::string& name, const ServerConfig& before, const ServerConfig& after, Differences& differences) {
  differences.Compare(absl::StrCat(name, " weight").c_str(), before.weight, after.weight);
  differences.Compare(absl::StrCat(name, " backup").c_str(), before.backup, after.backup);
  differences.Compare(absl::StrCat(name, " max_connections").c_str(), before.max_connections, after.max_connections, "off");
  differences.Compare(absl::StrCat(name, " state").c_str(), before.state, after.state);
}

void CompareNames(const UpstreamConfig& before, const UpstreamConfig& after, Differences& differences) {
  auto resolvers = [](const DnsConfig& dns) { return dns.resolvers.empty() ? "system" : Text(dns.resolvers); };
  differences.Compare("dns.resolvers", std::string(resolvers(before.dns)), std::string(resolvers(after.dns)));
  differences.Compare("dns.min_ttl", before.dns.min_ttl, after.dns.min_ttl);
  differences.Compare("dns.max_ttl", before.dns.max_ttl, after.dns.max_ttl);
  differences.Compare("dns.timeout", before.dns.timeout, after.dns.timeout);
  differences.Compare("dns.tries", before.dns.tries, after.dns.tries);
  auto text = [](const DnsNameConfig& name) { return name.ToString(); };
  differences.Match("name ", before.names, after.names, text, [&](const DnsNameConfig& old, const DnsNameConfig& now) {
    std::string name = absl::StrCat("name ", now.ToString());
    differences.Compare(absl::StrCat(name, " type").c_str(), old.type, now.type);
    CompareServers(name, old.each, now.each, differences);
  });
}

void CompareHealthChecks(const HealthCheckConfig& before, const HealthCheckConfig& after, Differences& differences) {
  auto expectation = [](const HealthCheckConfig& check) {
    return check.expect_pattern.empty() ? Quoted(check.expect) : absl::StrCat("pattern ", Quoted(check.expect_pattern));
  };
  auto start = [](const HealthCheckConfig& check) { return std::string(NameOf(kUpDownNames, check.start_up)); };
  differences.Compare("health_check.type", before.type, after.type);
  differences.Compare("health_check.interval", before.interval, after.interval);
  differences.Compare("health_check.fast_interval", before.fast_interval, after.fast_interval);
  differences.Compare("health_check.timeout", before.timeout, after.timeout);
  differences.Compare("health_check.rise", before.rise, after.rise);
  differences.Compare("health_check.fall", before.fall, after.fall);
  differences.Compare("health_check.jitter", FormatPercent(before.jitter_percent), FormatPercent(after.jitter_percent));
  differences.Compare("health_check.start", start(before), start(after));
  differences.Compare("health_check.address", before.address, after.address, "the server's");
  differences.Compare("health_check.port", before.port, after.port, "the server's");
  differences.Compare("health_check.send", Quoted(before.send), Quoted(after.send));
  differences.Compare("health_check.expect", expectation(before), expectation(after));
  differences.Compare("health_check.method", before.method, after.method);
  differences.Compare("health_check.path", before.path, after.path);
  differences.Compare("health_check.host", before.host.empty() ? "the server's" : before.host,
                      after.host.empty() ? "the server's" : after.host);
  differences.Compare("health_check.status", before.statuses, after.statuses);
  differences.Compare("health_check.send_proxy_protocol", before.send_proxy_protocol, after.send_proxy_protocol);
}

void CompareUpstreams(const UpstreamConfig& before, const UpstreamConfig& after, Differences& differences) {
  differences.In(absl::StrCat("upstream ", after.name, ": "));
  differences.Compare("balance", before.balance, after.balance);
  differences.Compare("connect_timeout", before.connect_timeout, after.connect_timeout);
  differences.Compare("connect_total_timeout", before.connect_total_timeout, after.connect_total_timeout);
  differences.Compare("connect_tries", before.connect_tries, after.connect_tries);
  if (before.health_check.has_value() && after.health_check.has_value())
    CompareHealthChecks(*before.health_check, *after.health_check, differences);
  else
    differences.Compare("health_check", before.health_check, after.health_check, "none");
  differences.Compare("slow_start", before.slow_start, after.slow_start);
  differences.Compare("max_queue", before.max_queue, after.max_queue);
  differences.Compare("queue_timeout", before.queue_timeout, after.queue_timeout);
  differences.Compare("ejection", before.ejection, after.ejection, "off");
  differences.Compare("retry_budget", before.retry_budget, after.retry_budget, "off");
  differences.Compare("panic_threshold", PercentOrOff(before.panic_threshold_percent), PercentOrOff(after.panic_threshold_percent));
  differences.Compare("send_proxy_protocol", before.send_proxy_protocol, after.send_proxy_protocol);
  differences.Compare("source_addresses", before.source_addresses, after.source_addresses);
  differences.Compare("transparent", before.transparent, after.transparent);
  CompareSockets(before.socket, after.socket, /*listens=*/false, differences);
  differences.Compare("close_removed_after", before.close_removed_after, after.close_removed_after);
  auto address = [](const ServerConfig& server) { return server.address.ToString(); };
  differences.Match("server ", before.servers, after.servers, address, [&](const ServerConfig& old, const ServerConfig& now) {
    CompareServers(absl::StrCat("server ", now.address.ToString()), old, now, differences);
  });
  CompareNames(before, after, differences);
  differences.In("");
}

void CompareProcess(const Config& before, const Config& after, Differences& differences) {
  differences.Compare("workers:", before.workers, after.workers, "auto");
  differences.Compare("busy_poll:", before.busy_poll, after.busy_poll);
  differences.Compare("admin.listen:", before.admin_listen, after.admin_listen);
  auto token_file = [](const Config& config) { return config.admin_token_file.empty() ? "none" : config.admin_token_file; };
  differences.Compare("admin.token_file:", std::string(token_file(before)), std::string(token_file(after)));
  differences.Compare("metrics.listen:", before.metrics_listen, after.metrics_listen, "off");
  differences.Compare("log.level:", before.log.level, after.log.level);
  differences.Compare("log.format:", before.log.format, after.log.format);
  differences.Compare("limits.max_connections:", before.limits.max_connections, after.limits.max_connections, "auto");
  differences.CompareSizes("limits.buffer_per_direction:", before.limits.buffer_per_direction_bytes,
                           after.limits.buffer_per_direction_bytes);
  differences.CompareSizes("limits.memory:", before.limits.memory_bytes, after.limits.memory_bytes);
  differences.Compare("drain.delay:", before.drain.delay, after.drain.delay);
  differences.Compare("drain.timeout:", before.drain.timeout, after.drain.timeout);
  differences.Compare("drain.close_idle:", before.drain.close_idle, after.drain.close_idle);
  differences.Compare("reload.watch:", before.reload.watch, after.reload.watch);
  auto socket = [](const Config& config) { return config.takeover.socket.empty() ? "off" : config.takeover.socket; };
  differences.Compare("takeover.socket:", std::string(socket(before)), std::string(socket(after)));
}

}  // namespace

std::vector<std::string> DescribeChanges(const Config& before, const Config& after) {
  Differences differences;
  CompareProcess(before, after, differences);
  auto name = [](const auto& one) { return absl::StrCat(one.name, ":"); };
  differences.Match("listener ", before.listeners, after.listeners, name,
                    [&](const auto& old, const auto& now) { CompareListeners(old, now, differences); });
  differences.Match("upstream ", before.upstreams, after.upstreams, name,
                    [&](const auto& old, const auto& now) { CompareUpstreams(old, now, differences); });
  std::vector<std::string> list = differences.Take();
  if (list.empty() && !(before == after)) list.push_back("order of listeners, upstreams or servers");
  return list;
}

}  // namespace ringmain
