"""Shares of the workers: whatever the kernel's hash does, long-lived connections end up evenly spread."""
import json
import random
import signal
import socket
import subprocess
import time

import pytest

from peers import (
    PATIENCE,
    SPACING,
    Crowd,
    EchoServer,
    Job,
    ManualServer,
    connect,
    expect_end,
    parse_address,
    pattern,
    read_pattern,
    refusal,
    reset,
    send_pattern,
    wait_steady,
    wait_until,
)
from proxy import ECHO, LOAD, config

KIB = 1 << 10
MIB = 1 << 20


def _shares(proxy):
    """Sessions by worker."""
    return [worker["sessions"] for worker in proxy.status()["workers"]]


def _handed_over(proxy):
    return proxy.metric("ringmain_worker_handed_over_total")


def _assert_even(proxy, total):
    proxy.wait_active(total)
    shares = _shares(proxy)
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 0.1 * max(shares), shares


def _settled(sessions):
    """Waits until `sessions`, just opened, do not count as brief any more, should they end now."""
    opened = time.monotonic()
    wait_until(lambda: time.monotonic() - opened > 1.1, "a second has passed", timeout=2)
    return sessions


def _connect_from(address, port):
    """A connection from that port, so that it hashes as all others from there do; none if the port is in use."""
    family, name = parse_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(20 * PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((name[0], port))
    except OSError:
        sock.close()
        return None
    sock.connect(name)
    return sock


def _ports_of_worker(proxy, worker, count):
    """Local ports whose connections the kernel gives to `worker`: tried one at a time, when none is handed over."""
    ports = []
    port = random.randrange(10000, 25000)  # below those that the kernel chooses itself
    while len(ports) < count:
        port += 1
        if not (sock := _connect_from(proxy.address, port)):
            continue
        proxy.wait_active(1)
        if _shares(proxy)[worker] == 1:
            ports.append(port)
        reset(sock)
        proxy.wait_active(0)
    return ports


def _drop_waiting(server):
    """Takes all connections that a ManualServer has not accepted yet, and closes them."""
    server.listener.setblocking(False)
    while True:
        try:
            server.listener.accept()[0].close()
        except BlockingIOError:
            return


# ---- Even shares ----------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [2, 4])
def test_connections_one_after_the_other(workers, own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=workers))
    crowd = own(Crowd(proxy.address, 1000))
    _assert_even(proxy, 1000)
    crowd.exchange()
    assert _handed_over(proxy) > 0, "chance alone"
    assert proxy.metric("ringmain_connections_total") == 1000


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [2, 4])
def test_burst(workers, own, ringmain):
    """1000 at once, each with its first bytes already sent: the accept queues are full when the workers look."""
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=workers))
    proxy.signal(signal.SIGSTOP)
    crowd = own(Crowd(proxy.address, 1000))
    for i, sock in enumerate(crowd.socks):
        sock.sendall(pattern(i * SPACING, 3000))
    proxy.signal(signal.SIGCONT)
    for i, sock in enumerate(crowd.socks):
        read_pattern(sock, i * SPACING, 3000)
    _assert_even(proxy, 1000)
    crowd.exchange(500)


@pytest.mark.parametrize("workers", [2, 4])
def test_all_that_the_kernel_gives_to_one_worker(workers, own, ringmain):
    """The worst hash there is; every byte of those handed over arrives, and all ends are passed on."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address], workers=workers))
    ports = _ports_of_worker(proxy, 0, 60 * workers)
    _drop_waiting(server)
    assert _handed_over(proxy) == 0
    ended = time.monotonic()
    wait_until(lambda: time.monotonic() - ended > 2.1, "these brief ones do not count any more")
    pairs = []
    for i, port in enumerate(ports):
        if client := _connect_from(proxy.address, port):
            own(client).sendall(pattern(i * SPACING, 1000))
            pairs.append((client, own(server.accept())))
    shares = _shares(proxy)
    assert sum(shares) == len(pairs) >= 55 * workers and max(shares) - min(shares) <= 9, shares
    assert _handed_over(proxy) == sum(shares[1:])
    for i, (client, upstream) in enumerate(pairs):
        job = Job(send_pattern, upstream, i, 200 * KIB)
        read_pattern(upstream, i * SPACING, 1000)
        read_pattern(client, i, 200 * KIB)
        job.finish()
        client.shutdown(socket.SHUT_WR)
        assert upstream.recv(1) == b""
        upstream.close()
        assert client.recv(1) == b""
    proxy.wait_active(0)
    assert proxy.metric("ringmain_connections_total") == proxy.metric("ringmain_connections_closed_total")
    assert proxy.closed("client_closed") == len(pairs)


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("how", ["one_by_one", "burst"])
def test_after_many_have_left_one_worker(how, workers, own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=workers))
    by_worker = [[] for _ in range(workers)]
    before = _shares(proxy)
    for i in range(200 * workers):
        sock = own(connect(proxy.address))
        proxy.wait_active(i + 1)
        now = _shares(proxy)
        by_worker[next(w for w in range(workers) if now[w] > before[w])].append(sock)
        before = now
    _assert_even(proxy, 200 * workers)
    for sock in _settled(by_worker[0])[10:]:
        sock.close()
    remaining = 10 + sum(len(socks) for socks in by_worker[1:])
    proxy.wait_active(remaining)
    assert _shares(proxy)[0] == 10
    # As many as have left would be enough if each went there; the kernel gives it only its share of them.
    if how == "burst":
        proxy.signal(signal.SIGSTOP)
    crowd = own(Crowd(proxy.address, 250))
    if how == "burst":
        proxy.signal(signal.SIGCONT)
    crowd.exchange()
    _assert_even(proxy, remaining + 250)


def test_shared_unix_listener(own, ringmain, tmp_path):
    """All workers accept from one socket, and whoever is first takes all."""
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], listen=f"unix:{tmp_path}/front.sock", workers=2))
    crowd = own(Crowd(proxy.address, 400))
    crowd.exchange(2000)
    _assert_even(proxy, 400)


def test_several_listeners(own, ringmain):
    """A client that is handed over keeps its listener: its upstream, its limit, its counters."""
    servers = {name: own(EchoServer(banner=name.encode())) for name in ("a", "b")}
    settings = config([servers["a"].address], workers=4)
    settings["listeners"].append({"name": "other", "listen": "127.0.0.1:0", "upstream": "b", "max_connections": 300})
    settings["upstreams"].append({"name": "b", "servers": [{"address": servers["b"].address}]})
    proxy = ringmain(settings)
    front = own(Crowd(proxy.addresses["front"][0], 600, 1))
    other = own(Crowd(proxy.addresses["other"][0], 300, 1))
    assert set(front.banners) == {b"a"} and set(other.banners) == {b"b"}
    assert _handed_over(proxy) > 0
    for name, count in (("front", 600), ("other", 300)):
        assert proxy.metric("ringmain_connections_active", listener=name) == count
        assert proxy.metric("ringmain_connections_total", listener=name) == count
    _assert_even(proxy, 900)
    other.close()
    proxy.wait_metric("ringmain_connections_closed_total", 300, listener="other", reason="client_closed")
    again = own(Crowd(proxy.addresses["other"][0], 300, 1))
    again.exchange()


# ---- What is not handed over ----------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [2, 4])
def test_churn_is_left_alone(workers, own, ringmain):
    """Short connections come and go faster than a hand-over could help, however much the workers' shares swing."""
    echo = subprocess.Popen([ECHO, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        address = next(word for word in echo.stdout.readline().split() if "127.0.0.1:" in word).split("=")[-1]
        proxy = ringmain(config([address], workers=workers))
        command = [LOAD, "churn", "--to", proxy.address, "--connections", "200", "--duration", "3s", "--reset", "--quiet"]
        load = subprocess.run([*command, "--json", "-"], capture_output=True, text=True, timeout=60 * PATIENCE)
        assert load.returncode == 0, load.stdout + load.stderr
        assert not any(json.loads(load.stdout)["errors"].values())
        total = proxy.metric("ringmain_connections_total")
        assert total > 500
        assert _handed_over(proxy) <= 0.1 * total
    finally:
        echo.terminate()
        echo.wait()
        echo.stdout.close()


def test_paused_worker_gets_no_more(own, ringmain):
    """A worker whose memory is held by a slow receiver has the fewest sessions, and still is given none."""
    server = own(ManualServer())
    proxy = ringmain(
        config([server.address], workers=2, limits={"memory": "1MiB", "buffer_per_direction": "16KiB"}),
        env={"RINGMAIN_DISABLE": "splice"},
    )
    client = own(connect(proxy.address, receive_buffer=16 * KIB))
    upstream = server.accept()
    slow = _shares(proxy).index(1)
    sender = Job(send_pattern, upstream, 0, 32 * MIB)
    proxy.wait_metric("ringmain_worker_accept_paused", 1, worker=str(slow))
    clients = [own(connect(proxy.address)) for _ in range(80)]  # the kernel completes each handshake
    served = wait_steady(lambda: _shares(proxy)[1 - slow])
    assert served > 20
    assert _shares(proxy)[slow] == 1 and _handed_over(proxy) == 0

    read_pattern(client, 0, 32 * MIB)
    sender.finish()
    proxy.wait_active(81)
    for sock in clients:
        sock.sendall(b"x")
    for _ in clients:
        assert server.accept().recv(1) == b"x"


def test_single_worker_hands_nothing_over(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=1))
    own(Crowd(proxy.address, 100)).exchange()
    assert _handed_over(proxy) == 0


# ---- Nothing is lost ------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_limits_and_files_come_back(own, ringmain):
    echo = own(EchoServer(banner=b"B"))
    proxy = ringmain(config([echo.address], workers=4, listener={"max_connections": 600}))
    files = wait_steady(proxy.fds)
    for _ in range(3):
        crowd = Crowd(proxy.address, 600, 1)
        crowd.exchange(500)
        assert _handed_over(proxy) > 0
        assert refusal(proxy.address) == "reset"
        crowd.close()
        proxy.wait_active(0)
    proxy.wait_closed(client_closed=1800, listener_limit=3)
    assert proxy.metric("ringmain_connections_total") == 1803
    assert proxy.metric("ringmain_server_connections_active") == 0
    assert wait_steady(proxy.fds) <= files + 2, "file descriptors"


@pytest.mark.sanitizer
@pytest.mark.parametrize("round", range(4))
def test_drain_serves_what_was_handed_over(round, own, ringmain):
    """SIGTERM while a burst is being spread: every client that was there is served, wherever it is at that moment."""
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=4, drain={"timeout": "30s"}))
    crowd = own(Crowd(proxy.address, 100 * round))  # so that the workers begin with other loads
    crowd.exchange()
    proxy.signal(signal.SIGSTOP)
    burst = own(Crowd(proxy.address, 600))
    for i, sock in enumerate(burst.socks):
        sock.sendall(pattern(i * SPACING, 100))
    proxy.signal(signal.SIGTERM)
    proxy.signal(signal.SIGCONT)
    for i, sock in enumerate(burst.socks):
        read_pattern(sock, i * SPACING, 100)
    crowd.exchange()
    crowd.close()
    burst.close()
    assert proxy.wait() == 0


def _storm(address, sessions):
    """Connects until refused, but at most some thousand times; keeps each connection."""
    for _ in range(3000):
        try:
            sessions.append(connect(address))
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass


def _expect_end(sock):
    """Of a connection that may have been made at the very moment at which the listening socket was closed: the kernel then forgets some
    without a word to the client, who learns of it when he sends something."""
    try:
        sock.send(b"x")
    except ConnectionError:
        pass
    expect_end(sock)


@pytest.mark.sanitizer
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]], ids=["drain", "at_once"])
@pytest.mark.parametrize("count", [100, 500, 900])
def test_end_during_a_storm(count, signals, own, ringmain):
    """Told to end while connections pour in and are handed over: every client sees an end, and the process exits cleanly."""
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=4, drain={"timeout": "300ms"}))
    sessions = []
    storms = [Job(_storm, proxy.address, sessions) for _ in range(2)]
    wait_until(lambda: len(sessions) >= count, "the storm goes on", timeout=30)
    for number in signals:
        proxy.signal(number)
    assert proxy.wait() == 0
    for job in storms:
        job.finish()
    for sock in sessions:
        with sock:
            _expect_end(sock)
    assert not proxy.log_lines("did not end in time")
    wait_until(lambda: echo.active == 0, "the servers' sides are closed too")
