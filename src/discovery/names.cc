#include "discovery/names.h"

#include <algorithm>

#include "base/check.h"

namespace ringmain {

void Names::Follow(const NameTargets& targets, TimePoint now) {
  std::erase_if(entries_, [&](const auto& entry) { return !targets.contains(entry.first); });
  for (const auto& [key, target] : targets) {
    auto [found, added] = entries_.try_emplace(key);
    Entry& entry = found->second;
    if (!added && entry.target.metrics != target.metrics) entry = {};  // it was gone in between, and so is what was told of it
    bool same = !added && entry.target.metrics != nullptr && entry.target.name.type == target.name.type && entry.target.dns == target.dns;
    entry.target = target;
    if (same) continue;
    entry.due = now;
    entry.lookup = 0;
  }
}

std::optional<Names::Work> Names::TakeDue(TimePoint now) {
  auto first = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->second.lookup != 0 || entry->second.due > now) continue;
    if (first == entries_.end() || entry->second.due < first->second.due) first = entry;
  }
  if (first == entries_.end()) return std::nullopt;
  first->second.lookup = ++lookups_;
  return Work{first->first, lookups_, first->second.target.name, first->second.target.dns};
}

std::optional<TimePoint> Names::NextDue() const {
  std::optional<TimePoint> next;
  for (const auto& [key, entry] : entries_)
    if (entry.lookup == 0 && (!next.has_value() || entry.due < *next)) next = entry.due;
  return next;
}

bool Names::Wants(const Work& work) const {
  auto found = entries_.find(work.key);
  return found != entries_.end() && found->second.lookup == work.number;
}

Names::Outcome Names::Ended(const Work& work, const Found& found, TimePoint now) {
  RINGMAIN_CHECK(Wants(work));
  Entry& entry = entries_.find(work.key)->second;
  Outcome outcome;
  Good good = entry.good;
  outcome.result = Merge(found, good);
  if (outcome.result == LookupResult::kSuccess) {
    std::vector<FoundServer> servers = ServersOf(work.name, good);
    if (servers.empty()) {
      outcome.result = LookupResult::kNoRecords;
    } else {
      if (servers != entry.servers) outcome.servers = servers;
      entry.servers = std::move(servers);
      entry.good = std::move(good);
    }
  }
  outcome.first = !entry.last.has_value();
  outcome.news = entry.last != outcome.result;
  outcome.held = entry.servers.size();
  entry.last = outcome.result;
  entry.lookup = 0;
  double random = std::uniform_real_distribution<double>(0, 1)(random_);
  entry.due = now + LookAgainAfter(outcome.result, found.ttl, !entry.servers.empty(), work.dns, random);
  return outcome;
}

size_t Names::unanswered() const {
  return static_cast<size_t>(
      std::count_if(entries_.begin(), entries_.end(), [](const auto& entry) { return !entry.second.last.has_value(); }));
}

}  // namespace ringmain
