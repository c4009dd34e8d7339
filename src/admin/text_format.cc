#include "admin/text_format.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace ringmain {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

void AddNumber(std::string& text, double value) {
  if (std::isinf(value)) {
    text += value < 0 ? "-Inf" : "+Inf";
    return;
  }
  constexpr double kWholeIfBelow = 1e15;  // and 15 digits are those that a double has for certain
  char digits[32];
  std::to_chars_result end{};
  if (std::abs(value) < kWholeIfBelow && value == std::trunc(value))
    end = std::to_chars(digits, digits + sizeof(digits), static_cast<int64_t>(value));
  else
    end = std::to_chars(digits, digits + sizeof(digits), value, std::chars_format::general, 15);
  text.append(digits, end.ptr);
}

void AddLabel(std::string& text, std::string_view name, std::string_view value) {
  text.append(name).append("=\"");
  for (char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') text += '\\';
    text += c;
  }
  text += '"';
}

void AddSample(std::string& text, std::string_view name, std::string_view suffix, const ClientMetric& metric, double value,
               const double* bound = nullptr) {
  text.append(name).append(suffix);
  char separator = '{';
  for (const ClientMetric::Label& label : metric.label) {
    text += std::exchange(separator, ',');
    AddLabel(text, label.name, label.value);
  }
  if (bound != nullptr) {
    text += std::exchange(separator, ',');
    text += "le=\"";
    AddNumber(text, *bound);
    text += '"';
  }
  if (separator == ',') text += '}';
  text += ' ';
  AddNumber(text, value);
  text += '\n';
}

void AddFamily(std::string& text, const MetricFamily& family, const char* type) {
  text.append("# HELP ").append(family.name).append(" ").append(family.help).append("\n");
  text.append("# TYPE ").append(family.name).append(" ").append(type).append("\n");
}

void AddHistogram(std::string& text, const MetricFamily& family, const ClientMetric& metric) {
  const prometheus::ClientMetric::Histogram& histogram = metric.histogram;
  for (const ClientMetric::Bucket& bucket : histogram.bucket)
    AddSample(text, family.name, "_bucket", metric, static_cast<double>(bucket.cumulative_count), &bucket.upper_bound);
  AddSample(text, family.name, "_sum", metric, histogram.sample_sum);
  AddSample(text, family.name, "_count", metric, static_cast<double>(histogram.sample_count));
}

}  // namespace

std::string ToText(const std::deque<MetricFamily>& families) {
  std::string text;
  for (const MetricFamily& family : families) switch (family.type) {
      case MetricType::Counter:
        AddFamily(text, family, "counter");
        for (const ClientMetric& metric : family.metric) AddSample(text, family.name, "", metric, metric.counter.value);
        break;
      case MetricType::Gauge:
        AddFamily(text, family, "gauge");
        for (const ClientMetric& metric : family.metric) AddSample(text, family.name, "", metric, metric.gauge.value);
        break;
      case MetricType::Histogram:
        AddFamily(text, family, "histogram");
        for (const ClientMetric& metric : family.metric) AddHistogram(text, family, metric);
        break;
      case MetricType::Summary:
        AddFamily(text, family, "summary");
        for (const ClientMetric& metric : family.metric) {
          AddSample(text, family.name, "_sum", metric, metric.summary.sample_sum);
          AddSample(text, family.name, "_count", metric, static_cast<double>(metric.summary.sample_count));
        }
        break;
      default:
        RINGMAIN_CHECK(false);
    }
  return text;
}

}  // namespace ringmain
