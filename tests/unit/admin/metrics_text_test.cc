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
  sample.workers[1].messages.Add(21);
  sample.workers[1].system_calls.Add(11);
  sample.workers[0].cpu_ns.Add(1'250'000'000);
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
          R"(ringmain_worker_messages_total{worker="1"} 21)",
          R"(ringmain_worker_system_calls_total{worker="1"} 11)",
          R"(ringmain_worker_cpu_seconds_total{worker="0"} 1.25)",
          R"(ringmain_kernel_feature{feature="defer_taskrun"} 1)",
          R"(process_start_time_seconds 1700000000.5)",
          R"(ringmain_worker_buffers_held{worker="0"} 6)",
          R"(ringmain_worker_relays{worker="0",mode="buffered"} 0)",
          R"(ringmain_worker_relays{worker="1",mode="spliced"} 3)",
          R"(ringmain_build_info{version=")" RINGMAIN_VERSION R"("} 1)",
          R"(ringmain_max_connections 1000)",
          R"(ringmain_ready 1)",
          R"(ringmain_start_time_seconds 1700000000.5)",
      });
}

TEST(MetricsText, WhatServersAreSampledFor) {
  Sample sample;
  ServerCells& first = sample.server(0).cells[0];
  ServerCells& second = sample.server(0).cells[1];
  first.rtt_samples.Add(3);
  second.rtt_samples.Add(1);
  first.rtt_ns.Add(1'500'000);
  second.rtt_ns.Add(500'000);
  first.sampled_segments.Add(900);
  second.sampled_segments.Add(100);
  second.sampled_retransmits.Add(7);
  ExpectLines(RenderMetrics(sample.View()),
              {
                  R"(# TYPE ringmain_server_sampled_rtt_seconds summary)",
                  R"(ringmain_server_sampled_rtt_seconds_count{upstream="echo",server="127.0.0.1:7001"} 4)",
                  R"(ringmain_server_sampled_rtt_seconds_sum{upstream="echo",server="127.0.0.1:7001"} 0.002)",
                  R"(ringmain_server_sampled_segments_total{upstream="echo",server="127.0.0.1:7001"} 1000)",
                  R"(ringmain_server_sampled_retransmits_total{upstream="echo",server="127.0.0.1:7001"} 7)",
                  R"(ringmain_server_sampled_rtt_seconds_count{upstream="echo",server="unix:/run/\"b\".sock"} 0)",
              });
}

TEST(MetricsText, WeightsAreOfServersThatGetSessions) {
  Sample sample;
  auto layout = std::make_shared<Layout>(*sample.layout);
  layout->upstreams[0].servers[1].config.state = ServerState::kDrain;
  sample.layout = layout;
  ExpectLines(RenderMetrics(sample.View()), {R"(ringmain_server_weight{upstream="echo",server="127.0.0.1:7001"} 3)",
                                             R"(ringmain_server_weight{upstream="echo",server="unix:/run/\"b\".sock"} 0)"});
}

TEST(MetricsText, LimitsWhereThereAreSome) {
  Sample sample;
  std::string without = RenderMetrics(sample.View());
  EXPECT_EQ(without.find("ringmain_listener_max_connections"), std::string::npos);
  EXPECT_EQ(without.find("ringmain_server_max_connections"), std::string::npos);
  auto layout = std::make_shared<Layout>(*sample.layout);
  layout->listeners[0].config.max_connections = 50;
  layout->upstreams[0].servers[0].config.max_connections = 7;
  sample.layout = std::move(layout);
  ExpectLines(RenderMetrics(sample.View()), {R"(ringmain_listener_max_connections{listener="tunnel"} 50)",
                                             R"(ringmain_server_max_connections{upstream="echo",server="127.0.0.1:7001"} 7)"});
}

TEST(MetricsText, TheConfigurationAndItsReloads) {
  Sample sample;
  sample.reloads.succeeded.Add(3);
  sample.reloads.failed.Add(2);
  sample.reloads.last_failed.Set(1);
  sample.reloads.last_epoch.Set(1'700'000'001'500);
  sample.reloads.last_success_epoch.Set(1'700'000'000'250);
  sample.reloads.config_hash.Set((int64_t{1} << 48) - 1);
  ExpectLines(RenderMetrics(sample.View()), {
                                                R"(ringmain_config_reloads_total{result="success"} 3)",
                                                R"(ringmain_config_reloads_total{result="failure"} 2)",
                                                R"(ringmain_config_last_reload_successful 0)",
                                                R"(ringmain_config_last_reload_timestamp_seconds 1700000001.5)",
                                                R"(ringmain_config_last_reload_success_timestamp_seconds 1700000000.25)",
                                                R"(ringmain_config_hash 281474976710655)",
                                            });
}

// What a client chooses (its address, its bytes, how it ends) makes no series: there are as many after any number of clients as before.
TEST(MetricsText, ClientsMakeNoSeries) {
  Sample sample;
  auto series = [&] {
    std::set<std::string> names;
    for (const std::string& line : Lines(RenderMetrics(sample.View()))) names.insert(line.substr(0, line.rfind(' ')));
    return names;
  };
  std::set<std::string> before = series();
  sample.listener(0).accepted.Add(1'000'000);
  for (Counter& closed : sample.listener(0).closed) closed.Add(1000);
  for (uint64_t bytes = 1; bytes < (uint64_t{1} << 50); bytes *= 3) sample.listener(1).session_bytes[0].Observe(bytes);
  for (Duration time = Duration(1); time < std::chrono::hours(100000); time *= 3) {
    sample.listener(0).duration.Observe(time);
    sample.listener(0).first_byte.Observe(time);
    sample.upstream_metrics->cells[0].queue_wait.Observe(time);
  }
  EXPECT_EQ(series(), before);
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
  sample.listener(0).first_byte.Observe(std::chrono::milliseconds(3));
  sample.listener(1).session_bytes[1].Observe(1024);
  sample.listener(0).session_bytes[1].Observe(uint64_t{1} << 40);
  metrics.cells[1].queue_wait.Observe(std::chrono::seconds(61));
  metrics.health_check_duration.Observe(std::chrono::microseconds(700));
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
                  R"(ringmain_first_byte_duration_seconds_bucket{listener="tunnel",le="0.0025"} 0)",
                  R"(ringmain_first_byte_duration_seconds_bucket{listener="tunnel",le="0.005"} 1)",
                  R"(ringmain_connection_bytes_bucket{listener="tunnel",direction="to_client",le="0"} 0)",
                  R"(ringmain_connection_bytes_bucket{listener="tunnel",direction="to_client",le="1024"} 1)",
                  R"(ringmain_connection_bytes_bucket{listener="tunnel",direction="to_client",le="+Inf"} 2)",
                  R"(ringmain_connection_bytes_sum{listener="tunnel",direction="to_client"} 1099511628800)",
                  R"(ringmain_connection_bytes_count{listener="tunnel",direction="to_server"} 0)",
                  R"(ringmain_queue_wait_duration_seconds_bucket{upstream="echo",le="60"} 0)",
                  R"(ringmain_queue_wait_duration_seconds_sum{upstream="echo"} 61)",
                  R"(ringmain_health_check_duration_seconds_bucket{upstream="echo",le="0.001"} 1)",
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
  EXPECT_GT(value(after, "process_virtual_memory_bytes"), value(after, "process_resident_memory_bytes"));
  EXPECT_GE(value(after, "process_threads"), 1);
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
