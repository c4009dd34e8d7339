"""Who is let in: access rules, rates, and the connections of each source address."""
import signal
import socket
import time

import pytest

from peers import PATIENCE, EchoServer, Job, format_address, parse_address, ping, reset, unused_address, wait_until
from proxy import config
from reloading import reload, wait_gone
from takeover_peer import ABORT, NewSide, Player, line  # noqa: F401 (a fixture)

ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
REASONS = "ringmain_connections_closed_total"
SOURCES = "ringmain_listener_sources"


def enter(address, source=None):
    """A connection from that address that got the banner of its server, or None if it was reset (unix: ended at once)."""
    family, name = parse_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(10 * PATIENCE)
    try:
        if source:
            sock.bind((source, 0))
        sock.connect(name)
        banner = sock.recv(1)
        assert banner == b"B" or family == socket.AF_UNIX, "it was closed in order"
    except ConnectionResetError:
        banner = b""
    if banner:
        return sock
    sock.close()
    return None


def enter_many(address, source=None, threads=4, each=10):
    """Those that were let in, of so many at once."""
    jobs = [Job(lambda: [enter(address, source) for _ in range(each)]) for _ in range(threads)]
    return [client for job in jobs for client in job.finish() if client]


def listener(proxy):
    return proxy.status("?sessions=0")["listeners"][0]


def close_all(clients):
    for client in clients:
        client.close()


@pytest.fixture
def server(own):
    return own(EchoServer(banner=b"B"))


@pytest.fixture
def keep(own):
    """keep(clients) closes them after the test, and returns them."""
    return lambda clients: [own(client) for client in clients]


# ---- Access ---------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("rules, let_in", [
    ([{"deny": ONE}, {"allow": "127.0.0.0/29"}, {"deny": "all"}], {TWO, "127.0.0.1"}),
    ([{"allow": "127.0.0.0/29"}, {"deny": ONE}, {"deny": "all"}], {ONE, TWO, "127.0.0.1"}),
    ([{"deny": [ONE, "127.0.0.9/32"]}], {TWO, "127.0.0.1"}),
    ([{"allow": "::/0"}, {"deny": "all"}], set()),
    ([{"allow": "all"}], {ONE, TWO, "127.0.0.1", "127.0.0.9"}),
])
def test_the_first_rule_that_fits_decides(rules, let_in, keep, ringmain, server):
    proxy = ringmain(config([server.address], workers=2, listener={"access": rules}))
    every = [ONE, TWO, "127.0.0.1", "127.0.0.9"]
    clients = {source: enter(proxy.address, source) for source in every}
    keep(client for client in clients.values() if client)
    assert {source for source, client in clients.items() if client} == let_in
    assert proxy.closed("access_denied") == len(every) - len(let_in)
    assert proxy.metric("ringmain_connections_total") == len(every)
    if len(let_in) < len(every):
        words = ("connection refused", "listener=front", "client=127.0.0.", "reason=access_denied")
        wait_until(lambda: proxy.log_lines(*words), "it is logged")
    flat = [(word, network) for rule in rules for word, value in rule.items()
            for network in (value if isinstance(value, list) else [value])]
    told = [next(iter(rule.items())) for rule in listener(proxy)["access"]]
    assert [word for word, _ in told] == [word for word, _ in flat]


def test_who_is_denied_takes_no_place(keep, ringmain, server):
    """Of the limits and rates, too."""
    proxy = ringmain(config([server.address], workers=2, listener={
        "access": [{"deny": ONE}], "max_connections": 1, "accept_rate": {"rate": "1/m", "burst": 2},
        "per_source": {"max_connections": 1, "accept_rate": {"rate": "1/m", "burst": 2}}}))
    assert enter_many(proxy.address, ONE) == []
    (client,) = keep(enter_many(proxy.address, TWO, each=1))
    assert enter_many(proxy.address, ONE) == []
    client.close()
    proxy.wait_active(0)
    assert keep([enter(proxy.address, TWO)])
    proxy.wait_closed(access_denied=80, source_limit=3, client_closed=1)


def test_access_in_ipv6_and_of_unix_clients(keep, public_dir, ringmain, server):
    def start(name, rules):
        listen = ["[::1]:0", f"unix:{public_dir}/{name}", "127.0.0.1:0"]
        return ringmain(config([server.address], workers=2, listen=listen, listener={"access": rules})).addresses["front"]

    six, unix, four = start("one", [{"allow": "::1/128"}, {"deny": "all"}])
    keep([enter(six)])
    assert enter(unix) is None and enter(four) is None, "a unix client matches `all` only"
    six, unix, four = start("two", [{"deny": ["::/0", "0.0.0.0/0"]}])
    keep([enter(unix)])
    assert enter(six) is None and enter(four) is None


def test_access_turned_on_and_off_by_a_reload(keep, ringmain, server):
    """Sessions go on, whatever would become of their client now."""
    settings = config([server.address], workers=2)
    denying = config([server.address], workers=2, listener={"access": [{"allow": TWO}, {"deny": "all"}]})
    proxy = ringmain(settings)
    clients = keep([enter(proxy.address, ONE)])
    assert reload(proxy, denying) == [f"listener front: access none -> allow {TWO}/32, deny all"]
    assert enter_many(proxy.address, ONE) == []
    clients += keep([enter(proxy.address, TWO)])
    reload(proxy, settings)
    clients += keep([enter(proxy.address, ONE)])
    for client in clients:
        ping(client)


# ---- The rate of a listener -----------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_the_burst_then_the_rate(keep, ringmain, server):
    """Exact over the workers: one every two seconds beyond the burst."""
    proxy = ringmain(config([server.address], workers=2, listener={"accept_rate": {"rate": "30/m", "burst": 12}}))
    assert listener(proxy)["accept_rate"] == {"rate": "30/m", "burst": 12}
    began = time.monotonic()
    clients = keep(enter_many(proxy.address))
    assert 12 <= len(clients) <= 12 + (time.monotonic() - began) // 2
    admitted = len(clients)

    def another():
        clients.extend(keep(filter(None, [enter(proxy.address)])))
        return len(clients) > admitted

    wait_until(another, "it is refilled")
    passed = time.monotonic() - began
    assert (passed >= 2 or admitted > 12) and len(clients) <= 12 + passed // 2
    (reason,) = proxy.closed()
    assert reason == "accept_rate" and proxy.closed(reason) == proxy.metric("ringmain_connections_total") - len(clients)
    wait_until(lambda: proxy.log_lines("connection refused", "reason=accept_rate", "client=127.0.0.1:"), "it is logged")
    for client in clients:
        ping(client)


def test_the_rate_of_a_listener_and_reloads(keep, ringmain, server):
    """Turned on, changed and off; another change leaves what was taken."""
    def settings(rate, **more):
        return config([server.address], workers=2, listener={"accept_rate": rate, **more})

    slow = {"rate": "1/m", "burst": 5}
    proxy = ringmain(settings("off"))
    clients = keep(enter_many(proxy.address))
    assert len(clients) == 40
    assert reload(proxy, settings(slow)) == ["listener front: accept_rate off -> 1/m burst 5"]
    clients += keep(enter_many(proxy.address))
    assert len(clients) == 45
    reload(proxy, settings(slow, backlog=100))
    assert enter_many(proxy.address) == []
    reload(proxy, settings({"rate": "1/m", "burst": 8}))
    clients += keep(enter_many(proxy.address))
    assert len(clients) == 48
    reload(proxy, settings("off"))
    clients += keep(enter_many(proxy.address))
    assert len(clients) == 88
    for client in clients:
        ping(client)


# ---- Each source ----------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_connections_of_a_source_are_exact(keep, ringmain, server):
    proxy = ringmain(config([server.address], workers=2, listener={"per_source": {"max_connections": 7}}))
    assert SOURCES in proxy.metrics()
    one, two = (keep(enter_many(proxy.address, source)) for source in (ONE, TWO))
    assert (len(one), len(two)) == (7, 7)
    proxy.wait_closed(source_limit=66)
    assert proxy.metric(SOURCES, listener="front") == 2
    told = listener(proxy)["per_source"]
    assert (told["max_connections"], told["accept_rate"], told["ipv6_prefix"]) == (7, None, 64)
    assert told["sources"] == 2 and told["table_entries"] >= 4096 and told["table_full_total"] == 0
    words = ("connection refused", f"client={ONE}:", "reason=source_limit", "max_connections=7")
    wait_until(lambda: proxy.log_lines(*words), "it is logged")

    one.pop().close()
    reset(one.pop())
    proxy.wait_active(12)
    one += keep(enter_many(proxy.address, ONE))
    assert len(one) == 7
    for client in one + two:
        ping(client)
        client.close()
    proxy.wait_metric(SOURCES, 0)
    for _ in range(3):  # whatever ends how: none is lost
        clients = enter_many(proxy.address, ONE)
        assert len(clients) == 7
        for i, client in enumerate(clients):
            (reset if i % 2 else socket.socket.close)(client)
        proxy.wait_active(0)


def test_a_source_is_given_back_by_whichever_worker_has_the_session(keep, ringmain, server):
    """All sessions of one worker end, so that the other hands it clients."""
    proxy = ringmain(config([server.address], workers=2, listener={"per_source": {"max_connections": 200}}))
    clients = keep(enter_many(proxy.address, ONE, each=50))
    assert len(clients) == 200 and enter(proxy.address, ONE) is None
    wait_until(lambda: min(entry["age_seconds"] for entry in proxy.sessions()) >= 1, "none is brief", interval=0.1)
    of_worker = {entry["client"]: entry["worker"] for entry in proxy.sessions()}
    for client in clients:
        if of_worker[format_address(client)] == 0:
            client.close()
    left = sum(worker == 1 for worker in of_worker.values())
    proxy.wait_active(left)
    more = keep(enter_many(proxy.address, ONE, each=50))
    assert len(more) == 200 - left
    assert proxy.metric("ringmain_worker_handed_over_total") > 0
    close_all(clients + more)
    proxy.wait_metric(SOURCES, 0)
    assert len(keep(enter_many(proxy.address, ONE, each=60))) == 200


@pytest.mark.sanitizer
def test_the_rate_of_a_source(keep, ringmain, server):
    """Others are not concerned, and what one tries in vain takes nothing from the listener's rate."""
    proxy = ringmain(config([server.address], workers=2, listener={
        "accept_rate": {"rate": "1/m", "burst": 30}, "per_source": {"accept_rate": {"rate": "30/m", "burst": 6}}}))
    began = time.monotonic()
    clients = keep(enter_many(proxy.address, ONE))
    first = len(clients)
    assert 6 <= first <= 6 + (time.monotonic() - began) // 2
    close_all(clients)
    other = keep(enter_many(proxy.address, TWO))
    assert len(other) >= 6

    def another():
        clients.extend(keep(filter(None, [enter(proxy.address, ONE)])))
        return len(clients) > first

    wait_until(another, "it is refilled")
    assert len(clients) <= 6 + (time.monotonic() - began) // 2
    assert set(proxy.closed()) == {"source_rate", "client_closed"}
    let_in = len(clients) + len(other)
    third = len(keep(enter_many(proxy.address, THREE)))
    assert 6 <= third <= 6 + (time.monotonic() - began) // 2 and let_in + third < 30
    assert listener(proxy)["per_source"]["accept_rate"] == {"rate": "30/m", "burst": 6}
    wait_until(lambda: proxy.log_lines("connection refused", "reason=source_rate", f"client={ONE}:"), "it is logged")


def test_what_another_limit_refuses_is_not_counted_for_its_source(keep, ringmain, server):
    proxy = ringmain(config([server.address], workers=2, listener={
        "max_connections": 5, "per_source": {"max_connections": 8, "accept_rate": {"rate": "1/m", "burst": 8}}}))
    others = keep(enter_many(proxy.address, TWO))
    assert len(others) == 5
    assert enter_many(proxy.address, ONE) == []
    proxy.wait_closed(listener_limit=75)
    assert proxy.metric(SOURCES) == 1
    close_all(others)
    proxy.wait_active(0)
    clients = keep(enter_many(proxy.address, ONE))
    assert len(clients) == 5
    close_all(clients)
    proxy.wait_active(0)
    assert len(keep(enter_many(proxy.address, ONE))) == 3, "the rest of the burst"


def test_sources_in_ipv6_and_unix(keep, public_dir, ringmain, server):
    unix = f"unix:{public_dir}/front"
    proxy = ringmain(config([server.address], workers=2, listen=["[::1]:0", "127.0.0.1:0", unix],
                            listener={"per_source": {"max_connections": 3, "ipv6_prefix": 48}}))
    six, four, _ = proxy.addresses["front"]
    assert len(keep(enter_many(six))) == 3
    assert len(keep(enter_many(four))) == 3
    assert len(keep(enter_many(unix))) == 40, "a unix client has no address"
    assert proxy.metric(SOURCES) == 2 and listener(proxy)["per_source"]["ipv6_prefix"] == 48


def test_clients_that_wait_for_descriptors_hold_their_source(keep, ringmain, server):
    proxy = ringmain(config([server.address], limits={"max_connections": 1000},
                            listener={"per_source": {"max_connections": 300}}), nofile=96)
    clients = []
    for _ in range(100):
        family, name = parse_address(proxy.address)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.bind((ONE, 0))
        sock.connect(name)
        clients.append(sock)
    proxy.wait_metric("ringmain_worker_accept_pauses_total", lambda count: count > 0)
    assert proxy.metric(SOURCES) == 1
    close_all(clients)
    proxy.wait_active(0)
    proxy.wait_metric(SOURCES, 0)


def test_sources_turned_on_and_off_by_reloads(keep, ringmain, server):
    """A session that came while per_source was off is not counted; one that is stays so until its end."""
    def settings(most):
        return config([server.address], workers=2, listener={"per_source": {"max_connections": most}})

    proxy = ringmain(settings("off"))
    assert SOURCES not in proxy.metrics() and listener(proxy)["per_source"] is None
    uncounted = keep(enter_many(proxy.address, ONE, each=2))
    assert reload(proxy, settings(5)) == ["listener front: per_source.max_connections off -> 5"]
    counted = keep(enter_many(proxy.address, ONE))
    assert len(counted) == 5
    reload(proxy, settings(7))
    counted += keep(enter_many(proxy.address, ONE))
    assert len(counted) == 7
    reload(proxy, settings(3))
    counted.pop().close()
    proxy.wait_active(len(uncounted) + 6)
    assert enter_many(proxy.address, ONE) == [] and len(keep(enter_many(proxy.address, TWO))) == 3

    reload(proxy, settings("off"))
    assert SOURCES not in proxy.metrics()
    uncounted += keep(enter_many(proxy.address, ONE))
    assert len(uncounted) == 48
    close_all(counted[:4])  # while it is off
    proxy.wait_active(48 + 2 + 3)
    reload(proxy, settings(6))
    again = keep(enter_many(proxy.address, ONE))
    assert len(again) == 4, "two of those before are left"
    close_all(uncounted)
    proxy.wait_active(2 + 3 + 4)
    assert enter(proxy.address, ONE) is None
    for client in counted[4:] + again:
        ping(client)
        client.close()
    proxy.wait_metric(SOURCES, 1)
    assert len(keep(enter_many(proxy.address, ONE))) == 6


def test_a_listener_that_leaves_and_comes_back_keeps_counting(keep, ringmain, server):
    address = unused_address()
    limit = {"per_source": {"max_connections": 4}}
    both, without = (config([server.address], workers=2) for _ in range(2))
    both["listeners"].append({"name": "other", "listen": address, "upstream": "back", **limit})
    proxy = ringmain(both)
    clients = keep(enter_many(address, ONE))
    assert len(clients) == 4
    reload(proxy, without)
    clients.pop().close()
    proxy.wait_active(3)
    reload(proxy, both)
    clients += keep(enter_many(address, ONE))
    assert len(clients) == 4
    reload(proxy, without)
    close_all(clients)
    wait_gone(proxy, "other")
    assert SOURCES not in proxy.metrics()


def test_sources_while_it_drains(keep, ringmain, server):
    """Sessions that end, and those that are cut at the end, give back what they hold."""
    proxy = ringmain(config([server.address], workers=2, drain={"delay": "60s", "timeout": "60s"},
                            listener={"per_source": {"max_connections": 5}}))
    clients = keep(enter_many(proxy.address, ONE))
    proxy.signal(signal.SIGTERM)
    wait_until(lambda: proxy.get("/readyz")[0] == 503, "it drains")
    assert enter(proxy.address, ONE) is None
    clients[0].close()
    proxy.wait_active(4)
    assert len(keep(enter_many(proxy.address, ONE))) == 1
    assert proxy.stop() == 0


# ---- Takeover -------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_a_takeover_keeps_counts_and_rates(keep, line, server):
    """Also to a process with another limit, which counts from the addresses of the clients that it is given."""
    def settings(most, workers):
        return line.config([server.address], workers=workers, listener={
            "accept_rate": {"rate": "1/m", "burst": 20},
            "per_source": {"max_connections": most, "accept_rate": {"rate": "1/m", "burst": 8}}})

    old = line.first(settings(5, 2))
    one, two = (keep(enter_many(old.address, source)) for source in (ONE, TWO))
    assert (len(one), len(two)) == (5, 5)
    new = line.after(old, settings(5, 3))
    assert new.metric(SOURCES) == 2
    assert enter_many(new.address, ONE) == [] and set(new.closed()) == {"source_limit"}
    for client in (one.pop(), one.pop()):
        client.close()
    new.wait_active(8)
    one += keep(enter_many(new.address, ONE))
    assert len(one) == 5
    assert len(new.sessions()) == 10

    last = line.after(new, settings(7, 1))
    one += keep(enter_many(last.address, ONE))
    assert len(one) == 6 and last.closed("source_rate") > 0, "7 at once, but a burst of 8: all of that is used"
    two += keep(enter_many(last.address, TWO))
    assert len(two) == 7
    assert len(keep(enter_many(last.address, THREE))) == 5 and last.closed("accept_rate") > 0, "of 20 there were 15"
    for client in one + two:
        ping(client)


def test_sources_that_were_not_counted_are_after_a_takeover(keep, line, server):
    without = line.config([server.address], workers=2)
    counting = line.config([server.address], workers=2, listener={"per_source": {"max_connections": 5}})
    old = line.first(without)
    clients = keep(enter_many(old.address, ONE, each=2))
    new = line.after(old, counting)
    assert enter(new.address, ONE) is None
    close_all(clients[:4])
    new.wait_active(4)
    clients += keep(enter_many(new.address, ONE))
    assert len(clients) == 9
    last = line.after(new, without)
    assert len(keep(enter_many(last.address, ONE))) == 40
    close_all(clients)
    last.wait_active(40)


def admin_answers(proxy):
    try:
        return proxy.get("/healthz")[0] == 200
    except OSError:
        return False


def test_a_takeover_in_vain_changes_no_count(keep, line, own, server):
    old = line.first(line.config([server.address], workers=2, listener={"per_source": {"max_connections": 5}}))
    clients = keep(enter_many(old.address, ONE))
    for step in ("state", "sessions"):
        new = own(NewSide(line.socket, step))
        new.channel.send(ABORT, b"it was a mistake")
        new.channel.last_words()
        wait_until(lambda: admin_answers(old), "its admin side is open again")
        assert enter_many(old.address, ONE) == []
        for client in clients:
            ping(client)
    player = own(Player("new", line.socket, "commit"))
    player.wait("commit")
    player.close()
    wait_until(lambda: admin_answers(old), "its admin side is open again")
    old.wait_closed(source_limit=35 + 2 * 40, takeover_failed=5)
    assert len(keep(enter_many(old.address, ONE))) == 5


def test_rules_of_an_address_that_leaves_with_a_takeover(keep, line, server):
    """Who waits there is let in or not by the rules that the old process had."""
    address, elsewhere = unused_address(), unused_address()
    rules = {"access": [{"allow": "127.0.0.1"}, {"deny": "all"}]}
    old = line.first(line.config([server.address], workers=2, listen=address, listener=rules))
    family, name = parse_address(address)
    old.signal(signal.SIGSTOP)
    clients = {}
    for source in ("127.0.0.1", ONE) * 50:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(10 * PATIENCE)
        sock.bind((source, 0))
        sock.connect(name)
        clients[sock] = source
    new = line.begin(line.config([server.address], workers=2, listen=elsewhere, listener={"name": "door"}))
    old.signal(signal.SIGCONT)
    line.complete(old, new)
    for sock, source in clients.items():
        try:
            banner = sock.recv(1)
        except ConnectionResetError:
            banner = None
        assert banner == (b"B" if source == "127.0.0.1" else None), source
    keep(clients)
