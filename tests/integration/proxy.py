"""Ringmain: one running proxy under test, driven and observed from outside only."""
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

from peers import PATIENCE, wait_until

BUILD = Path(os.environ.get("RINGMAIN_BUILD") or Path(__file__).resolve().parents[2] / "build")
RINGMAIN = str(BUILD / "ringmain")
ECHO = str(BUILD / "loadtest" / "ringmain-echo")
LOAD = str(BUILD / "loadtest" / "ringmain-load")

# What a sanitizer, or the program's own checks, write when they find something.
REPORT = re.compile(
    r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error:|check failed", re.I
)
LISTENING = re.compile(r"listening name=(\S+) address=([^\s\"]+)")
SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def config(servers, *, listen="127.0.0.1:0", workers=1, listener=None, upstream=None, **top):
    """The usual configuration: one listener, one upstream. `servers` are addresses or dicts."""
    return {
        "workers": workers,
        "listeners": [{"name": "front", "listen": listen, "upstream": "back", **(listener or {})}],
        "upstreams": [
            {
                "name": "back",
                "servers": [s if isinstance(s, dict) else {"address": s} for s in servers],
                **(upstream or {}),
            }
        ],
        **top,
    }


def parse_metrics(text):
    """The Prometheus text format as {name: {labels: value}}, where labels are a sorted tuple of pairs."""
    metrics = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = SAMPLE.match(line)
        assert match, f"not a metrics line: {line!r}"
        labels = tuple(sorted(LABEL.findall(match[2] or "")))
        metrics.setdefault(match[1], {})[labels] = float(match[3])
    return metrics


def run_command(*arguments, env=None, timeout=30, **popen):
    """Runs `ringmain ARGUMENTS` to its end."""
    return subprocess.run(
        [RINGMAIN, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout * PATIENCE,
        env={**os.environ, **(env or {})},
        **popen,
    )


class Ringmain:
    """`ringmain run --config FILE`. Addresses come from its log, all the rest from its admin port and /proc."""

    def __init__(
        self, directory, settings, *, env=None, wrapper=(), nofile=None, arguments=None, binary=RINGMAIN, **popen
    ):
        directory = Path(directory)
        number = len(list(directory.glob("ringmain-*.log")))
        self.config_path = directory / f"ringmain-{number}.yaml"
        self.log_path = directory / f"ringmain-{number}.log"
        self.addresses = {}
        self.exit_code = None
        self.expected_exit = (0,)
        if arguments is None:
            # Short, so that a test that ends with open sessions does not wait for them.
            settings = {"admin": {"listen": "127.0.0.1:0"}, "drain": {"timeout": "500ms"}, **settings}
            self.config_path.write_text(json.dumps(settings, indent=1))
            arguments = ["run", "--config", str(self.config_path)]
            self._expected = self._count_listening(settings)
        else:
            self._expected = 2
        if nofile:
            wrapper = [*wrapper, "prlimit", f"--nofile={nofile}:{nofile}"]
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [*wrapper, binary, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                **popen,
            )

    @staticmethod
    def _count_listening(settings):
        listens = [entry["listen"] for entry in settings["listeners"]]
        count = sum(len(entry) if isinstance(entry, list) else 1 for entry in listens)
        return count + 1 + (1 if "metrics" in settings else 0)

    def wait_ready(self):
        def listening():
            found = LISTENING.findall(self.log())
            if len(found) >= self._expected:
                return found
            if self.process.poll() is not None:
                raise AssertionError(f"ringmain exited with {self.process.returncode}:\n{self.log()}")
            return None

        for name, address in wait_until(listening, lambda: f"all listeners logged; the log:\n{self.log()}"):
            self.addresses.setdefault(name, []).append(address)
        wait_until(lambda: self.get("/readyz")[0] == 200, "/readyz is 200")
        return self

    # ---- Observing ----

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        """The first address of the first listener."""
        return next(a[0] for name, a in self.addresses.items() if name not in ("admin", "metrics"))

    @property
    def admin(self):
        return self.addresses["admin"][0]

    def log(self):
        return self.log_path.read_text(errors="replace")

    def log_lines(self, *words):
        """The log lines that contain all `words`."""
        return [line for line in self.log().splitlines() if all(word in line for word in words)]

    def get(self, path, address=None, method="GET", headers=None, body=None):
        """(status, body) of an HTTP request to the admin address."""
        return self.answer(path, address, method, headers, body)[:2]

    def answer(self, path, address=None, method="GET", headers=None, body=None):
        """(status, body, headers)."""
        host, port = (address or self.admin).rsplit(":", 1)
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=10 * PATIENCE)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode(), response.headers
        finally:
            connection.close()

    def status(self, query=""):
        code, body = self.get("/api/v1/status" + query)
        assert code == 200
        return json.loads(body)

    def sessions(self, most=10000):
        """The live sessions as the status lists them."""
        sessions = self.status(f"?sessions={most}")["sessions"]
        assert sessions["missing_workers"] == []
        return sessions["list"]

    def metrics(self):
        code, body = self.get("/metrics")
        assert code == 200
        return parse_metrics(body)

    def metric(self, name, **labels):
        """The sum of all samples of `name` that carry `labels`; 0 if there are none."""
        wanted = set(labels.items())
        return sum(value for have, value in self.metrics().get(name, {}).items() if wanted <= set(have))

    def wait_metric(self, name, expected, timeout=10, **labels):
        """Polls until the metric is `expected` (a number, or a function of the value that says whether it is right)."""
        right = expected if callable(expected) else lambda value: value == expected
        seen = []

        def check():
            seen[:] = [self.metric(name, **labels)]
            return right(seen[0])

        target = "as wanted" if callable(expected) else expected
        wait_until(check, lambda: f"{name}{labels} is {target}; it is {seen[0]}", timeout)
        return seen[0]

    def wait_active(self, expected, timeout=10, **labels):
        return self.wait_metric("ringmain_connections_active", expected, timeout, **labels)

    def closed(self, reason=None):
        """ringmain_connections_closed_total by reason, without the zeros; or one of them."""
        by_reason = {}
        for labels, value in self.metrics().get("ringmain_connections_closed_total", {}).items():
            word = dict(labels)["reason"]
            by_reason[word] = by_reason.get(word, 0) + value
        by_reason = {word: value for word, value in by_reason.items() if value}
        return by_reason if reason is None else by_reason.get(reason, 0)

    def wait_closed(self, **counts):
        """Waits until the closes by reason are exactly these."""
        seen = {}

        def check():
            seen.clear()
            seen.update(self.closed())
            return seen == counts

        wait_until(check, lambda: f"closes are {counts}; they are {seen}")

    def _status_kib(self, field):
        return int(re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.M)[1])

    def rss(self):
        """Resident memory now, in bytes."""
        return self._status_kib("VmRSS") << 10

    def peak_rss(self):
        """The most resident memory since reset_peak_rss(), in bytes."""
        return self._status_kib("VmHWM") << 10

    def reset_peak_rss(self):
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu(self):
        """User and system time so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # ---- Ending ----

    def signal(self, number):
        self.process.send_signal(number)

    def running(self):
        return self.process.poll() is None

    def wait(self, timeout=15):
        """Waits for the exit and returns its code."""
        self.exit_code = self.process.wait(timeout * PATIENCE)
        return self.exit_code

    def stop(self, timeout=15):
        """SIGTERM, then wait(). Kills, and fails, if it does not exit."""
        if self.running():
            self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"no exit within {timeout * PATIENCE} s of SIGTERM:\n{self.log()}") from None

    def finish(self):
        """The end of every test: a clean exit, and no report of a sanitizer or check."""
        if self.exit_code is None:
            self.stop()
        log = self.log()
        assert not REPORT.search(log), log
        assert self.exit_code in self.expected_exit, f"exit code {self.exit_code}:\n{log}"


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_share(proxy, seconds):
    """The share of one CPU that the proxy uses over the next `seconds`."""
    before, start = proxy.cpu(), time.monotonic()
    time.sleep(seconds)
    return (proxy.cpu() - before) / (time.monotonic() - start)
