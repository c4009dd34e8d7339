#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iostream>
#include <iterator>
#include <set>

#include "absl/strings/str_split.h"
#include "sample.h"

namespace ringmain {
namespace {

std::set<std::string> Lines(const std::string& text) { return absl::StrSplit(text, '\n', absl::SkipEmpty()); }

void ExpectLines(const std::string& text, std::initializer_list<const char*> expected) {
  std::set<std::string> lines = Lines(text);
  for (const char* line : expected) EXPECT_TRUE(lines.contains(line)) << line;
  if (testing::Test::HasFailure()) std::cerr << text;
}

TEST(MetricsText, AddsUpWorkers) {
  Sample sample;
  sample.listener(0).accepted.Add(3);
  sample.listener(1).accepted.Add(4);
  sample.listener(0).active.Add(2);
  sample.listener(1).active.Add(1);
  sample.listener(1).bytes[0].Add(12'345'678'901'234);
  sample.listener(0).closed[static_cast<size_t>(CloseReason::kClientReset)].Add(4);
  sample.server(0).cells[1].connects.Add(7);
  sample.server(0).cells[0].connect_failures[static_cast<size_t>(ConnectFailure::kRefused)].Add(2);
  sample.server(1).health.failed.Add(5);
  sample.upstream->server(0).Reserve();
  sample.upstream->server(1).set_up(false);
  sample.workers[1].enters.Add(9);
  sample.workers[0].buffers_held.Set(6);
  sample.workers[1].relays[static_cast<size_t>(RelayMode::kSpliced)].Set(3);

  ExpectLines(
      RenderMetrics(sample.View()),
      {
          R"(ringmain_connections_total{listener="tunnel"} 7)",
          R"(ringmain_connections_active{listener="tunnel"} 3)",
          R"(ringmain_bytes_total{listener="tunnel",direction="to_server"} 12345678901234)",
          R"(ringmain_bytes_total{listener="tunnel",direction="to_client"} 0)",
          R"(ringmain_connections_closed_total{listener="tunnel",reason="client_reset"} 4)",
          R"(ringmain_server_up{upstream="echo",server="127.0.0.1:7001"} 1)",
          R"(ringmain_server_up{upstream="echo",server="unix:/run/\"b\".sock"} 0)",
          R"(ringmain_server_connections_active{upstream="echo",server="127.0.0.1:7001"} 1)",
          R"(ringmain_server_connects_total{upstream="echo",server="127.0.0.1:7001"} 7)",
          R"(ringmain_server_connect_failures_total{upstream="echo",server="127.0.0.1:7001",reason="refused"} 2)",
          R"(ringmain_health_checks_total{upstream="echo",server="unix:/run/\"b\".sock",result="failure"} 5)",
          R"(ringmain_health_checks_total{upstream="echo",server="unix:/run/\"b\".sock",result="success"} 0)",
          R"(ringmain_worker_enters_total{worker="0"} 0)",
          R"(ringmain_worker_enters_total{worker="1"} 9)",
          R"(ringmain_worker_buffers_held{worker="0"} 6)",
          R"(ringmain_worker_relays{worker="0",mode="buffered"} 0)",
          R"(ringmain_worker_relays{worker="1",mode="spliced"} 3)",
          R"(ringmain_build_info{version=")" RINGMAIN_VERSION R"("} 1)",
          R"(ringmain_max_connections 1000)",
          R"(ringmain_ready 1)",
          R"(ringmain_start_time_seconds 1700000000.5)",
      });
}

TEST(MetricsText, SourcesOfThoseListenersThatCountThem) {
  Sample sample;
  EXPECT_EQ(RenderMetrics(sample.View()).find("ringmain_listener_sources"), std::string::npos);
  auto layout = std::make_shared<Layout>(*sample.layout);
  layout->listeners[0].sources = [] { return SourceUse{17, 4096, 3}; };
  sample.layout = std::move(layout);
  ExpectLines(RenderMetrics(sample.View()), {R"(ringmain_listener_sources{listener="tunnel"} 17)"});
}

TEST(MetricsText, ExportsEveryReasonFromTheStart) {
  Sample sample;
  std::set<std::string> lines = Lines(RenderMetrics(sample.View()));
  for (std::string_view reason : kCloseReasonNames) {
    EXPECT_TRUE(lines.contains("ringmain_connections_closed_total{listener=\"tunnel\",reason=\"" + std::string(reason) +
                               "\"} 0"))
        << reason;
  }
  for (std::string_view reason : kConnectFailureNames) {
    EXPECT_TRUE(
        lines.contains("ringmain_server_connect_failures_total{upstream=\"echo\",server=\"127.0.0.1:7001\",reason=\"" +
                       std::string(reason) + "\"} 0"))
        << reason;
  }
}

TEST(MetricsText, HistogramsAreCumulativeAndInSeconds) {
  Sample sample;
  auto& metrics = *sample.upstream_metrics;
  metrics.cells[0].connect_duration.Observe(std::chrono::microseconds(50));   // <= 0.0001
  metrics.cells[0].connect_duration.Observe(std::chrono::microseconds(250));  // <= 0.00025: bounds are inclusive
  metrics.cells[1].connect_duration.Observe(std::chrono::milliseconds(700));  // <= 5
  metrics.cells[1].connect_duration.Observe(std::chrono::seconds(6));         // above the last bound
  sample.listener(1).duration.Observe(std::chrono::minutes(2));
  sample.workers[1].loop_turn.Observe(std::chrono::microseconds(3));

  ExpectLines(RenderMetrics(sample.View()),
              {
                  R"(ringmain_connect_duration_seconds_bucket{upstream="echo",le="0.0001"} 1)",
                  R"(ringmain_connect_duration_seconds_bucket{upstream="echo",le="0.00025"} 2)",
                  R"(ringmain_connect_duration_seconds_bucket{upstream="echo",le="0.5"} 2)",
                  R"(ringmain_connect_duration_seconds_bucket{upstream="echo",le="1"} 3)",
                  R"(ringmain_connect_duration_seconds_bucket{upstream="echo",le="5"} 3)",
                  R"(ringmain_connect_duration_seconds_bucket{upstream="echo",le="+Inf"} 4)",
                  R"(ringmain_connect_duration_seconds_count{upstream="echo"} 4)",
                  R"(ringmain_connect_duration_seconds_sum{upstream="echo"} 6.7003)",
                  R"(ringmain_connection_duration_seconds_bucket{listener="tunnel",le="60"} 0)",
                  R"(ringmain_connection_duration_seconds_bucket{listener="tunnel",le="300"} 1)",
                  R"(ringmain_connection_duration_seconds_sum{listener="tunnel"} 120)",
                  R"(ringmain_worker_loop_turn_seconds_bucket{worker="1",le="2e-06"} 0)",
                  R"(ringmain_worker_loop_turn_seconds_bucket{worker="1",le="5e-06"} 1)",
                  R"(ringmain_worker_loop_turn_seconds_count{worker="0"} 0)",
              });
}

TEST(MetricsText, Names) {
  Sample sample;
  sample.name->cells[0].ended[static_cast<size_t>(LookupResult::kSuccess)].Add(3);
  sample.name->cells[1].ended[static_cast<size_t>(LookupResult::kSuccess)].Add(4);
  sample.name->cells[1].last_success_epoch.Set(1'700'000'000'500);
  sample.name->addresses.Set(2);
  ExpectLines(RenderMetrics(sample.View()),
              {
                  R"(ringmain_dns_lookups_total{upstream="echo",name="db.example.org:5432",result="success"} 7)",
                  R"(ringmain_dns_lookups_total{upstream="echo",name="db.example.org:5432",result="no_such_name"} 0)",
                  R"(ringmain_dns_last_success_timestamp_seconds{upstream="echo",name="db.example.org:5432"} 1700000000.5)",
                  R"(ringmain_dns_addresses{upstream="echo",name="db.example.org:5432"} 2)",
              });
}

TEST(MetricsText, ReadyFollowsDraining) {
  Sample sample;
  sample.draining = true;
  EXPECT_TRUE(Lines(RenderMetrics(sample.View())).contains("ringmain_ready 0"));
}

TEST(MetricsText, ProcessMetricsAreThisProcess) {
  Sample sample;
  std::string before = RenderMetrics(sample.View());
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  std::string after = RenderMetrics(sample.View());
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  auto value = [](const std::string& text, const std::string& name) {
    size_t at = text.find("\n" + name + " ");
    EXPECT_NE(at, std::string::npos) << name;
    return at == std::string::npos ? -1.0 : std::stod(text.substr(at + name.size() + 2));
  };
  EXPECT_EQ(value(after, "process_open_fds"), value(before, "process_open_fds") + 2);
  EXPECT_GE(value(after, "process_max_fds"), value(after, "process_open_fds"));
  EXPECT_GT(value(after, "process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(value(after, "process_cpu_seconds_total"), 0);
}

TEST(MetricsText, PromtoolHasNoComplaint) {
  if (std::system("command -v promtool >/dev/null") != 0)
    GTEST_SKIP() << "promtool (Debian package prometheus) is not here";
  Sample sample;
  std::string path = testing::TempDir() + "ringmain_metrics_" + std::to_string(getpid());
  FILE* promtool = popen(("promtool check metrics >" + path + " 2>&1").c_str(), "w");
  ASSERT_NE(promtool, nullptr);
  std::string body = RenderMetrics(sample.View());
  EXPECT_EQ(fwrite(body.data(), 1, body.size(), promtool), body.size());
  int exit_status = pclose(promtool);
  std::ifstream complaints(path);
  std::string complaint((std::istreambuf_iterator<char>(complaints)), {});
  EXPECT_EQ(exit_status, 0);
  EXPECT_EQ(complaint, "");
  unlink(path.c_str());
}

}  // namespace
}  // namespace ringmain
