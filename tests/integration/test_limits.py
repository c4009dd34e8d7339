"""Limits: exact, at once, counted, and over by themselves."""
import re
import time

import pytest

from peers import (
    PATIENCE,
    SANITIZER,
    Crowd,
    EchoServer,
    Job,
    connect,
    ping,
    read_exactly,
    refusal,
    reset,
    wait_until,
)
from proxy import config, cpu_share


def _try(address):
    """A connection that got the banner of its server, or None if it was refused at once."""
    try:
        client = connect(address)
    except ConnectionError:
        return None
    try:
        client.settimeout(5 * PATIENCE)
        if client.recv(1) == b"B":
            return client
    except ConnectionError:
        pass
    client.close()
    return None


def _try_many(address, threads, each):
    jobs = [Job(lambda: [_try(address) for _ in range(each)]) for _ in range(threads)]
    return [client for job in jobs for client in job.finish() if client]


@pytest.mark.sanitizer
@pytest.mark.parametrize("kind", ["listener", "process"])
def test_max_connections_is_exact_over_workers(kind, own, ringmain):
    server = own(EchoServer(banner=b"B"))
    limit = {"listener": {"max_connections": 10}} if kind == "listener" else {"limits": {"max_connections": 10}}
    proxy = ringmain(config([server.address], workers=2, **limit))
    clients = [own(client) for client in _try_many(proxy.address, 5, 10)]
    assert len(clients) == 10
    assert proxy.metric("ringmain_connections_active") == 10
    proxy.wait_closed(**{f"{kind}_limit": 40})
    for client in clients:
        ping(client)

    clients[0].close()
    proxy.wait_active(9)
    replacement = own(_try(proxy.address))  # one left: one more is served,
    assert _try(proxy.address) is None  # and not two
    for client in [*clients, replacement]:
        client.close()
    proxy.wait_active(0)
    proxy.wait_closed(**{f"{kind}_limit": 41, "client_closed": 11})
    assert proxy.metric("ringmain_connections_total") == 52
    again = [own(client) for client in _try_many(proxy.address, 5, 4)]
    assert len(again) == 10


def test_surplus_is_refused_at_once(own, ringmain):
    server = own(EchoServer(banner=b"B"))
    proxy = ringmain(config([server.address], listener={"max_connections": 1}))
    assert own(_try(proxy.address))
    started = time.monotonic()
    for _ in range(20):
        refusal(proxy.address)
    assert time.monotonic() - started < 1 * PATIENCE
    assert server.accepted == 1


def test_process_limit_spans_listeners(own, ringmain):
    server = own(EchoServer(banner=b"B"))
    settings = config([server.address], workers=2, limits={"max_connections": 8})
    settings["listeners"].append({"name": "other", "listen": "127.0.0.1:0", "upstream": "back", "max_connections": 5})
    proxy = ringmain(settings)
    other = [own(client) for client in _try_many(proxy.addresses["other"][0], 3, 4)]
    assert len(other) == 5
    front = [own(client) for client in _try_many(proxy.addresses["front"][0], 3, 4)]
    assert len(front) == 3
    proxy.wait_metric("ringmain_connections_closed_total", 7, listener="other", reason="listener_limit")
    proxy.wait_metric("ringmain_connections_closed_total", 9, listener="front", reason="process_limit")


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [1, 2])
def test_out_of_file_descriptors(workers, own, ringmain):
    server = own(EchoServer())
    proxy = ringmain(
        config([server.address], workers=workers, limits={"max_connections": 1000}, upstream={"connect_timeout": "1s"}),
        nofile=128,
    )
    warnings = [line for line in proxy.log_lines("1000") if "warn" in line.lower()]
    assert warnings and any(int(number) < 128 for number in re.findall(r"\b\d+\b", warnings[0])), proxy.log()

    first = own(Crowd(proxy.address, 20))
    first.exchange()
    # The kernel completes their handshakes; the proxy cannot take them all.
    surplus = [own(connect(proxy.address)) for _ in range(120)]
    proxy.wait_metric("ringmain_worker_accept_pauses_total", lambda count: count > 0)
    first.exchange()
    if not SANITIZER:
        assert cpu_share(proxy, 1.0) < 0.3, "it waits, it does not spin"
    first.exchange(5000)
    assert proxy.get("/healthz")[0] == 200

    for sock in surplus:
        sock.close()
    proxy.wait_active(20)
    first.exchange()

    def served_again():
        client = connect(proxy.address)
        try:
            ping(client)
            return True
        except (ConnectionError, AssertionError):
            return False
        finally:
            client.close()

    wait_until(served_again, "new clients are served again, by themselves")
    second = own(Crowd(proxy.address, 10))
    second.exchange()
    first.exchange()
    wait_until(lambda: proxy.metric("ringmain_worker_accept_paused") == 0, "accepting again")
    assert "error" not in proxy.closed(), proxy.closed()


def test_clients_that_waited_for_descriptors_are_served(own, ringmain):
    """Those that stayed in the queue while there was no descriptor get their turn as others leave."""
    server = own(EchoServer())
    proxy = ringmain(config([server.address], limits={"max_connections": 1000}), nofile=96)
    clients = [own(connect(proxy.address)) for _ in range(100)]
    proxy.wait_metric("ringmain_worker_accept_pauses_total", lambda count: count > 0)
    served, refused = 0, 0
    for client in clients:  # the first leaves, then the next is served, and so on
        try:
            ping(client)
            served += 1
        except (ConnectionError, AssertionError):
            refused += 1
        client.close()
    assert served + refused == 100 and served >= 30, (served, refused)
    proxy.wait_active(0)
    assert set(proxy.closed()) <= {"client_closed", "no_files"}, proxy.closed()


def test_soft_file_limit_is_raised(own, ringmain):
    server = own(EchoServer())
    proxy = ringmain(config([server.address]), wrapper=["prlimit", "--nofile=64:4096"])
    crowd = own(Crowd(proxy.address, 300))
    crowd.exchange()
    assert not [line for line in proxy.log_lines("max_connections") if "warn" in line.lower()]


def test_resets_do_not_leak_slots(own, ringmain):
    server = own(EchoServer(banner=b"B"))
    proxy = ringmain(config([server.address], workers=2, listener={"max_connections": 5}))
    for _ in range(20):
        clients = _try_many(proxy.address, 1, 5)
        assert len(clients) == 5
        for client in clients:
            reset(client)
        proxy.wait_active(0)
    client = own(connect(proxy.address))
    assert read_exactly(client, 1) == b"B"
