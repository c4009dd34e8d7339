"""Bytes through the proxy: all of them, in order, both ways, however a session ends."""
import json
import random
import signal
import socket
import subprocess

import pytest

from peers import (
    PATIENCE,
    SANITIZER,
    Crowd,
    EchoServer,
    Job,
    ManualServer,
    Verifier,
    connect,
    expect_end,
    pattern,
    ping,
    read_exactly,
    read_pattern,
    read_pattern_to_end,
    reset,
    send_pattern,
    wait_until,
)
from proxy import LOAD, config

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize("count", [pytest.param(300, marks=pytest.mark.sanitizer), 2000])
def test_concurrent_sessions(count, own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=4))
    crowd = own(Crowd(proxy.address, count))
    for length in (64, 1, 1500, 4096, 8191):
        crowd.exchange(length)
    assert proxy.metric("ringmain_connections_active", listener="front") == count
    assert proxy.metric("ringmain_server_connections_active") == count
    assert proxy.metric("ringmain_connections_total", listener="front") == count

    crowd.close()
    proxy.wait_active(0)
    proxy.wait_closed(client_closed=count)
    assert proxy.metric("ringmain_server_connections_active") == 0
    for direction in ("to_server", "to_client"):
        assert proxy.metric("ringmain_bytes_total", direction=direction) == count * (64 + 1 + 1500 + 4096 + 8191)
    wait_until(lambda: echo.active == 0, "the server's connections are closed too")


def test_load_generator_sees_no_error(own, ringmain, tmp_path):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2))
    report = tmp_path / "report.json"
    arguments = [
        "ping",
        "--to",
        proxy.address,
        "--connections",
        "500",
        "--payload",
        "64",
        "--duration",
        "2s",
        "--json",
        str(report),
    ]
    done = subprocess.run([LOAD, *arguments], capture_output=True, text=True, timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())
    assert proxy.metric("ringmain_connections_total") == 500
    proxy.wait_active(0)


# ---- Half-close -----------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("question, answer", [(64 * KIB, 8 * MIB), (0, MIB), (MIB, 0)])
def test_client_finishes_first(question, answer, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    client, upstream = session(proxy, server)
    receiver = Job(read_pattern_to_end, upstream, 1000)
    send_pattern(client, 1000, question)
    client.shutdown(socket.SHUT_WR)
    assert receiver.finish() == question  # and it saw the FIN, though the client still reads

    sender = Job(send_pattern, upstream, 5, answer)
    read_pattern(client, 5, answer)
    sender.finish()
    upstream.close()
    assert client.recv(1) == b""
    client.close()
    proxy.wait_closed(client_closed=1)


@pytest.mark.sanitizer
@pytest.mark.parametrize("announcement, upload", [(100 * KIB, 8 * MIB), (0, MIB)])
def test_server_finishes_first(announcement, upload, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    client, upstream = session(proxy, server)
    send_pattern(upstream, 5, announcement)
    upstream.shutdown(socket.SHUT_WR)
    assert read_pattern_to_end(client, 5) == announcement

    receiver = Job(read_pattern_to_end, upstream, 1000)
    send_pattern(client, 1000, upload)
    client.close()
    assert receiver.finish() == upload
    proxy.wait_closed(server_closed=1)


def test_both_finish_with_data_under_way(own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    for round_number in range(20):
        client, upstream = session(proxy, server)
        client.sendall(pattern(1, 50000))
        upstream.sendall(pattern(2, 60000))
        client.shutdown(socket.SHUT_WR)
        upstream.shutdown(socket.SHUT_WR)
        assert read_pattern_to_end(upstream, 1) == 50000
        assert read_pattern_to_end(client, 2) == 60000
        client.close()
        upstream.close()
        wait_until(lambda: sum(proxy.closed().values()) == round_number + 1, "the session is counted")
    closed = proxy.closed()
    assert sum(closed.values()) == 20 and set(closed) <= {"client_closed", "server_closed"}, closed


def test_last_bytes_before_a_close_arrive(own, ringmain, session):
    """A server that answers and closes at once, while the client does not read yet: all of the answer, then FIN."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    client, upstream = session(proxy, server)
    sender = Job(lambda: (send_pattern(upstream, 0, 16 * MIB), upstream.close()))
    wait_until(lambda: proxy.metric("ringmain_bytes_total", direction="to_client") > 0, "bytes flow")
    assert read_pattern_to_end(client) == 16 * MIB
    sender.finish()


# ---- Reset ----------------------------------------------------------------------------------------------------------


def _established(client, upstream):
    """Makes sure that the session is: a server that resets during the connect is another matter."""
    client.sendall(b"!")
    assert upstream.recv(1) == b"!"


@pytest.mark.sanitizer
def test_client_reset_reaches_the_server(own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    for sent in (0, 1000):
        client, upstream = session(proxy, server)
        _established(client, upstream)
        client.sendall(pattern(0, sent))
        read_pattern(upstream, 0, sent)
        reset(client)
        assert expect_end(upstream) == "reset"
    proxy.wait_active(0)
    proxy.wait_closed(client_reset=2)


@pytest.mark.sanitizer
def test_server_reset_reaches_the_client(own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    for sent in (0, 1000):
        client, upstream = session(proxy, server)
        _established(client, upstream)
        upstream.sendall(pattern(0, sent))
        read_pattern(client, 0, sent)
        reset(upstream)
        assert expect_end(client) == "reset"
    proxy.wait_active(0)
    proxy.wait_closed(server_reset=2)


@pytest.mark.parametrize("finished", ["client", "server"])
def test_reset_after_a_half_close(finished, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    client, upstream = session(proxy, server)
    first, second = (client, upstream) if finished == "client" else (upstream, client)
    first.shutdown(socket.SHUT_WR)
    assert second.recv(1) == b""
    reset(second)
    assert expect_end(first) == "reset"
    proxy.wait_closed(**{"server_reset" if finished == "client" else "client_reset": 1})


@pytest.mark.parametrize("sender", ["server", "client"])
def test_data_before_a_reset_arrives_as_without_a_proxy(sender, own, ringmain):
    """What fits the window is in the receiver's socket before the RST, so Linux hands it over first: so must the proxy.

    The control is the same exchange on a direct connection.
    """
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))

    def received(address):
        client = own(connect(address))
        upstream = server.accept()
        source, target = (upstream, client) if sender == "server" else (client, upstream)
        _established(client, upstream)
        source.sendall(pattern(3, 32 * KIB))
        reset(source)
        data = b""
        with pytest.raises(ConnectionResetError):
            while piece := target.recv(MIB):
                data += piece
        return data

    expected = pattern(3, 32 * KIB)
    assert received(server.address) == expected, "the control, without a proxy"
    for _ in range(200):
        assert received(proxy.address) == expected
    proxy.wait_closed(**{f"{sender}_reset": 200})


@pytest.mark.parametrize("sender", ["server", "client"])
@pytest.mark.parametrize("ending", ["fin", "reset"])
@pytest.mark.parametrize("length", [1, 3000, 32 * KIB, 100 * KIB])
def test_data_and_end_that_arrive_together(length, ending, sender, own, ringmain, session):
    """Both are there before the proxy looks: it must not take the data, and then wait for an end that came already."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    client, upstream = session(proxy, server)
    source, target = (upstream, client) if sender == "server" else (client, upstream)
    _established(client, upstream)
    proxy.signal(signal.SIGSTOP)
    source.sendall(pattern(3, length))
    reset(source) if ending == "reset" else source.close()
    proxy.signal(signal.SIGCONT)
    read_pattern(target, 3, length)
    assert expect_end(target) == ending
    target.close()
    proxy.wait_closed(**{f"{sender}_{'reset' if ending == 'reset' else 'closed'}": 1})


def test_server_that_answers_and_resets_at_once(own, ringmain, session):
    """Often all is there before the proxy looks. The answer may be lost with the connect, the end never."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    for _ in range(300):
        client = own(connect(proxy.address))
        upstream = server.accept()
        upstream.sendall(pattern(3, 32 * KIB))
        reset(upstream)
        verifier = Verifier(3)
        client.settimeout(5 * PATIENCE)
        with pytest.raises(ConnectionResetError):
            while piece := client.recv(MIB):
                verifier.feed(piece)
        assert verifier.received in (0, 32 * KIB)
        client.close()
    proxy.wait_active(0)
    closed = proxy.closed()
    assert sum(closed.values()) == 300 and set(closed) <= {"server_reset", "connect_failed"}, closed


# ---- Sizes ----------------------------------------------------------------------------------------------------------


def _both_ways(client, upstream, length, seed):
    """Sends `length` bytes each way at once in random pieces, with random reads, then FIN each way."""
    dice = random.Random(seed)
    sizes = [dice.choice([1, 7, 100, 1000, 4096, 16384, 65536, 200000]) for _ in range(1000)]

    def chunk(start):
        state = [start]

        def next_size():
            state[0] += 1
            return sizes[state[0] % len(sizes)]

        return next_size

    def send(sock, position, start):
        send_pattern(sock, position, length, chunk(start))
        sock.shutdown(socket.SHUT_WR)

    def receive(sock, position, start):
        read_pattern(sock, position, length, chunk(start))
        assert sock.recv(1) == b""

    up, down = seed * 100003, seed * 200003
    jobs = [
        Job(send, client, up, 0),
        Job(send, upstream, down, 250),
        Job(receive, upstream, up, 500),
        Job(receive, client, down, 750),
    ]
    for job in jobs:
        job.finish()


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [1, 3])
def test_random_chunks_both_ways_at_once(workers, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address], workers=workers))
    length = (2 if SANITIZER else 24) * MIB
    sessions = [session(proxy, server) for _ in range(3)]
    jobs = [Job(_both_ways, client, upstream, length, 11 + i) for i, (client, upstream) in enumerate(sessions)]
    for job in jobs:
        job.finish()
    for client, upstream in sessions:
        client.close()
        upstream.close()
    proxy.wait_active(0)
    for direction in ("to_server", "to_client"):
        assert proxy.metric("ringmain_bytes_total", direction=direction) == 3 * length


def test_small_then_bulk_then_small(own, ringmain, session):
    """A flow that changes its character several times keeps its order across the changes."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    client, upstream = session(proxy, server)
    position = 0
    for length in (64, 1, 20 * MIB, 64, 3, 300 * KIB, 1, 8 * MIB, 64):
        for source, target in ((client, upstream), (upstream, client)):
            sender = Job(send_pattern, source, position, length)
            read_pattern(target, position, length)
            sender.finish()
        position += length


def test_single_byte_writes(own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    client, upstream = session(proxy, server)
    receiver = Job(read_pattern, upstream, 0, 5000)
    send_pattern(client, 0, 5000, chunk=1)
    receiver.finish()
    for i in range(500):  # one byte there and back each, so none waits to be joined by a second
        upstream.sendall(pattern(i, 1))
        assert client.recv(2) == pattern(i, 1)
        client.sendall(pattern(i + 1, 1))
        assert upstream.recv(2) == pattern(i + 1, 1)


@pytest.mark.sanitizer
def test_sessions_without_a_byte(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2))
    for _ in range(200):
        connect(proxy.address).close()
    proxy.wait_metric("ringmain_connections_total", 200)
    proxy.wait_active(0)
    closed = proxy.closed()
    # A client that is gone before its server is connected has left; which of the two it is, is a race.
    assert sum(closed.values()) == 200 and set(closed) <= {"client_closed", "client_left"}, closed
    assert proxy.metric("ringmain_bytes_total") == 0


def test_client_that_only_listens(own, ringmain):
    """FIN right after the connect, with no data, is not a farewell while the server answers."""
    echo = own(EchoServer(banner=b"hello"))
    proxy = ringmain(config([echo.address]))
    for _ in range(50):
        client = own(connect(proxy.address))
        client.shutdown(socket.SHUT_WR)
        assert read_exactly(client, 5) == b"hello"
        assert client.recv(1) == b""


@pytest.mark.sanitizer
def test_sessions_that_come_and_go(own, ringmain):
    """Every kind of ending at once, over and over; afterwards nothing is left: no session, no file descriptor."""
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2))
    keeper = own(connect(proxy.address))
    ping(keeper)
    before = proxy.fds()

    def visits(seed):
        dice = random.Random(seed)
        for i in range(60 if SANITIZER else 200):
            client = connect(proxy.address)
            for _ in range(dice.randrange(3)):
                ping(client, i, dice.choice([1, 64, 3000, 50000]))
            ending = dice.randrange(4)
            if ending == 0:
                reset(client)
                continue
            if ending == 1:
                client.sendall(pattern(0, 20000))  # nobody will read the echo
            if ending == 2:
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
            client.close()

    jobs = [Job(visits, seed) for seed in range(4)]
    for job in jobs:
        job.finish()
    proxy.wait_active(1)
    ping(keeper)
    wait_until(lambda: proxy.fds() == before, lambda: f"{before} file descriptors; there are {proxy.fds()}")
    assert sum(proxy.closed().values()) == proxy.metric("ringmain_connections_total") - 1
