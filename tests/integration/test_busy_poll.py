"""busy_poll: a worker looks for work before it sleeps, that long and no longer."""
import time

import pytest

from peers import EchoServer, connect, ping
from proxy import config

ENTERS = "ringmain_worker_enters_total"
BUSY = 0.05  # seconds


def enters_for_a_message(proxy, client):
    """Calls into the kernel from one message to the next, with time to spin and to sleep in between."""
    before = proxy.metric(ENTERS)
    ping(client)
    time.sleep(2 * BUSY)
    ping(client)
    return proxy.metric(ENTERS) - before


@pytest.mark.sanitizer
def test_spins_before_it_sleeps(own, ringmain):
    server = own(EchoServer())
    counts = {}
    for setting in ("off", "50ms"):
        proxy = ringmain(config([server.address], busy_poll=setting))
        client = own(connect(proxy.address))
        ping(client)
        counts[setting] = min(enters_for_a_message(proxy, client) for _ in range(5))
    assert counts["off"] < 30  # those of two messages, and of a sweep or two
    assert counts["50ms"] > 10 * counts["off"]

    before = proxy.cpu()
    time.sleep(0.5)
    assert proxy.cpu() - before < 0.25 + 2 * BUSY  # it sleeps again
