#include "process/machine.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include "absl/strings/str_split.h"
#include "base/unique_fd.h"

namespace ringmain {
namespace {

constexpr char kCgroupRoot[] = "/sys/fs/cgroup";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

std::optional<uint64_t> ToNumber(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

// `visit(folder)` for this process's cgroup and each of its ancestors: a limit of any of them holds.
template <typename Visit>
void ForEachCgroup(Visit visit) {
  std::string path = CgroupPath(ReadFile("/proc/self/cgroup"));
  while (true) {
    visit(kCgroupRoot + path);
    size_t slash = path.rfind('/');
    if (path.empty() || slash == std::string::npos) return;
    path.resize(slash);
  }
}

// CapEff of /proc/self/status; CAP_IPC_LOCK is bit 14 (linux/capability.h).
bool HasCapIpcLock() {
  std::istringstream status(ReadFile("/proc/self/status"));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("CapEff:")) return (std::stoull(line.substr(7), nullptr, 16) >> 14 & 1) != 0;
  return false;
}

}  // namespace

PortRange LocalPortRange() { return ParsePortRange(ReadFile("/proc/sys/net/ipv4/ip_local_port_range")); }

PortRange ParsePortRange(std::string_view range) {
  std::istringstream stream{std::string(range)};
  PortRange result;
  return stream >> result.first >> result.last && result.first <= result.last ? result : PortRange();
}

std::optional<uint32_t> CpusOfQuota(std::string_view cpu_max) {
  size_t space = cpu_max.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  std::optional<uint64_t> quota = ToNumber(cpu_max.substr(0, space));
  std::optional<uint64_t> period = ToNumber(cpu_max.substr(space + 1));
  if (!quota.has_value() || !period.has_value() || *period == 0) return std::nullopt;
  return static_cast<uint32_t>(std::clamp<uint64_t>((*quota + *period - 1) / *period, 1, UINT32_MAX));
}

std::string CgroupPath(std::string_view proc_self_cgroup) {
  for (absl::string_view line : absl::StrSplit(absl::string_view(proc_self_cgroup.data(), proc_self_cgroup.size()), '\n')) {
    std::string_view text(line.data(), line.size());
    if (!text.starts_with("0::/")) continue;
    std::string path(text.substr(3));
    return path == "/" ? "" : path;
  }
  return "";
}

uint32_t UsableCpus() {
  cpu_set_t set;
  uint32_t cpus = 1;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    cpus = static_cast<uint32_t>(CPU_COUNT(&set));
  else
    cpus = static_cast<uint32_t>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));  // more CPUs than the mask has bits
  ForEachCgroup([&](const std::string& folder) {
    cpus = std::min(cpus, CpusOfQuota(ReadFile(folder + "/cpu.max")).value_or(cpus));
  });
  // cgroup v1, as older container engines set it up.
  const std::string v1 = "/sys/fs/cgroup/cpu/cpu.cfs_";
  cpus = std::min(cpus, CpusOfQuota(ReadFile(v1 + "quota_us") + " " + ReadFile(v1 + "period_us")).value_or(cpus));
  return std::max(cpus, 1u);
}

uint64_t UsableMemoryBytes() {
  auto memory = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  ForEachCgroup([&](const std::string& folder) {
    memory = std::min(memory, ToNumber(ReadFile(folder + "/memory.max")).value_or(memory));
  });
  // cgroup v1, as older container engines set it up.
  return std::min(memory, ToNumber(ReadFile("/sys/fs/cgroup/memory/memory.limit_in_bytes")).value_or(memory));
}

uint64_t RaiseFileLimit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

void WidenFileTable(uint64_t files) {
  constexpr uint64_t kMost = 65'536;
  UniqueFd low(open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd high(fcntl(low.get(), F_DUPFD_CLOEXEC, static_cast<int>(std::min(files, kMost)) - 1));
}

std::optional<uint64_t> LockedMemoryLimit() {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  if (limit.rlim_cur == RLIM_INFINITY || HasCapIpcLock()) return std::nullopt;
  return limit.rlim_cur;
}

}  // namespace ringmain
