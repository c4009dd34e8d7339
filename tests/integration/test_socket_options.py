"""Options of sockets and transparent connections, seen from outside: by the peers, on the wire, and in copies of the proxy's sockets."""
import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import threading
import time

import pytest

from peers import PATIENCE, EchoServer, ManualServer, connect, format_address, ping, read_exactly, read_pattern
from peers import refusal, reset, send_pattern, wait_until
from proxy import config, run_command
from reloading import ask, reload
from takeover_peer import line  # noqa: F401 (fixture)
from test_timeouts import sockets_of

MIB = 1 << 20
CLONE_NEWNET = 0x40000000
TCP_USER_TIMEOUT, TCP_FASTOPEN = 18, 23
IPPROTO_MPTCP, SO_PROTOCOL = 262, 38
SYN_DATA = 32  # TCPI_OPT_SYN_DATA: data of the SYN was taken
_libc = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs networks of its own, which only root has")


class Space:
    """A network of its own. Within `with`, sockets that this thread opens and processes that it starts are in it for good."""

    def __init__(self):
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if _libc.unshare(CLONE_NEWNET) != 0:
            os.close(before)
            pytest.skip(f"no network namespace to be had: {os.strerror(ctypes.get_errno())}")
        self.fd, self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY), []
        try:
            self._run("ip link set lo up")
        finally:
            _libc.setns(before, CLONE_NEWNET)
            os.close(before)

    def __enter__(self):
        self._outside.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        assert _libc.setns(self.fd, CLONE_NEWNET) == 0
        return self

    def __exit__(self, *_):
        before = self._outside.pop()
        _libc.setns(before, CLONE_NEWNET)
        os.close(before)

    def close(self):
        os.close(self.fd)

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @staticmethod
    def _run(commands):
        for command in commands.strip().splitlines():
            subprocess.run(command.split(), check=True, capture_output=True, text=True)

    def run(self, commands):
        with self:
            self._run(commands)

    def set(self, name, value):
        with self, open(f"/proc/sys/net/{name}", "w") as file:
            file.write(str(value))


@pytest.fixture
def space(own):
    """This test's thread is in a network of its own."""
    with own(Space()) as created:
        yield created


@pytest.fixture
def spaces(own):
    """client 10.1.0.2 and fd01::2 -- c: 10.1.0.1, fd01::1, proxy, s: 10.2.0.1, fd02::1 -- server 10.2.0.2 and fd02::2. The test is where the proxy is."""
    client, proxy, server = (own(Space()) for _ in range(3))
    for each in (client, proxy, server):
        for which in ("all", "default"):  # addresses are there at once
            each.set(f"ipv6/conf/{which}/accept_dad", 0)
    for name, other, net in (("c", client, 1), ("s", server, 2)):
        proxy.run(
            f"""ip link add {name} type veth peer name eth netns {other.path}
                ip addr add 10.{net}.0.1/24 dev {name}
                ip -6 addr add fd0{net}::1/64 dev {name} nodad
                ip link set {name} up"""
        )
        other.run(
            f"""ip addr add 10.{net}.0.2/24 dev eth
                ip -6 addr add fd0{net}::2/64 dev eth nodad
                ip link set eth up
                ip route add default via 10.{net}.0.1
                ip -6 route add default via fd0{net}::1"""
        )
    with proxy:
        yield client, proxy, server


TEXTS = {(socket.IPPROTO_TCP, socket.TCP_CONGESTION), (socket.SOL_SOCKET, socket.SO_BINDTODEVICE)}


def option(sock, level, name):
    if (level, name) in TEXTS:
        return sock.getsockopt(level, name, 16).rstrip(b"\0").decode()
    return sock.getsockopt(level, name)


# What each key sets, and a value.
KEYS = {
    "keepalive_interval": ("11s", socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 11),
    "keepalive_count": (5, socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5),
    "user_timeout": ("12345ms", socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 12345),
    "congestion_control": ("reno", socket.IPPROTO_TCP, socket.TCP_CONGESTION, "reno"),
    "mark": (7, socket.SOL_SOCKET, socket.SO_MARK, 7),
    "interface": ("lo", socket.SOL_SOCKET, socket.SO_BINDTODEVICE, "lo"),
}
DSCP = {socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TOS), socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}


def seen(proxy, port):
    """The options of the proxy's connected socket whose peer has that port; none while there is no such socket."""
    for sock in sockets_of(proxy):
        with sock:
            try:
                if sock.getpeername()[1] != port:
                    continue
            except OSError:
                continue
            found = {key: option(sock, level, name) for key, (_, level, name, _) in KEYS.items()}
            found["dscp"] = sock.getsockopt(*DSCP[sock.family]) >> 2
            return found
    return None


WANTED = {**{key: value for key, (_, _, _, value) in KEYS.items()}, "dscp": 46}
ALL = {**{key: text for key, (text, _, _, _) in KEYS.items()}, "dscp": 46}


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def peer_ports(client, server):
    return client.getsockname()[1], port_of(server.address)


@pytest.mark.sanitizer
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_both_sides_have_what_is_asked_for(host, space, own, ringmain):
    """An accepted socket has it from its listening socket, without a call of its own."""
    server = own(EchoServer(f"{host}:0"))
    proxy = ringmain(config([server.address], listen=f"{host}:0", workers=2, listener={"socket": ALL}, upstream={"socket": ALL}))
    for _ in range(4):  # one at least of each worker, as a rule
        client = own(connect(proxy.address))
        ping(client)
        for port in peer_ports(client, server):
            wait_until(lambda p=port: seen(proxy, p) == WANTED, lambda p=port: f"{seen(proxy, p)} is {WANTED}")


def test_nothing_is_asked_for_by_default(space, own, ringmain):
    server = own(EchoServer())
    proxy = ringmain(config([server.address], listener={"keepalive": "30s"}))
    client = own(connect(proxy.address))
    ping(client)
    with connect(server.address) as plain:
        usual = option(plain, socket.IPPROTO_TCP, socket.TCP_CONGESTION)
    wanted = {"keepalive_interval": 10, "keepalive_count": 3, "user_timeout": 0, "congestion_control": usual, "mark": 0,
              "interface": "", "dscp": 0}
    for port in peer_ports(client, server):
        wait_until(lambda p=port: seen(proxy, p) == wanted, lambda p=port: f"{seen(proxy, p)} is {wanted}")


# ---- What the other side sees -----------------------------------------------------------------------------------------


class Sniffer:
    """The headers of the TCP segments on an interface, from when it was made: (source port, destination port, DSCP)."""

    def __init__(self, interface="lo"):
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
        self._sock.bind((interface, 3))
        self._sock.setblocking(False)

    def dscp_by_source_port(self):
        found = {}
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, address = self._sock.recvfrom(256)
                if address[2] == socket.PACKET_OUTGOING:  # each is seen twice on loopback
                    continue
                if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_TCP:
                    source, dscp = struct.unpack_from("!H", packet, (packet[0] & 15) * 4)[0], packet[1] >> 2
                elif packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_TCP:
                    source, dscp = struct.unpack_from("!H", packet, 40)[0], (struct.unpack_from("!H", packet)[0] >> 6) & 63
                else:
                    continue
                found.setdefault(source, set()).add(dscp)
        return found

    def close(self):
        self._sock.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_dscp_of_every_segment(host, space, own, ringmain, session):
    server = own(ManualServer(f"{host}:0"))
    proxy = ringmain(
        config([server.address], listen=f"{host}:0", listener={"socket": {"dscp": 46}}, upstream={"socket": {"dscp": 10}})
    )
    sniffer = own(Sniffer())
    client, upstream = session(proxy, server)
    for source, target in ((client, upstream), (upstream, client)):
        source.sendall(b"x")
        assert read_exactly(target, 1) == b"x"
    found = sniffer.dscp_by_source_port()
    assert found[port_of(proxy.address)] == {46}, "with the answer to the handshake"
    assert found[upstream.getpeername()[1]] == {10}, "with the first segment"
    assert found[client.getsockname()[1]] == found[port_of(server.address)] == {0}


def test_max_segment(space, own, ringmain, session):
    """The other side never gets more into a segment."""
    server = own(ManualServer())
    proxy = ringmain(
        config([server.address], listener={"socket": {"max_segment": 1000}}, upstream={"socket": {"max_segment": 500}})
    )
    client, upstream = session(proxy, server)
    assert 900 <= client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= 1000
    assert 400 <= upstream.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= 500
    sender = threading.Thread(target=send_pattern, args=(client, 0, MIB))
    sender.start()
    read_pattern(upstream, 0, MIB)
    sender.join()


def test_marks_route(spaces, own, ringmain):
    """Only what is marked finds its way: to clients, to servers, and to servers that are checked."""
    client_space, proxy_space, server_space = spaces
    proxy_space.run(
        """ip route del 10.1.0.0/24 dev c
           ip route del 10.2.0.0/24 dev s
           ip route add 10.1.0.0/24 dev c table 7
           ip route add 10.2.0.0/24 dev s src 10.2.0.1 table 8
           ip rule add fwmark 7 lookup 7
           ip rule add fwmark 8 lookup 8"""
    )
    with server_space:
        server = own(EchoServer("10.2.0.2:0"))
    check = {"interval": "100ms", "timeout": "1s", "rise": 1, "fall": 1}
    settings = config(
        [server.address],
        listen="10.1.0.1:0",
        listener={"socket": {"mark": 7}},
        upstream={"socket": {"mark": 8}, "health_check": check},
    )
    proxy = ringmain(settings)
    with client_space:
        ping(own(connect(proxy.address)))
    time.sleep(0.5)  # several checks
    assert not proxy.log_lines("server down")
    settings["upstreams"][0]["socket"] = {}
    reload(proxy, settings)
    wait_until(lambda: proxy.log_lines("server down"), "checks are not marked any more")
    settings["upstreams"][0]["socket"] = {"mark": 8}
    reload(proxy, settings)
    wait_until(lambda: proxy.log_lines("server up"), "and now they are")
    with client_space:
        ping(own(connect(proxy.address)))
    settings["listeners"][0]["socket"] = {}
    reload(proxy, settings)
    with client_space, pytest.raises(TimeoutError):
        connect(proxy.address, timeout=0.5)  # the answer finds no way


def test_interface(spaces, own, ringmain):
    """Clients of others are refused, and servers are looked for on no other."""
    client_space, proxy_space, server_space = spaces
    proxy_space.run("ip route add 10.2.0.2/32 dev c")  # which is the wrong way
    with server_space:
        server = own(EchoServer("10.2.0.2:0"))
    settings = config(
        [server.address],
        listen="0.0.0.0:0",
        workers=2,
        listener={"socket": {"interface": "c"}},
        upstream={"socket": {"interface": "s"}},
    )
    proxy = ringmain(settings)
    port = port_of(proxy.address)
    with client_space:
        ping(own(connect(f"10.1.0.1:{port}")))
    with pytest.raises(ConnectionRefusedError):
        connect(f"127.0.0.1:{port}")
    # What is not asked for any more is undone on the sockets that listen.
    settings["listeners"][0]["socket"] = {"interface": "lo"}
    reload(proxy, settings)
    with client_space, pytest.raises(ConnectionRefusedError):
        connect(f"10.1.0.1:{port}")
    ping(own(connect(f"127.0.0.1:{port}")))
    settings["listeners"][0]["socket"] = {}
    reload(proxy, settings)
    with client_space:
        ping(own(connect(f"10.1.0.1:{port}")))
    ping(own(connect(f"127.0.0.1:{port}")))


def test_user_timeout(spaces, own, ringmain):
    """A server that is cut off is given up as soon as it should have acknowledged; the kernel would try for a quarter of an hour."""
    _, _, server_space = spaces
    with server_space:
        server = own(ManualServer("10.2.0.2:0"))
    proxy = ringmain(config([server.address], upstream={"socket": {"user_timeout": "1s"}}))
    client = own(connect(proxy.address))
    upstream = server.accept()
    client.sendall(b"x")
    assert read_exactly(upstream, 1) == b"x"
    server_space.run("ip link set eth down")
    started = time.monotonic()
    client.sendall(b"y")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert 0.9 <= time.monotonic() - started <= 5 * PATIENCE
    proxy.wait_closed(server_reset=1)


# ---- Accepting ------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_defer_accept(space, own, ringmain):
    """A client that says nothing takes no session; one that does is served at once."""
    server = own(EchoServer())
    proxy = ringmain(config([server.address], workers=2, listener={"socket": {"defer_accept": "30s"}}))
    silent = [own(connect(proxy.address)) for _ in range(4)]
    time.sleep(0.5)  # for what must not happen
    assert proxy.metric("ringmain_connections_total") == 0
    ping(own(connect(proxy.address)))
    assert proxy.metric("ringmain_connections_total") == 1
    for client in silent:
        ping(client)
    proxy.wait_active(5)


def _options(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5]


def test_fast_open_of_clients(space, own, ringmain):
    """The second connection brings its first bytes with the SYN."""
    space.set("ipv4/tcp_fastopen", 3)
    server = own(EchoServer())
    proxy = ringmain(config([server.address], workers=2, listener={"socket": {"fast_open": 64}}))
    assert not proxy.log_lines("fast_open")
    taken = []
    for _ in range(3):
        with socket.socket() as client:
            client.sendto(b"first", socket.MSG_FASTOPEN, ("127.0.0.1", port_of(proxy.address)))
            client.settimeout(10)
            assert read_exactly(client, 5) == b"first"
            taken.append(bool(_options(client) & SYN_DATA))
    assert taken == [False, True, True]


def test_fast_open_of_clients_needs_a_setting(space, own, ringmain):
    space.set("ipv4/tcp_fastopen", 1)
    proxy = ringmain(config([own(EchoServer()).address], listener={"socket": {"fast_open": 64}}))
    assert proxy.log_lines("listener front: socket.fast_open", "tcp_fastopen has its bit 2")
    ping(own(connect(proxy.address)))


def test_fast_open_to_servers(space, own, ringmain):
    """Once the server is known the first bytes go with the SYN, and a server that has gone is noticed only then."""
    space.set("ipv4/tcp_fastopen", 3)
    server = own(ManualServer())
    server.listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 64)
    check = {"interval": "100ms", "timeout": "1s", "rise": 1, "fall": 1}
    proxy = ringmain(config([server.address], upstream={"socket": {"fast_open": "on"}, "health_check": check}))

    def serve(length):
        """One session of two bulks; whether its first bytes came with the SYN."""
        client = own(connect(proxy.address))
        client.sendall(b"session")
        while True:  # checks come by as well
            upstream = server.accept()
            try:
                if upstream.recv(7, socket.MSG_WAITALL) == b"session":
                    break
            except ConnectionResetError:
                pass
        with_syn = bool(_options(upstream) & SYN_DATA)
        for source, target in ((client, upstream), (upstream, client)):
            sender = threading.Thread(target=send_pattern, args=(source, 0, length))
            sender.start()
            read_pattern(target, 0, length)
            sender.join()
        return with_syn

    assert [serve(MIB) for _ in range(3)] == [False, True, True]
    server.listener.close()
    wait_until(lambda: proxy.log_lines("server down"), "checks make sure that there is a server")
    assert refusal(proxy.address) == "reset"


def test_fast_open_to_servers_needs_a_setting(space, own, launch):
    space.set("ipv4/tcp_fastopen", 2)
    error = start_error(launch, config(["127.0.0.1:1"], upstream={"socket": {"fast_open": "on"}}))
    assert "upstream back: socket.fast_open: net.ipv4.tcp_fastopen is 2" in error


# ---- MPTCP ----------------------------------------------------------------------------------------------------------


def has_mptcp():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
    except OSError:
        return False
    return True


needs_mptcp = pytest.mark.skipif(not has_mptcp(), reason="this kernel has no MPTCP")


def mptcp_connect(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    sock.settimeout(20 * PATIENCE)
    host, port = address.rsplit(":", 1)
    sock.connect((host, int(port)))
    return sock


def speaks_mptcp(sock):
    """Of a socket that connected: whether the other side speaks it too (MPTCP_INFO; its flags, of which 1 is the fallback to TCP)."""
    try:
        info = sock.getsockopt(284, 1, 64)
    except OSError:
        return False
    return not struct.unpack_from("I", info, 8)[0] & 1


@needs_mptcp
@pytest.mark.parametrize("client_speaks", [True, False])
def test_mptcp_on_both_sides(client_speaks, space, own, ringmain):
    """With whoever speaks it; with others TCP. Bytes and ends are as ever, also of bulk."""
    listener = own(socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP))
    listener.settimeout(20)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    mptcp = {"socket": {"mptcp": "on"}}
    proxy = ringmain(config([format_address(listener)], workers=2, listener=mptcp, upstream=mptcp))
    for end in ("fin", "reset"):
        client = own(mptcp_connect(proxy.address) if client_speaks else connect(proxy.address))
        upstream = own(listener.accept()[0])
        upstream.settimeout(20)
        assert not client_speaks or speaks_mptcp(client)
        assert upstream.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL) == IPPROTO_MPTCP
        for source, target in ((client, upstream), (upstream, client)):
            sender = threading.Thread(target=send_pattern, args=(source, 0, 8 * MIB))
            sender.start()
            read_pattern(target, 0, 8 * MIB)
            sender.join()
        if end == "fin":
            client.shutdown(socket.SHUT_WR)
            assert upstream.recv(1) == b""
            upstream.sendall(b"last")
            upstream.close()
            assert read_exactly(client, 4) == b"last" and client.recv(1) == b""
        else:
            reset(upstream)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    proxy.wait_active(0)


@needs_mptcp
def test_mptcp_of_sockets_that_listen_stays(space, own, ringmain):
    server = own(EchoServer())
    settings = config([server.address], listener={"socket": {"mptcp": "on"}})
    proxy = ringmain(settings)
    settings["listeners"][0]["socket"] = {}
    code, answer = ask(proxy, settings)
    assert code == 200 and answer["changes"] == ["listener front: socket.mptcp on -> off"]
    assert "listener front: socket.mptcp: the sockets that listen on 127.0.0.1:" in answer["next_start"][0]
    client = own(mptcp_connect(proxy.address))
    ping(client)
    assert speaks_mptcp(client)


def test_without_mptcp_there_is_tcp(space, own, ringmain):
    """In this network it is off."""
    if has_mptcp():
        space.set("mptcp/enabled", 0)
    mptcp = {"socket": {"mptcp": "on"}}
    server = own(EchoServer())
    proxy = ringmain(config([server.address], listener=mptcp, upstream=mptcp))
    for who in ("listener front", "upstream back"):
        assert len(proxy.log_lines(f"{who}: socket.mptcp: the kernel has no MPTCP")) == 1
    ping(own(connect(proxy.address)))


@needs_mptcp
def test_what_mptcp_sockets_do_not_have(space, own, launch):
    error = start_error(launch, config(["127.0.0.1:1"], upstream={"socket": {"mptcp": "on", "user_timeout": "5s"}}))
    assert "upstream back: socket.user_timeout: this kernel does not have it for MPTCP sockets" in error


# ---- Errors ---------------------------------------------------------------------------------------------------------


def start_error(launch, settings, **options):
    """What a process that cannot start says."""
    proxy = launch(settings, **options)
    proxy.expected_exit = (1,)
    assert proxy.wait() == 1
    (line_of_error,) = [text for text in proxy.log().splitlines() if "error" in text.lower()]
    return line_of_error


UNPRIVILEGED = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"]


@pytest.mark.parametrize(
    "upstream, words",
    [
        ({"socket": {"mark": 7}}, "socket.mark: needs CAP_NET_ADMIN"),
        ({"transparent": "on"}, "transparent: needs CAP_NET_ADMIN"),
    ],
)
def test_a_missing_capability_is_named(upstream, words, launch, tmp_path):
    settings = config(["127.0.0.1:1"], upstream=upstream)
    assert f"upstream back: {words}" in start_error(launch, settings, wrapper=UNPRIVILEGED)
    path = next(tmp_path.glob("*.yaml"))
    assert run_command("check", str(path)).returncode == 0, "a check needs no privilege"


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("congestion_control", "nonesuch", "the kernel has no 'nonesuch'; it has "),
        ("interface", "nonesuch0", "there is no interface 'nonesuch0'"),
    ],
)
def test_what_the_kernel_does_not_have(key, value, words, own, launch, ringmain):
    """A start fails, and a reload changes nothing."""
    server = own(EchoServer())
    wrong = config([server.address], listener={"socket": {key: value}})
    assert f"listener front: socket.{key}: {words}" in start_error(launch, wrong)
    proxy = ringmain(config([server.address]))
    client = own(connect(proxy.address))
    wrong["listeners"][0]["backlog"] = 7
    code, answer = ask(proxy, wrong)
    assert code == 422 and f"listener front: socket.{key}: {words}" in answer["errors"][0]
    ping(client)
    ping(own(connect(proxy.address)))


# ---- While it runs --------------------------------------------------------------------------------------------------


def test_a_reload_is_for_new_connections(space, own, ringmain):
    """Sockets that listen change while they listen, there and back; sessions keep what they have."""
    server = own(EchoServer())
    plain = config([server.address], workers=2)
    proxy = ringmain(plain)
    before = own(connect(proxy.address))
    ping(before)
    usual = wait_until(lambda: seen(proxy, before.getsockname()[1]), "the session is there")
    options = {"socket": ALL}
    reload(proxy, config([server.address], workers=3, listener=options, upstream=options))
    for _ in range(6):
        client = own(connect(proxy.address))
        ping(client)
        assert seen(proxy, client.getsockname()[1]) == WANTED
    assert seen(proxy, before.getsockname()[1]) == usual
    reload(proxy, plain)
    for _ in range(6):
        client = own(connect(proxy.address))
        ping(client)
        assert seen(proxy, client.getsockname()[1]) == usual


def test_sockets_that_are_taken_over_get_the_new_options(own, line):  # noqa: F811
    server = own(EchoServer())
    plain, marked = line.config([server.address]), line.config([server.address], listener={"socket": {"mark": 7, "dscp": 46}})
    proxy = line.first(plain)
    for settings, mark, dscp in ((marked, 7, 46), (plain, 0, 0)):
        proxy = line.after(proxy, settings)
        client = own(connect(proxy.address))
        ping(client)
        found = seen(proxy, client.getsockname()[1])
        assert (found["mark"], found["dscp"]) == (mark, dscp)


# ---- Transparent ----------------------------------------------------------------------------------------------------


TRANSPARENT = """ip rule add iif s lookup 100
                 ip -6 rule add iif s lookup 100
                 ip route add local 0.0.0.0/0 dev lo table 100
                 ip -6 route add local ::/0 dev lo table 100"""


@pytest.mark.parametrize("client_host, proxy_host, server_host", [("10.1.0.2", "10.1.0.1", "10.2.0.2"), ("fd01::2", "[fd01::1]", "[fd02::2]")])
def test_servers_see_the_clients_address(client_host, proxy_host, server_host, spaces, own, ringmain):
    client_space, proxy_space, server_space = spaces
    proxy_space.run(TRANSPARENT)
    with server_space:
        server = own(ManualServer(f"{server_host}:0"))
    check = {"interval": "100ms", "timeout": "1s"}
    proxy = ringmain(config([server.address], listen=f"{proxy_host}:0", workers=2, upstream={"transparent": "on"}))
    pairs = []
    for _ in range(8):
        with client_space:
            client = own(connect(proxy.address))
        upstream = server.accept()
        assert upstream.getpeername()[0] == client_host
        pairs.append((client, upstream))
    for client, upstream in pairs:
        for source, target in ((client, upstream), (upstream, client)):
            sender = threading.Thread(target=send_pattern, args=(source, 0, MIB))
            sender.start()
            read_pattern(target, 0, MIB)
            sender.join()
        client.close()
        assert upstream.recv(1) == b""
        upstream.close()
    proxy.wait_closed(client_closed=8)
    # A reload takes it back, for new sessions; the checks never come from a client.
    reload(proxy, config([server.address], listen=f"{proxy_host}:0", workers=2, upstream={"health_check": check}))
    assert server.listener.accept()[1][0] != client_host
    with client_space:
        own(connect(proxy.address)).sendall(b"session")

    def from_proxy():
        upstream = server.accept()
        with contextlib.suppress(ConnectionResetError):
            if upstream.recv(7, socket.MSG_WAITALL) == b"session":
                return upstream.getpeername()[0]
        return None

    assert wait_until(from_proxy, "a session among the checks") != client_host


def test_a_client_of_another_family_is_refused(spaces, own, ringmain):
    """To connect from the proxy's own address would let it in where only the proxy may."""
    client_space, proxy_space, server_space = spaces
    proxy_space.run(TRANSPARENT)
    with server_space:
        server = own(EchoServer("10.2.0.2:0"))
    proxy = ringmain(config([server.address], listen="[fd01::1]:0", upstream={"transparent": "on"}))
    with client_space:
        assert refusal(proxy.address) == "reset"
    wait_until(lambda: proxy.log_lines("connect failed", "reason=no_local_address", "of another family"), "the log says so")
    assert server.accepted == 0


def test_unix_clients_have_no_address_to_show(spaces, own, ringmain, tmp_path):
    _, _, server_space = spaces
    with server_space:
        server = own(ManualServer("10.2.0.2:0"))
    proxy = ringmain(config([server.address], listen=f"unix:{tmp_path}/front.sock", upstream={"transparent": "on"}))
    client = own(connect(proxy.address))
    upstream = server.accept()
    assert upstream.getpeername()[0] == "10.2.0.1"
    client.sendall(b"x")
    assert read_exactly(upstream, 1) == b"x"
