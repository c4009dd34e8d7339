#include "admin/families.h"
#include "admin/sum.h"
#include "admin/text_format.h"

namespace ringmain {
namespace {

void AddListeners(const Layout& layout, Families& families) {
  auto& total =
      AddCounter(families, "ringmain_connections_total", "Accepted client connections, refused ones included.");
  auto& active = AddGauge(families, "ringmain_connections_active", "Open sessions.");
  auto& closed =
      AddCounter(families, "ringmain_connections_closed_total", "Ended sessions and refused connections, by reason.");
  auto& bytes = AddCounter(families, "ringmain_bytes_total", "Payload bytes passed on, by direction.");
  auto& duration = AddHistogram(families, "ringmain_connection_duration_seconds",
                                "Time from accept to close of a session, refused connections not included.");
  auto& first_byte = AddHistogram(families, "ringmain_first_byte_duration_seconds",
                                  "Time from accept to the first byte from the server, of sessions that got one.");
  auto& sizes = AddHistogram(families, "ringmain_connection_bytes", "Payload bytes that ended sessions had passed on, by direction.");
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
    AddSample(duration, {name}, cells, &ListenerCells::duration);
    AddSample(first_byte, {name}, cells, &ListenerCells::first_byte);
    for (size_t i = 0; i < kDirectionNames.size(); ++i)
      AddSample(sizes, {name, {"direction", Word(kDirectionNames[i])}}, cells.size(),
                [&](size_t worker) -> const auto& { return cells[worker].session_bytes[i]; });
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

// A family that appears with its first sample: few configurations have any.
class OptionalGauge {
 public:
  OptionalGauge(Families& families, const char* name, const char* help) : families_(families), name_(name), help_(help) {}
  template <typename Number>
  void Add(Labels labels, Number value) {
    if (family_ == nullptr) family_ = &AddGauge(families_, name_, help_);
    AddSample(*family_, std::move(labels), value);
  }

 private:
  Families& families_;
  const char* name_;
  const char* help_;
  MetricFamily* family_ = nullptr;
};

void AddListenerLimits(const Layout& layout, Families& families) {
  OptionalGauge most(families, "ringmain_listener_max_connections", "The max_connections of the listener, where it has one.");
  OptionalGauge sources(families, "ringmain_listener_sources", "Client addresses with open sessions, where per_source counts them.");
  for (const ListenerLayout& listener : layout.listeners) {
    const ClientMetric::Label name{"listener", listener.metrics->name};
    if (listener.config.max_connections.has_value()) most.Add({name}, *listener.config.max_connections);
    if (listener.sources != nullptr) sources.Add({name}, listener.sources().sources);
  }
}

// Of servers that take new sessions.
void AddServerLimits(const Layout& layout, Families& families) {
  OptionalGauge most(families, "ringmain_server_max_connections", "The max_connections of the server, where it has one.");
  OptionalGauge queue(families, "ringmain_upstream_max_queue", "Clients that may wait for room on a server, where servers have a max_connections.");
  for (const UpstreamLayout& upstream : layout.upstreams) {
    const ClientMetric::Label name{"upstream", upstream.metrics->name};
    if (upstream.upstream->queue() != nullptr) queue.Add({name}, upstream.upstream->config().max_queue);
    for (const ServerLayout& server : upstream.servers)
      if (server.config.max_connections.has_value())
        most.Add({name, {"server", server.metrics->name}}, *server.config.max_connections);
  }
}

// Cheap ones, for every server: what of its round trips there is to average, and of retransmits to divide.
void AddServerSamples(const Layout& layout, Families& families) {
  auto& round_trip = AddFamily(families, MetricType::Summary, "ringmain_server_sampled_rtt_seconds",
                               "Smoothed TCP round-trip time to the server, of connections of live sessions sampled now and then.");
  auto& segments = AddCounter(families, "ringmain_server_sampled_segments_total",
                              "TCP segments with payload that sampled connections sent to the server, retransmits included.");
  auto& retransmits =
      AddCounter(families, "ringmain_server_sampled_retransmits_total", "Retransmits among the sampled TCP segments to the server.");
  for (const UpstreamLayout& upstream : layout.upstreams)
    for (const ServerLayout& one : upstream.servers) {
      const PerWorker<ServerCells>& cells = one.metrics->cells;
      const Labels labels{{"upstream", upstream.metrics->name}, {"server", one.metrics->name}};
      ClientMetric& metric = round_trip.metric.emplace_back();
      metric.label = labels;
      metric.summary.sample_count = Sum(cells, [](const ServerCells& c) { return c.rtt_samples.value(); });
      metric.summary.sample_sum = static_cast<double>(Sum(cells, [](const ServerCells& c) { return c.rtt_ns.value(); })) / 1e9;
      AddSample(segments, labels, Sum(cells, [](const ServerCells& c) { return c.sampled_segments.value(); }));
      AddSample(retransmits, labels, Sum(cells, [](const ServerCells& c) { return c.sampled_retransmits.value(); }));
    }
}

void AddUpstreams(const Layout& layout, Families& families) {
  auto& connect =
      AddHistogram(families, "ringmain_connect_duration_seconds", "Time that successful connects to a server took.");
  auto& wait = AddHistogram(families, "ringmain_queue_wait_duration_seconds",
                            "Time that clients waited for room on a server, until they were served or left.");
  auto& check_duration =
      AddHistogram(families, "ringmain_health_check_duration_seconds", "Time that health checks took, failed ones included.");
  auto& weight = AddGauge(families, "ringmain_server_weight", "The weight of the server; 0 if it is to get no new sessions.");
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
    AddSample(connect, {name}, metrics.cells, &UpstreamCells::connect_duration);
    AddSample(wait, {name}, metrics.cells, &UpstreamCells::queue_wait);
    AddSample(check_duration, {name}, 1, [&](size_t) -> const auto& { return metrics.health_check_duration; });
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
      AddSample(weight, labels, one.draining || one.config.state != ServerState::kEnabled ? 0 : one.config.weight);
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

}  // namespace

std::string RenderMetrics(const AdminView& view) {
  Families families;
  std::shared_ptr<const Layout> layout = view.layout();
  AddListeners(*layout, families);
  AddBandwidth(*layout, families);
  AddListenerLimits(*layout, families);
  AddUpstreams(*layout, families);
  AddServerLimits(*layout, families);
  AddServerSamples(*layout, families);
  AddNames(*layout, families);
  AddWorkers(*view.workers, families);
  AddReloads(*view.reloads, families);
  AddProcess(view, *layout, families);
  return ToText(families);
}

}  // namespace ringmain
