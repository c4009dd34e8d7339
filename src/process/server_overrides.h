// ServerOverrides: what operators have changed of servers while the process runs. Pure.
//
// It comes on top of the configuration that was read, until that says something else of the server itself, or has it no more.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "admin/admin_server.h"
#include "config/config.h"
#include "takeover/frozen_process.h"

namespace ringmain {

class ServerOverrides {
 public:
  // Adds to what was changed before. Errors: NotFound, the configuration has no such server. Nothing has changed then.
  absl::Status Add(const Config& configured, const ServerChange& change);
  // Forgets what the configuration says itself by now: its server has other settings than when it was overridden, or has gone.
  void KeepFor(const Config& configured);
  // The configuration that is to run; `configured` itself if nothing is overridden.
  std::shared_ptr<const Config> Apply(std::shared_ptr<const Config> configured) const;

  // ---- Takeover ----

  void Freeze(FrozenProcess& process) const;
  static ServerOverrides Inherit(const FrozenProcess& process);

 private:
  struct Override {
    ServerSettings configured;  // as it was
    ServerSettings changed;
  };
  std::map<std::pair<std::string, std::string>, Override> overrides_;  // by the names of upstream and server
};

}  // namespace ringmain
