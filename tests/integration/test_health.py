"""Servers that die, hang, refuse and come back; clients that do not wait for them."""
import random
import socket
import time

import pytest

from peers import (
    PATIENCE,
    Blackhole,
    Crowd,
    EchoProcess,
    EchoServer,
    Job,
    Verifier,
    connect,
    expect_end,
    pattern,
    ping,
    read_exactly,
    refusal,
    reset,
    unused_address,
    wait_until,
)
from proxy import config

CHECK = {"type": "tcp", "interval": "100ms", "timeout": "500ms", "rise": 2, "fall": 3}


def _server_log(proxy, address, word):
    """Log lines that say that this server is `up` or `down`."""
    return [line for line in proxy.log_lines(address) if word in line.lower().split() or f"={word}" in line.lower()]


@pytest.mark.sanitizer
def test_server_killed_and_back(own, ringmain):
    stays, dies = own(EchoProcess(b"S")), own(EchoProcess(b"D"))
    proxy = ringmain(config([stays.address, dies.address], workers=2, upstream={"health_check": CHECK}))
    crowd = own(Crowd(proxy.address, 40, 1))
    crowd.exchange(1000)
    assert sorted(crowd.banners) == [b"D"] * 20 + [b"S"] * 20

    dies.kill()
    for sock, banner in zip(crowd.socks, crowd.banners):
        if banner == b"D":
            expect_end(sock)
            sock.close()
    # From the first moment on, no client sees anything of it: a refused connect moves on.
    for _ in range(20):
        client = own(connect(proxy.address))
        assert read_exactly(client, 1) == b"S"
        ping(client)
    proxy.wait_active(40)
    closed = proxy.closed()
    assert sum(closed.values()) == 20 and set(closed) <= {"server_closed", "server_reset"}, closed
    for position, (sock, banner) in enumerate(zip(crowd.socks, crowd.banners)):
        if banner == b"S":
            ping(sock, position * 31)

    proxy.wait_metric("ringmain_server_up", 0, server=dies.address)
    assert proxy.metric("ringmain_server_up", server=stays.address) == 1
    refused = proxy.metric("ringmain_server_connect_failures_total", server=dies.address)
    for _ in range(20):  # a server that is down is not tried
        assert read_exactly(own(connect(proxy.address)), 1) == b"S"
    assert proxy.metric("ringmain_server_connect_failures_total", server=dies.address) == refused
    checks = proxy.metric("ringmain_health_checks_total", server=dies.address)
    proxy.wait_metric("ringmain_health_checks_total", lambda now: now >= checks + 5, server=dies.address)
    assert len(_server_log(proxy, dies.address, "down")) == 1, proxy.log()

    dies.start()
    proxy.wait_metric("ringmain_server_up", 1, server=dies.address)
    again = own(Crowd(proxy.address, 20, 1))
    again.exchange(1000)
    assert sorted(again.banners) == [b"D"] * 10 + [b"S"] * 10
    assert len(_server_log(proxy, dies.address, "down")) == 1, proxy.log()
    assert len(_server_log(proxy, dies.address, "up")) == 1, proxy.log()


def test_server_killed_under_load(own, ringmain):
    """Clients keep coming while one of three servers is killed and comes back several times: none is refused."""
    servers = [own(EchoProcess(bytes([65 + i]))) for i in range(3)]
    proxy = ringmain(config([s.address for s in servers], workers=2, upstream={"health_check": CHECK}))
    served, cut, stop = [0], [0], [False]

    def visitor():
        while not stop[0]:
            client = connect(proxy.address)
            try:
                got = client.recv(1)
                # A server that dies right after it accepted takes its session with it; nobody can hide that.
                if got in (b"A", b"C"):
                    ping(client)
                    served[0] += 1
                elif got == b"":
                    cut[0] += 1
            except ConnectionResetError:
                cut[0] += 1
            finally:
                client.close()

    visitors = [Job(visitor) for _ in range(3)]
    for _ in range(3):
        wait_until(lambda goal=served[0] + 50: served[0] >= goal, "clients are served")
        servers[1].kill()
        proxy.wait_metric("ringmain_server_up", 0, server=servers[1].address)
        wait_until(lambda goal=served[0] + 50: served[0] >= goal, "clients are served")
        servers[1].start()
        proxy.wait_metric("ringmain_server_up", 1, server=servers[1].address)
    stop[0] = True
    for job in visitors:
        job.finish()
    # The killed server's own sessions: those it had, and those that came while its last moments still accepted them.
    assert cut[0] <= 30, "only sessions that the killed server held"
    proxy.wait_active(0)
    assert set(proxy.closed()) <= {"client_closed", "server_closed", "server_reset"}, proxy.closed()


@pytest.mark.sanitizer
def test_flips_need_consecutive_results(own, ringmain):
    server, other = own(EchoServer()), own(EchoServer())
    check = {**CHECK, "rise": 4, "fall": 5}
    proxy = ringmain(config([server.address, other.address], upstream={"health_check": check}))
    proxy.wait_metric("ringmain_health_checks_total", lambda count: count >= 3, server=server.address)

    def results():
        return {
            dict(labels)["result"]: value
            for labels, value in proxy.metrics()["ringmain_health_checks_total"].items()
            if dict(labels)["server"] == server.address
        }

    good = [result for result, value in results().items() if value]
    assert len(good) == 1
    good = good[0]

    def failures():
        return sum(value for result, value in results().items() if result != good)

    server.stop()
    proxy.wait_metric("ringmain_server_up", 0, server=server.address)
    assert failures() >= 5
    successes = results()[good]
    server.start()
    proxy.wait_metric("ringmain_server_up", 1, server=server.address)
    assert results()[good] >= successes + 4
    assert proxy.metric("ringmain_server_up", server=other.address) == 1


def test_health_check_notices_a_server_that_hangs(own, ringmain):
    hole, server = own(Blackhole()), own(EchoServer())
    proxy = ringmain(config([hole.address, server.address], upstream={"health_check": {**CHECK, "timeout": "200ms"}}))
    proxy.wait_metric("ringmain_server_up", 0, server=hole.address)
    started = time.monotonic()
    for _ in range(10):
        ping(own(connect(proxy.address)))
    assert time.monotonic() - started < 1 * PATIENCE, "nobody waited for the server that is down"


@pytest.mark.sanitizer
def test_refused_connect_moves_on(own, ringmain):
    dead, server = unused_address(), own(EchoServer())
    proxy = ringmain(config([dead, server.address]))
    crowd = own(Crowd(proxy.address, 20))
    crowd.exchange(1000)
    assert proxy.metric("ringmain_server_connect_failures_total", server=dead, reason="refused") >= 10
    assert proxy.metric("ringmain_server_connect_failures_total", server=server.address) == 0
    assert proxy.closed() == {}


def test_connect_tries_bounds_the_servers_tried(own, ringmain):
    dead = [unused_address() for _ in range(3)]
    server = own(EchoServer())
    addresses = [*dead, server.address]
    for tries, served in ((1, 1), (4, 4)):
        proxy = ringmain(config(addresses, upstream={"connect_tries": tries}))
        outcomes = []
        for _ in range(4):
            try:
                client = own(connect(proxy.address))
                client.sendall(b"x")
                outcomes.append(client.recv(1) == b"x")
            except (ConnectionResetError, BrokenPipeError):
                outcomes.append(False)
        # Four clients begin with the four servers in turn.
        assert outcomes.count(True) == served, (tries, outcomes)
        assert proxy.closed("connect_failed") == 4 - served
        assert proxy.metric("ringmain_server_connect_failures_total") <= 4 * tries


def test_timed_out_connect_moves_on(own, ringmain):
    hole, server = own(Blackhole()), own(EchoServer())
    proxy = ringmain(config([hole.address, server.address], upstream={"connect_timeout": "300ms"}))
    clients = [own(connect(proxy.address)) for _ in range(10)]
    for client in clients:
        client.sendall(pattern(0, 3000))  # already there when the second server is asked
        client.shutdown(socket.SHUT_WR)
    for client in clients:
        assert read_exactly(client, 3000) == pattern(0, 3000)
        assert client.recv(1) == b""
    assert proxy.metric("ringmain_server_connect_failures_total", server=hole.address, reason="timeout") == 5
    assert proxy.closed("connect_timeout") == 0


def test_all_connects_time_out(own, ringmain):
    hole = own(Blackhole())
    proxy = ringmain(config([hole.address], upstream={"connect_timeout": "300ms"}))
    started = time.monotonic()
    assert refusal(proxy.address) == "reset"
    assert 0.25 < time.monotonic() - started < 2 * PATIENCE
    proxy.wait_closed(connect_timeout=1)


@pytest.mark.sanitizer
@pytest.mark.parametrize("how", ["reset", "data, then reset", "fin"])
def test_client_leaves_while_connecting(how, own, ringmain):
    hole = own(Blackhole())
    proxy = ringmain(config([hole.address], upstream={"connect_timeout": "30s"}))
    clients = [own(connect(proxy.address)) for _ in range(10)]
    proxy.wait_active(10)
    assert proxy.metric("ringmain_server_connections_active") == 10  # connecting counts
    for client in clients:
        if how.startswith("data"):
            client.sendall(pattern(0, 1000))
        if how == "fin":
            client.close()
        else:
            reset(client)
    proxy.wait_active(0, timeout=5)  # long before connect_timeout
    assert proxy.metric("ringmain_server_connections_active") == 0
    proxy.wait_closed(client_left=10)


@pytest.mark.sanitizer
@pytest.mark.parametrize("checked", [False, True])
def test_no_server(checked, own, ringmain):
    """Every client is closed with RST and counted; the log gets about a line a second, not one a client."""
    dead = [unused_address(), unused_address()]
    proxy = ringmain(config(dead, workers=2, upstream={"health_check": CHECK} if checked else {}))
    if checked:
        for address in dead:
            proxy.wait_metric("ringmain_server_up", 0, server=address)
    before, started = len(proxy.log_lines()), time.monotonic()
    for _ in range(200):
        assert refusal(proxy.address) == "reset"
    reason = "no_server" if checked else "connect_failed"
    proxy.wait_closed(**{reason: 200})
    # One line a second of each kind, and a health state does not change here.
    seconds = time.monotonic() - started
    lines = proxy.log_lines()[before:]
    assert 1 <= len(lines) <= 2 * (seconds + 2), "\n".join(lines)


def test_all_servers_down_then_up_again(own, ringmain):
    servers = [own(EchoServer()) for _ in range(2)]
    proxy = ringmain(config([s.address for s in servers], upstream={"health_check": CHECK}))
    ping(own(connect(proxy.address)))
    for server in servers:
        server.stop()
    for server in servers:
        proxy.wait_metric("ringmain_server_up", 0, server=server.address)
    assert refusal(proxy.address) == "reset"
    assert proxy.get("/readyz")[0] == 200  # it listens; that no server is up is another matter
    for server in servers:
        server.start()
    for server in servers:
        proxy.wait_metric("ringmain_server_up", 1, server=server.address)
    crowd = own(Crowd(proxy.address, 20))
    crowd.exchange()


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["round_robin", "least_connections"])
def test_long_run_with_everything_at_once(balance, own, ringmain):
    """Clients that come, stay, reset and stall while servers are killed and return: every byte right, nothing left."""
    servers = [own(EchoProcess(bytes([65 + i]))) for i in range(3)]
    upstream = {"health_check": CHECK, "balance": balance}
    proxy = ringmain(config([s.address for s in servers], workers=2, upstream=upstream))
    for _ in range(2):  # what every proxy needs once
        crowd = Crowd(proxy.address, 200, 1)
        crowd.exchange(20000)
        crowd.close()
        proxy.wait_active(0)
    files, memory = proxy.fds(), proxy.rss()
    stop, moved = [False], [0]

    def visitor(seed):
        dice = random.Random(seed)
        while not stop[0]:
            try:
                client = connect(proxy.address)
            except ConnectionResetError:
                continue  # the server was killed while it accepted
            try:
                visit(client, dice)
            except (ConnectionResetError, BrokenPipeError, EndOfStream):
                pass  # its server was killed
            finally:
                if dice.random() < 0.3:
                    reset(client)
                client.close()

    def visit(client, dice):
        if not client.recv(1):
            raise EndOfStream
        position = dice.randrange(1 << 20)
        for _ in range(dice.randrange(6)):
            length = dice.choice([1, 64, 3000, 100_000])
            client.sendall(pattern(position, length))
            verifier = Verifier(position)
            while verifier.received < length:
                piece = client.recv(length - verifier.received)
                if not piece:
                    raise EndOfStream
                verifier.feed(piece)
            position += length
            moved[0] += length
        if dice.random() < 0.2:
            client.sendall(pattern(position, 500_000))  # and nobody reads the echo

    visitors = [Job(visitor, seed) for seed in range(6)]
    deadline, dice = time.monotonic() + 30, random.Random(99)
    while time.monotonic() < deadline:
        victim = dice.choice(servers)
        victim.kill()
        proxy.wait_metric("ringmain_server_up", 0, server=victim.address)
        victim.start()
        proxy.wait_metric("ringmain_server_up", 1, server=victim.address)
    stop[0] = True
    for job in visitors:
        job.finish()
    proxy.wait_active(0)
    assert moved[0] > 10 << 20
    closed = proxy.closed()
    assert not set(closed) & {"no_server", "connect_timeout", "error"}, closed
    # A server that accepts with its last breath resets the connect, and the next may be the one that starts just now.
    assert closed.get("connect_failed", 0) < 100, closed
    assert proxy.metric("ringmain_server_connections_active") == 0
    assert proxy.metric("ringmain_worker_buffers_held") == 0
    assert proxy.metric("ringmain_worker_pipes_lent") == 0
    files += 2 * int(proxy.metric("ringmain_worker_pipes"))  # kept for the next bulk
    wait_until(lambda: proxy.fds() <= files, lambda: f"{files} file descriptors; there are {proxy.fds()}")
    assert proxy.rss() - memory <= 16 << 20


class EndOfStream(Exception):
    """The proxy closed in order, as its server did."""
