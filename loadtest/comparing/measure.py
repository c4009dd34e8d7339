"""Runs one peer once in one scenario and gives its figures.

CPU is that of the proxy, all threads and processes, user and system. Work is counted by the server, where it got
through. Both are read at the beginning and the end of a window inside the load, so that set-up and teardown of the
connections stay out of it. ringmain-load verifies every byte that comes back; of one-way bulk the number of bytes that
arrived must be the number sent."""
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from comparing import machine
from comparing.machine import Problem, find
from comparing.peers import Directory, Proxy
from comparing.processes import Children, Load, Ports, Server, own_cpu, softirq_cpu, tree_cpu

SETTLE = 0.5         # of load before the window begins
TAIL = 0.7           # of bulk load after the window has ended
LONG = 60            # more than a run takes: load that goes on until it is told to end
IDLE_HOLD = 3        # how long idle sessions are held
SESSIONS_HOLD = 3    # how long many are held, on top of the window
PINGS_PER_SECOND = 1000
BULK_FLOWS = 8       # of mixed


@dataclass
class Bench:
    """What all runs share."""

    build: Path
    directory: Path
    seconds: float
    nofile: int
    children: Children = field(default_factory=Children)
    ports: Ports = field(default_factory=Ports)
    cores: tuple | None = field(default_factory=machine.cores)
    count: int = 0

    def pin(self, scenario, which):
        """The cores for the proxy (0) or for all else (1); None leaves it to the kernel."""
        if scenario.workers > 1 or self.cores is None:
            return None
        return {self.cores[which]}

    def server(self, scenario, mode, ports):
        return Server(self.children, self.build / "loadtest" / "ringmain-echo", mode, ports, scenario.workers,
                      self.pin(scenario, 1))

    def proxy(self, scenario, peer, to):
        self.count += 1
        directory = Directory(self.directory / f"{self.count}-{peer.name}", self.ports, self.nofile, scenario.user)
        return Proxy(self.children, peer, directory, to, scenario.workers, scenario.user, self.pin(scenario, 0))

    def load(self, scenario, mode, to, duration, **options):
        threads = options.pop("threads", scenario.workers)
        return Load(self.children, self.build / "loadtest" / "ringmain-load", self.directory, self.pin(scenario, 1),
                    mode, to, duration, threads=threads, **options)


def forget_closed(address):
    """Drops the connections to a server that only wait for their time to pass (TIME_WAIT), which otherwise make ports
    scarce for the next peer. Where the kernel cannot, a few of the next run's first milliseconds are the price."""
    ss = find("ss")
    if ss:
        subprocess.run([ss, "-K", "-H", "state", "time-wait", "dport", "=", f":{address.rsplit(':', 1)[1]}"],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)


@dataclass
class Sample:
    at: float
    proxy: float      # CPU seconds
    others: float     # of load and servers
    softirq: float    # of the kernel's thread on the proxy's core
    totals: dict


def sample(bench, proxy, server, *others):
    totals = server.totals()
    return Sample(time.monotonic(), tree_cpu(proxy.pid) if proxy.pid else 0.0,
                  sum(own_cpu(process.pid) for process in (server.process, *others)),
                  softirq_cpu(bench.cores[0]) if bench.cores else 0.0, totals)


class Between:
    """The window between two samples."""

    def __init__(self, before, after):
        self.seconds = after.at - before.at
        self.proxy = after.proxy - before.proxy
        self.others = after.others - before.others
        self.softirq = after.softirq - before.softirq
        self.work = {name: after.totals[name] - before.totals[name] for name in after.totals}

    def facts(self):
        """How the cores were used, for those who want to judge a run."""
        return {"window_s": self.seconds, "proxy_core": self.proxy / self.seconds,
                "other_core": self.others / self.seconds, "softirq_core": self.softirq / self.seconds}


def over(figure, count):
    if count <= 0:
        raise Problem("nothing got through")
    return figure / count


def errors_of(*reports):
    return sum(report["error_total"] for report in reports), "; ".join(r["said"] for r in reports if r["error_total"])


def latency(report):
    return {"p50_us": report["latency_us"]["p50"], "p99_us": report["latency_us"]["p99"]}


def window(bench, scenario, proxy, server, to, mode, **options):
    """(Between, report of the load) with the load running throughout. Bulk ends by itself: what is under way then may
    take longer than a load that is told to end waits for."""
    server.wait_empty()
    accepted = server.totals()["accepted"]
    load = bench.load(scenario, mode, to, **options)
    server.wait_for("accepted", accepted + (1 if mode == "churn" else scenario.connections), load)
    time.sleep(SETTLE)
    before = sample(bench, proxy, server, load.process)
    time.sleep(bench.seconds)
    after = sample(bench, proxy, server, load.process)
    load.check_running()
    return Between(before, after), load.finish(now=mode != "bulk")


def result(values, seen, *reports, proxy):
    count, said = errors_of(*reports)
    if not proxy.pid:
        values = {name: value for name, value in values.items() if not name.startswith("cpu_")}
    return {"values": values, "errors": count, "said": said, **(seen.facts() if seen else {})}


def ping(bench, scenario, proxy, servers, index):
    seen, report = window(bench, scenario, proxy, servers[0], proxy.addresses[0], "ping",
                          duration=bench.seconds + LONG, warmup=SETTLE, connections=scenario.connections,
                          payload=scenario.payload)
    trips = seen.work["received"] / scenario.payload
    return result({"cpu_us": over(seen.proxy * 1e6, trips), "rate": trips / seen.seconds, **latency(report)}, seen,
                  report, proxy=proxy)


def bulk(bench, scenario, proxy, servers, index):
    server = servers[0]
    before = server.totals()
    # Without a warm-up the load counts every byte of the run.
    seen, report = window(bench, scenario, proxy, server, proxy.addresses[0], "bulk",
                          duration=SETTLE + bench.seconds + TAIL, connections=scenario.connections,
                          one_way=not scenario.both_ways)
    server.wait_empty()
    arrived = server.totals()["received"] - before["received"]
    gb = (seen.work["received"] + (seen.work["sent"] if scenario.both_ways else 0)) / 1e9
    got = result({"cpu_s_per_gb": over(seen.proxy, gb), "gb_per_s": gb / seen.seconds}, seen, report, proxy=proxy)
    if arrived != report["bytes_sent"]:
        got["errors"] += 1
        got["said"] += f"; {report['bytes_sent']} bytes sent, {arrived} arrived"
    return got


def churn(bench, scenario, proxy, servers, index):
    forget_closed(servers[0].addresses[index])
    seen, report = window(bench, scenario, proxy, servers[0], proxy.addresses[0], "churn",
                          duration=bench.seconds + LONG, warmup=SETTLE, connections=scenario.connections,
                          payload=scenario.payload, reset=True)
    connections = seen.work["accepted"]
    got = result({"cpu_us": over(seen.proxy * 1e6, connections), "rate": connections / seen.seconds, **latency(report)},
                 seen, report, proxy=proxy)
    forget_closed(servers[0].addresses[index])
    return got


def available_kib():
    """MemAvailable once it keeps still, since what a former run held is given back over some time."""
    seen = [machine.memory_kib("MemAvailable")]
    for _ in range(20):
        time.sleep(0.1)
        seen.append(machine.memory_kib("MemAvailable"))
        if abs(seen[-1] - seen[-2]) < 512:
            break
    return seen[-1]


def idle(bench, scenario, proxy, servers, index):
    server, sessions = servers[0], scenario.connections
    # The first session of a process is dearer than all others: it is not what is measured.
    first = bench.load(scenario, "ping", proxy.addresses[0], 0.3, connections=1).finish()
    server.wait_empty()
    time.sleep(0.3)
    start, anon, available = proxy.rss_kib("VmRSS"), proxy.rss_kib("RssAnon"), available_kib()
    load = bench.load(scenario, "idle", proxy.addresses[0], IDLE_HOLD, connections=sessions, ping=True)
    server.wait_for("connections", sessions, load)
    time.sleep(IDLE_HOLD / 2)
    user = (proxy.rss_kib("RssAnon") - anon) * 1024 / sessions
    drop = (available - machine.memory_kib("MemAvailable")) * 1024 / sessions
    held = server.totals()["connections"]
    report = load.finish()
    values = {"available_bytes": drop}
    if proxy.pid:
        values |= {"user_bytes": user, "start_mib": start / 1024}
    got = result(values, None, first, report, proxy=proxy)
    if held != sessions:
        got["errors"] += 1
        got["said"] += f"; {held} of {sessions} sessions were there"
    return got


def sessions(bench, scenario, proxy, servers, index):
    """Nine of ten are opened and verified, held, and verified again; all the while the tenth pings."""
    server, pinging = servers[0], scenario.connections // 10
    holding = scenario.connections - pinging
    idle_load = bench.load(scenario, "idle", proxy.addresses[0], bench.seconds + SESSIONS_HOLD, connections=holding,
                           ping=True)
    server.wait_for("connections", holding, idle_load)
    ping_load = bench.load(scenario, "ping", proxy.addresses[0], bench.seconds + LONG, connections=pinging,
                           payload=scenario.payload)
    server.wait_for("connections", scenario.connections, ping_load)
    before = sample(bench, proxy, server, idle_load.process, ping_load.process)
    least, end = scenario.connections, time.monotonic() + bench.seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        least = min(least, server.totals()["connections"])
    seen = Between(before, sample(bench, proxy, server, idle_load.process, ping_load.process))
    files = proxy.open_files()
    idle_load.check_running()
    verified, report = idle_load.finish(), ping_load.finish(now=True)
    # What the held ones sent in the window, if anything, is not worth telling apart.
    trips = seen.work["received"] / scenario.payload
    values = {"sessions": least, "files": files, "rate": trips / seen.seconds, "p99_us": report["latency_us"]["p99"]}
    got = result(values, seen, verified, report, proxy=proxy)
    if verified["operations"] != 2 * holding:
        got["errors"] += 1
        got["said"] += f"; {verified['operations']} verifications of {holding} sessions, 2 of each were due"
    return got


def turn_p99_us(before, after):
    """The bound of the histogram's bucket below which 99 of 100 loop turns were between the two."""
    turns = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    wanted = 0.99 * max(turns.values(), default=0)
    return next((bound * 1e6 for bound, count in turns.items() if count >= wanted > 0), None)


def mixed(bench, scenario, proxy, servers, index):
    echo, discard = servers
    pings = {"connections": scenario.connections, "payload": scenario.payload, "rate": PINGS_PER_SECOND}
    unloaded = bench.load(scenario, "rate", proxy.addresses[0], bench.seconds, warmup=0.2, **pings).finish()
    discard.wait_empty()
    accepted = discard.totals()["accepted"]
    bulk_load = bench.load(scenario, "bulk", proxy.addresses[1], 3 * SETTLE + bench.seconds + TAIL,
                           connections=BULK_FLOWS, one_way=True, rate=scenario.pace)
    discard.wait_for("accepted", accepted + BULK_FLOWS, bulk_load)
    time.sleep(SETTLE)
    turns = proxy.peer.loop_turns() if hasattr(proxy.peer, "loop_turns") else None
    ping_load = bench.load(scenario, "rate", proxy.addresses[0], bench.seconds, warmup=0.2, **pings)
    processes = (echo.process, bulk_load.process, ping_load.process)
    before = sample(bench, proxy, discard, *processes)
    time.sleep(bench.seconds)
    seen = Between(before, sample(bench, proxy, discard, *processes))
    report = ping_load.finish()
    values = {**latency(report), "unloaded_p99_us": unloaded["latency_us"]["p99"],
              "gb_per_s": seen.work["received"] / 1e9 / seen.seconds, "other_core": 100 * seen.others / seen.seconds}
    if turns is not None and (p99 := turn_p99_us(turns, proxy.peer.loop_turns())) is not None:
        values["loop_turn_p99_us"] = p99
    return result(values, seen, unloaded, report, bulk_load.finish(), proxy=proxy)


KINDS = {"ping": ping, "bulk": bulk, "churn": churn, "idle": idle, "mixed": mixed, "sessions": sessions}


class Round:
    """A scenario with its servers and proxies running; run() measures one peer."""

    def __init__(self, bench, scenario, peers):
        self.bench, self.scenario = bench, scenario
        self.peers = [peer for peer in peers if peer.takes(scenario)]
        self.proxies = {}
        modes = {"mixed": ("echo", "discard"), "bulk": ("echo" if scenario.both_ways else "discard",)}
        # A port for each peer: what one leaves behind in the kernel is not in the way of the next.
        self.servers = [bench.server(scenario, mode, len(self.peers)) for mode in modes.get(scenario.kind, ("echo",))]
        self.stolen = machine.stolen_share(None)[1]

    def run(self, peer):
        """The figures of one run; {"failed": why} if there are none."""
        index = self.peers.index(peer)
        try:
            if self.scenario.kind == "idle" or peer not in self.proxies:
                to = [server.addresses[index] for server in self.servers]
                self.proxies[peer] = self.bench.proxy(self.scenario, peer, to)
            proxy = self.proxies[peer]
            try:
                got = KINDS[self.scenario.kind](self.bench, self.scenario, proxy, self.servers, index)
            finally:
                if self.scenario.kind == "idle":
                    self.proxies.pop(peer).stop()
            if proxy.process and self.scenario.kind != "idle" and proxy.process.poll() is not None:
                raise Problem(f"{peer.name} ended with {proxy.process.returncode} during the run")
        except (Problem, OSError) as problem:
            got = {"failed": str(problem)}
            if peer in self.proxies:  # the next round has a new one
                self.proxies.pop(peer).stop()
            self.recover()
        got["stolen"], self.stolen = machine.stolen_share(self.stolen)
        return got

    def recover(self):
        """After a failure: no load goes on, whatever stopped the run."""
        keep = {server.process for server in self.servers} | {p.process for p in self.proxies.values()}
        self.bench.children.stop_all(but=keep)

    def close(self):
        self.bench.children.stop_all()
