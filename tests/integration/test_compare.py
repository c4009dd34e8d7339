"""loadtest/compare: that each scenario works, that it notices what is wrong, and that it leaves nothing behind. And the
bare epoll relay that it measures as the floor."""
import contextlib
import faulthandler
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from peers import wait_until
from proxy import BUILD, ECHO, LOAD

LOADTEST = Path(__file__).resolve().parents[2] / "loadtest"
sys.path.insert(0, str(LOADTEST))
from comparing import figures, report, scenarios  # noqa: E402
from comparing.processes import children_of  # noqa: E402

two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core for the proxy, one for the load")

# A relay that turns a bit of what servers send, and dies with its connection.
LIAR = """
import socket, sys, threading
listen, to = [(word.rsplit(":", 1)[0], int(word.rsplit(":", 1)[1])) for word in sys.argv[1:]]
def relay(one, other, flip):
    while data := one.recv(65536):
        other.sendall(bytes(byte ^ flip for byte in data))
    other.shutdown(socket.SHUT_WR)
server = socket.create_server(listen)
while True:
    client = server.accept()[0]
    back = socket.create_connection(to)
    threading.Thread(target=relay, args=(client, back, 0), daemon=True).start()
    threading.Thread(target=relay, args=(back, client, 1), daemon=True).start()
"""


def command(out, *options):
    return [sys.executable, str(LOADTEST / "compare"), "--build", str(BUILD), "--out", str(out), *options]


def compare(out, *options, timeout=120, wrapper=()):
    """(exit code, results.json, what it said on standard error)"""
    done = subprocess.run([*wrapper, *command(out, *options)], capture_output=True, text=True, timeout=timeout)
    assert "Traceback" not in done.stderr, done.stderr
    path = out / "results.json"
    return done.returncode, json.loads(path.read_text()) if path.exists() else None, done.stderr


def check_pages(out, results):
    """Every table and plot is there, and says what the runs say."""
    page = (out / "results.md").read_text()
    assert "nan" not in page
    for scenario in results["scenarios"].values():
        assert f"### {report.scenario_name(scenario)}" in page
        metric = scenarios.METRICS[scenario["kind"]][0]
        ours = scenario["medians"]["ringmain"][metric.name]
        assert f"| **ringmain** | {report.number(ours, metric.digits)} |" in page
        if list(scenario["medians"]) == ["ringmain"]:
            continue  # nothing to compare, no plot
        drawing = (out / f"{scenario['group']}.svg").read_text()
        assert "prefers-color-scheme: dark" in drawing
        bars = ElementTree.fromstring(drawing).findall(".//{http://www.w3.org/2000/svg}rect[@class='ours']")
        of_group = [one for one in results["scenarios"].values() if one["group"] == scenario["group"]]
        assert len(bars) == len(of_group)


@two_cores
@pytest.mark.ci
def test_scenarios(tmp_path):
    names = ["ping-50x64", "bulk-1", "bulk-echo-8", "churn", "mixed-paced"]
    code, results, said = compare(tmp_path, "--quick", "--seconds", "0.3", "--peers", "direct,floor",
                                  "--only", ",".join(names))
    assert code == 0, said
    assert list(results["scenarios"]) == names
    assert said.count("round 1 ringmain") == len(names)
    for name, scenario in results["scenarios"].items():
        assert not scenario["errors"] and not scenario["failed"], said
        assert [run["peer"] for run in scenario["runs"]] == ["direct", "floor", "ringmain"]
        metric = scenarios.METRICS[scenario["kind"]][0].name
        ours, floor = scenario["medians"]["ringmain"], scenario["medians"]["floor"]
        assert ours[metric] > 0 and floor[metric] > 0
        found = scenario["ratios"]["floor"][metric]
        assert found["rounds"] == 1 and found["median"] == pytest.approx(ours[metric] / floor[metric], rel=1e-4)
        assert not any(cpu.startswith("cpu_") for cpu in scenario["medians"]["direct"])
        for run in scenario["runs"]:
            # The proxy had its core, the load its own.
            assert run["proxy_core"] <= 1.05 and run["other_core"] <= 1.05
    # Relaying costs more than nothing and less than a core, and direct is faster than any relay.
    ping = results["scenarios"]["ping-50x64"]["medians"]
    assert ping["ringmain"]["cpu_us"] * ping["ringmain"]["rate"] <= 1.05e6
    assert ping["direct"]["p50_us"] < ping["ringmain"]["p50_us"] * 1.5
    assert results["scenarios"]["mixed-paced"]["medians"]["ringmain"]["loop_turn_p99_us"] > 0
    assert results["machine"]["cores"] >= 2 and results["peers"]["ringmain"]["version"] != "unknown"
    check_pages(tmp_path, results)


@two_cores
@pytest.mark.ci
def test_fixed_choices_and_many_sessions(tmp_path):
    code, results, said = compare(tmp_path, "--quick", "--seconds", "0.3",
                                  "--peers", "ringmain-buffered,ringmain-spliced",
                                  "--only", "adaptive-16,adaptive-64k,ping-1x64,sessions-9500")
    assert code == 0, said
    for name in ("adaptive-16", "adaptive-64k"):
        scenario = results["scenarios"][name]
        assert [run["peer"] for run in scenario["runs"]] == ["ringmain-buffered", "ringmain", "ringmain-spliced"]
        assert scenario["ratios"]["fixed-best"]["cpu_us"] in [scenario["ratios"][peer]["cpu_us"] for peer in (
            "ringmain-buffered", "ringmain-spliced")]
    assert [run["peer"] for run in results["scenarios"]["ping-1x64"]["runs"]] == ["ringmain"]
    assert [bar["scenario"] for bar in results["bars"]][:2] == ["adaptive-16", "adaptive-64k"]
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 19500:
        assert "sessions-9500" not in results["scenarios"] and "SKIPPED sessions-9500" in said
    else:
        values = results["scenarios"]["sessions-9500"]["runs"][0]["values"]
        assert values["sessions"] == 9500 and values["files"] >= 19000 and values["rate"] > 0
        assert results["bars"][-1]["verdict"] == "held"
        assert "≥ 9500 |  | 9500, 0 errors | held |" in (tmp_path / "results.md").read_text()
    check_pages(tmp_path, results)


@two_cores
def test_too_few_files_are_told(tmp_path):
    code, results, said = compare(tmp_path, "--quick", "--peers", "direct", "--only", "sessions-9500",
                                  wrapper=["prlimit", "--nofile=9000:9000"])
    assert code == 0, said
    assert "SKIPPED sessions-9500: needs 19500 file descriptors in the proxy, the limit is 9000 (ulimit -Hn)" in said
    assert results["scenarios"] == {} and results["bars"] == []
    assert "| 9500 sessions through two workers |  |  | needs 19500 file" in (tmp_path / "results.md").read_text()


@pytest.mark.slow
@two_cores
def test_every_scenario_and_peer(tmp_path):
    """Installs the peers. Takes some 5 minutes."""
    faulthandler.cancel_dump_traceback_later()  # which the suite arms for tests that ought to be shorter
    code, results, said = compare(tmp_path, "--quick", timeout=900)
    assert code == 0, said
    assert list(results["scenarios"]) == [scenario.name for scenario in scenarios.every()
                                          if scenario.title not in results["skipped"]]
    for name, scenario in results["scenarios"].items():
        assert not scenario["errors"] and not scenario["failed"], f"{name}: {said}"
    assert len(results["bars"]) == sum(bar[0] in results["scenarios"] for bar in scenarios.BARS)
    check_pages(tmp_path, results)


@two_cores
def test_wrong_peers_are_told(tmp_path):
    """One that changes bytes, one that does not start: both are told, and the others are measured all the same."""
    liar = tmp_path / "liar.py"
    liar.write_text(LIAR)
    code, results, said = compare(
        tmp_path / "out", "--quick", "--seconds", "0.2", "--peers", "direct,liar,ends", "--only", "ping-1x64",
        "--peer", f"liar={sys.executable} {liar} {{listen}} {{to}}", "--peer", "ends=false {listen} {to}")
    assert code == 0, said  # neither ringmain nor the runs without a proxy had an error
    scenario = results["scenarios"]["ping-1x64"]
    assert "ended with 1" in scenario["failed"]["ends"][0]
    assert scenario["errors"].get("liar", 0) > 0 or "ended early" in scenario["failed"]["liar"][0], said
    assert set(scenario["errors"]) | set(scenario["failed"]) == {"liar", "ends"}
    page = (tmp_path / "out" / "results.md").read_text()
    assert "ping 1 × 64 B, ends: 1 failed runs" in page and "ping 1 × 64 B, liar: 1 " in page


@two_cores
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_leaves_nothing_behind(tmp_path, number):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(command(tmp_path, "--pairs", "1", "--peers", "floor", "--only", "ping-50x64"),
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                               env={**os.environ, "TMPDIR": str(temporary)})
    try:
        assert "floor" in process.stderr.readline()
        started = wait_until(lambda: (found := children_of(process.pid)) and len(found) >= 4 and found,
                             "server, two proxies and the load run")
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    finally:
        process.kill()
        process.stderr.close()
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    assert list(temporary.iterdir()) == []


def test_wrong_usage(tmp_path):
    for options, sentence in (
        (["--only", "nothing"], "no scenario is called nothing"),
        (["--peers", "nobody"], "no peer nobody"),
        (["--peer", "x=y"], "--peer wants NAME="),
        (["--build", str(tmp_path)], "build first"),
        (["--congestion-control", "nope"], "no congestion control nope; this kernel has"),
        (["--render"], f"{tmp_path}/results.json is not there: measure first"),
        (["--pairs", "0"], "--pairs must be at least 1"),
        (["--seconds", "0"], "--seconds at least 0.1"),
    ):
        code, results, said = compare(tmp_path, *options)
        assert code in (1, 2) and sentence in said and results is None, said


# ---- Figures and pages, without a run ----

def run(number, peer, **values):
    return {"round": number, "peer": peer, "errors": 0, "said": "", "stolen": 0, "values": values}


def test_ratios_are_of_rounds():
    """Of what stood side by side: rounds in which the machine was slower do not count for either."""
    runs = [run(0, "nginx", cpu_us=10), run(0, "ringmain", cpu_us=9), run(1, "nginx", cpu_us=100),
            run(1, "ringmain", cpu_us=80), run(2, "nginx", cpu_us=10), run(2, "ringmain", cpu_us=8.5),
            {"round": 3, "peer": "nginx", "failed": "it fell over"}, run(3, "ringmain", cpu_us=1)]
    found = figures.summarise("ping", runs, ["nginx", "ringmain"])
    assert found["ratios"]["nginx"]["cpu_us"] == {"median": 0.85, "least": 0.8, "most": 0.9, "rounds": 3}
    assert found["medians"]["nginx"]["cpu_us"] == 10
    assert found["failed"] == {"nginx": ["it fell over"]}


def test_losses_and_bars():
    runs = [run(0, "haproxy", cpu_us=10, rate=200), run(0, "haproxy-splice", cpu_us=5, rate=300),
            run(0, "ringmain", cpu_us=6, rate=100)]
    found = figures.summarise("churn", runs, ["haproxy", "haproxy-splice", "ringmain"])
    assert found["ratios"]["haproxy-best"]["cpu_us"]["median"] == 1.2
    measured = {"churn": {"kind": "churn", "runs": runs, **found}}
    assert [(metric.name, peer, worse) for _, metric, peer, worse in figures.losses(measured)] == [
        ("rate", "haproxy-splice", 3), ("rate", "haproxy", 2), ("cpu_us", "haproxy-splice", 1.2)]
    assert [(bar["metric"], bar["verdict"]) for bar in figures.bars(measured)] == [
        ("cpu_us", "aim met"), ("rate", "missed")]


def test_own_bars():
    """Latency beside bulk counts against the least without, and loop turns by themselves."""
    runs = [run(0, "ringmain", p99_us=600, unloaded_p99_us=900, loop_turn_p99_us=500),
            run(1, "ringmain", p99_us=800, unloaded_p99_us=200, loop_turn_p99_us=2500),
            run(2, "ringmain", p99_us=400, unloaded_p99_us=300, loop_turn_p99_us=2500)]
    found = {"kind": "mixed", "runs": runs, **figures.summarise("mixed", runs, ["ringmain"])}
    assert found["medians"]["ringmain"]["p99_growth"] == 3
    assert [(bar["metric"], bar["measured"]["median"], bar["verdict"])
            for bar in figures.bars({"mixed-paced": found, "mixed-saturating": found})] == [
        ("p99_growth", 3, "bar met"), ("loop_turn_p99_us", 2500, "missed")]


@pytest.mark.parametrize("change, verdict", [
    ({}, "held"),
    ({"values": {"sessions": 9499}}, "not held"),
    ({"errors": 1}, "not held"),
    ({"failed": "the load ended early"}, "not held"),
])
def test_sessions_are_held_or_not(change, verdict):
    """One lost session, one error or one failed run in one round is enough."""
    last = {**run(1, "ringmain", sessions=9500), **change}
    if "failed" in last:
        del last["values"]
    runs = [run(0, "ringmain", sessions=9500), last, run(2, "ringmain", sessions=9500)]
    found = {"kind": "sessions", "runs": runs, **figures.summarise("sessions", runs, ["ringmain"])}
    assert [bar["verdict"] for bar in figures.bars({"sessions-9500": found})] == [verdict]


def test_kernel_memory_is_beyond_direct():
    runs = [run(0, "direct", available_bytes=7000), run(0, "ringmain", available_bytes=16000, user_bytes=500)]
    assert figures.summarise("idle", runs, ["direct", "ringmain"])["medians"]["ringmain"]["kernel_bytes"] == 8500


def test_results_page_keeps_its_notes(tmp_path):
    runs = [run(0, "nginx", cpu_us=10), run(0, "ringmain", cpu_us=12)]
    measured = {"ping-50x64": {"title": "ping 50 × 64 B", "group": "ping", "kind": "ping", "runs": runs,
                               **figures.summarise("ping", runs, ["nginx", "ringmain"])}}
    results = {
        "taken": report.now(), "seconds": 60, "load_average": 0.1, "scenarios": measured, "bars": figures.bars(measured),
        "options": {"pairs": 1, "plain_pairs": 1, "seconds": 4, "command": "loadtest/compare --pairs 1"},
        "peers": {name: {"title": name, "version": "1.0", "description": "x"} for name in ("nginx", "ringmain")},
        "machine": {"cpu": "c", "hypervisor": False, "cores": 2, "memory_gib": 1, "system": "s", "kernel": "k",
                    "nofile": 9, "congestion_control": "cubic"},
    }
    directory = tmp_path / "results"
    directory.mkdir()
    page = tmp_path / "RESULTS.md"
    report.write(results, directory, page)
    page.write_text(page.read_text() + "What was tried and did not help.\n")
    report.write(results, directory, page)
    text = page.read_text()
    assert text.endswith(f"{report.NOTES}\n\nWhat was tried and did not help.\n")
    assert "(results/ping.svg)" in text and "loadtest/compare --pairs 1" in text
    assert "| ping 50 × 64 B: CPU per round trip, against nginx | ≤ 0.97 | ≤ 0.93 | 1.200 | **missed** |" in text
    assert "| ping 50 × 64 B: CPU per round trip | nginx | 1.20 × |" in text


# ---- The bare epoll relay ----

@contextlib.contextmanager
def relay(*addresses):
    """Its listening addresses and its process."""
    argv = [str(BUILD / "loadtest" / "epoll-relay")]
    for address in addresses:
        argv += ["127.0.0.1:0", address]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        yield [process.stdout.readline().split("address=")[1].strip() for _ in addresses], process
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def sockets_of(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def tcp(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def test_relay_carries_every_byte(tmp_path):
    echo = subprocess.Popen([ECHO, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        server = echo.stdout.readline().split("address=")[1].strip()
        with relay(server, server) as ((first, second), process):
            idle = sockets_of(process)
            for options in (["ping", "--connections", "50"], ["bulk", "--connections", "8"],
                            ["ping", "--connections", "10", "--payload", "256KiB"],
                            ["churn", "--connections", "8", "--reset"], ["churn", "--connections", "8"]):
                subprocess.run([LOAD, *options, "--to", f"{first},{second}", "--duration", "300ms", "--quiet"],
                               check=True, stdout=subprocess.DEVNULL, timeout=30)
            wait_until(lambda: sockets_of(process) == idle, "all sessions are closed")
    finally:
        echo.terminate()
        assert echo.wait(10) == 0
        echo.stdout.close()


def test_relay_passes_the_end_of_each_direction():
    """Each end arrives after the last byte, through a receiver that was slow; then nothing is left."""
    size = 16 << 20
    with socket.create_server(("127.0.0.1", 0)) as listener, relay("127.0.0.1:%d" % listener.getsockname()[1]) as (
            (address,), process):
        idle = sockets_of(process)
        with tcp(address) as client, listener.accept()[0] as server:
            server.settimeout(10)
            server.setblocking(False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while sent < size:
                    sent += server.send(bytes(min(1 << 16, size - sent)))
            server.settimeout(10)
            server.shutdown(socket.SHUT_WR)
            received = 0
            while data := client.recv(1 << 20):
                received += len(data)
            assert received == sent > 0
            client.sendall(b"still here")  # the other direction goes on
            assert server.recv(100) == b"still here"
            client.shutdown(socket.SHUT_WR)
            assert server.recv(100) == b""
            wait_until(lambda: sockets_of(process) == idle, "the session is gone though both hold their sockets")


def test_relay_closes_both_on_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listener, relay("127.0.0.1:%d" % listener.getsockname()[1]) as (
            (address,), process):
        idle = sockets_of(process)
        with tcp(address) as client, listener.accept()[0] as server:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            server.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert server.recv(1) == b""
        wait_until(lambda: sockets_of(process) == idle, "the session is gone")
        listener.close()
        with tcp(address) as client:  # nobody listens any more
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        wait_until(lambda: sockets_of(process) == idle, "the session is gone")
