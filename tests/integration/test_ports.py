"""Connections towards servers: the local addresses and ports they are made from, and what they leave behind."""
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess

import pytest

from peers import (
    EchoServer,
    ManualServer,
    connect,
    expect_end,
    ping,
    read_exactly,
    refusal,
    reset,
    wait_until,
)
from proxy import LOAD, config

CHECK = {"interval": "100ms", "timeout": "1s", "rise": 1, "fall": 1}
ELSEWHERE = "192.0.2.1"  # reserved for documentation: no machine has it

REFUSED = "fin"  # by a unix listener, whose sockets know no reset

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
TIME_WAIT = 6  # include/net/tcp_states.h


class Network:
    """A network of this thread's own, and of the threads and processes that it starts: loopback, and its own ports."""

    RANGE = "/proc/sys/net/ipv4/ip_local_port_range"

    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if self._libc.unshare(CLONE_NEWNET) != 0:
            os.close(self._before)
            pytest.skip(f"no network namespace to be had: {os.strerror(ctypes.get_errno())}")
        with socket.socket() as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        with open(self.RANGE) as file:
            self._all_ports = file.read()

    def set_ports(self, first, last):
        """The local ports that connects may be made from. Whoever asks for port 0 gets one of them, too."""
        with open(self.RANGE, "w") as file:
            file.write(f"{first} {last}")

    def restore_ports(self):
        with open(self.RANGE, "w") as file:
            file.write(self._all_ports)

    def close(self):
        self._libc.setns(self._before, CLONE_NEWNET)
        os.close(self._before)


@pytest.fixture
def network():
    created = Network()
    yield created
    created.close()


def _port(address):
    return int(address.rsplit(":", 1)[1])


def _connects():
    """Connects made so far in this thread's network."""
    with open("/proc/thread-self/net/snmp") as file:
        names, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(values[names.index("ActiveOpens")])


def _failures(proxy, reason):
    return proxy.metric("ringmain_server_connect_failures_total", reason=reason)


# ---- Source addresses -----------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_source_addresses_take_turns(own, ringmain, session):
    servers = [own(ManualServer("127.0.0.1:0")), own(ManualServer("[::1]:0"))]
    sources = ["127.0.0.2", "::1", "127.0.0.3"]
    proxy = ringmain(config([s.address for s in servers], upstream={"source_addresses": sources}))
    seen = []
    for i in range(8):
        client, server = session(proxy, servers[i % 2])
        seen.append(server.getpeername()[0])
        client.sendall(b"x")
        assert read_exactly(server, 1) == b"x"
    assert seen[0::2] == ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"]
    assert seen[1::2] == ["::1"] * 4


def test_health_checks_come_from_the_first_source_address(own, ringmain):
    server = own(ManualServer())
    upstream = {"source_addresses": ["127.0.0.5", "127.0.0.6"], "health_check": CHECK}
    ringmain(config([server.address], upstream=upstream))
    assert [server.listener.accept()[1][0] for _ in range(3)] == ["127.0.0.5"] * 3


def test_a_source_address_that_is_missing_is_passed_over(own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address], upstream={"source_addresses": [ELSEWHERE, "127.0.0.2"]}))
    for _ in range(4):
        assert session(proxy, server)[1].getpeername()[0] == "127.0.0.2"
    assert _failures(proxy, "no_local_address") == 0
    assert proxy.log_lines("cannot connect from", f"source_address={ELSEWHERE}", "no interface of this machine has")


def test_without_any_source_address(own, ringmain):
    server = own(EchoServer())
    upstream = {"source_addresses": [ELSEWHERE], "health_check": {**CHECK, "fall": 3}}
    proxy = ringmain(config([server.address], upstream=upstream))
    assert refusal(proxy.address) == "reset"
    assert _failures(proxy, "no_local_address") == 1
    assert proxy.log_lines("connect failed", server.address, "reason=no_local_address")
    wait_until(lambda: proxy.log_lines("server down", "no interface of this machine has"), "the server is down")
    assert server.accepted == 0


def test_ports_run_out(network, own, ringmain, tmp_path):
    """Every source address has ports of its own towards every server; when none is free, sessions that run go on."""
    servers = [own(ManualServer("127.0.0.1:7001")), own(ManualServer("127.0.0.1:7002"))]
    sources = ["127.0.0.2", "127.0.0.3"]
    proxy = ringmain(
        config(
            [s.address for s in servers],
            listen=f"unix:{tmp_path}/front.sock",
            upstream={"source_addresses": sources, "connect_tries": 1},
        )
    )
    network.set_ports(40000, 40003)
    clients = [own(connect(proxy.address)) for _ in range(16)]
    used = [sorted(server.accept().getpeername() for _ in range(8)) for server in servers]
    assert used == [[(source, port) for source in sources for port in range(40000, 40004)]] * 2

    assert [refusal(proxy.address) for _ in range(4)] == [REFUSED] * 4
    for i, client in enumerate(clients):
        client.sendall(bytes([i]))
    assert sorted(read_exactly(sock, 1)[0] for s in servers for sock in s.sockets) == list(range(16))
    wait_until(lambda: proxy.log_lines("connect failed", "reason=no_local_address"), "the log says so")
    (line, *_) = proxy.log_lines("connect failed", "reason=no_local_address")
    assert "add source_addresses to the upstream or widen net.ipv4.ip_local_port_range" in line
    assert proxy.log_lines("cannot connect from source_address=127.0.0.", "no local port is free towards the server")

    # A port that is free again is found, on whichever address it is.
    reset(servers[0].sockets[5])
    free = used[0]

    def served():
        client = own(connect(proxy.address))
        servers[0].listener.settimeout(0.3)
        try:
            return servers[0].listener.accept()[1]
        except TimeoutError:
            client.close()
            return None

    assert wait_until(served, "a client is served") in free
    network.restore_ports()
    assert _failures(proxy, "no_local_address") >= 4
    assert set(proxy.closed()) <= {"connect_failed", "server_reset"}, proxy.closed()


def test_ports_run_out_without_source_addresses(network, own, ringmain, tmp_path):
    server = own(ManualServer("127.0.0.1:7001"))
    proxy = ringmain(config([server.address], listen=f"unix:{tmp_path}/front.sock"))
    network.set_ports(40000, 40001)
    clients = [own(connect(proxy.address)) for _ in range(2)]
    for client in clients:
        client.sendall(b"x")
        assert read_exactly(server.accept(), 1) == b"x"
    assert refusal(proxy.address) == REFUSED
    wait_until(lambda: proxy.log_lines("reason=no_local_address", "ip_local_port_range"), "the log says so")
    network.restore_ports()
    assert _failures(proxy, "no_local_address") == 1


# ---- A connect that reaches itself ----------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("host, any_host", [("127.0.0.1", "0.0.0.0"), ("[::1]", "[::]")])
def test_a_server_that_is_down_is_not_the_proxy_itself(host, any_host, network, own, ringmain, tmp_path):
    """The kernel has one port for connects, and it is the server's."""
    servers = [f"{host}:45678", f"{any_host}:45678"]
    front = f"unix:{tmp_path}/front.sock"
    proxy = ringmain(config(servers, listen=front, upstream={"connect_tries": 2}))
    network.set_ports(45678, 45678)
    for _ in range(3):
        assert refusal(proxy.address) == REFUSED  # and not: open, because it talks to itself
    network.restore_ports()
    assert _failures(proxy, "refused") == 6
    proxy.wait_closed(connect_failed=3)
    # Nothing is left that keeps a server from its port, be it one that does not set SO_REUSEADDR.
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        server.bind((host.strip("[]"), 45678))


def test_a_health_check_does_not_reach_itself(network, own, ringmain, tmp_path):
    proxy = ringmain(
        config(["127.0.0.1:45678"], listen=f"unix:{tmp_path}/front.sock", upstream={"health_check": CHECK})
    )
    wait_until(lambda: proxy.log_lines("server down"), "the server is down")
    network.set_ports(45678, 45678)
    before = _connects()
    wait_until(lambda: _connects() >= before + 5, "checks were made")
    assert not proxy.log_lines("server up")
    network.restore_ports()
    own(EchoServer("127.0.0.1:45678"))
    wait_until(lambda: proxy.log_lines("server up"), "the server is up")
    ping(own(connect(proxy.address)))


# ---- TIME_WAIT ------------------------------------------------------------------------------------------------------


def _time_wait_sockets():
    """The ports of sockets in TIME_WAIT: (own, the other side's)."""
    with open("/proc/net/tcp") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    return {tuple(int(address.split(":")[1], 16) for address in fields[1:3]) for fields in lines
            if int(fields[3], 16) == TIME_WAIT}


def _time_waits(server, but=frozenset()):
    """How many there are but for some: (towards the server, of the server's own)."""
    port, sockets = _port(server), _time_wait_sockets() - but
    return sum(other == port for _, other in sockets), sum(own == port for own, _ in sockets)


@pytest.mark.sanitizer
def test_sessions_that_the_client_resets_leave_nothing(own, ringmain):
    server = own(EchoServer())
    proxy = ringmain(config([server.address]))
    before = _time_wait_sockets()  # the server may have the port that was a client's a minute ago
    churn = [LOAD, "churn", "--to", proxy.address, "--connections", "20", "--duration", "1s", "--reset", "--quiet"]
    result = subprocess.run([*churn, "--json", "-"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout[result.stdout.index("{") :])["connects"]
    assert made >= 100
    proxy.wait_active(0)
    assert set(proxy.closed()) <= {"client_reset", "client_left"}, proxy.closed()
    assert _time_waits(server.address, but=before) == (0, 0)


def test_who_closes_first_keeps_the_time_wait(own, ringmain, session):
    """Towards the server the proxy stands in for the client: that is TCP's rule, and no setting takes it away."""
    echo, server = own(EchoServer()), own(ManualServer())
    proxy, before = ringmain(config([echo.address])), _time_wait_sockets()
    for _ in range(10):
        with connect(proxy.address) as client:
            ping(client)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
    proxy.wait_active(0)
    wait_until(lambda: _time_waits(echo.address, but=before) == (10, 0), lambda: f"{_time_waits(echo.address, but=before)}")

    proxy = ringmain(config([server.address]))
    for _ in range(10):
        client, upstream = session(proxy, server)
        upstream.close()
        assert expect_end(client) == "fin"
        client.close()
    proxy.wait_active(0)
    wait_until(lambda: _time_waits(server.address) == (0, 10), lambda: f"{_time_waits(server.address)}")


@pytest.mark.parametrize("cut_by", ["idle_timeout", "drain_timeout"])
def test_a_cut_session_ends_in_order(cut_by, own, ringmain, session):
    """Nothing is lost when it was quiet, so both sides see an orderly end; the proxy closes first and has the wait."""
    server = own(ManualServer())
    listener = {"idle_timeout": "2s"} if cut_by == "idle_timeout" else {}
    proxy = ringmain(config([server.address], listener=listener, drain={"timeout": "100ms"}))
    client, upstream = session(proxy, server)
    before = _time_wait_sockets()  # an earlier server may have had this port
    client.sendall(b"x")
    assert read_exactly(upstream, 1) == b"x"
    if cut_by == "drain_timeout":
        proxy.stop()
    assert expect_end(upstream) == expect_end(client) == "fin"
    upstream.close()
    wait_until(lambda: _time_waits(server.address, but=before) == (1, 0), lambda: f"{_time_waits(server.address, but=before)}")
