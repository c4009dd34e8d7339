// Counts, as they pass from a process to its successor: added up over the workers on one side, added to the first worker's on the other, so that
// no total ever falls.
#pragma once

#include "metrics/board.h"
#include "takeover/frozen_process.h"

namespace ringmain {

// Any thread.
FrozenListener Freeze(const ListenerMetrics& metrics);
FrozenServer Freeze(const ServerMetrics& metrics);  // its counters
FrozenUpstream Freeze(const UpstreamMetrics& metrics);  // without servers
FrozenWorker Freeze(const WorkerCells& cells);
FrozenName Freeze(const NameMetrics& metrics);  // without what was found
FrozenCounters Freeze(const ReloadCells& cells);

// REQUIRES: nobody counts in these cells yet.
void Add(const FrozenListener& frozen, ListenerCells& cells);
void Add(const FrozenServer& frozen, ServerMetrics& metrics);
void Add(const FrozenUpstream& frozen, UpstreamMetrics& metrics);
void Add(const FrozenWorker& frozen, WorkerCells& cells);
void Add(const FrozenName& frozen, LookupCells& cells);
void Add(const FrozenCounters& frozen, ReloadCells& cells);

}  // namespace ringmain
