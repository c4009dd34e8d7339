#include "admin/process_stats.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <system_error>

namespace ringmain {
namespace {

uint64_t CountOpenFds() {
  // Since Linux 6.2 the size of the directory is the count (commit f1f1f2569901); before, it is 0.
  struct stat info {};
  if (stat("/proc/self/fd", &info) == 0 && info.st_size > 0) return static_cast<uint64_t>(info.st_size);
  std::error_code error;
  std::filesystem::directory_iterator entries("/proc/self/fd", error);
  uint64_t count = 0;
  while (!error && entries != std::filesystem::directory_iterator()) {
    ++count;
    entries.increment(error);
  }
  return count > 0 ? count - 1 : 0;  // without the one that reads the directory
}

}  // namespace

ProcessStats ReadProcessStats() {
  ProcessStats stats;
  stats.open_fds = CountOpenFds();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) stats.max_fds = limit.rlim_cur;
  uint64_t total_pages = 0, resident_pages = 0;
  if (std::ifstream("/proc/self/statm") >> total_pages >> resident_pages) {
    stats.resident_bytes = resident_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    stats.virtual_bytes = total_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  }
  struct stat tasks {};  // besides itself and its parent, the directory has one link from each task's
  if (stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 2) stats.threads = tasks.st_nlink - 2;
  timespec cpu{};
  if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0) {
    stats.cpu_seconds = static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) * 1e-9;
  }
  return stats;
}

}  // namespace ringmain
