"""What is measured. A scenario is data; measure.py knows how to run each kind."""
from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True)
class Metric:
    """One figure of a run. The first one of a kind is what its bars and plots show."""

    name: str
    title: str
    unit: str
    digits: int = 2
    lower_is_better: bool = True
    compared: bool = True  # has a ratio ringmain/peer


@dataclass(frozen=True)
class Scenario:
    name: str
    group: str  # those of one group share a table and a plot
    title: str
    kind: str   # ping, bulk, churn, idle, mixed, sessions
    connections: int
    payload: int = 64
    workers: int = 1
    user: str | None = None
    both_ways: bool = False   # bulk: the server sends everything back
    pace: str | None = None   # mixed: bytes a second of all bulk flows, else as fast as they go
    peers: tuple = ()         # the only ones, by name; empty: all that can

    def needs_files(self):
        """File descriptors that the proxy needs, so many that there may not be enough; 0: few."""
        return 2 * self.connections + FILES_FOR_ALL_ELSE if self.kind == "sessions" else 0


LATENCY = (Metric("p50_us", "p50", "µs", 0), Metric("p99_us", "p99", "µs", 0))
METRICS = {
    "ping": (Metric("cpu_us", "CPU per round trip", "µs"), Metric("rate", "round trips", "/s", 0, False), *LATENCY),
    "bulk": (Metric("cpu_s_per_gb", "CPU per GB", "s", 3), Metric("gb_per_s", "throughput", "GB/s", 2, False)),
    "churn": (Metric("cpu_us", "CPU per connection", "µs", 1), Metric("rate", "connections", "/s", 0, False),
              *LATENCY),
    "idle": (
        Metric("user_bytes", "RssAnon per session", "bytes", 0),
        # A difference of differences of MemAvailable: too rough for ratios.
        Metric("kernel_bytes", "other memory per session", "bytes", 0, compared=False),
        Metric("available_bytes", "drop of MemAvailable per session, load and server included", "bytes", 0,
               compared=False),
        Metric("start_mib", "resident at start", "MiB", 1),
    ),
    "sessions": (
        Metric("sessions", "sessions at once", "", 0, False, compared=False),
        Metric("files", "file descriptors of the proxy", "", 0, compared=False),
        Metric("rate", "round trips of every tenth meanwhile", "/s", 0, False, compared=False),
        Metric("p99_us", "p99", "µs", 0, compared=False),
    ),
    "mixed": (
        Metric("p99_us", "ping p99 beside bulk", "µs", 0),
        Metric("unloaded_p99_us", "ping p99 unloaded", "µs", 0),
        Metric("p99_growth", "ping p99 beside bulk / unloaded at its least", "×", 1, compared=False),
        Metric("p50_us", "ping p50 beside bulk", "µs", 0),
        Metric("gb_per_s", "bulk throughput", "GB/s", 2, False),
        Metric("other_core", "load's core busy", "%", 0, compared=False),
        Metric("loop_turn_p99_us", "p99 of the worker's loop turns, at most", "µs", 0, compared=False),
    ),
}

ADAPTIVE_SIZES = (16, 256, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, KIB**2)
PACE = "300MiB/s"  # keeps the core of load and servers below 70%
FILES_FOR_ALL_ELSE = 500
GROUPS = {
    "ping": "Small and middle messages: closed loop, one message under way on each connection",
    "bulk": "Bulk upload: one way, to a server that discards; a GB is 10⁹ bytes that arrived at the server",
    "bulk-echo": "Bulk both ways: everything comes back and is verified; a GB is 10⁹ bytes relayed, both directions "
                 "added",
    "churn": "Short connections: connect, 64 B there and back, reset by the client; 16 at a time",
    "idle": "Idle sessions: growth from 0 to 4000, each having relayed one message",
    "mixed": "Fairness: 1000 messages of 64 B a second over 10 connections (open loop, latency from when each was "
             "due) beside 8 bulk uploads",
    "adaptive": "Buffers or pipes: ringmain, which chooses by what a flow does, against itself with the choice fixed; "
                "closed loop, 8 connections",
    "sessions": "Many sessions: verified when they are opened, and again after all were held, while every tenth pings",
    "two-workers": "Two workers, nothing pinned",
    "nobody": "As user nobody without capabilities (small kernel pipes)",
}


def size_name(size):
    return f"{size} B" if size < KIB else f"{size // KIB} KiB" if size < KIB**2 else f"{size // KIB**2} MiB"


def short(size):
    return size_name(size).replace(" ", "").replace("iB", "").lower().removesuffix("b")


def ping(connections, payload, workers=1):
    name = f"ping-{connections}x{short(payload)}"
    return Scenario(
        name=name if workers == 1 else f"two-workers-{name}",
        group="ping" if workers == 1 else "two-workers",
        title=f"ping {connections} × {size_name(payload)}", kind="ping", connections=connections, payload=payload,
        workers=workers)


def adaptive(payload):
    return Scenario(f"adaptive-{short(payload)}", "adaptive", f"ping 8 × {size_name(payload)}", "ping", 8, payload,
                    peers=("ringmain", "ringmain-buffered", "ringmain-spliced"))


def flows(count):
    return "1 flow" if count == 1 else f"{count} flows"


def bulk(connections, group="bulk", **options):
    return Scenario(name=f"{group}-{connections}" if group != "two-workers" else f"two-workers-bulk-{connections}",
                    group=group, title=f"bulk {flows(connections)}", kind="bulk", connections=connections,
                    payload=64 * KIB, **options)


def every():
    return (
        *(ping(connections, payload) for connections in (1, 50, 1000) for payload in (16, 64, 4 * KIB, 16 * KIB)),
        *(bulk(connections) for connections in (1, 8, 64)),
        *(bulk(connections, "bulk-echo", both_ways=True) for connections in (1, 8, 64)),
        Scenario("churn", "churn", "churn", "churn", 16),
        Scenario("idle", "idle", "4000 idle sessions", "idle", 4000),
        Scenario("mixed-paced", "mixed", f"beside bulk at {PACE} in all", "mixed", 10, pace=PACE),
        Scenario("mixed-saturating", "mixed", "beside saturating bulk", "mixed", 10),
        *map(adaptive, ADAPTIVE_SIZES),
        Scenario("sessions-9500", "sessions", "9500 sessions through two workers", "sessions", 9500, workers=2,
                 peers=("ringmain",)),
        ping(50, 64, 2), ping(1000, 64, 2), bulk(8, "two-workers", workers=2),
        Scenario("two-workers-churn", "two-workers", "churn", "churn", 16, workers=2),
        bulk(64, "nobody", user="nobody"),
    )


def choose(words):
    """Those whose name or group, or the beginning of whose name, is among `words`; all without any."""
    begins = tuple(word for word in words if word not in (*GROUPS, *(one.name for one in every())))
    return [one for one in every()
            if not words or one.name in words or one.group in words or (begins and one.name.startswith(begins))]


# Of several settings of a proxy, whichever has the better median in a scenario.
BEST = {"haproxy-best": ("haproxy", "haproxy-splice"), "fixed-best": ("ringmain-buffered", "ringmain-spliced")}

# What the project wants of itself: scenario, metric, peer, bar, aim. With a peer it is a ratio ringmain/peer, without
# one ringmain's own figure.
BARS = (
    ("ping-50x64", "cpu_us", "nginx", 0.97, 0.93),
    ("ping-50x64", "cpu_us", "haproxy", 0.82, 0.78),
    ("ping-50x64", "cpu_us", "floor", 1.03, 1.00),
    ("ping-1000x64", "cpu_us", "nginx", 0.88, 0.80),
    ("ping-1000x64", "cpu_us", "haproxy", 0.70, 0.65),
    ("ping-1000x64", "cpu_us", "floor", 1.04, 1.00),
    ("ping-50x16k", "cpu_us", "nginx", 0.88, 0.80),
    ("ping-50x16k", "cpu_us", "haproxy", 0.84, 0.78),
    ("bulk-8", "cpu_s_per_gb", "nginx", 0.45, 0.33),
    ("bulk-8", "cpu_s_per_gb", "haproxy-best", 0.45, 0.33),
    ("bulk-64", "cpu_s_per_gb", "nginx", 0.45, 0.33),
    ("bulk-64", "cpu_s_per_gb", "haproxy-best", 0.45, 0.33),
    ("bulk-1", "cpu_s_per_gb", "nginx", 0.35, 0.25),
    ("bulk-1", "cpu_s_per_gb", "haproxy-best", 0.75, 0.60),
    ("churn", "cpu_us", "haproxy", 0.95, 0.85),
    ("churn", "cpu_us", "nginx", 0.70, 0.60),
    ("churn", "rate", "haproxy", 1.00, 1.00),
    ("idle", "user_bytes", "haproxy", 0.28, 0.14),
    ("idle", "user_bytes", "nginx", 0.12, 0.06),
    ("nobody-64", "cpu_s_per_gb", "nginx", 0.55, 0.40),
    ("mixed-paced", "p99_growth", None, 3, None),
    ("mixed-paced", "other_core", None, 70, None),
    ("mixed-saturating", "loop_turn_p99_us", None, 1000, None),
    *((f"adaptive-{short(size)}", "cpu_us", "fixed-best", 1.05, None) for size in ADAPTIVE_SIZES),
    ("sessions-9500", "sessions", None, 9500, None),
)
