"""The PROXY protocol: who a client is as a proxy before us says, and what we say to servers. Every byte of the payload is checked."""
import ipaddress
import socket
import struct
import time

import pytest

from peers import EchoServer, ManualServer, connect, expect_end, parse_address, pattern, ping, read_exactly, read_pattern
from peers import Job, refusal, reset, send_pattern, wait_until
from proxy import config
from reloading import reload
from takeover_peer import line  # noqa: F401 (a fixture)
from test_sessions import only

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
SOURCE, DESTINATION = ("192.0.2.7", 40000), ("198.51.100.8", 443)
SOURCE6, DESTINATION6 = ("2001:db8::7", 1), ("2001:db8::8", 65535)
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, CUSTOM = 1, 2, 3, 4, 5, 0xE5
REQUIRED = {"proxy_protocol": "required"}


# ---- A codec of the tests' own --------------------------------------------------------------------------------------


def v1(source=SOURCE, destination=DESTINATION):
    version = ipaddress.ip_address(source[0]).version
    return f"PROXY TCP{version} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def v2(source=SOURCE, destination=DESTINATION, tlvs=(), command=1, crc=None, family=None):
    """`crc` is added to the right checksum; None: without one."""
    rest = b""
    if source:
        addresses = [ipaddress.ip_address(end[0]) for end in (source, destination)]
        rest = b"".join(address.packed for address in addresses) + struct.pack("!HH", source[1], destination[1])
        family = family or {4: 0x11, 6: 0x21}[addresses[0].version]
    rest += b"".join(tlv(kind, value) for kind, value in tlvs)
    if crc is not None:
        rest += tlv(CRC32C, b"\0\0\0\0")
    header = SIGNATURE + struct.pack("!BBH", 0x20 | command, family or 0, len(rest)) + rest
    if crc is not None:
        header = header[:-4] + struct.pack("!I", (crc32c(header) + crc) % 2**32)
    return header


def read_v1(sock):
    line = b""
    while not line.endswith(b"\r\n"):
        assert len(line) < 107
        line += read_exactly(sock, 1)
    words = line.decode().split()
    assert words[0] == "PROXY"
    if words[1] == "UNKNOWN":
        return None, None
    return (words[2], int(words[4])), (words[3], int(words[5]))


def read_v2(sock):
    """(source, destination, [(type, value)]); a checksum is checked, and told of as a TLV without a value."""
    fixed = read_exactly(sock, 16)
    assert fixed[:12] == SIGNATURE and fixed[12] == 0x21, fixed
    rest = read_exactly(sock, struct.unpack("!H", fixed[14:])[0])
    size = {0x11: 4, 0x21: 16, 0: 0}[fixed[13]]
    source = destination = None
    if size:
        ports = struct.unpack("!HH", rest[2 * size : 2 * size + 4])
        source, destination = [
            (str(ipaddress.ip_address(rest[i * size : (i + 1) * size])), ports[i]) for i in range(2)
        ]
    at, tlvs = 2 * size + 4 if size else 0, []
    while at < len(rest):
        kind, length = struct.unpack("!BH", rest[at : at + 3])
        value = rest[at + 3 : at + 3 + length]
        if kind == CRC32C:
            whole = fixed + rest[: at + 3] + b"\0\0\0\0" + rest[at + 7 :]
            assert struct.unpack("!I", value)[0] == crc32c(whole)
            value = b""
        tlvs.append((kind, value))
        at += 3 + length
    return source, destination, tlvs


def as_text(address):
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{host}:{address[1]}"


def states(proxy):
    return [session["state"] for session in proxy.sessions()]


def both_ways(client, server, length=5000):
    """Payload, every byte of it, in both directions."""
    jobs = [Job(send_pattern, client, 1, length), Job(send_pattern, server, 2, length)]
    read_pattern(server, 1, length)
    read_pattern(client, 2, length)
    for job in jobs:
        job.finish()


# ---- From clients ---------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize(
    "header, source",
    [
        (v1(), SOURCE),
        (v1(SOURCE6, DESTINATION6), SOURCE6),
        (v2(), SOURCE),
        (v2(SOURCE6, DESTINATION6, [(ALPN, b"h2"), (NOOP, b"xx")], crc=0), SOURCE6),
        (v2(tlvs=[(CUSTOM, b"x" * 4000)]), SOURCE),
    ],
    ids=["v1", "v1-ipv6", "v2", "v2-tlvs", "v2-long"],
)
@pytest.mark.parametrize("pieces", ["one", "two", "bytes"])
def test_the_client_is_whom_the_header_says(header, source, pieces, own, ringmain):
    if pieces == "bytes" and len(header) > 200:
        pytest.skip("takes long")
    server = own(ManualServer())
    proxy = ringmain(config([server.address], workers=2, listener=REQUIRED))
    client = own(connect(proxy.address))
    message = header + pattern(1, 3000)
    if pieces == "one":
        client.sendall(message)
    elif pieces == "two":
        client.sendall(message[:10])
        wait_until(lambda: states(proxy) == ["reading_header"], "it waits for the rest")
        assert only(proxy)["client"] == as_text(client.getsockname()) and only(proxy)["server"] is None
        client.sendall(message[10:])
    else:
        for i in range(len(header)):
            client.sendall(header[i : i + 1])
        client.sendall(message[len(header) :])
    upstream = server.accept()
    read_pattern(upstream, 1, 3000)
    session = only(proxy)
    assert session["client"] == as_text(source) and session["state"] == "established"
    assert session["to_server"]["received_bytes"] == session["to_server"]["sent_bytes"] == 3000
    assert proxy.metric("ringmain_bytes_total", direction="to_server") == 3000
    both_ways(client, upstream)


@pytest.mark.parametrize("header", [v2(None, command=0), v2(None), v2(None, tlvs=[(ALPN, b"h2")]), b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN a b c\r\n"])
def test_a_header_without_addresses(header, own, ringmain):
    """LOCAL, UNSPEC, UNKNOWN: the connection's own count, also for the server."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address], listener=REQUIRED, upstream={"send_proxy_protocol": "v1"}))
    client = own(connect(proxy.address))
    client.sendall(header)
    upstream = server.accept()
    assert read_v1(upstream) == (client.getsockname(), client.getpeername())
    assert only(proxy)["client"] == as_text(client.getsockname())
    both_ways(client, upstream)


@pytest.mark.sanitizer
def test_what_is_no_header_is_refused(own, ringmain):
    server = own(ManualServer())
    proxy = ringmain(config([server.address], workers=2, listener=REQUIRED))
    wrong = [b"GET / HTTP/1.1\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", b"PROXY UNKNOWN\n", b"PROXY UNKNOWN " + b"x" * 100, v2(crc=1),
             v2(family=0x12), v2(command=2), SIGNATURE + b"\x21\x11\x10\x01", v2()[:15] + b"\x00" + v2()[16:]]
    for i, header in enumerate(wrong):
        client = own(connect(proxy.address))
        client.sendall(header)
        assert expect_end(client) == "reset", header
        proxy.wait_closed(proxy_protocol=i + 1)
    assert proxy.log_lines("no PROXY protocol header: connection closed", "listener=front", "reason=\"it does not begin like one\"")
    assert proxy.metric("ringmain_server_connections_active") == 0
    # Its end before the end of the header is no better; without a byte it is a client that left.
    for end in (socket.socket.close, reset):
        client = connect(proxy.address)
        client.sendall(v1()[:20])
        wait_until(lambda: proxy.sessions(), "it is there")
        end(client)
        wait_until(lambda: not proxy.sessions(), "it is gone")
    assert proxy.closed() == {"proxy_protocol": len(wrong) + 2}
    connect(proxy.address).close()
    proxy.wait_closed(proxy_protocol=len(wrong) + 2, client_left=1)


def test_a_late_header_is_refused(own, ringmain):
    server = own(ManualServer())
    listener = {"proxy_protocol": {"accept": "required", "timeout": "300ms"}}
    proxy = ringmain(config([server.address], workers=2, listener=listener))
    started = time.monotonic()
    clients = [own(connect(proxy.address)) for _ in range(3)]
    clients[1].sendall(b"P")
    clients[2].sendall(v2()[:-1])
    for client in clients:
        assert expect_end(client) == "reset"
    assert time.monotonic() - started >= 0.3
    proxy.wait_closed(proxy_protocol_timeout=3)


def test_slow_headers_hold_no_memory(own, ringmain):
    """A crowd that begins a header and does not end it has no buffer of the proxy's."""
    server = own(EchoServer())
    proxy = ringmain(config([server.address], workers=2, listener={"proxy_protocol": {"accept": "required", "timeout": "1m"}}))
    slow = [own(connect(proxy.address)) for _ in range(200)]
    for client in slow:
        client.sendall(v1()[:30])
    wait_until(lambda: len(proxy.sessions()) == 200, "all are there")
    client = own(connect(proxy.address))
    client.sendall(v1())
    ping(client)
    assert sum(worker["buffers_held"] for worker in proxy.status()["workers"]) == 0
    for client in slow:
        client.sendall(v1()[30:])
        ping(client)


# ---- Whom it is taken from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["optional", "required"])
def test_only_from_the_trusted(accept, own, ringmain):
    server = own(ManualServer())
    rules = {"accept": accept, "from": ["127.0.0.2", "10.0.0.0/8"]}
    proxy = ringmain(config([server.address], workers=2, listener={"proxy_protocol": rules}))
    trusted = own(connect(proxy.address, source="127.0.0.2"))
    trusted.sendall(v1())
    upstream = server.accept()
    assert only(proxy)["client"] == as_text(SOURCE)
    both_ways(trusted, upstream)
    if accept == "required":
        assert refusal(proxy.address, source="127.0.0.3") == "reset"
        proxy.wait_closed(proxy_protocol=1)
        assert proxy.log_lines("no PROXY protocol header", "client=127.0.0.3:", "is not in proxy_protocol.from")
    else:
        other = own(connect(proxy.address, source="127.0.0.3"))
        other.sendall(v1())
        assert read_exactly(server.accept(), len(v1())) == v1(), "it is payload"


def test_an_optional_header(own, ringmain):
    server = own(ManualServer())
    rules = {"accept": "optional", "from": "127.0.0.0/8", "timeout": "300ms"}
    proxy = ringmain(config([server.address], workers=2, listener={"proxy_protocol": rules}))
    for beginning in (b"hello", b"PROXX", b"P", b"\r\n\r\n\x00\r\nQUIX"):
        client = own(connect(proxy.address))
        client.sendall(beginning)
        upstream = server.accept()
        assert read_exactly(upstream, len(beginning)) == beginning
        both_ways(client, upstream)
    silent = own(connect(proxy.address))
    upstream = server.accept()
    upstream.sendall(b"220 ready")
    assert read_exactly(silent, 9) == b"220 ready"
    begun = own(connect(proxy.address))
    begun.sendall(b"PROXY ")
    assert expect_end(begun) == "reset"
    proxy.wait_closed(proxy_protocol_timeout=1)


# ---- To servers -----------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_servers_are_told_who_the_client_is(version, host, own, ringmain):
    """At once, also if the client waits for the server to speak."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address], listen=f"{host}:0", workers=2, upstream={"send_proxy_protocol": version}))
    silent = own(connect(proxy.address))
    upstream = server.accept()
    told = read_v1(upstream) if version == "v1" else read_v2(upstream)[:2]
    assert told == (silent.getsockname()[:2], silent.getpeername()[:2])
    assert only(proxy)["to_server"]["sent_bytes"] == 0, "it is none of the client's bytes"
    both_ways(silent, upstream)
    eager = own(connect(proxy.address))
    eager.sendall(pattern(1, 100_000))
    eager.shutdown(socket.SHUT_WR)
    upstream = server.accept()
    told = read_v1(upstream) if version == "v1" else read_v2(upstream)[:2]
    assert told[0] == eager.getsockname()[:2]
    read_pattern(upstream, 1, 100_000)
    assert upstream.recv(1) == b""
    assert proxy.status()["upstreams"][0]["send_proxy_protocol"] == version


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_of_a_unix_client_nothing_is_known(version, own, ringmain, tmp_path):
    server = own(ManualServer(f"unix:{tmp_path}/server"))
    settings = config([server.address], listen=f"unix:{tmp_path}/front", upstream={"send_proxy_protocol": version})
    proxy = ringmain(settings)
    client = own(connect(proxy.address))
    upstream = server.accept()
    assert (read_v1(upstream) if version == "v1" else read_v2(upstream)[:2]) == (None, None)
    both_ways(client, upstream)


@pytest.mark.sanitizer
def test_what_came_is_passed_on(own, ringmain):
    """Addresses and TLVs, but NOOP; with a checksum of our own where there was one. Version 1 says what it can."""
    tlvs = [(ALPN, b"h2"), (NOOP, b"xxx"), (AUTHORITY, b"example.org"), (CUSTOM, b""), (UNIQUE_ID, bytes(range(128)))]
    kept = [one for one in tlvs if one[0] != NOOP]
    server = own(ManualServer())
    for version in ("v1", "v2"):
        proxy = ringmain(config([server.address], workers=2, listener=REQUIRED, upstream={"send_proxy_protocol": version}))
        for source, destination in ((SOURCE, DESTINATION), (SOURCE6, DESTINATION6)):
            for header in (v1(source, destination), v2(source, destination, tlvs), v2(source, destination, tlvs, crc=0)):
                client = own(connect(proxy.address))
                client.sendall(header + b"payload")
                upstream = server.accept()
                if version == "v1":
                    assert read_v1(upstream) == (source, destination)
                else:
                    checksum = [(CRC32C, b"")] if header == v2(source, destination, tlvs, crc=0) else []
                    told = [] if header.startswith(b"PROXY") else kept + checksum
                    assert read_v2(upstream) == (source, destination, told)
                assert read_exactly(upstream, 7) == b"payload"


def test_through_two(own, ringmain):
    server = own(ManualServer())
    second = ringmain(config([server.address], workers=2, listener=REQUIRED, upstream={"send_proxy_protocol": "v1"}))
    first = ringmain(config([second.address], workers=2, upstream={"send_proxy_protocol": "v2"}))
    clients = [own(connect(first.address)) for _ in range(20)]
    upstreams = {}
    for _ in clients:
        upstream = server.accept()
        upstreams[read_v1(upstream)[0]] = upstream
    for client in clients:
        both_ways(client, upstreams[client.getsockname()])
    wanted = sorted(as_text(client.getsockname()) for client in clients)
    assert sorted(entry["client"] for entry in second.sessions()) == wanted
    assert sorted(entry["client"] for entry in first.sessions()) == wanted


def test_bulk_behind_it(own, ringmain):
    """Through kernel pipes, once it is bulk."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address], workers=2, listener=REQUIRED, upstream={"send_proxy_protocol": "v2"}))
    client = own(connect(proxy.address))
    client.sendall(v2(crc=0))
    upstream = server.accept()
    assert read_v2(upstream) == (SOURCE, DESTINATION, [(CRC32C, b"")])
    both_ways(client, upstream, 20_000_000)
    for direction in ("to_server", "to_client"):
        assert only(proxy)[direction]["sent_bytes"] == 20_000_000


@pytest.mark.sanitizer
@pytest.mark.parametrize("says", ["nothing", "something"])
def test_a_server_that_ends_after_the_header_is_replaced(says, own, ringmain):
    """The next is told anew, and gets what the client said meanwhile."""
    dies, other = own(ManualServer()), own(ManualServer())
    proxy = ringmain(config([dies.address, other.address], listener=REQUIRED, upstream={"send_proxy_protocol": "v1"}))
    client = own(connect(proxy.address))
    client.sendall(v1())
    upstream = dies.accept()
    assert read_v1(upstream) == (SOURCE, DESTINATION)
    wait_until(lambda: states(proxy) == ["established"], "it is connected")
    upstream.close() if says == "nothing" else reset(upstream)
    upstream = other.accept()
    assert read_v1(upstream) == (SOURCE, DESTINATION)
    both_ways(client, upstream)
    assert proxy.closed() == {} and proxy.metric("ringmain_server_connect_failures_total", reason="lost") == 1


# ---- Reload and takeover --------------------------------------------------------------------------------------------


def test_a_reload_is_for_those_who_come_later(own, ringmain):
    server = own(ManualServer())
    proxy = ringmain(config([server.address], workers=2))
    early = own(connect(proxy.address))
    early_upstream = server.accept()
    changes = reload(proxy, config([server.address], workers=2, listener=REQUIRED, upstream={"send_proxy_protocol": "v1"}))
    assert changes == ["listener front: proxy_protocol off -> required timeout 5s", "upstream back: send_proxy_protocol off -> v1"]
    assert proxy.status()["listeners"][0]["proxy_protocol"] == "required"
    both_ways(early, early_upstream)
    client = own(connect(proxy.address))
    client.sendall(v1())
    upstream = server.accept()
    assert read_v1(upstream) == (SOURCE, DESTINATION)
    both_ways(client, upstream)


@pytest.mark.sanitizer
def test_a_takeover_at_every_moment(own, line):  # noqa: F811
    """Of headers that are still to come, and of sessions whose server is replaced later."""
    dies, other = own(ManualServer()), own(ManualServer())
    settings = line.config([dies.address, other.address], workers=2, listener={"proxy_protocol": {"accept": "required", "timeout": "1m"}},
                           upstream={"send_proxy_protocol": "v2"})
    proxy = line.first(settings)
    header = v2(SOURCE6, DESTINATION6, [(ALPN, b"h2"), (UNIQUE_ID, b"7")], crc=0)
    told = (SOURCE6, DESTINATION6, [(ALPN, b"h2"), (UNIQUE_ID, b"7"), (CRC32C, b"")])
    begun = [(own(connect(proxy.address)), size) for size in range(0, len(header), 5)]
    for client, size in begun:
        client.sendall(header[:size])
    established = own(connect(proxy.address))
    established.sendall(header)
    upstream = dies.accept()
    assert read_v2(upstream) == told
    proxy.wait_active(len(begun) + 1)
    proxy = line.after(proxy)
    assert sorted(entry["state"] for entry in proxy.sessions()) == ["established"] + ["reading_header"] * len(begun)
    assert [entry["client"] for entry in proxy.sessions() if entry["state"] == "established"] == [as_text(SOURCE6)]
    upstream.close()  # it had the header, and nothing else
    dies.listener.close()
    upstream = other.accept()
    assert read_v2(upstream) == told
    both_ways(established, upstream)
    proxy = line.after(proxy)
    for client, size in begun:
        client.sendall(header[size:])
        upstream = other.accept()
        assert read_v2(upstream) == told
        both_ways(client, upstream)
    assert proxy.closed() == {}
    assert {entry["client"] for entry in proxy.sessions()} == {as_text(SOURCE6)}


def test_a_header_late_after_a_takeover(own, line):  # noqa: F811
    server = own(ManualServer())
    proxy = line.first(line.config([server.address], listener={"proxy_protocol": {"accept": "required", "timeout": "2s"}}))
    started, client = time.monotonic(), own(connect(proxy.address))
    client.sendall(b"PROXY ")
    proxy.wait_active(1)
    proxy = line.after(proxy)
    assert expect_end(client) == "reset"
    assert time.monotonic() - started >= 1.9
    proxy.wait_closed(proxy_protocol_timeout=1)
