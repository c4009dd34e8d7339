"""What ends sessions in time: quiet, of both sides or of one, age, and connects; TCP keep-alive and no-delay."""
import ctypes
import os
import socket
import threading
import time

import pytest

from peers import (
    PATIENCE,
    Blackhole,
    Crowd,
    EchoServer,
    ManualServer,
    Verifier,
    connect,
    expect_end,
    ping,
    refusal,
    send_pattern,
    unused_address,
    wait_steady,
    wait_until,
)
from proxy import config


@pytest.mark.sanitizer
def test_idle_timeout(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2, listener={"idle_timeout": "1s"}))
    silent = own(connect(proxy.address))
    quiet = own(connect(proxy.address))
    busy = own(connect(proxy.address))
    for client in (quiet, busy):
        ping(client)
    quiet_since = time.monotonic()
    ended = {}

    def watch(name, client):
        expect_end(client, 10)
        ended[name] = time.monotonic()

    watchers = [threading.Thread(target=watch, args=item) for item in (("silent", silent), ("quiet", quiet))]
    for watcher in watchers:
        watcher.start()
    position = 0
    while time.monotonic() < quiet_since + 3:
        ping(busy, position)
        position += 64
        time.sleep(0.2)  # the pace of the traffic
    for watcher in watchers:
        watcher.join()
    assert 0.95 <= ended["quiet"] - quiet_since <= 1.5 + 0.5 * PATIENCE
    ping(busy, position)
    proxy.wait_closed(idle_timeout=2)
    wait_until(lambda: echo.active == 1, "the servers' sides are closed as well")


@pytest.mark.parametrize("sender", ["client", "server"])
def test_traffic_one_way_is_not_idle(sender, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address], listener={"idle_timeout": "1s"}))
    client, upstream = session(proxy, server)
    source, target = (client, upstream) if sender == "client" else (upstream, client)
    started = time.monotonic()
    while time.monotonic() < started + 2.5:
        source.sendall(b"x")
        assert target.recv(1) == b"x"
        time.sleep(0.2)  # the pace of the traffic
    assert proxy.closed() == {}


@pytest.mark.sanitizer
@pytest.mark.parametrize("finished", ["client", "server"])
def test_half_closed_timeout(finished, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address], listener={"half_closed_timeout": "1s"}))
    client, upstream = session(proxy, server)
    first, second = (client, upstream) if finished == "client" else (upstream, client)
    first.shutdown(socket.SHUT_WR)
    assert second.recv(1) == b""
    started = time.monotonic()
    while time.monotonic() < started + 2.5:  # bytes the other way keep it open
        second.sendall(b"x")
        assert first.recv(1) == b"x"
        time.sleep(0.2)  # the pace of the traffic
    silent_since = time.monotonic()
    expect_end(first, 10)
    assert 0.75 <= time.monotonic() - silent_since <= 1.5 + 0.5 * PATIENCE
    proxy.wait_closed(half_closed_timeout=1)


def test_half_closed_timeout_spares_open_sessions(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], listener={"half_closed_timeout": "300ms"}))
    client = own(connect(proxy.address))
    ping(client)
    time.sleep(1)  # several times the timeout
    ping(client)
    assert proxy.closed() == {}


# ---- One side alone ----


@pytest.mark.sanitizer
@pytest.mark.parametrize("quiet", ["client", "server"])
def test_the_quiet_of_one_side(quiet, own, ringmain, session):
    """Bytes of the other side do not keep it open."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address], workers=2, listener={f"{quiet}_idle_timeout": "1s"}))
    client, upstream = session(proxy, server)
    silent, speaks = (client, upstream) if quiet == "client" else (upstream, client)
    silent.sendall(b"x")
    assert speaks.recv(1) == b"x"
    silent_since = time.monotonic()
    silent.settimeout(0.2)  # the pace of the traffic
    ended = None
    while ended is None and time.monotonic() < silent_since + 10 * PATIENCE:
        try:
            speaks.sendall(b"y")
            if silent.recv(1 << 10) == b"":
                ended = "fin"
        except TimeoutError:
            pass
        except OSError:
            ended = "reset"  # what was on its way to it when it was closed
        time.sleep(0.02)
    assert ended is not None
    assert 0.95 <= time.monotonic() - silent_since <= 1.5 + 0.5 * PATIENCE
    proxy.wait_closed(**{f"{quiet}_idle_timeout": 1})


@pytest.mark.parametrize("quiet", ["client", "server"])
def test_its_own_bytes_keep_a_side(quiet, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address], listener={f"{quiet}_idle_timeout": "1s"}))
    client, upstream = session(proxy, server)
    source, target = (client, upstream) if quiet == "client" else (upstream, client)
    started = time.monotonic()
    while time.monotonic() < started + 2.5:
        source.sendall(b"x")
        assert target.recv(1) == b"x"
        time.sleep(0.2)  # the pace of the traffic
    assert proxy.closed() == {}
    silent_since = time.monotonic()  # a fifth of a second after the last byte
    assert expect_end(source, 10) == expect_end(target, 10) == "fin"
    assert 0.75 <= time.monotonic() - silent_since <= 1.5 + 0.5 * PATIENCE
    proxy.wait_closed(**{f"{quiet}_idle_timeout": 1})


def test_a_client_is_not_idle_while_its_bytes_are_held_back(own, ringmain, session):
    """The server takes them late: that is not the client's fault, and once they are through it has its time again."""
    server = own(ManualServer())
    proxy = ringmain(
        config(
            [server.address],
            listener={"client_idle_timeout": "1s"},
            limits={"buffer_per_direction": "64KiB"},
        )
    )
    client, upstream = session(proxy, server)
    length = 16 << 20  # more than sockets and buffers hold
    sender = threading.Thread(target=send_pattern, args=(client, 0, length))
    sender.start()
    time.sleep(2.5)  # more than twice the timeout
    assert proxy.closed() == {}
    verifier = Verifier()
    while verifier.received < length:
        verifier.feed(upstream.recv(1 << 20))
    sender.join()
    drained = time.monotonic()
    assert expect_end(client, 10) == "fin"
    assert 0.9 <= time.monotonic() - drained <= 1.5 + 0.5 * PATIENCE
    proxy.wait_closed(client_idle_timeout=1)


def test_an_ended_side_is_not_idle(own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address], listener={"client_idle_timeout": "300ms", "server_idle_timeout": "1h"}))
    client, upstream = session(proxy, server)
    client.shutdown(socket.SHUT_WR)
    assert upstream.recv(1) == b""
    time.sleep(1)  # several times the timeout
    upstream.sendall(b"late")
    upstream.close()
    assert client.recv(10) == b"late" and expect_end(client) == "fin"
    proxy.wait_closed(client_closed=1)


# ---- Age ----


@pytest.mark.sanitizer
def test_max_lifetime(own, ringmain):
    echo = own(EchoServer())
    listener = {"max_lifetime": "2s", "lifetime_jitter": "0%"}
    proxy = ringmain(config([echo.address], workers=2, listener=listener))
    started = time.monotonic()
    client, position = own(connect(proxy.address)), 0
    client.settimeout(10 * PATIENCE)
    try:
        while True:
            ping(client, position)
            position += 64
            time.sleep(0.05)  # the pace of the traffic
    except (AssertionError, OSError):  # the stream ended
        pass
    assert 1.95 <= time.monotonic() - started <= 2.5 + 0.5 * PATIENCE
    proxy.wait_closed(max_lifetime=1)


def test_lifetimes_differ_by_their_jitter(own, ringmain):
    """Those of clients that came together are over at different times, none of them too late."""
    echo = own(EchoServer())
    listener = {"max_lifetime": "3s", "lifetime_jitter": "50%"}
    proxy = ringmain(config([echo.address], workers=2, listener=listener))
    started = time.monotonic()
    crowd = own(Crowd(proxy.address, 50))
    crowd.exchange()
    ended = []
    for sock in crowd.socks:
        sock.setblocking(False)
    waiting = list(crowd.socks)
    while waiting and time.monotonic() < started + 10 * PATIENCE:
        for sock in list(waiting):
            try:
                assert sock.recv(1) == b""
            except BlockingIOError:
                continue
            ended.append(time.monotonic() - started)
            waiting.remove(sock)
        time.sleep(0.01)
    assert not waiting and 1.45 <= min(ended) and max(ended) <= 3.2 + 0.5 * PATIENCE
    middle = sorted(ended)[25]
    assert 1.9 <= middle <= 2.6 + 0.5 * PATIENCE and max(ended) - min(ended) >= 1
    proxy.wait_closed(max_lifetime=50)


# ---- Connects ----


def test_all_tries_together(own, ringmain):
    """Three servers that do not answer: each try has a second, all of them have less than two."""
    holes = [own(Blackhole()) for _ in range(3)]
    upstream = {"connect_timeout": "1s", "connect_tries": 3, "connect_total_timeout": "1500ms"}
    proxy = ringmain(config([hole.address for hole in holes], upstream=upstream))
    started = time.monotonic()
    assert refusal(proxy.address, timeout=10) == "reset"
    assert 1.45 <= time.monotonic() - started <= 2 + 0.5 * PATIENCE
    assert proxy.metric("ringmain_server_connect_failures_total", reason="timeout") == 2
    proxy.wait_closed(connect_timeout=1)


def test_a_quick_refusal_leaves_time_for_others(own, ringmain):
    echo = own(EchoServer())
    upstream = {"connect_tries": 3, "connect_total_timeout": "500ms"}
    proxy = ringmain(config([unused_address(), unused_address(), echo.address], upstream=upstream))
    for _ in range(3):
        ping(own(connect(proxy.address)))
    time.sleep(0.8)  # it is over with the connect
    assert proxy.closed() == {}


# ---- Options of the sockets ----


def sockets_of(proxy):
    """Copies of the TCP sockets of the proxy that are connected (pidfd_getfd, Linux 5.6)."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(proxy.pid)
    found = []
    try:
        for number in map(int, os.listdir(f"/proc/{proxy.pid}/fd")):
            try:
                if not os.readlink(f"/proc/{proxy.pid}/fd/{number}").startswith("socket:"):
                    continue
            except FileNotFoundError:
                continue
            copy = libc.syscall(438, pidfd, number, 0)
            if copy < 0:
                pytest.skip(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
            sock = socket.socket(fileno=copy)
            found.append(sock)
    finally:
        os.close(pidfd)
    return found


@pytest.mark.parametrize("keepalive, expected", [(None, 30), ("7s", 7), ("off", 0)])
def test_socket_options_on_both_sides(keepalive, expected, own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], listener={"keepalive": keepalive} if keepalive else {}))
    client = own(connect(proxy.address))
    ping(client)
    server_port, client_port = int(echo.address.rsplit(":", 1)[1]), client.getsockname()[1]

    def options():
        """By the peer's port: no-delay, and the keep-alive's idle time, zero if it is off."""
        seen = {}
        for sock in sockets_of(proxy):
            with sock:
                try:
                    port = sock.getpeername()[1]
                except OSError:
                    continue
                if port in (server_port, client_port):
                    idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                    keeps = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    seen[port] = (sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), idle if keeps else 0)
        return seen

    assert {port: nodelay for port, (nodelay, _) in options().items()} == {server_port: 1, client_port: 1}
    # Towards the server keep-alive comes a moment later: a session that ends before does without it.
    wanted = {server_port: (1, expected), client_port: (1, expected)}
    wait_until(lambda: options() == wanted, lambda: f"{options()} is {wanted}")
    assert wait_steady(options, hold=0.3) == wanted
