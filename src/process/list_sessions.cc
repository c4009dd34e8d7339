#include "process/list_sessions.h"

#include <algorithm>
#include <numeric>

namespace ringmain {

SessionList ListSessions(std::span<const std::shared_ptr<Worker>> workers, const PerWorker<WorkerCells>& cells, const SessionQuery& query) {
  std::vector<uint64_t> counts;
  for (size_t i = 0; i < workers.size(); ++i)
    counts.push_back(workers[i] == nullptr ? 0 : static_cast<uint64_t>(std::max<int64_t>(cells[i].sessions.value(), 0)));
  // In an order, all of them may be one worker's; and one that is to be closed may not be counted yet.
  std::vector<uint32_t> shares(workers.size(), static_cast<uint32_t>(query.most));
  if (query.order == SessionOrder::kNone && !query.close) shares = ShareOut(static_cast<uint32_t>(query.most), counts);
  TimePoint deadline = Clock::now() + kListTimeout;
  std::vector<std::future<SessionsFound>> answers(workers.size());
  for (size_t i = 0; i < workers.size(); ++i) {
    if (shares[i] == 0 || workers[i] == nullptr) continue;
    SessionQuery share = query;
    share.most = shares[i];
    answers[i] = workers[i]->ListSessions(std::move(share), deadline);
  }
  SessionList list = Gather(std::move(answers), deadline);
  Arrange(list, query);
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

SessionList Gather(std::vector<std::future<SessionsFound>> answers, TimePoint deadline) {
  SessionList list;
  for (uint32_t worker = 0; worker < answers.size(); ++worker) {
    std::future<SessionsFound>& answer = answers[worker];
    if (!answer.valid()) continue;
    if (answer.wait_until(deadline) != std::future_status::ready) {
      list.missing_workers.push_back(worker);
      continue;
    }
    SessionsFound found = answer.get();
    list.matched += found.matched;
    for (SessionRecord& record : found.records) {
      record.worker = worker;
      list.sessions.push_back(std::move(record));
    }
  }
  return list;
}

void Arrange(SessionList& list, const SessionQuery& query) {
  if (query.order != SessionOrder::kNone)
    std::sort(list.sessions.begin(), list.sessions.end(), [](const SessionRecord& a, const SessionRecord& b) { return a.rank() < b.rank(); });
  if (list.sessions.size() > query.most) list.sessions.resize(query.most);
}

}  // namespace ringmain
