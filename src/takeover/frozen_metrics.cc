#include "takeover/frozen_metrics.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

namespace ringmain {
namespace {

// `visit(name, counter)` for each counter; the names are those of the message, and stay.

template <typename Cells, typename Visit>
void VisitListener(Cells& cells, Visit visit) {
  visit("accepted", cells.accepted);
  for (size_t i = 0; i < kDirectionNames.size(); ++i) visit("bytes_" + std::string(kDirectionNames[i]), cells.bytes[i]);
  for (size_t i = 0; i < kDirectionNames.size(); ++i) visit("bandwidth_waits_" + std::string(kDirectionNames[i]), cells.bandwidth_waits[i]);
  for (size_t i = 0; i < kCloseReasons; ++i) visit("closed_" + std::string(kCloseReasonNames[i]), cells.closed[i]);
}

template <typename Cells, typename Visit>
void VisitServer(Cells& cells, Visit visit) {
  visit("connects", cells.connects);
  visit("ejections", cells.ejections);
  visit("rtt_samples", cells.rtt_samples);
  visit("rtt_ns", cells.rtt_ns);
  visit("sampled_segments", cells.sampled_segments);
  visit("sampled_retransmits", cells.sampled_retransmits);
  for (size_t i = 0; i < kConnectFailures; ++i) visit("failed_" + std::string(kConnectFailureNames[i]), cells.connect_failures[i]);
}

template <typename Cells, typename Visit>
void VisitHealth(Cells& cells, Visit visit) {
  visit("checks_succeeded", cells.succeeded);
  visit("checks_failed", cells.failed);
}

template <typename Cells, typename Visit>
void VisitWorker(Cells& cells, Visit visit) {
  visit("opened", cells.opened);
  visit("messages", cells.messages);
  visit("completions", cells.completions);
  visit("submissions", cells.submissions);
  visit("enters", cells.enters);
  visit("system_calls", cells.system_calls);
  visit("cpu_ns", cells.cpu_ns);
  visit("cq_overflows", cells.cq_overflows);
  visit("receive_starvations", cells.receive_starvations);
  visit("accept_pauses", cells.accept_pauses);
  visit("handed_over", cells.handed_over);
  visit("spliced_bytes", cells.spliced_bytes);
}

template <typename Cells, typename Visit>
void VisitLookups(Cells& cells, Visit visit) {
  for (size_t i = 0; i < kLookupResults; ++i) visit("lookups_" + std::string(kLookupResultNames[i]), cells.ended[i]);
}

template <typename Cells, typename Visit>
void VisitReloads(Cells& cells, Visit visit) {
  visit("succeeded", cells.succeeded);
  visit("failed", cells.failed);
}

// `visit(name, histogram)`, of those that came after version 1.

constexpr const char* kQueueWait = "queue_wait";
constexpr const char* kHealthCheck = "health_check";

template <typename Cells, typename Visit>
void VisitListenerHistograms(Cells& cells, Visit visit) {
  visit("first_byte", cells.first_byte);
  for (size_t i = 0; i < kDirectionNames.size(); ++i) visit(std::string("bytes_").append(kDirectionNames[i]), cells.session_bytes[i]);
}

// What the other version does not count is left out.
auto AddingTo(FrozenCounters& counters) {
  return [&counters](const std::string& name, const Counter& counter) { counters[name] += counter.value(); };
}
auto TakingFrom(const FrozenCounters& counters) {
  return [&counters](const std::string& name, Counter& counter) {
    if (auto found = counters.find(name); found != counters.end()) counter.Add(found->second);
  };
}

template <typename Histogram>
void AddTo(FrozenHistogram& frozen, const Histogram& histogram) {
  frozen.buckets.resize(Histogram::kBuckets);
  for (size_t i = 0; i < Histogram::kBuckets; ++i) frozen.buckets[i] += histogram.bucket(i);
  frozen.sum += histogram.sum();
}

// A version with other buckets counts what it was passed in its last one: a total must not fall.
template <typename Histogram>
void TakeFrom(const FrozenHistogram& frozen, Histogram& histogram) {
  bool same = frozen.buckets.size() == Histogram::kBuckets;
  for (size_t i = 0; i < frozen.buckets.size(); ++i) histogram.Add(same ? i : Histogram::kBuckets - 1, frozen.buckets[i]);
  histogram.AddSum(frozen.sum);
}

auto AddingTo(FrozenHistograms& frozen) {
  return [&frozen](const std::string& name, const auto& histogram) { AddTo(frozen[name], histogram); };
}
auto TakingFrom(const FrozenHistograms& frozen) {
  return [&frozen](const std::string& name, auto& histogram) {
    if (auto found = frozen.find(name); found != frozen.end()) TakeFrom(found->second, histogram);
  };
}

}  // namespace

FrozenListener Freeze(const ListenerMetrics& metrics) {
  FrozenListener frozen;
  frozen.name = metrics.name;
  for (size_t i = 0; i < metrics.cells.size(); ++i) {
    VisitListener(metrics.cells[i], AddingTo(frozen.counters));
    AddTo(frozen.duration, metrics.cells[i].duration);
    VisitListenerHistograms(metrics.cells[i], AddingTo(frozen.histograms));
  }
  return frozen;
}

FrozenServer Freeze(const ServerMetrics& metrics) {
  FrozenServer frozen;
  frozen.address = metrics.name;
  for (size_t i = 0; i < metrics.cells.size(); ++i) VisitServer(metrics.cells[i], AddingTo(frozen.counters));
  VisitHealth(metrics.health, AddingTo(frozen.counters));
  return frozen;
}

FrozenUpstream Freeze(const UpstreamMetrics& metrics) {
  FrozenUpstream frozen;
  frozen.name = metrics.name;
  for (size_t i = 0; i < metrics.cells.size(); ++i) frozen.retries_denied += metrics.cells[i].retries_denied.value();
  for (size_t i = 0; i < metrics.cells.size(); ++i) {
    AddTo(frozen.connect_duration, metrics.cells[i].connect_duration);
    AddTo(frozen.histograms[kQueueWait], metrics.cells[i].queue_wait);
  }
  AddTo(frozen.histograms[kHealthCheck], metrics.health_check_duration);
  return frozen;
}

FrozenWorker Freeze(const WorkerCells& cells) {
  FrozenWorker frozen;
  VisitWorker(cells, AddingTo(frozen.counters));
  AddTo(frozen.loop_turn, cells.loop_turn);
  return frozen;
}

FrozenName Freeze(const NameMetrics& metrics) {
  FrozenName frozen;
  frozen.name = metrics.name;
  for (size_t i = 0; i < metrics.cells.size(); ++i) {
    VisitLookups(metrics.cells[i], AddingTo(frozen.counters));
    frozen.last_success_epoch = std::max(frozen.last_success_epoch, metrics.cells[i].last_success_epoch.value());
  }
  return frozen;
}

void Add(const FrozenListener& frozen, ListenerCells& cells) {
  VisitListener(cells, TakingFrom(frozen.counters));
  TakeFrom(frozen.duration, cells.duration);
  VisitListenerHistograms(cells, TakingFrom(frozen.histograms));
}

void Add(const FrozenServer& frozen, ServerMetrics& metrics) {
  VisitServer(metrics.cells[0], TakingFrom(frozen.counters));
  VisitHealth(metrics.health, TakingFrom(frozen.counters));
}

void Add(const FrozenUpstream& frozen, UpstreamMetrics& metrics) {
  UpstreamCells& cells = metrics.cells[0];
  cells.retries_denied.Add(frozen.retries_denied);
  TakeFrom(frozen.connect_duration, cells.connect_duration);
  auto take = TakingFrom(frozen.histograms);
  take(kQueueWait, cells.queue_wait);
  take(kHealthCheck, metrics.health_check_duration);
}

FrozenCounters Freeze(const ReloadCells& cells) {
  FrozenCounters frozen;
  VisitReloads(cells, AddingTo(frozen));
  return frozen;
}

void Add(const FrozenCounters& frozen, ReloadCells& cells) { VisitReloads(cells, TakingFrom(frozen)); }

void Add(const FrozenName& frozen, LookupCells& cells) {
  VisitLookups(cells, TakingFrom(frozen.counters));
  cells.last_success_epoch.Set(frozen.last_success_epoch);
}

void Add(const FrozenWorker& frozen, WorkerCells& cells) {
  VisitWorker(cells, TakingFrom(frozen.counters));
  TakeFrom(frozen.loop_turn, cells.loop_turn);
}

}  // namespace ringmain
