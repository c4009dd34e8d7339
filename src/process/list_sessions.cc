#include "process/list_sessions.h"

#include <algorithm>
#include <numeric>

namespace ringmain {

SessionList ListSessions(std::span<const std::shared_ptr<Worker>> workers, const PerWorker<WorkerCells>& cells, uint32_t most) {
  std::vector<uint64_t> counts;
  for (size_t i = 0; i < workers.size(); ++i)
    counts.push_back(workers[i] == nullptr ? 0 : static_cast<uint64_t>(std::max<int64_t>(cells[i].sessions.value(), 0)));
  std::vector<uint32_t> shares = ShareOut(most, counts);
  TimePoint deadline = Clock::now() + kListTimeout;
  std::vector<std::future<std::vector<SessionRecord>>> answers(workers.size());
  for (size_t i = 0; i < workers.size(); ++i)
    if (shares[i] > 0 && workers[i] != nullptr) answers[i] = workers[i]->ListSessions(shares[i], deadline);
  SessionList list = Gather(std::move(answers), deadline);
  list.total = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  return list;
}

std::vector<uint32_t> ShareOut(uint32_t most, const std::vector<uint64_t>& sessions) {
  std::vector<size_t> by_need(sessions.size());
  std::iota(by_need.begin(), by_need.end(), 0);
  std::sort(by_need.begin(), by_need.end(), [&](size_t a, size_t b) { return sessions[a] < sessions[b]; });
  std::vector<uint32_t> shares(sessions.size());
  uint32_t left = most;
  for (size_t i = 0; i < by_need.size(); ++i) {
    auto even = static_cast<uint32_t>(left / (by_need.size() - i));
    uint32_t& share = shares[by_need[i]];
    share = static_cast<uint32_t>(std::min<uint64_t>(sessions[by_need[i]], even));
    left -= share;
  }
  return shares;
}

SessionList Gather(std::vector<std::future<std::vector<SessionRecord>>> answers, TimePoint deadline) {
  SessionList list;
  for (uint32_t worker = 0; worker < answers.size(); ++worker) {
    std::future<std::vector<SessionRecord>>& answer = answers[worker];
    if (!answer.valid()) continue;
    if (answer.wait_until(deadline) != std::future_status::ready) {
      list.missing_workers.push_back(worker);
      continue;
    }
    for (SessionRecord& record : answer.get()) {
      record.worker = worker;
      list.sessions.push_back(std::move(record));
    }
  }
  return list;
}

}  // namespace ringmain
