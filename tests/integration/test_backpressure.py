"""A slow or stopped receiver holds back its sender; the proxy keeps its high-water mark; nobody else notices."""
import time

import pytest

from peers import (
    SANITIZER,
    SPACING,
    Crowd,
    EchoServer,
    Job,
    ManualServer,
    Pingers,
    Verifier,
    connect,
    pattern,
    ping,
    read_pattern,
    reset,
    send_pattern,
    wait_steady,
    wait_until,
)
from proxy import config

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# More than the four socket buffers between the peers hold (tcp_wmem and tcp_rmem allow tens of MiB).
KERNEL = 160 * MIB


def _warm(proxy, session, server):
    """One session that moves a little in bulk, so that what every proxy needs once is in its baseline."""
    client, upstream = session(proxy, server)
    for source, target in ((client, upstream), (upstream, client)):
        sender = Job(send_pattern, source, 0, 8 * MIB)
        read_pattern(target, 0, 8 * MIB)
        sender.finish()
    client.close()
    upstream.close()
    proxy.wait_active(0)


@pytest.mark.parametrize("direction", ["to_client", "to_server"])
def test_slow_reader_of_a_gibibyte(direction, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    _warm(proxy, session, server)
    baseline = proxy.rss()
    proxy.reset_peak_rss()
    client, upstream = session(proxy, server)
    source, target = (upstream, client) if direction == "to_client" else (client, upstream)
    length = 64 * MIB if SANITIZER else GIB
    sent = [0]
    sender = Job(send_pattern, source, 17, length, progress=lambda total: sent.__setitem__(0, total))

    blocked_at = wait_steady(lambda: sent[0])
    assert 0 < blocked_at < KERNEL, "the sender is not held back"
    if not SANITIZER:
        assert proxy.peak_rss() - baseline <= 8 * MIB

    verifier = Verifier(17)

    def read(size):
        verifier.feed(target.recv(min(size, length - verifier.received)))

    for _ in range(300):  # slowly: a little at a time, with the sender on its heels
        read(4 * KIB)
        time.sleep(0.001)
    assert wait_steady(lambda: sent[0]) - verifier.received < KERNEL
    while verifier.received < length:
        read(MIB)
    sender.finish()
    assert verifier.received == length
    if not SANITIZER:
        grown = proxy.peak_rss() - baseline
        assert grown <= 8 * MIB, f"resident memory grew by {grown >> 10} KiB"


# More than the proxy and the kernel take on the way to a stopped reader. Without an end the kernel would queue tens of
# MiB for each session, and drop what its receive buffers cannot hold in the end; TCP may then wait for a minute before
# it sends that again.
ENOUGH = 6 * MIB


@pytest.mark.sanitizer
@pytest.mark.parametrize("direction, disabled", [("to_client", None), ("to_server", None), ("to_server", "optlen")])
def test_stopped_readers_leave_others_alone(direction, disabled, own, ringmain, session):
    """64 stopped readers, each with a sender that pushes all it can, and 50 ping sessions, all on one worker.

    The mark holds also without receive credits (optlen), which kernels before 6.17 do not have.
    """
    stopped, limit = 64, 256 * KIB
    server, echo = own(ManualServer()), own(EchoServer())
    settings = config([server.address])
    settings["listeners"].append({"name": "ping", "listen": "127.0.0.1:0", "upstream": "echo"})
    settings["upstreams"].append({"name": "echo", "servers": [{"address": echo.address}]})
    proxy = ringmain(settings, env={"RINGMAIN_DISABLE": disabled} if disabled else {})
    _warm(proxy, session, server)
    baseline = proxy.rss()
    proxy.reset_peak_rss()

    sessions = [session(proxy, server, receive_buffer=64 * KIB) for _ in range(stopped)]
    sent = [0] * stopped
    halted = [False]

    def push():
        """Every sender pushes whatever its socket takes."""
        senders = [upstream if direction == "to_client" else client for client, upstream in sessions]
        pending = [b""] * stopped
        for sock in senders:
            sock.setblocking(False)
        while not halted[0]:
            moved = False
            for i, sock in enumerate(senders):
                if sent[i] >= ENOUGH:
                    continue
                if not pending[i]:
                    pending[i] = memoryview(pattern(i * SPACING + sent[i], 64 * KIB))
                try:
                    taken = sock.send(pending[i])
                except BlockingIOError:
                    continue
                sent[i] += taken
                pending[i] = pending[i][taken:]
                moved = True
            if not moved:
                time.sleep(0.005)
        for sock in senders:
            sock.settimeout(30)

    pusher = Job(push)
    pingers = Pingers(proxy.addresses["ping"][0], 50)
    try:
        wait_steady(lambda: sum(sent), timeout=60)
        before = list(pingers.rounds)  # from here on the readers stand still
        rounds = 20 if SANITIZER else 200
        wait_until(
            lambda: all(now >= then + rounds for now, then in zip(pingers.rounds, before)), "every session pings on"
        )
        if not SANITIZER:
            # While the senders filled everything up, and after.
            assert pingers.quantile(0.99) < 0.1, f"p99 {pingers.quantile(0.99) * 1e3:.1f} ms"
            assert pingers.quantile(1) < 1, f"max {pingers.quantile(1) * 1e3:.1f} ms"
            grown = proxy.peak_rss() - baseline
            bound = stopped * limit + 8 * MIB
            assert grown <= bound, f"resident memory grew by {grown >> 10} KiB, allowed are {bound >> 10}"
    finally:
        halted[0] = True
        pusher.finish()
        pingers.stop()

    # Then all of it arrives.
    for i, (client, upstream) in enumerate(sessions):
        target = client if direction == "to_client" else upstream
        read_pattern(target, i * SPACING, sent[i])


def test_stopped_reader_that_leaves_frees_all(own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    pairs = [session(proxy, server, receive_buffer=16 * KIB) for _ in range(20)]
    senders = []
    for client, upstream in pairs:

        def push(sock=upstream):
            try:
                send_pattern(sock, 0, GIB)
            except (ConnectionResetError, BrokenPipeError):
                return True
            return False

        senders.append(Job(push))
    wait_steady(lambda: proxy.metric("ringmain_bytes_total"), hold=0.3)
    for client, _ in pairs:
        reset(client)
    assert all(sender.finish(10) for sender in senders), "each sender learns of it"
    proxy.wait_active(0)
    proxy.wait_closed(client_reset=20)
    proxy.wait_metric("ringmain_worker_buffers_held", 0)


def test_sender_that_closes_before_its_bytes_are_read(own, ringmain, session):
    """The proxy holds bytes whose sender is gone: they still arrive, then the FIN."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    client, upstream = session(proxy, server, receive_buffer=16 * KIB)
    upstream.setblocking(False)
    total = 0

    def push():
        nonlocal total
        try:
            while True:
                total += upstream.send(pattern(total, 64 * KIB))
        except BlockingIOError:
            return total

    wait_steady(push, hold=0.3)
    upstream.close()
    read_pattern(client, 0, total)
    assert client.recv(1) == b""
    client.close()
    proxy.wait_closed(server_closed=1)


def test_other_direction_flows_while_one_is_stopped(own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address]))
    client, upstream = session(proxy, server)
    sent = [0]
    sender = Job(send_pattern, upstream, 0, 200 * MIB, progress=lambda total: sent.__setitem__(0, total))
    wait_steady(lambda: sent[0], hold=0.3)
    upload = Job(send_pattern, client, 9, 32 * MIB)
    read_pattern(upstream, 9, 32 * MIB)
    upload.finish()
    read_pattern(client, 0, 200 * MIB)
    sender.finish()


@pytest.mark.parametrize("mark", ["16KiB", "1MiB"])
def test_other_high_water_marks(mark, own, ringmain, session):
    server = own(ManualServer())
    proxy = ringmain(config([server.address], limits={"buffer_per_direction": mark}))
    client, upstream = session(proxy, server, receive_buffer=16 * KIB)
    sent = [0]
    sender = Job(send_pattern, upstream, 0, 64 * MIB, progress=lambda total: sent.__setitem__(0, total))
    wait_steady(lambda: sent[0], hold=0.3)
    read_pattern(client, 0, 64 * MIB)
    sender.finish()


def test_memory_limit_holds_back_and_closes_nothing(own, ringmain, session):
    """Far more could be queued than limits.memory allows: receives wait, every byte still arrives."""
    server = own(ManualServer())
    proxy = ringmain(config([server.address], limits={"memory": "16MiB", "buffer_per_direction": "1MiB"}))
    _warm(proxy, session, server)
    baseline = proxy.rss()
    proxy.reset_peak_rss()
    pairs = [session(proxy, server, receive_buffer=16 * KIB) for _ in range(32)]
    sent = [0] * len(pairs)

    def push(i, upstream):
        send_pattern(upstream, i, 24 * MIB, progress=lambda total: sent.__setitem__(i, total))

    senders = [Job(push, i, upstream) for i, (_, upstream) in enumerate(pairs)]
    wait_steady(lambda: sum(sent), timeout=60)
    if not SANITIZER:
        grown = proxy.peak_rss() - baseline
        assert grown <= 24 * MIB, f"resident memory grew by {grown >> 10} KiB"
    readers = [Job(read_pattern, client, i, 24 * MIB) for i, (client, _) in enumerate(pairs)]
    for job in senders + readers:
        job.finish()
    assert sum(proxy.closed().values()) == 1, "only the one that was there first"


def test_idle_sessions_hold_no_buffer(own, ringmain):
    """After the traffic, what is left of 1000 sessions is little."""
    if SANITIZER:
        pytest.skip("resident memory says nothing under a sanitizer")
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address]))
    with_one = own(connect(proxy.address))
    ping(with_one, 0, 64 * KIB)
    before = proxy.rss()
    crowd = own(Crowd(proxy.address, 1000))
    crowd.exchange(1000)
    assert proxy.metric("ringmain_connections_active") == 1001
    assert proxy.metric("ringmain_worker_buffers_held") == 0
    grown = proxy.rss() - before
    assert grown <= 1000 * 4 * KIB + MIB, f"resident memory grew by {grown >> 10} KiB"
