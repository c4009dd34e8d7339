#include "log/access_line.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "log/line_format.h"

namespace ringmain {
namespace {

using Json = nlohmann::ordered_json;

// What a header claims may be up to 4 KiB long.
constexpr size_t kMostText = 255;

std::string Seconds(Duration duration) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6f", static_cast<double>(duration.count()) / 1e9);
  return text;
}

std::string_view Cut(std::string_view text) { return text.substr(0, kMostText); }

bool IsPlain(std::string_view text) {
  return !text.empty() && text != "-" && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '\'' && c != '=' && c != '\\';
  });
}

// As `key=value`, after a space.
class TextLine {
 public:
  explicit TextLine(std::string begin) : line_(std::move(begin)) {}
  void Add(std::string_view key, std::string_view value) {
    Key(key);
    if (IsPlain(value))
      line_ += value;
    else
      absl::StrAppend(&line_, "\"", absl::CHexEscape(absl::string_view(value.data(), value.size())), "\"");
  }
  void Add(std::string_view key, const std::optional<SocketAddress>& address) {
    if (address.has_value())
      Add(key, address->ToString());
    else
      None(key);
  }
  void Add(std::string_view key, std::optional<Duration> duration) {
    Key(key);
    line_ += duration.has_value() ? Seconds(*duration) : "-";
  }
  void Add(std::string_view key, uint64_t number) {
    Key(key);
    absl::StrAppend(&line_, number);
  }
  void None(std::string_view key) {
    Key(key);
    line_ += '-';
  }
  std::string Take() {
    line_ += '\n';
    return std::move(line_);
  }

 private:
  void Key(std::string_view key) {
    line_ += ' ';
    line_ += key;
    line_ += '=';
  }
  std::string line_;
};

Json ToJson(const std::optional<SocketAddress>& address) { return address.has_value() ? Json(address->ToString()) : Json(nullptr); }

// To the microsecond, as in text.
Json ToJson(std::optional<Duration> duration) {
  if (!duration.has_value()) return nullptr;
  return static_cast<double>(*duration / microseconds(1)) / 1e6;
}

Json ToJson(const ProxyFacts& proxy) {
  if (proxy.version == 0) return nullptr;
  auto text = [](const std::string& value) { return value.empty() ? Json(nullptr) : Json(std::string(Cut(value))); };
  return {{"version", proxy.version},
          {"from", ToJson(proxy.from)},
          {"destination", ToJson(proxy.destination)},
          {"authority", text(proxy.authority)},
          {"tls_version", text(proxy.tls_version)}};
}

std::string FormatJson(const AccessRecord& record, const std::string& time, const std::string& started) {
  const RouteNames& route = *record.route;
  Json json = {{"time", time},
               {"event", std::string(ToString(record.event))},
               {"id", SessionId(record.number)},
               {"listener", route.listener},
               {"client", ToJson(record.client)},
               {"upstream", route.upstream},
               {"server", record.server.has_value() ? Json(route.servers.at(*record.server)) : Json(nullptr)},
               {"reason", record.event == AccessEvent::kEnd ? Json(std::string(ToString(record.reason))) : Json(nullptr)},
               {"started", started},
               {"duration_seconds", ToJson(record.at - record.accepted_at)},
               {"queued_seconds", ToJson(record.queued)},
               {"connect_seconds", ToJson(record.connect)},
               {"first_byte_seconds", ToJson(record.first_byte)},
               {"to_server_bytes", record.bytes[0]},
               {"to_client_bytes", record.bytes[1]},
               {"retries", record.retries},
               {"proxy_protocol", ToJson(record.proxy)}};
  return json.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace) + '\n';
}

void AddProxy(const ProxyFacts& proxy, TextLine& line) {
  if (proxy.version == 0) {
    line.None("proxy_protocol");
    return;
  }
  line.Add("proxy_protocol", proxy.version == 1 ? "v1" : "v2");
  line.Add("from", proxy.from);
  line.Add("destination", proxy.destination);
  if (!proxy.authority.empty()) line.Add("authority", Cut(proxy.authority));
  if (!proxy.tls_version.empty()) line.Add("tls_version", Cut(proxy.tls_version));
}

std::string FormatText(const AccessRecord& record, const std::string& time, const std::string& started) {
  const RouteNames& route = *record.route;
  TextLine line(absl::StrCat(time, " ", std::string(ToString(record.event))));
  line.Add("id", SessionId(record.number));
  line.Add("listener", route.listener);
  line.Add("client", record.client);
  line.Add("upstream", route.upstream);
  if (record.server.has_value())
    line.Add("server", route.servers.at(*record.server));
  else
    line.None("server");
  if (record.event == AccessEvent::kEnd)
    line.Add("reason", ToString(record.reason));
  else
    line.None("reason");
  line.Add("started", started);
  line.Add("duration", record.at - record.accepted_at);
  line.Add("queued", record.queued);
  line.Add("connect", record.connect);
  line.Add("first_byte", record.first_byte);
  line.Add("to_server", record.bytes[0]);
  line.Add("to_client", record.bytes[1]);
  line.Add("retries", record.retries);
  AddProxy(record.proxy, line);
  return line.Take();
}

}  // namespace

std::string FormatAccessLine(LogFormat format, const AccessRecord& record, TimePoint now, std::chrono::system_clock::time_point wall_now) {
  using std::chrono::system_clock;
  auto wall = [&](TimePoint time) { return FormatTime(wall_now - std::chrono::duration_cast<system_clock::duration>(now - time)); };
  return format == LogFormat::kJson ? FormatJson(record, wall(record.at), wall(record.accepted_at))
                                    : FormatText(record, wall(record.at), wall(record.accepted_at));
}

}  // namespace ringmain
