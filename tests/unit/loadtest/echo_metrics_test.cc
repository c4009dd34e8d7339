#include "loadtest/echo_metrics.h"

#include <gtest/gtest.h>

namespace ringmain::loadtest {
namespace {

bool HasLine(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

TEST(EchoMetricsTest, SumsThreadsAndCumulatesTheHistogram) {
  EchoStats a, b;
  RequestStats requests;
  WorkQueue queue(1, 1);
  a.connections = 2;
  b.connections = 3;
  b.busy = 4;
  a.bytes_received = 100;
  requests.Record(milliseconds(1));  // a bound belongs to its bucket
  requests.Record(milliseconds(3));
  requests.Record(seconds(60));
  std::string text = RenderMetrics({{&a, &b}, &requests, &queue});
  EXPECT_TRUE(HasLine(text, "ringmain_echo_connections 5")) << text;
  EXPECT_TRUE(HasLine(text, "ringmain_echo_bytes_total{direction=\"received\"} 100")) << text;
  EXPECT_TRUE(HasLine(text, "ringmain_echo_requests_total{result=\"ok\"} 3")) << text;
  EXPECT_TRUE(HasLine(text, "ringmain_echo_requests_total{result=\"busy\"} 4")) << text;
  EXPECT_TRUE(HasLine(text, "ringmain_echo_queue_length 0")) << text;
  EXPECT_TRUE(HasLine(text, "ringmain_echo_request_duration_seconds_bucket{le=\"0.0005\"} 0")) << text;
  EXPECT_TRUE(HasLine(text, "ringmain_echo_request_duration_seconds_bucket{le=\"0.001\"} 1")) << text;
  EXPECT_TRUE(HasLine(text, "ringmain_echo_request_duration_seconds_bucket{le=\"0.005\"} 2")) << text;
  EXPECT_TRUE(HasLine(text, "ringmain_echo_request_duration_seconds_bucket{le=\"+Inf\"} 3")) << text;
  EXPECT_TRUE(HasLine(text, "ringmain_echo_request_duration_seconds_count 3")) << text;
}

TEST(EchoMetricsTest, WithoutFramesNoRequests) {
  EchoStats stats;
  EXPECT_EQ(RenderMetrics({{&stats}, nullptr, nullptr}).find("requests"), std::string::npos);
}

}  // namespace
}  // namespace ringmain::loadtest
