#include "loadtest/report.h"

#include <cstdarg>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace ringmain::loadtest {
namespace {

__attribute__((format(printf, 1, 2))) std::string Format(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return text;
}

double PerSecond(uint64_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }
double Megabytes(double bytes) { return bytes / 1e6; }
double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string FormatTime(uint64_t nanoseconds) {
  auto value = static_cast<double>(nanoseconds);
  if (value < 1e6) return Format("%.1f us", value / 1e3);
  if (value < 1e9) return Format("%.2f ms", value / 1e6);
  return Format("%.2f s", value / 1e9);
}

}  // namespace

std::string ProgressLine(Duration since_start, const LoadTotals& before, const LoadTotals& now, Duration interval) {
  double span = Seconds(interval);
  LatencySnapshot latency = now.latency.Since(before.latency);
  return Format("%6.1fs  %9.0f op/s  out %8.1f MB/s  in %8.1f MB/s  p50 %s  p99 %s  %llu connections  %llu errors",
                Seconds(since_start), PerSecond(now.operations - before.operations, span),
                Megabytes(PerSecond(now.bytes_sent - before.bytes_sent, span)),
                Megabytes(PerSecond(now.bytes_received - before.bytes_received, span)),
                latency.count() == 0 ? "-" : FormatTime(latency.Percentile(0.5)).c_str(),
                latency.count() == 0 ? "-" : FormatTime(latency.Percentile(0.99)).c_str(),
                static_cast<unsigned long long>(now.connections), static_cast<unsigned long long>(now.error_total()));
}

std::string TextReport(const LoadOptions& options, const LoadTotals& totals) {
  using ull = unsigned long long;
  double span = static_cast<double>(totals.measured_ns) / 1e9;
  std::string text = Format("%s: %u connections, %u threads, %llu byte payload%s, %.2f s\n", ToString(options.mode),
                            options.connections, options.threads, static_cast<ull>(options.shape.payload_bytes),
                            options.shape.framed ? " in frames" : "", span);
  text +=
      Format("  operations   %llu (%.1f/s)\n", static_cast<ull>(totals.operations), PerSecond(totals.operations, span));
  text += Format("  connects     %llu (%.1f/s)\n", static_cast<ull>(totals.connects), PerSecond(totals.connects, span));
  text += Format("  sent         %llu bytes (%.2f MB/s)\n", static_cast<ull>(totals.bytes_sent),
                 Megabytes(PerSecond(totals.bytes_sent, span)));
  text += Format("  received     %llu bytes (%.2f MB/s)%s\n", static_cast<ull>(totals.bytes_received),
                 Megabytes(PerSecond(totals.bytes_received, span)), options.one_way ? "" : ", every one verified");
  if (options.shape.framed) text += Format("  busy         %llu\n", static_cast<ull>(totals.busy));
  if (totals.missed > 0) text += Format("  missed       %llu\n", static_cast<ull>(totals.missed));
  const LatencySnapshot& latency = totals.latency;
  if (latency.count() > 0)
    text += Format("  latency      min %s  p50 %s  p90 %s  p99 %s  p99.9 %s  max %s\n",
                   FormatTime(latency.min()).c_str(), FormatTime(latency.Percentile(0.5)).c_str(),
                   FormatTime(latency.Percentile(0.9)).c_str(), FormatTime(latency.Percentile(0.99)).c_str(),
                   FormatTime(latency.Percentile(0.999)).c_str(), FormatTime(latency.max()).c_str());
  text += Format("  errors       %llu", static_cast<ull>(totals.error_total()));
  for (size_t i = 0; i < kErrorKinds; ++i)
    if (totals.errors[i] > 0)
      text += Format("  %s %llu", ToString(static_cast<ErrorKind>(i)), static_cast<ull>(totals.errors[i]));
  return text + "\n";
}

std::string JsonReport(const LoadOptions& options, const LoadTotals& totals) {
  double span = static_cast<double>(totals.measured_ns) / 1e9;
  nlohmann::ordered_json errors = nlohmann::ordered_json::object();
  for (size_t i = 0; i < kErrorKinds; ++i) errors[ToString(static_cast<ErrorKind>(i))] = totals.errors[i];
  const LatencySnapshot& latency = totals.latency;
  auto us = [](double nanoseconds) { return nanoseconds / 1e3; };
  auto percentile = [&](double fraction) { return us(static_cast<double>(latency.Percentile(fraction))); };
  nlohmann::ordered_json report = {
      {"mode", ToString(options.mode)},
      {"connections", options.connections},
      {"threads", options.threads},
      {"payload_bytes", options.shape.payload_bytes},
      {"duration_s", span},
      {"operations", totals.operations},
      {"operations_per_s", PerSecond(totals.operations, span)},
      {"bytes_sent", totals.bytes_sent},
      {"bytes_received", totals.bytes_received},
      {"connects", totals.connects},
      {"connects_per_s", PerSecond(totals.connects, span)},
      {"busy", totals.busy},
      {"missed", totals.missed},
      {"errors", errors},
      {"error_total", totals.error_total()},
      {"latency_us",
       {{"min", us(static_cast<double>(latency.min()))},
        {"mean", us(latency.mean())},
        {"p50", percentile(0.5)},
        {"p90", percentile(0.9)},
        {"p99", percentile(0.99)},
        {"p999", percentile(0.999)},
        {"max", us(static_cast<double>(latency.max()))}}},
  };
  return report.dump(2) + "\n";
}

}  // namespace ringmain::loadtest
