// What /metrics is made of: families of prometheus-cpp, and short ways to fill them.
#pragma once

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <cstdint>
#include <deque>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "admin/admin_server.h"

namespace ringmain {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;
using Families = std::deque<MetricFamily>;  // references to its elements stay valid while it grows

inline MetricFamily& AddFamily(Families& families, MetricType type, const char* name, const char* help) {
  MetricFamily& family = families.emplace_back();
  family.name = name;
  family.help = help;
  family.type = type;
  return family;
}
inline MetricFamily& AddCounter(Families& families, const char* name, const char* help) {
  return AddFamily(families, MetricType::Counter, name, help);
}
inline MetricFamily& AddGauge(Families& families, const char* name, const char* help) {
  return AddFamily(families, MetricType::Gauge, name, help);
}
inline MetricFamily& AddHistogram(Families& families, const char* name, const char* help) {
  return AddFamily(families, MetricType::Histogram, name, help);
}

template <typename Number>
void AddSample(MetricFamily& family, Labels labels, Number value) {
  ClientMetric& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = static_cast<double>(value);
}

// A sample whose buckets are the sums over `count` histograms of one type; `of(i)` returns the i-th.
template <typename Of>
void AddSample(MetricFamily& family, Labels labels, size_t count, Of of) {
  using Values = std::decay_t<decltype(of(0))>;
  ClientMetric& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  uint64_t cumulative = 0;
  for (size_t bucket = 0; bucket < Values::kBuckets; ++bucket) {
    for (size_t i = 0; i < count; ++i) cumulative += of(i).bucket(bucket);
    bool last = bucket == Values::bounds().size();
    double bound =
        last ? std::numeric_limits<double>::infinity() : static_cast<double>(Values::bounds()[bucket]) / Values::kPerUnit;
    metric.histogram.bucket.push_back({.cumulative_count = cumulative, .upper_bound = bound});
  }
  metric.histogram.sample_count = cumulative;
  uint64_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += of(i).sum();
  metric.histogram.sample_sum = static_cast<double>(sum) / Values::kPerUnit;
}

// The same over all workers, of one member of their cells.
template <typename Cells, typename Values>
void AddSample(MetricFamily& family, Labels labels, const PerWorker<Cells>& cells, Values Cells::*member) {
  AddSample(family, std::move(labels), cells.size(), [&](size_t i) -> const Values& { return cells[i].*member; });
}

inline std::string Word(std::string_view word) { return std::string(word); }

// What there is of workers, of the configuration and of the process (metrics_process.cc).
void AddWorkers(const PerWorker<WorkerCells>& workers, Families& families);
void AddReloads(const ReloadCells& reloads, Families& families);
void AddProcess(const AdminView& view, const Layout& layout, Families& families);

}  // namespace ringmain
