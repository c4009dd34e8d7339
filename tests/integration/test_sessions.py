"""What each session does is visible: in the status, one by one, and in metrics."""
import contextlib
import ctypes
import http.client
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from peers import (
    PATIENCE,
    Blackhole,
    Crowd,
    EchoServer,
    Job,
    ManualServer,
    Pingers,
    connect,
    expect_end,
    format_address,
    ping,
    read_pattern,
    send_pattern,
    unused_address,
    wait_until,
)
from proxy import config

MIB = 1 << 20
DIRECTIONS = ("to_server", "to_client")


def only(proxy):
    """The one session there is."""
    (session,) = proxy.sessions()
    return session


def relays(proxy, mode):
    return proxy.metric("ringmain_worker_relays", mode=mode)


class Flow:
    """One direction of a session, sent and read and checked here."""

    def __init__(self, source, target):
        self.source, self.target, self.position = source, target, 0

    def move(self, length):
        sender = Job(send_pattern, self.source, self.position, length)
        read_pattern(self.target, self.position, length)
        sender.finish()
        self.position += length


@pytest.mark.sanitizer
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bulk_is_spliced_in_its_direction(direction, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    if "splice" not in proxy.status()["features"]:
        pytest.skip("splicing is off")
    client, upstream = session(proxy, server)
    other = next(d for d in DIRECTIONS if d != direction)
    flow = Flow(client, upstream) if direction == "to_server" else Flow(upstream, client)
    back = Flow(flow.target, flow.source)
    quiet, quiet_upstream = session(proxy, server)
    Flow(quiet, quiet_upstream).move(100)

    def bulk_until(mode, length):
        def moved():
            flow.move(length)
            return listed()[direction]["mode"] == mode

        wait_until(moved, f"{direction} is {mode}")

    def listed():
        by_client = {entry["client"]: entry for entry in proxy.sessions()}
        still = by_client[format_address(quiet)]
        assert [still[d]["mode"] for d in DIRECTIONS] == ["buffered", "buffered"]
        return by_client[format_address(client)]

    bulk_until("spliced", 4 * MIB)
    assert relays(proxy, "spliced") == 1 and relays(proxy, "buffered") == 3
    back.move(100)
    entry = listed()
    assert entry[direction]["mode"] == "spliced" and entry[other]["mode"] == "buffered"
    assert entry[direction]["receive"] == "poll"
    assert entry[direction]["received_bytes"] == entry[direction]["sent_bytes"] == flow.position
    assert entry[other]["received_bytes"] == entry[other]["sent_bytes"] == 100

    bulk_until("buffered", 64)
    assert listed()[other]["mode"] == "buffered"
    assert relays(proxy, "spliced") == 0 and relays(proxy, "buffered") == 4

    bulk_until("spliced", 4 * MIB)
    client.close()
    upstream.close()
    proxy.wait_active(1)
    assert relays(proxy, "spliced") == 0 and relays(proxy, "buffered") == 2


@pytest.mark.sanitizer
def test_a_ping_session(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2))
    client = own(connect(proxy.address))
    for i in range(40):
        ping(client, i * 64)
    entry = only(proxy)
    assert entry["client"] == format_address(client) and entry["server"] == echo.address
    assert entry["listener"] == "front" and entry["upstream"] == "back" and entry["state"] == "established"
    assert 0 <= entry["idle_seconds"] <= entry["age_seconds"]
    for direction in DIRECTIONS:
        relay = entry[direction]
        assert relay["mode"] == "buffered" and relay["queued_bytes"] == 0 and not relay["ended"]
        assert relay["received_bytes"] == relay["sent_bytes"] == 40 * 64
        # A flow that has lasted a while earns a multishot receive.
        wanted = "multishot" if "multishot_receive" in proxy.status()["features"] else "single"
        assert relay["receive"] == wanted
    assert relays(proxy, "buffered") == 2
    other = own(connect(proxy.address))
    ping(other)
    wait_until(lambda: only_of(proxy, client)["idle_seconds"] >= 0.3, "the quiet session is idle")
    again = only_of(proxy, client)
    assert again["id"] == entry["id"] and again["age_seconds"] > entry["age_seconds"]
    assert only_of(proxy, other)["id"] != entry["id"]


def only_of(proxy, client):
    (entry,) = [entry for entry in proxy.sessions() if entry["client"] == format_address(client)]
    return entry


def test_ids_are_not_used_again(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address]))
    seen = set()
    for _ in range(20):
        client = connect(proxy.address)
        ping(client)
        seen.add(only(proxy)["id"])
        client.close()
        proxy.wait_active(0)
    assert len(seen) == 20


@pytest.mark.sanitizer
def test_other_states(own, ringmain, session):
    server, hole = own(ManualServer()), own(Blackhole())
    settings = config([server.address])
    settings["upstreams"].append({"name": "nowhere", "connect_timeout": "30s", "servers": [{"address": hole.address}]})
    settings["listeners"].append({"name": "stuck", "listen": "127.0.0.1:0", "upstream": "nowhere"})
    proxy = ringmain(settings)
    stuck = own(connect(proxy.addresses["stuck"][0]))
    entry = wait_until(lambda: proxy.sessions(), "the session is listed")[0]
    assert entry["state"] == "connecting" and entry["listener"] == "stuck" and entry["upstream"] == "nowhere"
    assert entry["server"] == hole.address and entry["to_client"]["receive"] == "none"
    assert relays(proxy, "buffered") == 0, "only those of established sessions count"
    client, upstream = session(proxy, server)
    upstream.shutdown(1)
    assert expect_end(client) == "fin"
    half = only_of(proxy, client)
    assert half["to_client"]["ended"] and not half["to_server"]["ended"]
    assert half["to_client"]["receive"] == "none" and half["to_server"]["receive"] != "none"
    stuck.close()


def test_unix_clients_have_no_address(own, ringmain, public_dir):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], listen=f"unix:{public_dir}/s"))
    client = own(connect(proxy.address))
    ping(client)
    assert only(proxy)["client"] == "unix:"


@pytest.mark.sanitizer
def test_the_list_is_bounded(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2))
    own(Crowd(proxy.address, 120)).exchange()

    def listed(query):
        sessions = proxy.status(query)["sessions"]
        assert sessions["total"] == 120
        return len(sessions["list"])

    assert listed("") == 100
    assert listed("?sessions=0") == 0
    assert listed("?sessions=7") == 7
    assert listed("?sessions=119") == 119
    assert listed("?sessions=10000") == 120
    for bad in ("", "x", "-1", "10001", "1e3", "%00"):
        code, body = proxy.get(f"/api/v1/status?sessions={bad}")
        assert code == 400 and "0 to 10000" in body, bad


@pytest.mark.sanitizer
def test_status_of_many_sessions_while_bytes_flow(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2))
    crowd = own(Crowd(proxy.address, 2000))
    pingers = Pingers(proxy.address, 20)
    try:
        proxy.wait_active(2020)
        for _ in range(10):
            before = len(pingers.latencies)
            entries = proxy.sessions()
            assert len({entry["id"] for entry in entries}) == len(entries) == 2020
            assert {entry["worker"] for entry in entries} == {0, 1}
            wait_until(lambda: len(pingers.latencies) > before + 100 or pingers.failed(), "pings go on")
    finally:
        pingers.stop()
    crowd.exchange()
    entries = {entry["client"]: entry for entry in proxy.sessions()}
    for client in crowd.socks:
        entry = entries[format_address(client)]
        assert all(entry[direction]["sent_bytes"] == 64 for direction in DIRECTIONS), entry


@contextlib.contextmanager
def stopped_worker(proxy, worker):
    """Holds one thread of the proxy by ptrace, which stops no other."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    seize, interrupt, detach, wait_all = 0x4206, 0x4207, 17, 0x40000000
    names = {path.read_text().strip(): int(path.parent.name) for path in Path(f"/proc/{proxy.pid}/task").glob("*/comm")}
    thread = names[f"rm-worker-{worker}"]
    if libc.ptrace(seize, thread, None, None) != 0:
        pytest.skip(f"no ptrace here: {os.strerror(ctypes.get_errno())}")
    try:
        assert libc.ptrace(interrupt, thread, None, None) == 0
        assert os.waitpid(thread, wait_all)[0] == thread
        yield
    finally:
        libc.ptrace(detach, thread, None, None)


def test_a_worker_that_does_not_answer_is_missing(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2))
    crowd = own(Crowd(proxy.address, 40))
    crowd.exchange()
    per_worker = [sum(entry["worker"] == worker for entry in proxy.sessions()) for worker in (0, 1)]
    with stopped_worker(proxy, 0):
        started = time.monotonic()
        sessions = proxy.status()["sessions"]
        assert 0.9 < time.monotonic() - started < 3 * PATIENCE
        assert sessions["missing_workers"] == [0] and sessions["total"] == 40
        assert [entry["worker"] for entry in sessions["list"]] == [1] * per_worker[1]
        # The metrics and a status without sessions need no worker.
        assert proxy.status("?sessions=0")["sessions"]["missing_workers"] == []
        assert proxy.metric("ringmain_worker_sessions") == 40
    crowd.exchange()
    assert len(proxy.sessions()) == 40


@pytest.mark.sanitizer
def test_status_while_workers_start_and_end(own, launch):
    """Workers that have ended are not missing, and asking while they start and end does no harm."""
    echo = own(EchoServer())
    admin = unused_address()
    proxy = launch(config([echo.address], workers=4, admin={"listen": admin}, drain={"timeout": "30s"}))
    proxy.addresses["admin"] = [admin]
    over = threading.Event()

    def ask():
        answers = 0
        while not over.is_set():
            try:
                assert len(proxy.sessions()) <= 1
                answers += 1
            except (OSError, http.client.HTTPException):
                over.wait(0.001)  # it does not listen yet, or has ended
        return answers

    askers = [Job(ask) for _ in range(4)]
    proxy.wait_ready()
    client = own(connect(proxy.address))
    ping(client)
    proxy.signal(signal.SIGTERM)
    wait_until(lambda: proxy.status()["state"] == "draining", "it drains")
    ping(client, 64)
    sessions = proxy.status()["sessions"]
    assert sessions["total"] == 1 and sessions["missing_workers"] == [] and len(sessions["list"]) == 1
    client.close()
    assert proxy.wait() == 0
    over.set()
    assert sum(asker.finish() for asker in askers) > 0
