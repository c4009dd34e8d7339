// Names: which names are looked up, when each is due, and what was found last. Decides; does not look up.
//
//   due ─► being looked up ─┬─ found ──► what holds is another ──► due again by the TTL
//                           └─ failed ─► what holds stays ───────► due again soon
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "config/config.h"
#include "discovery/answer.h"
#include "metrics/board.h"

namespace ringmain {

// The name of the upstream, and DnsNameConfig::ToString().
using NameKey = std::pair<std::string, std::string>;

struct NameTarget {
  DnsNameConfig name;
  DnsConfig dns;
  std::shared_ptr<NameMetrics> metrics;
};
using NameTargets = std::map<NameKey, NameTarget>;

// Thread-bound.
class Names {
 public:
  // `seed` is of the jitter.
  explicit Names(uint64_t seed) : random_(seed) {}

  // These from now on. A name that was there before goes on as it stands, unless how it is looked up has changed: then it is due now, as a new
  // one is.
  void Follow(const NameTargets& targets, TimePoint now);

  struct Work {
    NameKey key;
    uint64_t number = 0;  // of the lookup; no other has it
    DnsNameConfig name;
    DnsConfig dns;
  };
  // The one that has been due for longest, which is being looked up from now on; none is due.
  std::optional<Work> TakeDue(TimePoint now);
  // When the next one will be due; none, if all are being looked up.
  std::optional<TimePoint> NextDue() const;
  // False if what comes of that lookup is of no use any more.
  bool Wants(const Work& work) const;

  struct Outcome {
    LookupResult result;
    bool news = false;  // another result than the last one's
    bool first = false;
    std::optional<std::vector<FoundServer>> servers;  // if they are not those that were found before
    size_t held = 0;                                  // servers that hold now
  };
  // REQUIRES: Wants(work).
  Outcome Ended(const Work& work, const Found& found, TimePoint now);

  // Names whose first lookup has not ended.
  size_t unanswered() const;

 private:
  struct Entry {
    NameTarget target;
    TimePoint due;
    uint64_t lookup = 0;  // the number of the one under way; 0: none
    std::optional<LookupResult> last;
    Good good;
    std::vector<FoundServer> servers;  // of `good`
  };

  std::map<NameKey, Entry> entries_;
  uint64_t lookups_ = 0;
  std::mt19937_64 random_;
};

}  // namespace ringmain
