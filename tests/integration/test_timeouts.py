"""Idle and half-closed timeouts, TCP keep-alive and no-delay."""
import ctypes
import os
import socket
import threading
import time

import pytest

from peers import PATIENCE, EchoServer, ManualServer, connect, expect_end, ping, wait_steady, wait_until
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


def _sockets_of(proxy):
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
        for sock in _sockets_of(proxy):
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
