"""Child processes: started pinned, watched through /proc, ended by pid whatever happens."""
import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

from comparing.machine import Problem

PR_SET_PDEATHSIG = 1
TICKS = os.sysconf("SC_CLK_TCK")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LIBC = ctypes.CDLL(None)


def wait_until(check, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not (result := check()):
        if time.monotonic() > deadline:
            raise Problem(f"not within {seconds} s: {what}")
        time.sleep(0.01)
    return result


def children_of(pid):
    """All descendants."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *children_of(int(child))]
    return found


def own_cpu(pid):
    """Seconds of user and system time of all threads of a process, ended ones too, to the nanosecond.

    The clock id of a process is made from its pid as clock_getcpuclockid(3) does."""
    return time.clock_gettime((~pid << 3) | 2)


def waited_cpu(pid):
    """Seconds of children that have ended and were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / TICKS


def tree_cpu(pid):
    """Seconds of CPU of a process and all it ever started (as far as waited for)."""
    total = 0.0
    for one in (pid, *children_of(pid)):
        with contextlib.suppress(OSError):  # it may end meanwhile
            total += own_cpu(one) + waited_cpu(one)
    return total


def tree_rss_kib(pid, field):
    """`field` of /proc/PID/status (VmRSS, RssAnon), the sum over a process and its descendants."""
    total = 0
    for one in (pid, *children_of(pid)):
        with contextlib.suppress(OSError):
            total += int(re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{one}/status").read_text(), re.M)[1])
    return total


def softirq_cpu(core):
    """Seconds of the kernel thread that runs what interrupts of a core left over: work that no process is charged."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text() == f"ksoftirqd/{core}\n":
                return int((path.parent / "schedstat").read_text().split()[0]) / 1e9
    return 0.0


def listens(port):
    """Whether an IPv4 socket listens on this port; asked of the kernel, since a connect would make a session."""
    pattern = re.compile(rf"^\s*\d+: [0-9A-F]{{8}}:{port:04X} \S+ 0A ", re.M)
    return pattern.search(Path("/proc/net/tcp").read_text()) is not None


class Ports:
    """Free ports below those that the kernel gives to outgoing connections."""

    def __init__(self):
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        self._next = range(max(1024, min(20000, low - 2000)), low).__iter__()

    def take(self):
        for port in self._next:
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
                return port
        raise Problem("no free port")


class Children:
    """Starts processes and knows all that are alive. `cpus` None is every CPU this process had when Children was
    made."""

    def __init__(self):
        self._running = []
        self._every_cpu = os.sched_getaffinity(0)

    def start(self, argv, cpus=None, **popen):
        parent = os.getpid()

        def prepare():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.sched_setaffinity(0, cpus or self._every_cpu)

        popen.setdefault("stdout", subprocess.DEVNULL)
        popen.setdefault("stderr", subprocess.DEVNULL)
        # No signal may end this process between the birth of a child and its entry in the list.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, preexec_fn=prepare,
                                       start_new_session=True, **popen)
            self._running.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process

    def stop(self, process, patience=5):
        """SIGTERM, then SIGKILL; what the process started and left behind, too."""
        started = children_of(process.pid) if process.poll() is None else []
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        deadline = time.monotonic() + 1
        while (started := [pid for pid in started if in_session(pid, process.pid)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if process.stdout:
            process.stdout.close()
        if process in self._running:
            self._running.remove(process)

    def stop_all(self, but=()):
        for process in reversed(self._running[:]):
            if process not in but:
                self.stop(process, patience=2)


def in_session(pid, session):
    """Whether `pid` still is what a child that led `session` had started."""
    try:
        return os.getsid(pid) == session
    except ProcessLookupError:
        return False


class Server:
    """ringmain-echo: what proxies relay to. Counts what arrives, so that work is counted where it got through."""

    def __init__(self, children, binary, mode, ports, threads, cpus):
        self._children = children
        listen = ",".join(["127.0.0.1:0"] * ports)
        self.process = children.start(
            [binary, "--listen", listen, "--mode", mode, "--threads", threads, "--metrics", "127.0.0.1:0"],
            cpus, stdout=subprocess.PIPE, text=True)
        lines = [self.process.stdout.readline().strip() for _ in range(ports + 1)]
        self.addresses = [line.split("address=")[1] for line in lines if line.startswith("listening ")]
        if len(self.addresses) != ports or not lines[-1].startswith("metrics "):
            raise Problem(f"{binary} did not start")
        self._metrics = lines[-1].split("address=")[1]

    def totals(self):
        """{connections, accepted, received, sent}, since its start."""
        body = http_get(self._metrics, "/metrics")
        value = lambda name: int(float(re.search(rf"^ringmain_echo_{re.escape(name)} (\S+)$", body, re.M)[1]))
        return {
            "connections": value("connections"),
            "accepted": value("connections_total"),
            "received": value('bytes_total{direction="received"}'),
            "sent": value('bytes_total{direction="sent"}'),
        }

    def wait_for(self, field, count, load, seconds=30):
        """Until the load has brought that many, if it does not end before."""
        wait_until(lambda: self.totals()[field] >= count or load.process.poll() is not None,
                   f"{count} {field} at the server", seconds)
        load.check_running()

    def wait_empty(self, seconds=30):
        wait_until(lambda: self.totals()["connections"] == 0, "every connection of the last run is gone", seconds)

    def stop(self):
        self._children.stop(self.process)


def http_get(address, path):
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


class Load:
    """One run of ringmain-load. finish() gives its report."""

    def __init__(self, children, binary, directory, cpus, mode, to, duration, **options):
        self._children = children
        self._seconds = duration + options.get("warmup", 0)
        self._path = Path(directory) / f"load-{time.monotonic_ns()}.json"
        argv = [binary, mode, "--to", to, "--duration", f"{round(duration * 1000)}ms", "--quiet", "--json", self._path]
        for name, value in options.items():
            if value is True:
                argv.append(f"--{name.replace('_', '-')}")
            elif name == "warmup":
                argv += ["--warmup", f"{round(value * 1000)}ms"]
            elif value is not None and value is not False:
                argv += [f"--{name.replace('_', '-')}", value]
        self._stderr = open(self._path.with_suffix(".log"), "w+")
        self.process = children.start(argv, cpus, stderr=self._stderr)

    def check_running(self):
        if self.process.poll() is not None:
            raise Problem(f"the load ended early: {self._said()}")

    def _said(self):
        self._stderr.seek(0)
        return self._stderr.read().strip()[:300]

    def finish(self, now=False):
        """The report, which says what failed. `now` ends the load, which then waits 1 s for replies at most; otherwise
        it may take 30 s longer than it was asked to."""
        try:
            if now:
                self.process.terminate()
            self.process.wait(30 if now else self._seconds + 30)
        except subprocess.TimeoutExpired:
            raise Problem("the load did not end in time") from None
        finally:
            self._children.stop(self.process)
            said = self._said()
            self._stderr.close()
        if not self._path.exists():
            raise Problem(f"the load ended with {self.process.returncode} and no report: {said}")
        report = json.loads(self._path.read_text())
        self._path.unlink()
        report["said"] = said
        return report
