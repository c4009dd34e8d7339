// What this machine and the limits set on this process allow: CPUs, memory, file descriptors, locked memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ringmain {

// CPUs this process may use: its affinity mask, cut by the cgroup's quota (a quota of 1.5 CPUs counts as 2). At least 1.
uint32_t UsableCpus();
// The cgroup's memory limit or the machine's memory, whichever is less.
uint64_t UsableMemoryBytes();
// Raises the soft limit of open files to the hard one; the limit that holds afterwards.
uint64_t RaiseFileLimit();
// Widens the kernel's table of our open files for `files` of them, but for 65,536 (half a MiB) at most. In a process of several threads it
// grows by doubling, and each time whoever opens a file then waits for an RCU grace period (expand_fdtable in fs/file.c, Linux 6.18): 10 ms and
// more in which a worker stands still, and 50 ms when a takeover passes 2000 files. REQUIRES: there is one thread; that one need not wait.
void WidenFileTable(uint64_t files);
// The limit of locked memory that the kernel charges rings to; none with CAP_IPC_LOCK or without a limit.
std::optional<uint64_t> LockedMemoryLimit();

// The local ports that the kernel gives to connects (net.ipv4.ip_local_port_range, of IPv6 too).
struct PortRange {
  uint16_t first = 0;
  uint16_t last = UINT16_MAX;
  bool Contains(uint16_t port) const { return port >= first && port <= last; }
};
// All ports if it cannot be read.
PortRange LocalPortRange();

// Pure parts, for tests.
// `range` is the content of /proc/sys/net/ipv4/ip_local_port_range. All ports if it is not understood.
PortRange ParsePortRange(std::string_view range);
// `cpu_max` is the content of cgroup v2's cpu.max: "max 100000" or "150000 100000". None: no quota, or not understood.
std::optional<uint32_t> CpusOfQuota(std::string_view cpu_max);
// The cgroup v2 folder of /proc/self/cgroup's content ("0::/a/b" gives "/a/b"); empty if there is none.
std::string CgroupPath(std::string_view proc_self_cgroup);

}  // namespace ringmain
