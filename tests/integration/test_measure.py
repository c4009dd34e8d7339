"""Figures the project promises, measured side by side: the proxy has one core, load and server have the other.

Absolute figures mean nothing on a shared machine; what is compared is the CPU time of the proxy per unit of work, alternately in one
run, by the median of the ratios of neighbours."""
import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from pathlib import Path

import pytest

import proxy as proxy_module
from peers import wait_until
from proxy import ECHO, LOAD, config

pytestmark = pytest.mark.measure

PAIRS = int(os.environ.get("RINGMAIN_PAIRS", "7"))
SECONDS = 4
NGINX_CONFIG = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
{module}
events {{ worker_connections 10000; }}
stream {{
  upstream back {{ {servers} }}
  server {{ listen 127.0.0.1:{port}; proxy_pass back; tcp_nodelay on; access_log off; }}
}}
"""


def cpu_seconds(pid):
    """User and system time of a process, from the scheduler's own account (nanoseconds) of all its threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def two_cores():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores: one for the proxy, one for the load")
    proxy, rest = sorted(os.sched_getaffinity(0))[:2]
    return ["taskset", "-c", str(proxy)], ["taskset", "-c", str(rest)]


@pytest.fixture
def echo(two_cores):
    process = subprocess.Popen([*two_cores[1], ECHO, "--listen", "127.0.0.1:0,127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    yield [process.stdout.readline().split("address=")[1].strip() for _ in range(2)]
    process.terminate()
    process.wait()


@pytest.fixture
def nginx(two_cores, echo, tmp_path):
    """(address, pid of the worker) of Debian's nginx as a stream proxy."""
    binary = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if binary is None:
        pytest.skip("nginx is not installed")
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    port = free_port()
    path = tmp_path / "nginx.conf"
    path.write_text(
        NGINX_CONFIG.format(
            directory=tmp_path,
            port=port,
            module=f"load_module {module};" if module.exists() else "",
            servers=" ".join(f"server {address};" for address in echo),
        )
    )
    master = subprocess.Popen([*two_cores[0], binary, "-p", str(tmp_path), "-c", str(path)], stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
    wait_until(lambda: children.read_text().strip(), "nginx has a worker")
    yield f"127.0.0.1:{port}", int(children.read_text().split()[0])
    master.terminate()
    master.wait()


def load(two_cores, address, tmp_path, *options):
    report = tmp_path / "load.json"
    subprocess.run(
        [*two_cores[1], LOAD, *options, "--to", address, "--quiet", "--json", str(report)],
        check=True, stdout=subprocess.DEVNULL,
    )
    return json.loads(report.read_text())


def test_ping_cpu_against_nginx(two_cores, echo, nginx, ringmain, tmp_path):
    proxy = ringmain(config(echo), wrapper=two_cores[0])

    def microseconds_per_round_trip(address, pid):
        before = cpu_seconds(pid)
        operations = load(two_cores, address, tmp_path, "ping", "--connections", "50", "--payload", "64",
                          "--duration", f"{SECONDS}s")["operations"]
        return (cpu_seconds(pid) - before) * 1e6 / operations

    pairs = []
    for _ in range(PAIRS + 1):
        ours = microseconds_per_round_trip(proxy.address, proxy.pid)
        theirs = microseconds_per_round_trip(*nginx)
        pairs.append((ours, theirs))
    pairs = pairs[1:]  # the first warms caches up
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    median = statistics.median(ratios)
    print(f"\nping 50 x 64 B, us of proxy CPU a round trip: ringmain {statistics.median(p[0] for p in pairs):.2f}, "
          f"nginx {statistics.median(p[1] for p in pairs):.2f}, ratio {median:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}, "
          f"{PAIRS} pairs)")
    assert median <= 1.06


def test_idle_session_memory(echo, ringmain, tmp_path):
    sessions = 4000
    proxy = ringmain(config(echo))
    load(([], []), proxy.address, tmp_path, "ping", "--connections", "1", "--payload", "64", "--duration", "1s")
    proxy.wait_active(0)
    before = proxy.rss()
    report = tmp_path / "idle.json"
    process = subprocess.Popen(
        [LOAD, "idle", "--to", proxy.address, "--connections", str(sessions), "--ping", "--duration", "5s", "--quiet",
         "--json", str(report)], stdout=subprocess.DEVNULL)
    proxy.wait_active(sessions)
    time.sleep(1)  # the figure is of sessions that are idle, after the ping that each starts with
    growth = proxy.rss() - before
    assert proxy.metric("ringmain_worker_buffers_held") == 0
    assert process.wait() == 0
    print(f"\nidle, {sessions} sessions: resident at start {before / 1024:.0f} KiB, growth {growth / sessions:.0f} bytes a session")
    assert growth / sessions <= 4096
