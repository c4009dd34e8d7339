#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <deque>
#include <iterator>
#include <limits>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "admin/admin_server.h"
#include "admin/process_stats.h"
#include "admin/sum.h"

namespace ringmain {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;
using Families = std::deque<MetricFamily>;  // references to its elements stay valid while it grows

MetricFamily& AddFamily(Families& families, MetricType type, const char* name, const char* help) {
  MetricFamily& family = families.emplace_back();
  family.name = name;
  family.help = help;
  family.type = type;
  return family;
}
MetricFamily& AddCounter(Families& families, const char* name, const char* help) {
  return AddFamily(families, MetricType::Counter, name, help);
}
MetricFamily& AddGauge(Families& families, const char* name, const char* help) {
  return AddFamily(families, MetricType::Gauge, name, help);
}
MetricFamily& AddHistogram(Families& families, const char* name, const char* help) {
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
  using Durations = std::decay_t<decltype(of(0))>;
  ClientMetric& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  uint64_t cumulative = 0;
  for (size_t bucket = 0; bucket < Durations::kBuckets; ++bucket) {
    for (size_t i = 0; i < count; ++i) cumulative += of(i).bucket(bucket);
    bool last = bucket == Durations::bounds().size();
    double bound =
        last ? std::numeric_limits<double>::infinity() : static_cast<double>(Durations::bounds()[bucket]) / 1e9;
    metric.histogram.bucket.push_back({.cumulative_count = cumulative, .upper_bound = bound});
  }
  metric.histogram.sample_count = cumulative;
  uint64_t sum_ns = 0;
  for (size_t i = 0; i < count; ++i) sum_ns += of(i).sum_ns();
  metric.histogram.sample_sum = static_cast<double>(sum_ns) / 1e9;
}

std::string Word(std::string_view word) { return std::string(word); }

void AddListeners(const Layout& layout, Families& families) {
  auto& total =
      AddCounter(families, "ringmain_connections_total", "Accepted client connections, refused ones included.");
  auto& active = AddGauge(families, "ringmain_connections_active", "Open sessions.");
  auto& closed =
      AddCounter(families, "ringmain_connections_closed_total", "Ended sessions and refused connections, by reason.");
  auto& bytes = AddCounter(families, "ringmain_bytes_total", "Payload bytes passed on, by direction.");
  auto& duration = AddHistogram(families, "ringmain_connection_duration_seconds",
                                "Time from accept to close of a session, refused connections not included.");
  for (const ListenerLayout& listener : layout.listeners) {
    const PerWorker<ListenerCells>& cells = listener.metrics->cells;
    const ClientMetric::Label name{"listener", listener.metrics->name};
    AddSample(total, {name}, Sum(cells, [](const ListenerCells& c) { return c.accepted.value(); }));
    AddSample(active, {name}, Sum(cells, [](const ListenerCells& c) { return c.active.value(); }));
    for (size_t i = 0; i < kCloseReasons; ++i) {
      AddSample(closed, {name, {"reason", Word(kCloseReasonNames[i])}},
                Sum(cells, [i](const ListenerCells& c) { return c.closed[i].value(); }));
    }
    for (size_t i = 0; i < kDirectionNames.size(); ++i) {
      AddSample(bytes, {name, {"direction", Word(kDirectionNames[i])}},
                Sum(cells, [i](const ListenerCells& c) { return c.bytes[i].value(); }));
    }
    AddSample(
        duration, {name}, cells.size(), [&](size_t i) -> const auto& { return cells[i].duration; });
  }
}

void AddBandwidth(const Layout& layout, Families& families) {
  MetricFamily* waits = nullptr;
  for (const ListenerLayout& listener : layout.listeners) {
    if (!listener.config.bandwidth.on()) continue;
    if (waits == nullptr)
      waits = &AddCounter(families, "ringmain_bandwidth_waits_total", "Times a session was held back by a bandwidth limit, by direction.");
    for (size_t i = 0; i < kDirectionNames.size(); ++i)
      AddSample(*waits, {{"listener", listener.metrics->name}, {"direction", Word(kDirectionNames[i])}},
                Sum(listener.metrics->cells, [i](const ListenerCells& c) { return c.bandwidth_waits[i].value(); }));
  }
}

void AddSources(const Layout& layout, Families& families) {
  MetricFamily* sources = nullptr;
  for (const ListenerLayout& listener : layout.listeners) {
    if (listener.sources == nullptr) continue;
    if (sources == nullptr)
      sources = &AddGauge(families, "ringmain_listener_sources", "Client addresses with open sessions, where per_source counts them.");
    AddSample(*sources, {{"listener", listener.metrics->name}}, listener.sources().sources);
  }
}

void AddUpstreams(const Layout& layout, Families& families) {
  auto& connect =
      AddHistogram(families, "ringmain_connect_duration_seconds", "Time that successful connects to a server took.");
  auto& up =
      AddGauge(families, "ringmain_server_up", "1 if the server may be chosen, 0 if health checks found it down.");
  auto& active =
      AddGauge(families, "ringmain_server_connections_active", "Connections to the server, connecting or established.");
  auto& ejected = AddGauge(families, "ringmain_server_ejected", "1 while the server is left out because it failed in use.");
  auto& ejections = AddCounter(families, "ringmain_server_ejections_total", "Times the server was left out because it failed in use.");
  auto& queued = AddGauge(families, "ringmain_upstream_queued", "Clients that wait for room on a server.");
  auto& denied = AddCounter(families, "ringmain_upstream_retries_denied_total", "Connects to another server that retry_budget did not allow.");
  auto& panic = AddGauge(families, "ringmain_upstream_panic", "1 while fewer servers are up than panic_threshold, and health is ignored.");
  TimePoint now = Clock::now();
  auto& connects = AddCounter(families, "ringmain_server_connects_total", "Successful connects to the server.");
  auto& failures =
      AddCounter(families, "ringmain_server_connect_failures_total", "Failed connects to the server, by reason.");
  auto& checks = AddCounter(families, "ringmain_health_checks_total", "Health checks of the server, by result.");
  for (const UpstreamLayout& upstream : layout.upstreams) {
    const UpstreamMetrics& metrics = *upstream.metrics;
    const ClientMetric::Label name{"upstream", metrics.name};
    AddSample(
        connect, {name},
        metrics.cells.size(), [&](size_t i) -> const auto& { return metrics.cells[i].connect_duration; });
    const std::shared_ptr<ConnectQueue>& queue = upstream.upstream->queue();
    AddSample(queued, {name}, queue != nullptr ? queue->waiting() : 0);
    AddSample(panic, {name}, upstream.upstream->Panics(now));
    AddSample(denied, {name}, Sum(metrics.cells, [](const UpstreamCells& c) { return c.retries_denied.value(); }));
    for (const ServerLayout& one : upstream.servers) {
      const ServerMetrics& server = *one.metrics;
      const Labels labels{name, {"server", server.name}};
      auto with = [&labels](const char* label, std::string_view value) {
        Labels more = labels;
        more.push_back({label, Word(value)});
        return more;
      };
      AddSample(up, labels, one.server->up());
      AddSample(active, labels, one.server->active());
      AddSample(ejected, labels, one.server->ejected(now));
      AddSample(ejections, labels, Sum(server.cells, [](const ServerCells& c) { return c.ejections.value(); }));
      AddSample(connects, labels, Sum(server.cells, [](const ServerCells& c) { return c.connects.value(); }));
      for (size_t i = 0; i < kConnectFailures; ++i) {
        AddSample(failures, with("reason", kConnectFailureNames[i]),
                  Sum(server.cells, [i](const ServerCells& c) { return c.connect_failures[i].value(); }));
      }
      AddSample(checks, with("result", "success"), server.health.succeeded.value());
      AddSample(checks, with("result", "failure"), server.health.failed.value());
    }
  }
}

void AddNames(const Layout& layout, Families& families) {
  auto& lookups = AddCounter(families, "ringmain_dns_lookups_total", "Lookups of names whose addresses are servers, by result.");
  auto& success = AddGauge(families, "ringmain_dns_last_success_timestamp_seconds",
                           "When the name was found last, in seconds since the epoch; 0 if never.");
  auto& addresses = AddGauge(families, "ringmain_dns_addresses", "Addresses that were found for the name last, and are in use.");
  for (const UpstreamLayout& upstream : layout.upstreams)
    for (const auto& name : upstream.names) {
      const Labels labels{{"upstream", upstream.metrics->name}, {"name", name->name}};
      for (size_t i = 0; i < kLookupResults; ++i) {
        Labels more = labels;
        more.push_back({"result", Word(kLookupResultNames[i])});
        AddSample(lookups, std::move(more), Sum(name->cells, [i](const LookupCells& c) { return c.ended[i].value(); }));
      }
      AddSample(success, labels, static_cast<double>(LastSuccess(*name)) / 1000);
      AddSample(addresses, labels, name->addresses.value());
    }
}

template <typename Cell>
struct WorkerMetric {
  const char* name;
  const char* help;
  Cell WorkerCells::*cell;
};
constexpr WorkerMetric<Gauge> kWorkerGauges[] = {
    {"ringmain_worker_sessions", "Open sessions of the worker.", &WorkerCells::sessions},
    {"ringmain_worker_accept_paused", "1 while the worker accepts nothing for want of file descriptors or memory.",
     &WorkerCells::accept_paused},
    {"ringmain_worker_buffers", "Receive buffers that exist.", &WorkerCells::buffers},
    {"ringmain_worker_buffers_held", "Receive buffers held by sessions whose receiver is slow.",
     &WorkerCells::buffers_held},
    {"ringmain_worker_buffer_bytes", "Memory of all buffers that exist.", &WorkerCells::buffer_bytes},
    {"ringmain_worker_pipes", "Kernel pipes that exist, for bulk.", &WorkerCells::pipes},
    {"ringmain_worker_pipes_lent", "Kernel pipes that hold bytes for slow receivers.", &WorkerCells::pipes_lent},
};
constexpr WorkerMetric<Counter> kWorkerCounters[] = {
    {"ringmain_worker_completions_total", "Completion queue entries reaped.", &WorkerCells::completions},
    {"ringmain_worker_enters_total", "Calls of io_uring_enter.", &WorkerCells::enters},
    {"ringmain_worker_cq_overflows_total", "Loop turns that found the completion queue overflowed.",
     &WorkerCells::cq_overflows},
    {"ringmain_worker_spliced_bytes_total", "Payload bytes moved through kernel pipes, without a copy.",
     &WorkerCells::spliced_bytes},
    {"ringmain_worker_receive_starvations_total", "Receives that ended because no buffer was free.",
     &WorkerCells::receive_starvations},
    {"ringmain_worker_accept_pauses_total", "Times accepting stopped for want of file descriptors or memory.",
     &WorkerCells::accept_pauses},
    {"ringmain_worker_handed_over_total", "Accepted connections passed to a worker with fewer sessions.",
     &WorkerCells::handed_over},
};

void AddWorkers(const PerWorker<WorkerCells>& workers, Families& families) {
  auto label = [](size_t worker) { return Labels{{"worker", absl::StrCat(worker)}}; };
  for (const auto& metric : kWorkerGauges) {
    auto& family = AddGauge(families, metric.name, metric.help);
    for (size_t i = 0; i < workers.size(); ++i)
      AddSample(family, label(i), (workers[i].*metric.cell).value());
  }
  for (const auto& metric : kWorkerCounters) {
    auto& family = AddCounter(families, metric.name, metric.help);
    for (size_t i = 0; i < workers.size(); ++i)
      AddSample(family, label(i), (workers[i].*metric.cell).value());
  }
  auto& relays = AddGauge(families, "ringmain_worker_relays",
                          "Directions of established sessions, by how they carry their bytes now.");
  for (size_t i = 0; i < workers.size(); ++i)
    for (size_t mode = 0; mode < kRelayModes; ++mode) {
      Labels labels = label(i);
      labels.push_back({"mode", Word(kRelayModeNames[mode])});
      AddSample(relays, std::move(labels), workers[i].relays[mode].value());
    }
  auto& turn = AddHistogram(families, "ringmain_worker_loop_turn_seconds",
                            "Time from a wake-up of the worker to its next wait, of a sample of the turns.");
  for (size_t i = 0; i < workers.size(); ++i) {
    AddSample(
        turn, label(i), 1, [&](size_t) -> const auto& { return workers[i].loop_turn; });
  }
}

void AddReloads(const ReloadCells& reloads, Families& families) {
  auto& total = AddCounter(families, "ringmain_config_reloads_total", "Reloads of the configuration, by result.");
  AddSample(total, {{"result", "success"}}, reloads.succeeded.value());
  AddSample(total, {{"result", "failure"}}, reloads.failed.value());
  AddSample(AddGauge(families, "ringmain_config_last_reload_successful", "0 if the last reload failed: an older configuration runs."),
            {}, 1 - reloads.last_failed.value());
  AddSample(AddGauge(families, "ringmain_config_last_reload_success_timestamp_seconds",
                     "When the configuration that runs was read, in seconds since the epoch."),
            {}, static_cast<double>(reloads.last_success_epoch.value()) / 1000);
}

void AddAccessLog(const AccessLogCells& log, const PerWorker<WorkerCells>& workers, Families& families) {
  auto& lines = AddCounter(families, "ringmain_access_log_lines_total", "Lines of the access log, by what became of them.");
  AddSample(lines, {{"result", "written"}}, log.written.value());
  AddSample(lines, {{"result", "queue_full"}}, Sum(workers, [](const WorkerCells& c) { return c.access_log_dropped.value(); }));
  AddSample(lines, {{"result", "write_failed"}}, log.failed.value());
  AddSample(lines, {{"result", "over_rate"}}, log.over_rate.value());
}

void AddProcess(const AdminView& view, const Layout& layout, Families& families) {
  AddSample(AddGauge(families, "ringmain_build_info", "1; the version is a label."), {{"version", RINGMAIN_VERSION}},
            1);
  AddSample(AddGauge(families, "ringmain_ready", "1 while /readyz says ready: listening and not draining."), {},
            StateName(view) == "ready");
  AddSample(AddGauge(families, "ringmain_max_connections", "The effective limits.max_connections."), {},
            layout.max_connections);
  AddSample(AddGauge(families, "ringmain_start_time_seconds", "Start of the process, in seconds since the epoch."), {},
            std::chrono::duration<double>(view.start_time.time_since_epoch()).count());

  ProcessStats stats = ReadProcessStats();
  AddSample(AddGauge(families, "process_open_fds", "Open file descriptors."), {}, stats.open_fds);
  AddSample(AddGauge(families, "process_max_fds", "Limit of open file descriptors."), {}, stats.max_fds);
  AddSample(AddGauge(families, "process_resident_memory_bytes", "Resident memory."), {}, stats.resident_bytes);
  AddSample(AddCounter(families, "process_cpu_seconds_total", "User and system CPU time of all threads."), {},
            stats.cpu_seconds);
}

}  // namespace

std::string RenderMetrics(const AdminView& view) {
  Families families;
  std::shared_ptr<const Layout> layout = view.layout();
  AddListeners(*layout, families);
  AddBandwidth(*layout, families);
  AddSources(*layout, families);
  AddUpstreams(*layout, families);
  AddNames(*layout, families);
  AddWorkers(*view.workers, families);
  AddReloads(*view.reloads, families);
  AddAccessLog(*view.access_log, *view.workers, families);
  AddProcess(view, *layout, families);
  std::vector<MetricFamily> list(std::make_move_iterator(families.begin()), std::make_move_iterator(families.end()));
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, list);
  return std::move(out).str();
}

}  // namespace ringmain
