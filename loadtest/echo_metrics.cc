#include "loadtest/echo_metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <limits>
#include <utility>

#include "admin/http_server.h"

namespace ringmain::loadtest {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Family(const char* name, const char* help, MetricType type) { return {name, help, type, {}}; }

void AddCounter(MetricFamily& family, uint64_t value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  (family.type == MetricType::Gauge ? metric.gauge.value : metric.counter.value) = static_cast<double>(value);
  family.metric.push_back(std::move(metric));
}

uint64_t SumOf(const EchoMetricsSource& source, std::atomic<uint64_t> EchoStats::*cell) {
  uint64_t sum = 0;
  for (const EchoStats* thread : source.threads) sum += (thread->*cell).load(std::memory_order_relaxed);
  return sum;
}

MetricFamily RequestDuration(const RequestStats& requests, uint64_t& count) {
  MetricFamily family =
      Family("ringmain_echo_request_duration_seconds",
             "Handled requests, from the last byte received to the reply being ready", MetricType::Histogram);
  ClientMetric metric;
  count = 0;
  for (size_t i = 0; i < requests.buckets.size(); ++i) {
    count += requests.buckets[i].load(std::memory_order_relaxed);
    double bound = i < RequestStats::kBounds.size() ? static_cast<double>(RequestStats::kBounds[i]) / 1e9
                                                    : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back({count, bound});
  }
  metric.histogram.sample_count = count;
  metric.histogram.sample_sum = static_cast<double>(requests.sum_ns.load(std::memory_order_relaxed)) / 1e9;
  family.metric.push_back(std::move(metric));
  return family;
}

class Server : public EchoMetricsServer {
 public:
  explicit Server(std::unique_ptr<HttpServer> http) : http_(std::move(http)) {}
  SocketAddress address() const override { return http_->address(); }

 private:
  std::unique_ptr<HttpServer> http_;
};

}  // namespace

std::string RenderMetrics(const EchoMetricsSource& source) {
  std::vector<MetricFamily> families;
  if (source.queue != nullptr) {
    uint64_t handled = 0;
    MetricFamily duration = RequestDuration(*source.requests, handled);
    MetricFamily& requests =
        families.emplace_back(Family("ringmain_echo_requests_total", "Framed requests by result", MetricType::Counter));
    AddCounter(requests, handled, {{"result", "ok"}});
    AddCounter(requests, SumOf(source, &EchoStats::busy), {{"result", "busy"}});
    AddCounter(requests, SumOf(source, &EchoStats::too_large), {{"result", "too_large"}});
    families.push_back(std::move(duration));
    AddCounter(families.emplace_back(
                   Family("ringmain_echo_queue_length", "Requests that wait for a worker", MetricType::Gauge)),
               source.queue->length());
  }
  AddCounter(families.emplace_back(Family("ringmain_echo_connections", "Open connections", MetricType::Gauge)),
             SumOf(source, &EchoStats::connections));
  AddCounter(
      families.emplace_back(Family("ringmain_echo_connections_total", "Accepted connections", MetricType::Counter)),
      SumOf(source, &EchoStats::accepted));
  MetricFamily& bytes =
      families.emplace_back(Family("ringmain_echo_bytes_total", "Payload bytes", MetricType::Counter));
  AddCounter(bytes, SumOf(source, &EchoStats::bytes_received), {{"direction", "received"}});
  AddCounter(bytes, SumOf(source, &EchoStats::bytes_sent), {{"direction", "sent"}});
  AddCounter(families.emplace_back(Family("ringmain_echo_accept_pauses_total",
                                          "Times that accepting stopped for want of file descriptors or memory",
                                          MetricType::Counter)),
             SumOf(source, &EchoStats::accept_pauses));
  return prometheus::TextSerializer().Serialize(families);
}

absl::StatusOr<std::unique_ptr<EchoMetricsServer>> EchoMetricsServer::Start(const SocketAddress& address,
                                                                            EchoMetricsSource source) {
  auto http = HttpServer::Start("metrics", "--metrics", address, [source = std::move(source)](const HttpRequest& request) -> HttpResponse {
    if (request.path != "/metrics") return {.status = 404, .body = "not found\n"};
    return {.body = RenderMetrics(source), .content_type = "text/plain; version=0.0.4"};
  });
  if (!http.ok()) return http.status();
  return std::make_unique<Server>(*std::move(http));
}

}  // namespace ringmain::loadtest
