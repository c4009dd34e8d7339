// Discovery: the thread that looks names up, and what it has found.
#pragma once

#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "discovery/effective.h"
#include "discovery/names.h"
#include "metrics/board.h"

namespace ringmain {

// One thread ("rm-dns"), started with the first name. It alone writes cells[0] and last_result of NameMetrics; a change of the result is logged
// once. An answer holds until there is another: no resolver that fails takes a server away. Used by one thread at a time.
class Discovery {
 public:
  // Lookups under way at once. Each may have some sockets.
  static constexpr size_t kMaxLookups = 64;

  Discovery() = default;
  // Gives up what is under way, and joins the thread.
  ~Discovery();
  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;

  // Looks up the names of `config`, too, as it says. Errors: the thread cannot start.
  absl::Status Add(const Config& config);
  // Only those of `config`, from now on.
  void Keep(const Config& config);
  // Until the first lookup of every name has ended, or the deadline passes, or `interrupt` is readable.
  void WaitForFirst(TimePoint deadline, int interrupt);

  // Readable when there may be something to take. -1 without a thread.
  int fd() const { return mailbox_.ready.get(); }
  // True if answers() has changed.
  bool Take();
  const Answers& answers() const { return answers_; }
  // An answer from elsewhere. It holds until there is one of our own.
  void Inherit(const NameKey& key, std::vector<FoundServer> servers);

  // Null if that name is not looked up.
  std::shared_ptr<NameMetrics> metrics(const NameKey& key) const;
  // Names of that configuration that nothing was ever found for.
  std::vector<NameKey> Missing(const Config& config) const;

 private:
  struct Mailbox {
    UniqueFd wake;   // eventfds: to the thread
    UniqueFd ready;  // and from it
    std::mutex mutex;
    std::optional<NameTargets> targets;  // new ones
    bool stop = false;
    std::vector<std::pair<NameKey, std::vector<FoundServer>>> found;
    size_t unanswered = 0;
  };
  class Loop;

  absl::Status Start();
  void Post();

  NameTargets targets_;
  Answers answers_;
  Mailbox mailbox_;
  std::thread thread_;
};

}  // namespace ringmain
