"""Reloads that change what runs: listeners, servers, workers; and many reloads under load."""
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import threading
import time

import pytest

from peers import PATIENCE, SANITIZER, SPACING, Crowd, EchoServer, Job, ManualServer, connect, expect_end
from peers import format_address, pattern, ping, read_pattern, send_pattern, unused_address, wait_steady
from peers import wait_until
from proxy import ECHO, LOAD, config
from reloading import CHECK, MIB, RELOADS, abc, accepts, ask, assert_none_fell, changed, counters, listening  # noqa: F401
from reloading import of, reload, rewrite, states, threads, visitors, wait_gone, who
from test_measure import echo, load, two_cores  # noqa: F401 (fixtures)


# ---- Listeners ------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_listener_comes_and_goes(kind, abc, own, ringmain, public_dir):
    """And its upstream with it."""
    a, b, _ = (server.address for server in abc)
    address = unused_address() if kind == "tcp" else f"unix:{public_dir}/other"
    without, both = (config([a], workers=2) for _ in range(2))
    both["listeners"].append({"name": "other", "listen": address, "upstream": "second"})
    both["upstreams"].append({"name": "second", "servers": [{"address": b}]})
    proxy = ringmain(without)
    front = own(Crowd(proxy.address, 10, 1))
    assert "listener other: added" in reload(proxy, both)
    other = own(Crowd(address, 20, 1))
    assert set(other.banners) == {b"B"} and proxy.metric("ringmain_connections_total", listener="other") == 20

    assert "listener other: removed" in reload(proxy, without)
    assert not accepts(address) and not os.path.exists(address.removeprefix("unix:"))
    assert states(proxy) == {"front": "active", a: "active", "other": "draining", b: "draining"}
    for crowd in (front, other, front, other):
        crowd.exchange(20000)
    listed = [(entry["listener"], entry["upstream"], entry["server"]) for entry in proxy.sessions()]
    assert sorted(listed) == [("front", "back", a)] * 10 + [("other", "second", b)] * 20
    assert proxy.metric("ringmain_connections_active", listener="other") == 20

    reload(proxy, both)
    again = own(Crowd(address, 5, 1))
    assert states(proxy)["other"] == "active" and set(again.banners) == {b"B"}
    assert proxy.metric("ringmain_connections_total", listener="other") == 25
    reload(proxy, without)
    for crowd in (other, again):
        crowd.exchange()
        crowd.close()
    wait_gone(proxy, "other", "second", b)
    front.exchange()


MOVES = {
    "removed": {"listen": "elsewhere", "listener": {"name": "other"}},
    "moved": {"listen": "elsewhere"},
    "widened": {"listen": "wide"},
    "renamed": {"listener": {"name": "door"}},
    "fewer_workers": {"workers": 1},
    "another_upstream": {"listener": {"upstream": "other"}, "upstream": {"name": "other"}},
}


@pytest.mark.sanitizer
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_waiting_clients_are_served(move, own, ringmain):
    """Those whose handshake the kernel completed before the reload, whatever becomes of their listener."""
    server, address = own(EchoServer()), unused_address()
    listens = {"elsewhere": unused_address(), "wide": address.replace("127.0.0.1", "0.0.0.0"), None: address}
    # With so few files it accepts one at a time, so that the queue takes a while.
    proxy = ringmain(config([server.address], listen=address, workers=3), nofile=8000)
    proxy.signal(signal.SIGSTOP)
    crowd = own(Crowd(address, 1000))
    for sock, position in zip(crowd.socks, crowd.positions):
        sock.sendall(pattern(position, 500))
    rewrite(proxy, config([server.address], **{"workers": 3, **move, "listen": listens[move.get("listen")]}))
    proxy.signal(signal.SIGHUP)
    proxy.signal(signal.SIGCONT)
    for sock, position in zip(crowd.socks, crowd.positions):
        read_pattern(sock, position, 500)
    proxy.wait_metric(RELOADS, 1, result="success")
    crowd.exchange()
    ping(own(connect(listens[move.get("listen")].replace("0.0.0.0", "127.0.0.1"))))
    assert accepts(address) == (move.get("listen") != "elsewhere")


@pytest.mark.sanitizer
@pytest.mark.parametrize("path, values", [
    ("listeners.0.name", ["door", "front"]), ("listeners.0.upstream", ["spare", "back"]),
    ("listeners.0.max_connections", [500, "off"]), ("listeners.0.backlog", [1000, 4096]), ("workers", [4, 1, 3, 2]),
])
def test_nobody_is_refused(path, values, own, ringmain):
    """A listener that changes on its address serves all the time, on the very sockets it had."""
    server, spare, address = own(EchoServer()), own(EchoServer()), unused_address()
    settings = config([server.address], listen=address, workers=2)
    settings["upstreams"].append({"name": "spare", "servers": [{"address": spare.address}]})
    proxy = ringmain(settings)
    old, kept = own(Crowd(address, 10)), listening(address)
    with visitors(address) as served:
        for value in values * (12 // len(values)):
            reload(proxy, changed(settings, path, value))
            assert listening(address) == kept or path == "workers"
            wait_until(lambda goal=served() + 20: served() >= goal, "visitors are served")
    old.exchange()
    proxy.wait_active(10)
    if path != "listeners.0.name":
        proxy.wait_closed(client_reset=served())
        assert proxy.metric("ringmain_connections_total", listener="front") == served() + 10
    assert "upstream" not in path or spare.accepted > 20


@pytest.mark.sanitizer
def test_addresses_of_a_listener(abc, own, ringmain):
    """Added, removed, widened and narrowed: what stays keeps its sockets, the counters go on."""
    first, second = unused_address(), unused_address()
    port = second.rsplit(":", 1)[1]
    every = [first, second, f"127.0.0.2:{port}"]
    proxy = ringmain(config([abc[0].address], listen=first, workers=2))
    crowds = [own(Crowd(first, 10, 1))]
    for listen, stays, open_ones in (
        ([first, second], first, every[:2]),
        (second, second, [second]),
        (f"0.0.0.0:{port}", None, every[1:]),
        (second, None, [second]),
    ):
        before, kept = counters(proxy, abc[0].address), stays and listening(stays)
        reload(proxy, config([abc[0].address], listen=listen, workers=2))
        assert not stays or listening(stays) == kept
        assert [address for address in every if accepts(address)] == open_ones
        crowds += [own(Crowd(address, 5, 1)) for address in open_ones]
        for crowd in crowds:
            crowd.exchange()
        assert_none_fell(before, counters(proxy, abc[0].address))
        (listener,) = proxy.status()["listeners"]
        assert listener["addresses"] == (listen if isinstance(listen, list) else [listen])
        assert listener["state"] == "active"
    assert proxy.metric("ringmain_connections_active", listener="front") >= 40


def test_takeover_socket_comes_moves_and_goes(abc, ringmain, public_dir):
    settings, first, second = config([abc[0].address]), f"{public_dir}/first", f"{public_dir}/second"
    proxy = ringmain(settings)
    for path, there in ((first, [first]), (second, [second]), (None, [])):
        reload(proxy, {**settings, **({"takeover": {"socket": path}} if path else {})})
        assert [each for each in (first, second) if os.path.exists(each)] == there
    code, answer = ask(proxy, {**settings, "takeover": {"socket": f"{public_dir}/nowhere/x"}})
    assert code == 422 and "takeover.socket" in answer["errors"][0]


# ---- Servers --------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [1, 2])
def test_server_drains(workers, abc, own, ringmain):
    a, b, _ = (server.address for server in abc)
    both, alone = config([a, b], workers=workers), config([a], workers=workers)
    proxy = ringmain(both)
    crowd = own(Crowd(proxy.address, 20, 1))
    assert len(of(crowd, b"B")) == 10
    assert reload(proxy, alone) == [f"upstream back: server {b} removed"]
    assert states(proxy) == {"front": "active", a: "active", b: "draining"}
    later = own(Crowd(proxy.address, 20, 1))
    assert set(later.banners) == {b"A"}
    crowd.exchange(20000)
    assert proxy.metric("ringmain_server_connections_active", server=b) == 10

    before = counters(proxy, b)
    assert reload(proxy, both) == [f"upstream back: server {b} added"]
    again = own(Crowd(proxy.address, 20, 1))
    returned = len(of(again, b"B"))
    assert states(proxy)[b] == "active" and 9 <= returned <= 11
    assert_none_fell(before, counters(proxy, b))
    assert proxy.metric("ringmain_server_connects_total", server=b) == 10 + returned
    reload(proxy, alone)
    for each in (crowd, again):
        each.exchange()
        for sock in of(each, b"B"):
            sock.close()
    wait_gone(proxy, b)
    later.exchange()
    assert set(proxy.closed()) == {"client_closed"}


@pytest.mark.sanitizer
@pytest.mark.parametrize("returns", [False, True])
def test_close_removed_after(returns, abc, own, ringmain):
    """The sessions of a server that left end after that time, all others not; none does if the server is back."""
    settings = {"workers": 2, "upstream": {"close_removed_after": "1s"}}
    both, alone = (config([server.address for server in abc[:count]], **settings) for count in (2, 1))
    proxy = ringmain(both)
    crowd = own(Crowd(proxy.address, 20, 1))
    started = time.monotonic()
    reload(proxy, alone)
    if returns:
        reload(proxy, both)
        time.sleep(2)  # twice the time
        crowd.exchange()
        assert proxy.closed() == {}
        return
    for sock in of(crowd, b"B"):
        expect_end(sock)
    assert 0.95 <= time.monotonic() - started <= 1.5 + 0.5 * PATIENCE
    proxy.wait_closed(server_removed=10)
    for sock in of(crowd, b"A"):
        ping(sock)
    wait_gone(proxy, abc[1].address)


def test_weights_and_method(abc, own, ringmain):
    a, b, c = (server.address for server in abc)
    proxy = ringmain(config([a, b], workers=2))
    own(Crowd(proxy.address, 20, 1))
    reload(proxy, config([{"address": a, "weight": 3}, b], workers=2))
    assert 29 <= len(of(own(Crowd(proxy.address, 40, 1)), b"A")) <= 31
    reload(proxy, config([a, b], workers=2, upstream={"balance": "least_connections"}))
    assert len(of(own(Crowd(proxy.address, 15, 1)), b"B")) == 15, "A has twice as many"
    reload(proxy, config([a, b, c], workers=2))
    assert 9 <= len(of(own(Crowd(proxy.address, 30, 1)), b"C")) <= 11


def test_health_checks_come_change_and_go(abc, ringmain):
    servers = [abc[0].address, unused_address()]
    proxy = ringmain(config(servers))
    reload(proxy, config(servers, upstream={"health_check": {**CHECK, "interval": "10m"}}))
    assert proxy.metric("ringmain_server_up", server=servers[1]) == 1
    reload(proxy, config(servers, upstream={"health_check": CHECK}))
    proxy.wait_metric("ringmain_server_up", 0, server=servers[1])  # it did not wait for the ten minutes
    assert proxy.metric("ringmain_server_up", server=servers[0]) == 1
    reload(proxy, config(servers))
    proxy.wait_metric("ringmain_server_up", 1, server=servers[1])
    wait_steady(lambda: proxy.metric("ringmain_health_checks_total"), timeout=5)


@pytest.mark.sanitizer
def test_health_survives(abc, ringmain):
    """A server that is down is down all along, is not tried, and is not found down again; no counter falls."""
    a, b, c = (server.address for server in abc)
    check = {"health_check": CHECK}
    proxy = ringmain(config([a, b], workers=2, upstream=check))
    for _ in range(4):
        who(proxy.address)
    abc[1].stop()
    proxy.wait_metric("ringmain_server_up", 0, server=b)
    refused = proxy.metric("ringmain_server_connect_failures_total", server=b)
    for settings in (
        config([a, b, c], workers=2, upstream=check),
        config([{"address": b, "weight": 5}, a], workers=2, upstream=check),
        config([c, b, a], workers=1, upstream={**check, "balance": "least_connections"}),
        config([b, a], workers=3, upstream={"health_check": {**CHECK, "interval": "50ms"}}),
    ):
        before = [counters(proxy, a), counters(proxy, b)]
        reload(proxy, settings)
        assert proxy.metric("ringmain_server_up", server=b) == 0
        assert b"B" not in {who(proxy.address) for _ in range(8)}
        for old, server in zip(before, (a, b)):
            assert_none_fell(old, counters(proxy, server))
    assert proxy.metric("ringmain_server_connect_failures_total", server=b) == refused
    assert len(proxy.log_lines("server down", b)) == 1 and not proxy.log_lines("server up", b), proxy.log()
    abc[1].start()
    proxy.wait_metric("ringmain_server_up", 1, server=b)


# ---- Workers --------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_workers_grow_and_shrink(own, ringmain):
    server = own(EchoServer())
    proxy = ringmain(config([server.address]))
    files, tasks = wait_steady(proxy.fds), threads(proxy)
    crowds = [own(Crowd(proxy.address, 60))]
    assert reload(proxy, config([server.address], workers=3)) == ["workers: 1 -> 3"]
    crowds.append(own(Crowd(proxy.address, 120)))
    proxy.wait_active(180)
    shares = [worker["sessions"] for worker in proxy.status()["workers"]]
    assert len(shares) == 3 and min(shares) > 10, shares

    assert reload(proxy, config([server.address])) == ["workers: 3 -> 1"]
    crowds.append(own(Crowd(proxy.address, 100)))
    for crowd in crowds:
        crowd.exchange(20000)
    by_client = {entry["client"]: entry["worker"] for entry in proxy.sessions()}
    assert len(by_client) == 280 and len({by_client[format_address(sock)] for sock in crowds[2].socks}) == 1
    for crowd in crowds:
        crowd.close()
    proxy.wait_closed(client_closed=280)
    wait_until(lambda: threads(proxy) <= tasks, lambda: f"{tasks} threads; there are {threads(proxy)}")
    wait_until(lambda: proxy.fds() <= files + 6, lambda: f"{files} file descriptors; there are {proxy.fds()}")
    assert len(proxy.status()["workers"]) == 1


@pytest.mark.sanitizer
def test_bulk_does_not_notice(own, ringmain, session):
    """While bytes pour, the listener, the upstream, the server and the workers of the sessions leave and come back."""
    server, other, length = own(ManualServer()), own(EchoServer()), (8 if SANITIZER else 24) * MIB
    full = config([server.address], listen=unused_address(), workers=3)
    names = {"listener": {"name": "b", "upstream": "b"}, "upstream": {"name": "b"}}
    bare = config([other.address], listen=unused_address(), **names)
    proxy, jobs = ringmain(full), []
    for i in range(6):
        for source, target in itertools.permutations(session(proxy, server)):
            jobs += [Job(send_pattern, source, i * SPACING, length), Job(read_pattern, target, i * SPACING, length)]
    reloads = 0
    while any(job.is_alive() for job in jobs):
        reload(proxy, (bare, full)[reloads % 2])
        reloads += 1
    for job in jobs:
        job.finish()
    assert reloads >= (1 if SANITIZER else 2)
    for direction in ("to_server", "to_client"):
        proxy.wait_metric("ringmain_bytes_total", 6 * length, listener="front", direction=direction)
    assert proxy.closed() == {}


# ---- Again and again ------------------------------------------------------------------------------------------------


@pytest.fixture
def echoes():
    """Three servers in a fast process of their own."""
    process = subprocess.Popen([ECHO, "--listen", ",".join(["127.0.0.1:0"] * 3)], stdout=subprocess.PIPE, text=True)
    yield [process.stdout.readline().split("address=")[1].strip() for _ in range(3)]
    process.terminate()
    process.wait()
    process.stdout.close()


def shapes_of(a, b, c, other):
    """Settings of which each differs from the next in several ways; `front`, `back` and `a` are in all."""
    shapes = [
        config([a, b], workers=2),
        config([a], workers=1, upstream={"balance": "least_connections"}),
        config([{"address": a, "weight": 3}, c], workers=2, listener={"idle_timeout": "1m"}),
        config([c, b, a], workers=1, upstream={"health_check": CHECK}),
        config([a, {"address": b, "weight": 5}], workers=2, limits={"max_connections": 1000}),
        config([b, a], workers=1, listener={"max_connections": 900}),
    ]
    for shape in shapes[::2]:
        shape["listeners"].append({"name": "other", "listen": other, "upstream": "back"})
    return shapes


def reload_often(proxy, shapes, stays, until):
    """At most 20 a second, until `until()`; returns how many a second it were. No counter falls meanwhile."""
    started, seen = time.monotonic(), {}
    for count in itertools.count(1):
        reload(proxy, shapes[count % len(shapes)])
        if count % 5 == 0:
            assert_none_fell(seen, seen := counters(proxy, stays))
        if until():
            return count / (time.monotonic() - started)
        time.sleep(max(0.0, started + count / 20 - time.monotonic()))


SECONDS = [pytest.param(3, marks=pytest.mark.sanitizer), pytest.param(60, marks=pytest.mark.slow)]


@pytest.mark.parametrize("seconds", SECONDS)
def test_twenty_reloads_a_second(seconds, echoes, own, ringmain, tmp_path):
    other = unused_address()
    shapes = shapes_of(*echoes, other)
    proxy = ringmain(shapes[-1])
    for shape in [*shapes, shapes[0]]:  # what every proxy needs once
        reload(proxy, shape)
        crowd = own(Crowd(proxy.address, 50))
        crowd.exchange()
        crowd.close()
        proxy.wait_active(0)
    held = own(Crowd(other, 10))  # on both servers, of a listener that comes and goes
    held.exchange()
    files, memory, tasks = wait_steady(proxy.fds), proxy.rss(), threads(proxy)
    accepted = proxy.metric("ringmain_connections_total")
    common = ["--to", proxy.address, "--duration", f"{seconds}s", "--quiet", "--json"]
    modes = (["rate", "--rate", "2000", "--connections", "20"], ["churn", "--connections", "4", "--reset"])
    with contextlib.ExitStack() as stack:
        command = [[LOAD, *mode, *common, str(tmp_path / mode[0])] for mode in modes]
        loads = [stack.enter_context(subprocess.Popen(each, stdout=subprocess.DEVNULL)) for each in command]
        rate = reload_often(proxy, shapes, echoes[0], lambda: all(each.poll() is not None for each in loads))
    reports = [json.loads((tmp_path / mode[0]).read_text()) for mode in modes]
    assert not any(each.returncode for each in loads) and not any(each["error_total"] for each in reports), reports
    assert rate >= (2 if SANITIZER else 10)

    held.exchange()
    assert ask(proxy, shapes[0])[0] == 200
    proxy.wait_active(10)
    accepted = proxy.metric("ringmain_connections_total") - accepted
    assert accepted >= sum(each["connects"] for each in reports)
    wait_until(
        lambda: proxy.metric("ringmain_connections_total") - sum(proxy.closed().values()) == 10,
        "each connection that was accepted is open or closed",
    )
    assert set(proxy.closed()) <= {"client_closed", "client_reset", "client_left"}, proxy.closed()
    assert proxy.metric("ringmain_server_connect_failures_total") == 0
    held.exchange()
    wait_until(lambda: threads(proxy) <= tasks, lambda: f"{tasks} threads; there are {threads(proxy)}")
    wait_until(lambda: proxy.fds() <= files + 4, lambda: f"{files} file descriptors; there are {proxy.fds()}")
    assert SANITIZER or proxy.rss() - memory <= 32 * MIB


@pytest.mark.slow
def test_latency_under_reloads(two_cores, echo, ringmain, tmp_path):  # noqa: F811
    """p99 with five reloads a second, beside five requests that change nothing."""
    shapes = [{**shape, "workers": 1} for shape in shapes_of(*echo, unused_address(), unused_address())[:2]]
    proxy = ringmain(shapes[0], wrapper=two_cores[0])
    ping64 = ["ping", "--connections", "50", "--payload", "64", "--warmup", "500ms", "--duration", "3s"]

    def p99(act):
        over = threading.Event()

        def repeat():
            for count in itertools.count(1):
                assert act(count)[0] == 200
                if over.wait(0.2):
                    return count

        job = Job(repeat)
        try:
            report = load(two_cores, proxy.address, tmp_path, *ping64)
        finally:
            over.set()
        assert job.finish() >= 10 and report["error_total"] == 0
        return report["latency_us"]["p99"]

    arms = (lambda _: proxy.get("/readyz"), lambda count: ask(proxy, shapes[count % 2]))
    pairs = [[p99(act) for act in arms] for _ in range(8)][1:]  # the first warms caches up
    quiet, busy = (statistics.median(figures) for figures in zip(*pairs))
    print(f"\np99 of a ping: {quiet:.0f} us, with reloads {busy:.0f} us, ratio {busy / quiet:.2f}")
    assert busy <= 2 * quiet


@pytest.mark.slow
def test_no_client_is_overlooked(own, ringmain):
    """Workers come and go all the time, and with them who accepts: of those who wait at a socket the kernel wakes one, which may just be leaving."""
    server, address = own(EchoServer()), unused_address()
    settings = config([server.address], listen=address, workers=2)
    proxy, started, reloads = ringmain(settings), time.monotonic(), 0
    with visitors(address) as served:
        while time.monotonic() - started < 40:
            for workers in (4, 1, 3, 2):
                reload(proxy, changed(settings, "workers", workers))
                reloads += 1
                wait_until(lambda goal=served() + 4: served() >= goal, "visitors are served", timeout=2, interval=0.001)
    print(f"\n{reloads} changes of the workers, {served()} visitors served")
