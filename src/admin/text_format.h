// The Prometheus text format 0.0.4 of families of prometheus-cpp.
//
// Not by its TextSerializer, which hands label values to a stream one character at a time: with a thousand servers that is most of what a
// scrape takes.
#pragma once

#include <prometheus/metric_family.h>

#include <deque>
#include <string>

namespace ringmain {

// Counters, gauges, histograms that have a bucket without bound, and summaries without quantiles. Pure.
std::string ToText(const std::deque<prometheus::MetricFamily>& families);

}  // namespace ringmain
