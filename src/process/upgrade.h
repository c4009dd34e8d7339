// Upgrade: a process starts its own program anew, which then takes over from it.
//
// Whoever asks (`ringmain upgrade`, which systemd's ExecReload runs) only asks. It is the running process that starts the new one, so that this
// has the same user, limits, environment, standard streams and place in the service manager; and the program comes from where the running one
// was started, where a package has put the new version.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "config/config.h"
#include "takeover/channel.h"

namespace ringmain {

// The program and arguments for a successor of this process, which was started with `arguments` (argv): the program by an absolute path, which
// may name another file later, and --takeover-only: where there is nobody to take over from any more, nothing is to run. REQUIRES: called at
// the start.
std::vector<std::string> SuccessorCommand(const std::vector<std::string>& arguments);

// A new process that has been started and has not taken over yet. Process thread only.
class Upgrade {
 public:
  // Takes the channel if it succeeds. Errors: a sentence; nothing was started.
  static absl::StatusOr<std::unique_ptr<Upgrade>> Begin(Channel& asker, const std::vector<std::string>& command);
  Upgrade(const Upgrade&) = delete;
  Upgrade& operator=(const Upgrade&) = delete;

  // For the new process to take over. Then it is ended.
  static constexpr Duration kTimeout = seconds(60);

  // Readable once the new process has ended.
  int fd() const { return process_.get(); }
  // It has: tells whoever asked. Returns what happened, for the log.
  std::string Failed();
  // Ends it if it has had its time; fd() says when it has.
  void EndIfOverdue(TimePoint now);
  // `successor`, which may be another, serves in our place.
  void Succeeded(std::optional<pid_t> successor, size_t sessions, milliseconds pause);

 private:
  Upgrade(Channel asker, pid_t pid, UniqueFd process) : asker_(std::move(asker)), pid_(pid), process_(std::move(process)) {}

  Channel asker_;
  pid_t pid_;
  UniqueFd process_;  // a pidfd
  TimePoint deadline_ = Clock::now() + kTimeout;
  bool overdue_ = false;
};

// Asks the process at the configuration's takeover.socket, and waits for what comes of it. Writes one line to standard output or error; returns
// an exit code.
int RequestUpgrade(const Config& config);

}  // namespace ringmain
