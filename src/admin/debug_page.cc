#include "admin/debug_page.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ringmain {

std::vector<ThreadOfProcess> ListThreads() {
  std::vector<ThreadOfProcess> threads;
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator("/proc/self/task", error); !error && entry != std::filesystem::directory_iterator();
       entry.increment(error)) {
    std::string number = entry->path().filename();
    ThreadOfProcess thread;
    std::from_chars(number.data(), number.data() + number.size(), thread.id);
    std::ifstream comm(entry->path() / "comm");
    if (std::getline(comm, thread.name)) threads.push_back(std::move(thread));  // else it has ended
  }
  std::sort(threads.begin(), threads.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return threads;
}

std::string RenderDebugPage(int process, bool probes, const std::vector<ThreadOfProcess>& threads) {
  std::vector<int> workers;
  std::string list;
  for (const ThreadOfProcess& thread : threads) {
    if (thread.name.starts_with("rm-worker-")) workers.push_back(thread.id);
    absl::StrAppend(&list, "  ", thread.id, "  ", thread.name, "\n");
  }
  std::string worker_ids = absl::StrJoin(workers, ",");
  std::string text = absl::StrCat(
      "Process ", process, " (in its own PID namespace). Its threads (rm-worker-N relay; the others do not touch sessions):\n", list,
      "\nNothing here is run by asking for this page. The commands need root, or CAP_PERFMON or CAP_BPF, on the host.\n"
      "\n# Where the CPU goes in the workers, with the kernel's stacks: cheap.\n"
      "perf record -F 199 -g -t ", worker_ids, " -- sleep 15 && perf report --no-children\n"
      "# With ringmain's own callers too: it has no frame pointers, so by unwinding, which costs more.\n"
      "perf record -F 99 --call-graph dwarf,16384 -t ", worker_ids, " -- sleep 5 && perf report --no-children\n"
      "# What they do live, without a file.\n"
      "perf top -g -t ", worker_ids, "\n"
      "# System calls of the workers: few more than one io_uring_enter a loop turn are expected.\n"
      "perf trace -s -t ", worker_ids, " -- sleep 5\n"
      "# Instructions, cache misses and context switches.\n"
      "perf stat -t ", worker_ids, " -- sleep 5\n"
      "# One stack of every thread, now: for a process that seems to hang.\n"
      "gdb -p ", process, " -batch -ex 'thread apply all bt'\n");
  if (!probes) return text + "\nThis build has no trace probes (USDT): build with systemtap-sdt-dev for those.\n";
  std::string usdt = absl::StrCat("usdt:/proc/", process, "/exe:ringmain:");
  absl::StrAppend(
      &text,
      "\n# Trace probes (USDT); their arguments are in deploy/REFERENCE.md. What is closed, by listener and reason:\n"
      "bpftrace -p ", process, " -e '", usdt, "close { @[str(arg1), str(arg3)] = count(); }'\n"
      "# How long servers take to be connected, in microseconds:\n"
      "bpftrace -p ", process, " -e '", usdt, "connect { @[str(arg2), str(arg3)] = hist(arg4); }'\n"
      "# Failed connects, as they happen:\n"
      "bpftrace -p ", process, " -e '", usdt, "connect_failed { printf(\"%s %s %s errno=%d\\n\", str(arg1), str(arg2), str(arg3), arg4); }'\n"
      "# Directions that become bulk (1) or cease to be (0):\n"
      "bpftrace -p ", process, " -e '", usdt, "mode { @[arg3] = count(); }'\n");
  return text;
}

}  // namespace ringmain
