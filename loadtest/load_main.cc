// ringmain-load: a load generator that verifies every byte. `ringmain-load --help` and load_options.h say what it does,
// report.h what it reports. Exit codes: 0 if there was no error and at least one operation, 1 otherwise, 2 for bad
// usage.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "loadtest/load_options.h"
#include "loadtest/load_worker.h"
#include "loadtest/program.h"
#include "loadtest/report.h"

namespace ringmain::loadtest {
namespace {

constexpr int kExitError = 1;

// Shows a line each second on standard error; on a terminal it overwrites itself.
class Progress {
 public:
  Progress() : start_(Clock::now()), last_(start_), terminal_(isatty(STDERR_FILENO) == 1) {}

  TimePoint next() const { return last_ + seconds(1); }
  void Show(const LoadTotals& totals) {
    TimePoint now = Clock::now();
    std::string line = ProgressLine(now - start_, before_, totals, now - last_);
    std::fputs((terminal_ ? "\r\033[K" + line : line + "\n").c_str(), stderr);
    shown_ = true;
    last_ = now;
    before_ = totals;
  }
  void End() {
    if (terminal_ && shown_) std::fputc('\n', stderr);
  }

 private:
  const TimePoint start_;
  TimePoint last_;
  const bool terminal_;
  bool shown_ = false;
  LoadTotals before_;
};

using Workers = std::vector<std::unique_ptr<LoadWorker>>;

LoadTotals Sum(const Workers& workers) {
  LoadTotals totals;
  for (const auto& worker : workers) totals.Add(worker->stats());
  return totals;
}

// Returns when `done_fd` says that all workers have ended. The first signal stops them, the second ends the program.
void Watch(LoadRun& run, const Workers& workers, int signal_fd, int done_fd) {
  Progress progress;
  while (true) {
    int64_t wait_ms = std::chrono::ceil<milliseconds>(progress.next() - Clock::now()).count();
    pollfd fds[] = {{signal_fd, POLLIN, 0}, {done_fd, POLLIN, 0}};
    poll(fds, 2, run.options.quiet ? -1 : static_cast<int>(std::max<int64_t>(wait_ms, 0)));
    if (fds[1].revents != 0) break;
    if (fds[0].revents != 0) {
      signalfd_siginfo info;
      if (read(signal_fd, &info, sizeof(info)) == sizeof(info) && run.stop.exchange(true)) _exit(kExitError);
    }
    if (!run.options.quiet && Clock::now() >= progress.next()) progress.Show(Sum(workers));
  }
  progress.End();
}

bool WriteJson(const LoadOptions& options, const LoadTotals& totals) {
  std::string report = JsonReport(options, totals);
  if (options.json == "-") {
    std::fputs(report.c_str(), stdout);
    return std::fflush(stdout) == 0;
  }
  std::ofstream file(options.json);
  file << report;
  file.close();
  if (!file) std::fprintf(stderr, "ringmain-load: cannot write %s\n", options.json.c_str());
  return static_cast<bool>(file);
}

int Main(int argc, char** argv) {
  LoadRun run;
  int exit_code = 0;
  if (!ParseLoadOptions(argc, argv, run.options, exit_code)) return exit_code;
  const LoadOptions& options = run.options;

  // Blocked before any thread exists, so that only the signalfd gets them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC));
  UniqueFd done_fd(eventfd(0, EFD_CLOEXEC));

  if (uint64_t files = RaiseFileLimit(); files < options.connections + 32ull)
    std::fprintf(stderr, "ringmain-load: only %llu file descriptors are allowed (ulimit -n) for %u connections\n",
                 static_cast<unsigned long long>(files), options.connections);
  absl::StatusOr<Features> features = ProbeKernel();
  if (!features.ok()) {
    std::fprintf(stderr, "ringmain-load: %s\n", std::string(features.status().message()).c_str());
    return kExitError;
  }
  run.features = *features;
  std::random_device random;
  run.seed = static_cast<uint64_t>(random()) << 32 | random();
  run.threads_connecting = options.threads;

  Workers workers;
  for (uint32_t i = 0; i < options.threads; ++i) workers.push_back(std::make_unique<LoadWorker>(run, i));
  std::atomic<uint32_t> running{options.threads};
  std::atomic<bool> failed{false};
  std::vector<std::thread> threads;
  for (const auto& worker : workers) {
    threads.emplace_back([&, worker = worker.get()] {
      absl::Status status = worker->Run();
      if (!status.ok()) {
        run.errors.Print("ringmain-load: " + std::string(status.message()));
        failed = run.stop = true;
      }
      if (running.fetch_sub(1) == 1) eventfd_write(done_fd.get(), 1);
    });
  }
  Watch(run, workers, signal_fd.get(), done_fd.get());
  for (std::thread& thread : threads) thread.join();
  if (failed) return kExitError;

  LoadTotals totals = Sum(workers);
  // With --json - standard output is the JSON alone.
  std::fputs(TextReport(options, totals).c_str(), options.json == "-" ? stderr : stdout);
  std::fflush(stdout);
  if (!options.json.empty() && !WriteJson(options, totals)) return kExitError;
  return totals.error_total() == 0 && totals.operations > 0 ? 0 : kExitError;
}

}  // namespace
}  // namespace ringmain::loadtest

int main(int argc, char** argv) { return ringmain::loadtest::Main(argc, argv); }
