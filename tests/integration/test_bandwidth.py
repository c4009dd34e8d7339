"""Bandwidth limits of the binary: how long verified bytes take, over one session and over all of a listener's."""
import time

import pytest

from peers import Job, ManualServer, PATIENCE, connect, ping, read_pattern, send_pattern, wait_until
from proxy import config
from reloading import MIB, reload
from takeover_peer import echo, line  # noqa: F401 (fixtures)

BURST = 0.1  # seconds of the rate that may be saved up
AHEAD = 300 << 10  # bytes that may be received before they are paid for, in all


def at_least(length, rate):
    return (length - AHEAD) / rate - BURST


def transfer(source, sink, length, position=0):
    """Sends verified bytes; returns how long they took to arrive."""
    started = time.monotonic()
    job = Job(send_pattern, source, position, length)
    read_pattern(sink, position, length)
    job.finish()
    return time.monotonic() - started


def waits(proxy, direction):
    return proxy.metric("ringmain_bandwidth_waits_total", listener="front", direction=direction)


@pytest.mark.sanitizer
def test_of_a_session(own, ringmain, session):
    """Each direction has its own, and what one uses the other does not lack."""
    server = own(ManualServer())
    limits = {"per_session": {"to_server": "1MiB/s", "to_client": "4MiB/s"}}
    proxy = ringmain(config([server.address], listener={"bandwidth": limits}))
    client, upstream = session(proxy, server)
    other_client, other_upstream = session(proxy, server)
    slow = Job(transfer, client, upstream, MIB)
    fast = Job(transfer, upstream, client, 4 * MIB)
    other = transfer(other_client, other_upstream, MIB)
    slow.finish()
    fast.finish()
    for took, length, rate in ((slow.result, MIB, MIB), (fast.result, 4 * MIB, 4 * MIB), (other, MIB, MIB)):
        assert at_least(length, rate) <= took <= 2 * length / rate * PATIENCE
    assert waits(proxy, "to_server") > 0 and waits(proxy, "to_client") > 0
    (listener,) = proxy.status("?sessions=0")["listeners"]
    assert listener["bandwidth"] == {"to_server": None, "to_client": None, "per_session": {"to_server": "1MiB/s", "to_client": "4MiB/s"}}


def test_of_a_listener(own, ringmain, session):
    """All sessions of all workers share it, and none starves; others are as fast as they can."""
    server = own(ManualServer())
    settings = config([server.address], workers=2, listener={"bandwidth": {"to_client": "4MiB/s"}})
    settings["listeners"].append({"name": "free", "listen": "127.0.0.1:0", "upstream": "back"})
    proxy = ringmain(settings)
    pairs = [session(proxy, server) for _ in range(6)]
    started = time.monotonic()
    jobs = [Job(transfer, upstream, client, MIB) for client, upstream in pairs]
    assert transfer(*pairs[0], 8 * MIB) < 2 * PATIENCE, "the other direction"
    free = own(connect(proxy.addresses["free"][0]))
    assert transfer(server.accept(), free, 8 * MIB) < 2 * PATIENCE
    for job in jobs:
        job.finish()
    took = time.monotonic() - started
    assert at_least(6 * MIB, 4 * MIB) <= took <= 2 * 6 / 4 * PATIENCE
    assert min(job.result for job in jobs) > took / 2, "one went ahead of the others"


def test_a_limit_holds_for_sessions_that_are_there(own, ringmain, session):
    server = own(ManualServer())
    settings = config([server.address], workers=2)
    proxy = ringmain(settings)
    client, upstream = session(proxy, server)
    assert transfer(upstream, client, 8 * MIB) < 2 * PATIENCE
    limited = config([server.address], workers=2, listener={"bandwidth": {"per_session": {"to_client": "2MiB/s"}}})
    assert reload(proxy, limited) == ["listener front: bandwidth.per_session.to_client off -> 2MiB/s"]
    took = transfer(upstream, client, 2 * MIB, 8 * MIB)
    assert at_least(2 * MIB, 2 * MIB) <= took <= 2 * PATIENCE
    # Somebody who would wait for minutes goes on at once by another limit.
    slowest = config([server.address], workers=2, listener={"bandwidth": {"to_client": "1KiB/s"}})
    reload(proxy, slowest)
    job = Job(transfer, upstream, client, MIB, 10 * MIB)
    before = waits(proxy, "to_client")
    wait_until(lambda: waits(proxy, "to_client") > before, "it waits")
    faster = config([server.address], workers=2, listener={"bandwidth": {"to_client": "16MiB/s"}})
    assert reload(proxy, faster) == ["listener front: bandwidth.to_client 1KiB/s -> 16MiB/s"]
    job.finish(timeout=10)
    assert reload(proxy, settings) == ["listener front: bandwidth.to_client 16MiB/s -> off"]
    assert transfer(upstream, client, 8 * MIB, 11 * MIB) < 2 * PATIENCE


def test_what_is_owed_passes_to_another_process(own, line):
    """Takeovers in a row give nobody a new burst."""
    server = own(ManualServer())
    limits = {"to_server": "2MiB/s", "per_session": {"to_client": "2MiB/s"}}
    proxy = line.first(line.config([server.address], workers=2, listener={"bandwidth": limits}))
    client = own(connect(proxy.address))
    upstream = server.accept()
    jobs = [Job(transfer, client, upstream, 3 * MIB), Job(transfer, upstream, client, 3 * MIB)]
    for _ in range(5):
        proxy = line.after(proxy)
    for job in jobs:
        job.finish()
        assert at_least(3 * MIB, 2 * MIB) <= job.result <= 3 * PATIENCE
    assert waits(proxy, "to_server") > 0 and waits(proxy, "to_client") > 0


def test_messages_below_the_rate_do_not_wait(own, echo, ringmain):
    rates = {"to_server": "10MiB/s", "to_client": "10MiB/s"}
    proxy = ringmain(config([echo], listener={"bandwidth": {**rates, "per_session": rates}}))
    client = own(connect(proxy.address))
    for i in range(500):
        ping(client, i)
    assert waits(proxy, "to_server") == waits(proxy, "to_client") == 0
