// Counts, as they pass from a process to its successor: added up over the workers on one side, added to the first worker's on the other, so that
// no total ever falls.
#pragma once

#include "metrics/access_record.h"
#include "metrics/board.h"
#include "takeover/frozen_process.h"

namespace ringmain {

// Any thread.
FrozenListener Freeze(const ListenerMetrics& metrics);
FrozenServer Freeze(const ServerMetrics& metrics);  // its counters
FrozenUpstream Freeze(const UpstreamMetrics& metrics);  // without servers
FrozenWorker Freeze(const WorkerCells& cells);
FrozenCounters Freeze(const AccessLogCells& cells);
FrozenName Freeze(const NameMetrics& metrics);  // without what was found

// REQUIRES: nobody counts in these cells yet.
void Add(const FrozenListener& frozen, ListenerCells& cells);
void Add(const FrozenServer& frozen, ServerMetrics& metrics);
void Add(const FrozenUpstream& frozen, UpstreamCells& cells);
void Add(const FrozenWorker& frozen, WorkerCells& cells);
void Add(const FrozenName& frozen, LookupCells& cells);
void Add(const FrozenCounters& frozen, AccessLogCells& cells);

}  // namespace ringmain
