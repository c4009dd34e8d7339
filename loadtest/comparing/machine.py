"""What the machine is, which cores are whose, and the packages of the peers."""
import ctypes
import os
import platform
import re
import resource
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
CLONE_NEWNET = 0x40000000  # linux/sched.h; os.unshare came with Python 3.12
SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class Problem(Exception):
    """Ends the comparison with one sentence for the user."""


def find(program):
    return shutil.which(program, path=SEARCH)


def install(packages):
    """Installs Debian packages with the project's own function."""
    script = f'source "{ROOT}/deploy/packages.sh"; install_missing "$@"'
    result = subprocess.run(["bash", "-c", script, "bash", *packages], stdin=subprocess.DEVNULL, timeout=600)
    if result.returncode != 0:
        raise Problem(f"could not install {' '.join(packages)}; leave a peer out with --peers")


def version(argv):
    """The version in what a program says when asked for it."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = re.search(r"\d+\.\d+[\w.+-]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def raise_limits():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cores():
    """(the proxy's core, the core of load and servers), or None where there is one only."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else None


def memory_kib(field):
    return int(re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)[1])


def stolen_share(before):
    """(share of CPU time that the hypervisor gave to others since `before`, state for the next call)."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    if before is None:
        return 0.0, fields
    spent = sum(fields) - sum(before)
    return ((fields[7] - before[7]) / spent if spent > 0 else 0.0), fields


def describe():
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^(?:model name|Model|CPU implementer)\s*:\s*(.+)$", cpuinfo, re.M)
    release = re.search(r'^PRETTY_NAME="(.+)"', Path("/etc/os-release").read_text(), re.M)
    return {
        "kernel": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "system": release[1] if release else "unknown",
        "cpu": model[1].strip() if model else "unknown",
        "hypervisor": "hypervisor" in cpuinfo,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib("MemTotal") / 2**20, 1),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "congestion_control": CONGESTION_CONTROL.read_text().strip(),
    }


def use_congestion_control(name):
    """Goes on in a network of its own, where nothing but loopback is and TCP uses this congestion control; that of the
    machine stays as it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise Problem(f"--congestion-control wants a network namespace of its own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    try:
        CONGESTION_CONTROL.write_text(name)
    except OSError:
        known = CONGESTION_CONTROL.with_name("tcp_available_congestion_control").read_text().strip()
        raise Problem(f"no congestion control {name}; this kernel has {known}") from None
