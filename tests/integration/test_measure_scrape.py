"""What a scrape costs where there are a thousand servers: its own time, and what sessions notice of it.

The proxy has one core for all of its threads, so that a scrape takes from the worker what it takes."""
import statistics
import subprocess
import threading
import time

import pytest

from proxy import ECHO
from test_measure import load, two_cores  # noqa: F401 (a fixture)

pytestmark = pytest.mark.measure

SERVERS = 1000
PAIRS = 5
SECONDS = 10


@pytest.fixture
def echo_everywhere(two_cores):  # noqa: F811
    """The port of an echo server at every loopback address."""
    process = subprocess.Popen([*two_cores[1], ECHO, "--listen", "0.0.0.0:0"], stdout=subprocess.PIPE, text=True)
    yield int(process.stdout.readline().rsplit(":", 1)[1])
    process.terminate()
    process.wait()


class Scraper:
    """GET /metrics again and again; notes how long each took."""

    def __init__(self, proxy, every):
        self.proxy, self.every = proxy, every
        self.times = []
        self.size = 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.stopped.wait(self.every):
            start = time.perf_counter()
            status, body = self.proxy.get("/metrics")
            self.times.append(time.perf_counter() - start)
            assert status == 200
            self.size = len(body)

    def stop(self):
        self.stopped.set()
        self.thread.join()


def test_a_scrape_is_quick_and_not_noticed(two_cores, echo_everywhere, ringmain, tmp_path):  # noqa: F811
    servers = [{"address": f"127.1.{i // 250}.{i % 250 + 1}:{echo_everywhere}"} for i in range(SERVERS)]
    proxy = ringmain(
        {"workers": 1, "listeners": [{"name": "front", "listen": "127.0.0.1:0", "upstream": "back"}],
         "upstreams": [{"name": "back", "health_check": {"type": "tcp", "interval": "10s"}, "servers": servers}]},
        wrapper=two_cores[0])

    def p99():
        report = load(two_cores, proxy.address, tmp_path, "rate", "--connections", "50", "--rate", "5000", "--payload", "64",
                      "--duration", f"{SECONDS}s")
        return report["latency_us"]["p99"]

    pairs, times = [], []
    for _ in range(PAIRS + 1):
        without = p99()
        scraper = Scraper(proxy, 1)
        with_scrapes = p99()
        scraper.stop()
        pairs.append((with_scrapes, without))
        times += scraper.times
    pairs = pairs[1:]  # the first warms caches up
    ratio = statistics.median(a / b for a, b in pairs)
    took = statistics.median(times)
    print(f"\n{SERVERS} servers, {scraper.size / 1e6:.2f} MB: a scrape takes {took * 1e3:.1f} ms (at most {max(times) * 1e3:.1f}); ping p99 "
          f"with one each second {statistics.median(p[0] for p in pairs):.0f} us, without {statistics.median(p[1] for p in pairs):.0f} us, "
          f"ratio {ratio:.2f} ({PAIRS} pairs)")
    assert took < 0.05
    assert ratio <= 1.1
