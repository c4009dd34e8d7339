#include "config/diff.h"

#include <map>
#include <optional>
#include <utility>

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
std::string Text(LogLevel value) { return std::string(ToString(value)); }
std::string Text(LogFormat value) { return std::string(ToString(value)); }
std::string Text(const HealthCheckConfig& value) {
  return absl::StrCat(std::string(NameOf(kHealthCheckTypeNames, value.type)), " interval ", Text(value.interval), " timeout ",
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
std::string Text(const std::vector<SocketAddress>& values) {
  if (values.empty()) return "none";
  return absl::StrJoin(values, ", ", [](std::string* out, const SocketAddress& value) {
    absl::StrAppend(out, value.is_unix() || value.port() != 0 ? value.ToString() : value.host());
  });
}

class Differences {
 public:
  // `where` comes before each of the following.
  void In(std::string where) { where_ = std::move(where); }
  void Add(const std::string& what) { list_.push_back(where_ + what); }

  template <typename T>
  void Compare(const char* name, const T& before, const T& after) {
    if (!(before == after)) Add(absl::StrCat(name, " ", Text(before), " -> ", Text(after)));
  }
  // `none` is what the absence of a value is called.
  template <typename T>
  void Compare(const char* name, const std::optional<T>& before, const std::optional<T>& after, const char* none) {
    auto text = [none](const std::optional<T>& value) { return value.has_value() ? Text(*value) : none; };
    if (before != after) Add(absl::StrCat(name, " ", text(before), " -> ", text(after)));
  }
  void CompareSizes(const char* name, std::optional<uint64_t> before, std::optional<uint64_t> after) {
    auto text = [](std::optional<uint64_t> value) { return value.has_value() ? FormatSize(*value) : "auto"; };
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

void CompareListeners(const ListenerConfig& before, const ListenerConfig& after, Differences& differences) {
  differences.In(absl::StrCat("listener ", after.name, ": "));
  differences.Compare("listen", before.listen, after.listen);
  differences.Compare("upstream", before.upstream, after.upstream);
  differences.Compare("max_connections", before.max_connections, after.max_connections, "off");
  differences.Compare("idle_timeout", before.idle_timeout, after.idle_timeout);
  differences.Compare("half_closed_timeout", before.half_closed_timeout, after.half_closed_timeout);
  differences.Compare("keepalive", before.keepalive, after.keepalive);
  differences.Compare("backlog", before.backlog, after.backlog);
  differences.Compare("proxy_protocol", before.proxy_protocol, after.proxy_protocol);
  differences.In("");
}

void CompareUpstreams(const UpstreamConfig& before, const UpstreamConfig& after, Differences& differences) {
  differences.In(absl::StrCat("upstream ", after.name, ": "));
  differences.Compare("balance", before.balance, after.balance);
  differences.Compare("connect_timeout", before.connect_timeout, after.connect_timeout);
  differences.Compare("connect_tries", before.connect_tries, after.connect_tries);
  differences.Compare("send_proxy_protocol", before.send_proxy_protocol, after.send_proxy_protocol);
  differences.Compare("health_check", before.health_check, after.health_check, "none");
  differences.Compare("source_addresses", before.source_addresses, after.source_addresses);
  differences.Compare("close_removed_after", before.close_removed_after, after.close_removed_after);
  auto address = [](const ServerConfig& server) { return server.address.ToString(); };
  differences.Match("server ", before.servers, after.servers, address, [&](const ServerConfig& old, const ServerConfig& now) {
    differences.Compare(absl::StrCat("server ", now.address.ToString(), " weight").c_str(), old.weight, now.weight);
  });
  differences.In("");
}

void CompareProcess(const Config& before, const Config& after, Differences& differences) {
  differences.Compare("workers:", before.workers, after.workers, "auto");
  differences.Compare("busy_poll:", before.busy_poll, after.busy_poll);
  differences.Compare("admin.listen:", before.admin_listen, after.admin_listen);
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
