// One list of live sessions out of the workers' own.
#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <span>
#include <vector>

#include "metrics/board.h"
#include "metrics/session_list.h"
#include "worker/worker.h"

namespace ringmain {

// A worker that has not answered by then is missing in the list. A worker that is so late has other troubles than being asked.
inline constexpr Duration kListTimeout = seconds(1);

// Asks all workers for query.most sessions together and waits for them. `workers` are by number, null where there is none. Any thread.
// REQUIRES: the workers are started, and as Worker::ListSessions.
SessionList ListSessions(std::span<const std::shared_ptr<Worker>> workers, const PerWorker<WorkerCells>& cells, const SessionQuery& query);

// Pure parts, for tests.
// How many sessions each worker is to list if they have so many: the same number each, and what some do not need goes to the others.
std::vector<uint32_t> ShareOut(uint32_t most, const std::vector<uint64_t>& sessions);
// Puts the answers together; that of worker i is the i-th. One that is not valid was not asked for.
SessionList Gather(std::vector<std::future<SessionsFound>> answers, TimePoint deadline);
// Leaves the first query.most, in order.
void Arrange(SessionList& list, const SessionQuery& query);

}  // namespace ringmain
