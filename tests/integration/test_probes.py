"""The trace probes: what the binary says of them, and what a tracer counts."""
import os
import re
import shutil
import signal
import subprocess

import pytest

from peers import EchoServer, Job, connect, ping, read_pattern, reset, send_pattern, unused_address, wait_until
from proxy import RINGMAIN, config

ARGUMENTS = {"accept": 3, "connect": 5, "connect_failed": 5, "close": 6, "mode": 4}


def probes():
    """{name: [(semaphore, arguments)]} of the binary's ELF notes."""
    notes = subprocess.run(["readelf", "-n", RINGMAIN], capture_output=True, text=True, check=True, timeout=60).stdout
    found = {}
    for block in notes.split("Provider: ringmain")[1:]:
        name = re.search(r"Name: (\S+)", block)[1]
        semaphore = int(re.search(r"Semaphore: (\S+)", block)[1], 16)
        found.setdefault(name, []).append((semaphore, re.search(r"Arguments: (.*)", block)[1].split()))
    return found


def test_the_binary_names_its_probes():
    found = probes()
    assert set(found) == set(ARGUMENTS)
    for name, places in found.items():
        semaphores = {semaphore for semaphore, _ in places}
        assert len(semaphores) == 1 and 0 not in semaphores, name  # nothing is computed while nobody listens
        for _, arguments in places:
            assert len(arguments) == ARGUMENTS[name], name


# Those of the listener `warm` say that the tracer has begun to see; what is counted is of `front` and `back`.
SCRIPT = """
usdt:BINARY:ringmain:accept { printf("seen accept\\n"); }
usdt:BINARY:ringmain:connect { printf("seen connect\\n"); }
usdt:BINARY:ringmain:connect_failed { printf("seen connect_failed\\n"); }
usdt:BINARY:ringmain:close { printf("seen close\\n"); }
usdt:BINARY:ringmain:mode { printf("seen mode\\n"); @modes[arg2, arg3] = count(); }
usdt:BINARY:ringmain:accept /str(arg2) == "front"/ { @accepted[0] = count(); @open[arg0] = 1; }
usdt:BINARY:ringmain:connect /str(arg2) == "back"/ { @connected[str(arg3)] = count(); }
usdt:BINARY:ringmain:connect_failed /str(arg1) == "back"/ { @failed[str(arg2), str(arg3), arg4] = count(); }
usdt:BINARY:ringmain:close /str(arg1) == "front"/ {
  @closed[str(arg3)] = count(); @to_server[0] = sum(arg4); @to_client[0] = sum(arg5); delete(@open[arg0]);
}
"""


def bulk(address, length=32 << 20):
    with connect(address) as client:
        sender = Job(send_pattern, client, 0, length)
        read_pattern(client, 0, length)
        sender.finish()


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("bpftrace") is None or os.geteuid() != 0, reason="bpftrace is not here, or may not be used")
def test_a_tracer_counts_what_happens(own, ringmain, tmp_path):
    echo, gone = own(EchoServer()), unused_address()
    settings = config([echo.address, gone], workers=2)
    settings["listeners"].append({"name": "warm", "listen": "127.0.0.1:0", "upstream": "other"})
    settings["upstreams"].append({"name": "other", "servers": [{"address": echo.address}, {"address": unused_address()}]})
    proxy = ringmain(settings)
    warm = proxy.addresses["warm"][0]
    script = tmp_path / "probes.bt"
    script.write_text(SCRIPT.replace("BINARY", RINGMAIN))
    output = tmp_path / "output"
    with open(output, "w") as file:
        tracer = subprocess.Popen(["bpftrace", "-p", str(proxy.pid), str(script)], stdout=file, stderr=file)

    def sees(*names):
        if tracer.poll() is not None:
            pytest.skip(f"bpftrace does not work here: {output.read_text()[-300:]}")
        return all(f"seen {name}\n" in output.read_text() for name in names)

    def warm_up():
        ping(client := connect(warm))
        client.close()
        return sees("accept", "connect", "connect_failed", "close")

    try:
        wait_until(warm_up, "bpftrace sees sessions", 60)
        wait_until(lambda: bulk(warm) or sees("mode"), "bpftrace sees changes of mode", 30)
        for i in range(30):
            ping(client := connect(proxy.address), i)
            reset(client) if i % 3 == 0 else client.close()
        bulk(proxy.address)
        proxy.wait_active(0)
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        tracer.wait(60)
    counts = {}
    for name, key, value in re.findall(r"^@(\w+)\[(.*)\]: (\d+)$", output.read_text(), re.M):
        counts.setdefault(name, {})[key] = int(value)

    def metric(name, **labels):
        return proxy.metric(f"ringmain_{name}", **labels)

    assert counts["accepted"] == {"0": 31} and "open" not in counts
    assert counts["connected"] == {echo.address: 31}
    failed = metric("server_connect_failures_total", upstream="back", server=gone, reason="refused")
    assert failed > 0 and counts["failed"] == {f"{gone}, refused, 111": failed}
    closed = {reason: metric("connections_closed_total", listener="front", reason=reason) for reason in counts["closed"]}
    assert counts["closed"] == closed and sum(closed.values()) == 31
    for direction in ("to_server", "to_client"):
        assert counts[direction] == {"0": metric("bytes_total", listener="front", direction=direction)}
    assert counts["modes"]["1, 1"] >= 1, "the client's bulk went through a pipe"
