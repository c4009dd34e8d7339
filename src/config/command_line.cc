#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "config/config.h"
#include "config/dns_name.h"

namespace ringmain {
namespace {

absl::Status Invalid(std::string_view option, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(option), ": ", std::string(what)));
}

absl::StatusOr<SocketAddress> ParseOption(std::string_view option, std::string_view text) {
  absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  if (!address.ok()) return Invalid(option, std::string(address.status().message()));
  return address;
}

absl::Status ReadServers(std::string_view to, UpstreamConfig& upstream) {
  std::set<std::string> seen;
  for (absl::string_view text : absl::StrSplit(absl::string_view(to.data(), to.size()), ',')) {
    absl::StatusOr<SocketAddress> address = ParseOption("--to", std::string(text));
    absl::StatusOr<DnsNameConfig> name = ParseDnsName(std::string(text), DnsType::kAny);
    if (!address.ok() && !name.ok()) return address.status();
    if (address.ok() && !address->is_unix() && address->port() == 0)
      return Invalid("--to", absl::StrCat("address '", text, "' has port 0; write 1 to 65535"));
    if (!seen.insert(address.ok() ? address->ToString() : name->ToString()).second)
      return Invalid("--to", absl::StrCat("address '", text, "' is there twice; write each server once"));
    if (address.ok())
      upstream.servers.push_back({*address});
    else
      upstream.names.push_back(*std::move(name));
    if (seen.size() > kMaxServers) return Invalid("--to", absl::StrCat("at most ", kMaxServers, " servers are allowed"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Config>> FromCommandLine(std::string_view listen, std::string_view to,
                                                              std::string_view admin) {
  absl::StatusOr<SocketAddress> listen_address = ParseOption("--listen", listen);
  if (!listen_address.ok()) return listen_address.status();
  UpstreamConfig servers;
  if (absl::Status status = ReadServers(to, servers); !status.ok()) return status;
  absl::StatusOr<SocketAddress> admin_address = ParseOption("--admin", admin.empty() ? kDefaultAdminAddress : admin);
  if (!admin_address.ok()) return admin_address.status();
  if (admin_address->is_unix())
    return Invalid("--admin", absl::StrCat("'", std::string(admin), "' is a unix address; write host:port such as ",
                                           std::string(kDefaultAdminAddress)));
  if (*admin_address == *listen_address && admin_address->port() != 0)
    return Invalid("--listen", absl::StrCat("address '", std::string(listen), "' is that of the admin server too"));

  auto config = std::make_shared<Config>();
  config->admin_listen = *admin_address;
  ListenerConfig& listener = config->listeners.emplace_back();
  listener.name = "listen";
  listener.listen = {*listen_address};
  UpstreamConfig& upstream = config->upstreams.emplace_back(std::move(servers));
  listener.upstream = upstream.name = "to";
  upstream.health_check.emplace();
  return config;
}

}  // namespace ringmain
