// What /metrics says of workers, of the configuration and of the process.
#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "admin/families.h"
#include "admin/process_stats.h"

namespace ringmain {
namespace {

template <typename Cell>
struct WorkerMetric {
  const char* name;
  const char* help;
  Cell WorkerCells::*cell;
};
constexpr WorkerMetric<Gauge> kWorkerGauges[] = {
    {"ringmain_worker_sessions", "Open sessions of the worker.", &WorkerCells::sessions},
    {"ringmain_worker_accept_paused", "1 while the worker accepts nothing for want of file descriptors or memory.",
     &WorkerCells::accept_paused},
    {"ringmain_worker_buffers", "Receive buffers that exist.", &WorkerCells::buffers},
    {"ringmain_worker_buffers_held", "Receive buffers held by sessions whose receiver is slow.",
     &WorkerCells::buffers_held},
    {"ringmain_worker_buffer_bytes", "Memory of all buffers that exist.", &WorkerCells::buffer_bytes},
    {"ringmain_worker_pipes", "Kernel pipes that exist, for bulk.", &WorkerCells::pipes},
    {"ringmain_worker_pipes_lent", "Kernel pipes that hold bytes for slow receivers.", &WorkerCells::pipes_lent},
};
constexpr WorkerMetric<Counter> kWorkerCounters[] = {
    {"ringmain_worker_messages_total", "Receives that brought payload: what completions and system calls are to be compared with.",
     &WorkerCells::messages},
    {"ringmain_worker_submissions_total", "Submission queue entries that the kernel took.", &WorkerCells::submissions},
    {"ringmain_worker_completions_total", "Completion queue entries reaped.", &WorkerCells::completions},
    {"ringmain_worker_enters_total", "Calls of io_uring_enter.", &WorkerCells::enters},
    {"ringmain_worker_system_calls_total", "System calls of the worker: of io_uring_enter, and direct ones of sessions.",
     &WorkerCells::system_calls},
    {"ringmain_worker_cq_overflows_total", "Loop turns that found the completion queue overflowed.",
     &WorkerCells::cq_overflows},
    {"ringmain_worker_spliced_bytes_total", "Payload bytes moved through kernel pipes, without a copy.",
     &WorkerCells::spliced_bytes},
    {"ringmain_worker_receive_starvations_total", "Receives that ended because no buffer was free.",
     &WorkerCells::receive_starvations},
    {"ringmain_worker_accept_pauses_total", "Times accepting stopped for want of file descriptors or memory.",
     &WorkerCells::accept_pauses},
    {"ringmain_worker_handed_over_total", "Accepted connections passed to a worker with fewer sessions.",
     &WorkerCells::handed_over},
};

}  // namespace

void AddWorkers(const PerWorker<WorkerCells>& workers, Families& families) {
  auto label = [](size_t worker) { return Labels{{"worker", absl::StrCat(worker)}}; };
  for (const auto& metric : kWorkerGauges) {
    auto& family = AddGauge(families, metric.name, metric.help);
    for (size_t i = 0; i < workers.size(); ++i)
      AddSample(family, label(i), (workers[i].*metric.cell).value());
  }
  for (const auto& metric : kWorkerCounters) {
    auto& family = AddCounter(families, metric.name, metric.help);
    for (size_t i = 0; i < workers.size(); ++i)
      AddSample(family, label(i), (workers[i].*metric.cell).value());
  }
  auto& cpu = AddCounter(families, "ringmain_worker_cpu_seconds_total", "User and system CPU time of the worker's thread.");
  for (size_t i = 0; i < workers.size(); ++i) AddSample(cpu, label(i), static_cast<double>(workers[i].cpu_ns.value()) / 1e9);
  auto& relays = AddGauge(families, "ringmain_worker_relays",
                          "Directions of established sessions, by how they carry their bytes now.");
  for (size_t i = 0; i < workers.size(); ++i)
    for (size_t mode = 0; mode < kRelayModes; ++mode) {
      Labels labels = label(i);
      labels.push_back({"mode", Word(kRelayModeNames[mode])});
      AddSample(relays, std::move(labels), workers[i].relays[mode].value());
    }
  auto& turn = AddHistogram(families, "ringmain_worker_loop_turn_seconds",
                            "Time from a wake-up of the worker to its next wait, of a sample of the turns.");
  for (size_t i = 0; i < workers.size(); ++i) {
    AddSample(
        turn, label(i), 1, [&](size_t) -> const auto& { return workers[i].loop_turn; });
  }
}

void AddReloads(const ReloadCells& reloads, Families& families) {
  auto& total = AddCounter(families, "ringmain_config_reloads_total", "Reloads of the configuration, by result.");
  AddSample(total, {{"result", "success"}}, reloads.succeeded.value());
  AddSample(total, {{"result", "failure"}}, reloads.failed.value());
  AddSample(AddGauge(families, "ringmain_config_last_reload_successful", "0 if the last reload failed: an older configuration runs."),
            {}, 1 - reloads.last_failed.value());
  AddSample(AddGauge(families, "ringmain_config_last_reload_timestamp_seconds",
                     "When the last reload was, whatever became of it, or else the start, in seconds since the epoch."),
            {}, static_cast<double>(reloads.last_epoch.value()) / 1000);
  AddSample(AddGauge(families, "ringmain_config_hash", "Of the file that the configuration was read from, to be compared between instances; 0: from no file."),
            {}, reloads.config_hash.value());
  AddSample(AddGauge(families, "ringmain_config_last_reload_success_timestamp_seconds",
                     "When the configuration that runs was read, in seconds since the epoch."),
            {}, static_cast<double>(reloads.last_success_epoch.value()) / 1000);
}

void AddProcess(const AdminView& view, const Layout& layout, Families& families) {
  AddSample(AddGauge(families, "ringmain_build_info", "1; the version is a label."), {{"version", RINGMAIN_VERSION}},
            1);
  AddSample(AddGauge(families, "ringmain_ready", "1 while /readyz says ready: listening and not draining."), {},
            StateName(view) == "ready");
  AddSample(AddGauge(families, "ringmain_max_connections", "The effective limits.max_connections."), {},
            layout.max_connections);
  AddSample(AddGauge(families, "ringmain_start_time_seconds", "Start of the process, in seconds since the epoch."), {},
            std::chrono::duration<double>(view.start_time.time_since_epoch()).count());

  auto& features = AddGauge(families, "ringmain_kernel_feature", "1 for each optional feature of the kernel that is in use.");
  for (absl::string_view feature : absl::StrSplit(view.features, ' ', absl::SkipEmpty()))
    AddSample(features, {{"feature", std::string(feature)}}, 1);

  ProcessStats stats = ReadProcessStats();
  AddSample(AddGauge(families, "process_start_time_seconds", "Start of the process, in seconds since the epoch."), {},
            std::chrono::duration<double>(view.start_time.time_since_epoch()).count());
  AddSample(AddGauge(families, "process_virtual_memory_bytes", "Virtual memory."), {}, stats.virtual_bytes);
  AddSample(AddGauge(families, "process_threads", "Threads."), {}, stats.threads);
  AddSample(AddGauge(families, "process_open_fds", "Open file descriptors."), {}, stats.open_fds);
  AddSample(AddGauge(families, "process_max_fds", "Limit of open file descriptors."), {}, stats.max_fds);
  AddSample(AddGauge(families, "process_resident_memory_bytes", "Resident memory."), {}, stats.resident_bytes);
  AddSample(AddCounter(families, "process_cpu_seconds_total", "User and system CPU time of all threads."), {},
            stats.cpu_seconds);
}

}  // namespace ringmain
