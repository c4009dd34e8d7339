// What ringmain-load says: the progress line, the final text and the JSON.
//
// Keys of the JSON object: mode, connections, threads, payload_bytes, duration_s (measured: from the end of the warm-up
// to the last operation), operations, operations_per_s, bytes_sent, bytes_received (payload bytes and frame headers, in
// the measured time), connects (connections that were opened), connects_per_s, busy (framed requests that the server
// refused; neither operations nor errors), missed (rate: operations due on a connection that was gone), errors
// {connect_failed, reset, closed_early, mismatch, timeout, other}, error_total, latency_us {min, mean, p50, p90, p99,
// p999, max} (microseconds; all 0 if nothing was measured, as in unpaced bulk).
//
// An operation is one payload exchanged (bulk: one payload's worth of the stream; --one-way: sent), in churn with the
// connect before it, in idle without --ping one connection opened.
#pragma once

#include <string>

#include "loadtest/load_options.h"
#include "loadtest/load_stats.h"

namespace ringmain::loadtest {

// One line without the newline about the time between two totals that are `interval` apart.
std::string ProgressLine(Duration since_start, const LoadTotals& before, const LoadTotals& now, Duration interval);
std::string TextReport(const LoadOptions& options, const LoadTotals& totals);
std::string JsonReport(const LoadOptions& options, const LoadTotals& totals);

}  // namespace ringmain::loadtest
