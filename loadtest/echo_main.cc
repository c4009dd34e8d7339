// ringmain-echo: a TCP server for tests and demos. `ringmain-echo --help` and echo_options.h say what it does. On
// standard output it prints a line `listening address=ADDRESS` for each address, and `metrics address=ADDRESS`, once
// connections are accepted. Exit codes: 0 after SIGTERM or SIGINT, 1 on failure, 2 for bad usage.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "loadtest/echo_metrics.h"
#include "loadtest/echo_options.h"
#include "loadtest/echo_worker.h"
#include "loadtest/listening_socket.h"
#include "loadtest/program.h"

namespace ringmain::loadtest {
namespace {

constexpr int kExitFailure = 1;

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "ringmain-echo: %s\n", std::string(status.message()).c_str());
  return kExitFailure;
}

absl::StatusOr<std::vector<Listener>> ListenOnAll(const EchoOptions& options) {
  std::vector<Listener> listeners;
  for (const SocketAddress& address : options.listen) {
    absl::StatusOr<Listener> listener = Listen(address, options.threads);
    if (!listener.ok()) return listener.status();
    listeners.push_back(*std::move(listener));
  }
  return listeners;
}

// The sockets that thread `index` accepts from: of each address its own, or the one that all share.
std::vector<int> SocketsOf(const std::vector<Listener>& listeners, uint32_t index) {
  std::vector<int> sockets;
  for (const Listener& listener : listeners) sockets.push_back(listener.sockets[index % listener.sockets.size()].get());
  return sockets;
}

void Announce(const std::vector<Listener>& listeners, const EchoMetricsServer* metrics) {
  for (const Listener& listener : listeners) std::printf("listening address=%s\n", listener.address.ToString().c_str());
  if (metrics != nullptr) std::printf("metrics address=%s\n", metrics->address().ToString().c_str());
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  EchoOptions options;
  int exit_code = 0;
  if (!ParseEchoOptions(argc, argv, options, exit_code)) return exit_code;

  // Blocked before any thread exists, so that only sigwait below gets them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  RaiseFileLimit();

  absl::StatusOr<Features> features = ProbeKernel();
  if (!features.ok()) return Fail(features.status());
  absl::StatusOr<std::vector<Listener>> listeners = ListenOnAll(options);
  if (!listeners.ok()) return Fail(listeners.status());

  RequestStats request_stats;
  std::unique_ptr<WorkQueue> queue;
  if (options.mode == EchoMode::kFrames) queue = std::make_unique<WorkQueue>(options.workers, options.queue);
  EchoMetricsSource source = {{}, &request_stats, queue.get()};
  std::vector<std::unique_ptr<EchoWorker>> workers;
  for (uint32_t i = 0; i < options.threads; ++i) {
    workers.push_back(
        std::make_unique<EchoWorker>(options, *features, SocketsOf(*listeners, i), queue.get(), request_stats));
    source.threads.push_back(&workers.back()->stats());
  }
  std::unique_ptr<EchoMetricsServer> metrics;
  if (options.metrics.has_value()) {
    auto started = EchoMetricsServer::Start(*options.metrics, source);
    if (!started.ok()) return Fail(started.status());
    metrics = *std::move(started);
  }
  for (const auto& worker : workers)
    std::thread([worker = worker.get()] {
      _exit(Fail(worker->Run()));
    }).detach();  // Run returns only if it cannot start
  Announce(*listeners, metrics.get());

  int signal = 0;
  sigwait(&signals, &signal);
  for (const Listener& listener : *listeners)
    if (listener.address.is_unix()) unlink(listener.address.unix_path().c_str());
  _exit(0);  // the loops still run: the kernel closes what they have
}

}  // namespace
}  // namespace ringmain::loadtest

int main(int argc, char** argv) { return ringmain::loadtest::Main(argc, argv); }
