"""SIGTERM: nothing new, what runs runs on up to the timeout, exit 0."""
import select
import signal
import socket
import struct
import time

import pytest

from peers import (
    PATIENCE,
    Blackhole,
    Crowd,
    EchoServer,
    ManualServer,
    connect,
    expect_end,
    ping,
    read_exactly,
    reset,
    unused_address,
    wait_steady,
    wait_until,
)
from proxy import config


def _refused(address):
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # its handshake was over, and it was in the backlog of a socket that was closed: the next one will be refused
    return False


@pytest.mark.sanitizer
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_sessions_it_exits_at_once(number, own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2, drain={"timeout": "30s"}))
    for end in (lambda sock: sock.close(), reset):
        client = connect(proxy.address)
        ping(client)
        end(client)
    proxy.wait_metric("ringmain_connections_total", 2)
    proxy.wait_active(0)
    started = time.monotonic()
    proxy.signal(number)
    assert proxy.wait() == 0
    assert time.monotonic() - started < 2 * PATIENCE


@pytest.mark.sanitizer
def test_open_sessions_run_on(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2, drain={"timeout": "30s"}))
    crowd = own(Crowd(proxy.address, 50))
    crowd.exchange()
    assert proxy.get("/readyz")[0] == 200

    proxy.signal(signal.SIGTERM)
    wait_until(lambda: proxy.get("/readyz")[0] == 503, "/readyz is 503")
    assert proxy.get("/healthz")[0] == 200
    wait_until(lambda: _refused(proxy.address), "new connections are refused")
    for _ in range(3):
        crowd.exchange(20000)
    assert proxy.metric("ringmain_connections_active") == 50
    assert proxy.running()

    crowd.close()
    started = time.monotonic()
    assert proxy.wait() == 0
    assert time.monotonic() - started < 2 * PATIENCE


@pytest.mark.sanitizer
def test_sessions_that_outlast_the_timeout_are_cut(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2, drain={"timeout": "1s"}))
    crowd = own(Crowd(proxy.address, 20))
    crowd.exchange()
    started = time.monotonic()
    proxy.signal(signal.SIGTERM)
    wait_until(lambda: proxy.get("/readyz")[0] == 503, "/readyz is 503")
    crowd.exchange()
    assert proxy.wait() == 0
    assert 0.9 <= time.monotonic() - started < 1.5 + 1 * PATIENCE
    for sock in crowd.socks:
        expect_end(sock)
    wait_until(lambda: echo.active == 0, "the servers' sides are closed too")


def test_sessions_that_move_bytes_are_cut_too(own, ringmain, session):
    """A sender that never stops and a reader that never reads do not keep the process alive."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address], drain={"timeout": "500ms"}))
    client, upstream = session(proxy, server)
    upstream.setblocking(False)
    total = 0

    def push():
        nonlocal total
        try:
            while True:
                total += upstream.send(bytes(1 << 18))
        except BlockingIOError:
            return total

    wait_steady(push)
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    assert expect_end(upstream) == "reset"
    assert expect_end(client) == "reset", "a truncated stream must not look complete"


@pytest.mark.sanitizer
def test_idle_sessions_are_closed_one_by_one(own, ringmain):
    """In order, and spread over the time; who is busy stays until he falls quiet, and the process ends with the last."""
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2, drain={"timeout": "1m", "close_idle": "4s"}))
    crowd, busy = own(Crowd(proxy.address, 60)), own(connect(proxy.address))
    crowd.exchange()
    position, gone, started = 0, [], time.monotonic()
    proxy.signal(signal.SIGTERM)
    open_ones = dict.fromkeys(crowd.socks)
    while open_ones:
        ping(busy, position)
        position += 64
        for sock in select.select(list(open_ones), [], [], 0.1)[0]:
            assert expect_end(sock) == "fin"
            del open_ones[sock]
            gone.append(time.monotonic() - started)
        assert time.monotonic() - started < 6 + PATIENCE
    assert len({int(2 * at) for at in gone}) >= 5, "over some seconds, not at once"
    assert gone[-1] > 3 and sum(at < 2.5 for at in gone) > 10
    proxy.wait_closed(drain_idle=60)
    for _ in range(10):
        ping(busy, position)
        position += 64
        quiet = time.monotonic()
        time.sleep(0.3)
    assert expect_end(busy, timeout=10) == "fin"
    assert 0.9 < time.monotonic() - quiet < 3 + PATIENCE
    assert proxy.wait() == 0


@pytest.mark.sanitizer
def test_delay_still_accepts(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2, drain={"delay": "2s", "timeout": "30s"}))
    before = own(connect(proxy.address))
    ping(before)
    started = time.monotonic()
    proxy.signal(signal.SIGTERM)
    wait_until(lambda: proxy.get("/readyz")[0] == 503, "/readyz is 503")
    during = own(connect(proxy.address))
    ping(during)
    assert time.monotonic() - started < 2, "the machine is too slow for this test"
    wait_until(lambda: _refused(proxy.address), "new connections are refused after the delay")
    assert time.monotonic() - started >= 1.9
    ping(before, 64)
    ping(during, 64)
    before.close()
    during.close()
    assert proxy.wait() == 0


@pytest.mark.sanitizer
@pytest.mark.parametrize("drain", [{"timeout": "60s"}, {"delay": "60s", "timeout": "60s"}])
def test_second_signal_exits_at_once(drain, own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2, drain=drain))
    proxy.expected_exit = (0, 1)  # the design says "at once", not with which code
    crowd = own(Crowd(proxy.address, 20))
    crowd.exchange()
    proxy.signal(signal.SIGTERM)
    wait_until(lambda: proxy.get("/readyz")[0] == 503, "/readyz is 503")
    assert proxy.running()
    started = time.monotonic()
    proxy.signal(signal.SIGTERM)
    proxy.wait()
    assert time.monotonic() - started < 2 * PATIENCE
    for sock in crowd.socks:
        expect_end(sock)


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [1, 2])
def test_queued_connections_are_served(workers, own, ringmain):
    """Clients whose handshake the kernel completed before the drain began are not reset."""
    echo = own(EchoServer(banner=b"hello"))
    proxy = ringmain(config([echo.address], workers=workers, drain={"timeout": "30s"}))
    proxy.signal(signal.SIGSTOP)
    clients = [own(connect(proxy.address)) for _ in range(200)]
    proxy.signal(signal.SIGTERM)
    proxy.signal(signal.SIGCONT)
    for position, client in enumerate(clients):
        assert read_exactly(client, 5) == b"hello"
        ping(client, position, 500)
    for client in clients:
        client.close()
    assert proxy.wait() == 0


# With fewer descriptors than for 4096 connections it accepts one at a time, so that a long accept queue takes a while.
FEW_FILES = 8000


@pytest.mark.sanitizer
@pytest.mark.parametrize("cut", ["drain_timeout", "second_signal"])
def test_nobody_is_let_in_after_the_cut(cut, own, ringmain):
    """Whoever waits in the accept queue when the sessions are cut is closed too: as a session it would never end."""
    echo = own(EchoServer())
    timeout = "1ms" if cut == "drain_timeout" else "60s"
    proxy = ringmain(config([echo.address], drain={"timeout": timeout}), nofile=FEW_FILES)
    proxy.signal(signal.SIGSTOP)
    clients = [own(connect(proxy.address)) for _ in range(2500)]
    proxy.signal(signal.SIGTERM)
    if cut == "second_signal":
        proxy.signal(signal.SIGINT)
    proxy.signal(signal.SIGCONT)
    assert proxy.wait() == 0
    assert not proxy.log_lines("did not end in time")
    for client in clients:
        expect_end(client)
    assert echo.accepted < len(clients), "the cut came too late for this test"


def test_storm_during_drain_does_not_keep_it_alive(own, ringmain):
    """An accept queue that is filled as fast as it is emptied is served up to a bound; then the listener closes."""
    proxy = ringmain(config([unused_address()], drain={"timeout": "60s"}), nofile=FEW_FILES)
    made = 0

    def fill(up_to):
        nonlocal made
        while made < up_to:
            reset(connect(proxy.address))  # it stays in the queue all the same
            made += 1

    proxy.signal(signal.SIGSTOP)
    fill(4000)
    proxy.signal(signal.SIGTERM)
    taken = 0
    try:
        while made < 20000:
            proxy.signal(signal.SIGCONT)
            taken = int(proxy.metric("ringmain_connections_total"))
            assert taken < made, "the machine is too slow for this test: the queue was empty"
            proxy.signal(signal.SIGSTOP)
            fill(taken + 4000)
    except OSError:  # it does not listen any more, be it for clients or for us
        pass
    proxy.signal(signal.SIGCONT)
    assert made < 20000, f"it still accepts: {taken} of {made}"
    assert taken > 4000, "it closed the queue of those that were there first"
    assert proxy.wait() == 0


def _waiting(listener):
    """Connections in the accept queue: tcpi_unacked of a listening socket."""
    return struct.unpack_from("I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]


def test_sessions_get_their_turns_during_a_storm(own, ringmain, session):
    """A long accept queue is drained in pieces: a message of a session does not wait for all of it."""
    for _ in range(3):  # a machine that is busy with other things may hold us up for as long as the drain takes
        back, other = own(ManualServer()), own(ManualServer())
        settings = config([back.address], drain={"timeout": "60s"})
        settings["listeners"].append({"name": "storm", "listen": "127.0.0.1:0", "upstream": "other"})
        settings["upstreams"].append({"name": "other", "servers": [{"address": other.address}]})
        proxy = ringmain(settings, nofile=FEW_FILES)
        client, upstream = session(proxy, back)
        proxy.signal(signal.SIGSTOP)
        storm = [own(connect(proxy.addresses["storm"][0])) for _ in range(3500)]
        proxy.signal(signal.SIGTERM)
        proxy.signal(signal.SIGCONT)
        wait_until(lambda: _waiting(other.listener) >= 100, "the drain has begun", interval=0)
        client.sendall(b"message")
        assert select.select([upstream], [], [], 10)[0]
        served = _waiting(other.listener)
        for item in [client, upstream, *storm, other]:
            item.close()
        assert proxy.wait() == 0
        if served < 3000:
            return
    raise AssertionError(f"{served} of {len(storm)} were served before the message")


def test_signal_during_start(launch, own):
    """Told to end while it starts, it ends: cleanly, or by the signal before it handles any."""
    echo = own(EchoServer())
    for delay in (0, 0.005, 0.02, 0.05):
        proxy = launch(config([echo.address]))
        proxy.expected_exit = (0, -signal.SIGTERM)
        time.sleep(delay)  # different points of the start
        proxy.signal(signal.SIGTERM)
        proxy.wait(5)


def test_client_that_is_connecting_during_drain(own, ringmain):
    """A session still looking for its server belongs to what runs: it gets its server, also during the drain."""
    hole, echo = own(Blackhole()), own(EchoServer())
    proxy = ringmain(
        config([hole.address, echo.address], upstream={"connect_timeout": "1500ms"}, drain={"timeout": "30s"})
    )
    client = own(connect(proxy.address))
    proxy.wait_active(1)
    proxy.signal(signal.SIGTERM)
    wait_until(lambda: proxy.get("/readyz")[0] == 503, "/readyz is 503")
    ping(client)
    client.close()
    assert proxy.wait() == 0
