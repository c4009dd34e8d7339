#include "discovery/effective.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ringmain {
namespace {

bool HasSourceFor(const UpstreamConfig& upstream, const SocketAddress& server) {
  return upstream.source_addresses.empty() ||
         std::any_of(upstream.source_addresses.begin(), upstream.source_addresses.end(),
                     [&](const SocketAddress& source) { return source.family() == server.family(); });
}

ServerConfig ToConfig(const FoundServer& found, ServerConfig server) {
  server.address = found.address;
  if (found.weight != 0) server.weight = found.weight;
  server.backup = server.backup || found.backup;
  return server;
}

class Adder {
 public:
  explicit Adder(EffectiveConfig& result) : result_(result) {}
  void Count(const UpstreamConfig& upstream) { all_ += upstream.servers.size(); }

  void Add(UpstreamConfig& upstream, const Answers& answers) {
    std::set<std::string> there;
    for (const ServerConfig& server : upstream.servers) there.insert(server.address.ToString());
    for (const DnsNameConfig& name : upstream.names) {
      auto answer = answers.find({upstream.name, name.ToString()});
      if (answer == answers.end()) continue;
      size_t too_many = 0, without_source = 0;
      for (const FoundServer& found : answer->second) {
        if (there.contains(found.address.ToString())) continue;
        if (!HasSourceFor(upstream, found.address)) {
          ++without_source;
        } else if (upstream.servers.size() == kMaxServers || all_ == kMaxAllServers) {
          ++too_many;
        } else {
          there.insert(found.address.ToString());
          upstream.servers.push_back(ToConfig(found, name.each));
          ++all_;
        }
      }
      Tell(upstream, name, without_source, "source_addresses has none of their family");
      Tell(upstream, name, too_many,
           absl::StrCat("at most ", kMaxServers, " servers of an upstream and ", kMaxAllServers, " of all are allowed"));
    }
  }

 private:
  void Tell(const UpstreamConfig& upstream, const DnsNameConfig& name, size_t count, const std::string& why) {
    if (count > 0)
      result_.left_out.push_back(
          absl::StrCat("upstream ", upstream.name, ": name ", name.ToString(), ": addresses left out: ", count, "; ", why));
  }

  EffectiveConfig& result_;
  size_t all_ = 0;
};

}  // namespace

EffectiveConfig PutIn(std::shared_ptr<const Config> configured, const Answers& answers) {
  auto has_names = [](const UpstreamConfig& upstream) { return !upstream.names.empty(); };
  EffectiveConfig result;
  if (std::none_of(configured->upstreams.begin(), configured->upstreams.end(), has_names)) {
    result.config = std::move(configured);
    return result;
  }
  auto config = std::make_shared<Config>(*configured);
  Adder adder(result);
  for (const UpstreamConfig& upstream : config->upstreams) adder.Count(upstream);
  for (UpstreamConfig& upstream : config->upstreams) adder.Add(upstream, answers);
  result.config = std::move(config);
  return result;
}

}  // namespace ringmain
