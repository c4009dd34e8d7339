// The metrics of ringmain-echo, and the HTTP server for them.
//
//   ringmain_echo_requests_total{result="ok|busy|too_large"}  mode frames: requests
//   ringmain_echo_request_duration_seconds                    mode frames, histogram: handled requests, from the last
//   byte received
//                                                             to the reply being ready; waiting in the queue is part of
//                                                             it
//   ringmain_echo_queue_length                                mode frames: requests that wait for a worker
//   ringmain_echo_connections                                 open now
//   ringmain_echo_connections_total                           accepted
//   ringmain_echo_bytes_total{direction="received|sent"}
//   ringmain_echo_accept_pauses_total                         accepting stopped for a while, out of file descriptors or
//   memory
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "loadtest/echo_stats.h"
#include "loadtest/work_queue.h"

namespace ringmain::loadtest {

// What is shown. Everything pointed to outlives the user.
struct EchoMetricsSource {
  std::vector<const EchoStats*> threads;
  const RequestStats* requests = nullptr;
  const WorkQueue* queue = nullptr;  // null without one
};

// The body of GET /metrics, in the Prometheus text format 0.0.4.
std::string RenderMetrics(const EchoMetricsSource& source);

// Serves GET /metrics on `address` until destroyed, with threads of its own.
class EchoMetricsServer {
 public:
  // Errors name the address.
  static absl::StatusOr<std::unique_ptr<EchoMetricsServer>> Start(const SocketAddress& address,
                                                                  EchoMetricsSource source);
  virtual ~EchoMetricsServer() = default;
  virtual SocketAddress address() const = 0;  // the bound one
};

}  // namespace ringmain::loadtest
