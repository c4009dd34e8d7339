"""What operators ask of servers: limits and the queue before them, states and weights changed at run time, backups, ejection, stickiness."""
import json
import socket
import time
from collections import Counter

import pytest

from peers import PATIENCE, Blackhole, Crowd, EchoServer, Job, ManualServer, connect, expect_end, is_open, parse_address, ping
from peers import read_exactly, refusal, reset, unused_address, wait_until
from proxy import config
from reloading import JSON, ask, changed, reload, who
from takeover_peer import line  # noqa: F401 (a fixture)


def change(proxy, server, expected=200, **fields):
    """Changes a server of the upstream `back`; returns the answer."""
    body = json.dumps({"upstream": "back", "server": server.address, **fields})
    code, answer = proxy.get("/api/v1/servers", method="POST", headers=JSON, body=body)
    assert code == expected, answer
    return json.loads(answer) if answer.startswith("{") else answer


def status_of(proxy, server):
    return next(s for u in proxy.status("?sessions=0")["upstreams"] for s in u["servers"] if s["address"] == server.address)


def queued(proxy):
    return proxy.metric("ringmain_upstream_queued", upstream="back")


def from_address(address, source):
    """A connection made from another address of this machine."""
    sock = socket.create_connection(parse_address(address)[1], timeout=10, source_address=(source, 0))
    return sock


@pytest.fixture
def two(own):
    return [own(EchoServer(banner=letter)) for letter in (b"A", b"B")]


def _visitors(address, count):
    """Those that are refused may learn it before connect() is over."""
    clients = []
    for _ in range(count):
        try:
            clients.append(connect(address))
        except ConnectionResetError:
            pass
    return clients


def _line_up(own, proxy, count):
    """Clients that come one after the other, each of which has said its number; the first has the only server, the others wait."""
    clients = []
    for i in range(count):
        clients.append(own(connect(proxy.address)))
        clients[-1].sendall(b"%d" % i)
        proxy.wait_metric("ringmain_server_connections_active", 1)
        wait_until(lambda: queued(proxy) == i, f"client {i} waits")
    return clients


# ---- Limits and the queue -------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_a_limit_of_100_is_exactly_100(own, ringmain):
    """Over two workers, with clients that come all at once; those beyond it wait, and the ones beyond max_queue are refused."""
    server = own(EchoServer())
    entry = {"address": server.address, "max_connections": 100}
    proxy = ringmain(config([entry], workers=2, upstream={"max_queue": 20, "queue_timeout": "1m"}))
    jobs = [Job(_visitors, proxy.address, 30) for _ in range(5)]
    clients = [own(client) for job in jobs for client in job.finish()]
    proxy.wait_metric("ringmain_server_connections_active", 100)
    proxy.wait_closed(queue_full=30)
    assert server.active == 100 and queued(proxy) == 20
    assert Counter(entry["state"] for entry in proxy.sessions()) == {"established": 100, "queued": 20}
    for client in clients:
        client.close()
    wait_until(lambda: queued(proxy) == 0 and server.active == 0, "all are gone")
    assert server.accepted <= 120


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [1, 2])
def test_the_queue_is_first_come_first_served(workers, own, ringmain):
    server = own(ManualServer())
    entry = {"address": server.address, "max_connections": 1}
    proxy = ringmain(config([entry], workers=workers, upstream={"queue_timeout": "1m"}))
    clients = _line_up(own, proxy, 8)
    for i, client in enumerate(clients):
        upstream = server.accept()
        assert read_exactly(upstream, 1) == b"%d" % i
        upstream.sendall(b"%d" % i)
        assert read_exactly(client, 1) == b"%d" % i
        upstream.close()
        client.close()
    wait_until(lambda: queued(proxy) == 0, "nobody waits")


def test_nothing_is_read_from_who_waits(own, ringmain):
    server = own(ManualServer())
    entry = {"address": server.address, "max_connections": 1}
    proxy = ringmain(config([entry], upstream={"queue_timeout": "1m"}))
    first = own(connect(proxy.address))
    held = server.accept()
    second = own(connect(proxy.address))
    second.sendall(bytes(50000))
    wait_until(lambda: queued(proxy) == 1, "it waits")
    time.sleep(0.3)
    record = next(entry for entry in proxy.sessions() if entry["state"] == "queued")
    assert record["to_server"]["received_bytes"] == 0 and record["server"] is None
    first.close()
    held.close()
    assert read_exactly(server.accept(), 50000) == bytes(50000)


@pytest.mark.sanitizer
def test_the_wait_has_an_end(own, ringmain):
    server = own(EchoServer())
    entry = {"address": server.address, "max_connections": 1}
    proxy = ringmain(config([entry], upstream={"queue_timeout": "700ms"}))
    ping(own(connect(proxy.address)))
    started = time.monotonic()
    waiting = own(connect(proxy.address))
    assert expect_end(waiting) == "reset"
    assert 0.65 < time.monotonic() - started < 1 + PATIENCE
    proxy.wait_closed(queue_timeout=1)
    assert proxy.log_lines("no room on any server", "reason=queue_timeout")


def test_who_leaves_the_queue_is_not_served(own, ringmain):
    server = own(EchoServer())
    entry = {"address": server.address, "max_connections": 1}
    proxy = ringmain(config([entry], workers=2, upstream={"queue_timeout": "1m"}))
    first = own(connect(proxy.address))
    ping(first)
    resets, closes, stays = (connect(proxy.address) for _ in range(3))
    wait_until(lambda: queued(proxy) == 3, "three wait")
    reset(resets)
    closes.close()
    proxy.wait_closed(client_left=2)
    first.close()
    ping(own(stays))
    assert server.accepted == 2


def test_raising_the_limit_lets_the_queue_in(own, ringmain):
    server = own(EchoServer())
    settings = config([{"address": server.address, "max_connections": 1}], workers=2, upstream={"queue_timeout": "1m"})
    proxy = ringmain(settings)
    crowd = own(Crowd(proxy.address, 10))
    wait_until(lambda: queued(proxy) == 9, "nine wait")
    assert reload(proxy, changed(settings, "upstreams.0.servers.0.max_connections", 5)) == [
        f"upstream back: server {server.address} max_connections 1 -> 5"
    ]
    wait_until(lambda: queued(proxy) == 5 and server.active == 5, "five are served")
    change(proxy, server, max_connections="off")
    crowd.exchange()
    assert queued(proxy) == 0


def test_the_queue_survives_a_takeover(own, line):
    """In order, and with its deadlines."""
    server = own(ManualServer())
    entry = {"address": server.address, "max_connections": 1}
    old = line.first(line.config([entry], workers=2, upstream={"queue_timeout": "1m"}))
    clients = _line_up(own, old, 5)
    upstream = server.accept()
    new = line.after(old)
    assert queued(new) == 4
    for i, client in enumerate(clients):
        assert read_exactly(upstream, 1) == b"%d" % i
        upstream.sendall(b"%d" % i)
        assert read_exactly(client, 1) == b"%d" % i
        upstream.close()
        client.close()
        if i < 4:
            upstream = server.accept()


# ---- Changes at run time --------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_a_server_is_drained_and_comes_back(two, own, ringmain):
    proxy = ringmain(config([server.address for server in two], workers=2))
    crowd = own(Crowd(proxy.address, 20, 1))
    answer = change(proxy, two[0], state="drain")
    assert answer["changes"] == [f"upstream back: server {two[0].address} state enabled -> drain"]
    assert status_of(proxy, two[0])["configured_state"] == "drain"
    assert {who(proxy.address) for _ in range(20)} == {b"B"}
    crowd.exchange()
    assert proxy.metric("ringmain_server_connections_active", server=two[0].address) == 10
    assert change(proxy, two[0], state="drain")["result"] == "unchanged"
    change(proxy, two[0], state="enabled")
    assert {who(proxy.address) for _ in range(20)} == {b"A", b"B"}
    crowd.exchange()


@pytest.mark.sanitizer
def test_weights_and_limits_change(two, own, ringmain):
    proxy = ringmain(config([server.address for server in two], workers=2, upstream={"max_queue": 0}))
    change(proxy, two[0], weight=3)
    assert Counter(who(proxy.address) for _ in range(40)) == {b"A": 30, b"B": 10}
    change(proxy, two[0], max_connections=2)
    change(proxy, two[1], max_connections=1)
    crowd = own(Crowd(proxy.address, 3, 1))
    assert Counter(crowd.banners) == {b"A": 2, b"B": 1}
    refusal(proxy.address)
    proxy.wait_closed(queue_full=1, client_closed=40)
    change(proxy, two[0], reset=True)
    assert (status_of(proxy, two[0])["weight"], status_of(proxy, two[0])["max_connections"]) == (1, None)


def test_changes_stay_over_a_reload_unless_the_file_says_otherwise(two, ringmain):
    settings = config([{"address": server.address, "weight": 2} for server in two])
    proxy = ringmain(settings)
    change(proxy, two[0], state="drain")
    change(proxy, two[1], weight=7)
    settings = changed(settings, "listeners.0.idle_timeout", "1h")
    assert reload(proxy, settings) == ["listener front: idle_timeout off -> 1h"]
    assert status_of(proxy, two[0])["configured_state"] == "drain" and status_of(proxy, two[1])["weight"] == 7
    assert ask(proxy, settings)[1]["result"] == "unchanged"
    changes = reload(proxy, changed(settings, "upstreams.0.servers.1.weight", 3))
    assert changes == [f"upstream back: server {two[1].address} weight 7 -> 3"]
    assert status_of(proxy, two[0])["configured_state"] == "drain"


def test_changes_and_ejection_survive_a_takeover(two, own, line):
    dead = unused_address()
    servers = [*(server.address for server in two), dead]
    ejection = {"consecutive_failures": 2, "time": "1h", "max_time": "1h"}
    old = line.first(line.config(servers, workers=2, upstream={"ejection": ejection}))
    change(old, two[0], state="drain")
    wait_until(lambda: who(old.address) and old.metric("ringmain_server_ejected", server=dead), "the dead one is ejected")
    new = line.after(old)
    assert status_of(new, two[0])["configured_state"] == "drain"
    assert new.metric("ringmain_server_ejected", server=dead) == 1
    failures = new.metric("ringmain_server_connect_failures_total", server=dead)
    assert {who(new.address) for _ in range(10)} == {b"B"}
    assert new.metric("ringmain_server_connect_failures_total", server=dead) == failures
    change(new, two[0], state="enabled")
    assert {who(new.address) for _ in range(10)} == {b"A", b"B"}


def test_a_disabled_server_is_not_checked(two, own, ringmain):
    check = {"type": "tcp", "interval": "50ms", "timeout": "500ms"}
    proxy = ringmain(config([server.address for server in two], upstream={"health_check": check}))
    proxy.wait_metric("ringmain_health_checks_total", lambda count: count > 2, server=two[0].address)
    change(proxy, two[0], state="disabled")
    assert not status_of(proxy, two[0])["health_checked"]
    wait_until(lambda: two[0].active == 0, "the last check is over")
    accepted = two[0].accepted
    proxy.wait_metric("ringmain_health_checks_total", lambda count: count > 20, server=two[1].address)
    assert two[0].accepted == accepted


@pytest.mark.parametrize(
    "body, code, words",
    [
        ("", 400, "no JSON object"),
        ("[]", 400, "no JSON object"),
        ('{"upstream": "back"}', 400, "server is missing"),
        ('{"upstream": "back", "server": "127.0.0.1:1"}', 400, "nothing is to change"),
        ('{"upstream": "back", "server": "127.0.0.1:1", "state": "off"}', 400, "enabled, drain or disabled"),
        ('{"upstream": "back", "server": "127.0.0.1:1", "weight": 0}', 400, "1 to 256"),
        ('{"upstream": "back", "server": "127.0.0.1:1", "weight": 257}', 400, "1 to 256"),
        ('{"upstream": "back", "server": "127.0.0.1:1", "max_connections": -1}', 400, "1 to"),
        ('{"upstream": "back", "server": "127.0.0.1:1", "colour": 1}', 400, "unknown key"),
        ('{"upstream": "back", "server": "127.0.0.1:1", "weight": 1}', 404, "upstream back has no server 127.0.0.1:1"),
        ('{"upstream": "front", "server": "127.0.0.1:1", "weight": 1}', 404, "upstream front has no server"),
        ('{"weight": "' + 70000 * "x" + '"}', 413, "longer than"),
    ],
)
def test_a_wrong_change_says_what_is_wrong(body, code, words, two, ringmain):
    proxy = ringmain(config([server.address for server in two]))
    answered, text = proxy.get("/api/v1/servers", method="POST", headers=JSON, body=body)
    assert answered == code and words in text, text
    assert proxy.get("/api/v1/servers", method="POST", body=body)[0] == 403
    assert proxy.get("/api/v1/servers")[0] == 405


# ---- Which server ---------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("method", ["source_hash", "maglev"])
def test_clients_of_one_address_get_one_server(method, own, ringmain, line):
    servers = [own(EchoServer(banner=bytes([65 + i]))) for i in range(5)]
    settings = line.config([server.address for server in servers], workers=2, upstream={"balance": method})
    proxy = line.first(settings)

    def where(proxy):
        places = {}
        for i in range(1, 40):
            seen = set()
            for _ in range(3):
                with from_address(proxy.address, f"127.0.2.{i}") as client:
                    seen.add(read_exactly(client, 1))
            assert len(seen) == 1
            places[i] = seen.pop()
        return places

    before = where(proxy)
    assert len(set(before.values())) == 5
    new = line.after(proxy)
    assert where(new) == before, "another process chooses alike"
    change(new, servers[2], state="drain")
    after = where(new)
    assert all(after[i] == before[i] for i in before if before[i] != b"C") and b"C" not in after.values()


def test_a_backup_serves_while_the_others_are_down(own, ringmain):
    first, backup = own(EchoServer(banner=b"A")), own(EchoServer(banner=b"B"))
    check = {"type": "tcp", "interval": "50ms", "timeout": "500ms", "rise": 1, "fall": 1}
    servers = [{"address": first.address}, {"address": backup.address, "backup": "on"}]
    proxy = ringmain(config(servers, workers=2, upstream={"health_check": check}))
    assert {who(proxy.address) for _ in range(10)} == {b"A"}
    first.stop()
    assert who(proxy.address) == b"B", "also before anybody knows that it is down"
    proxy.wait_metric("ringmain_server_up", 0, server=first.address)
    assert who(proxy.address) == b"B"
    first.start()
    proxy.wait_metric("ringmain_server_up", 1, server=first.address)
    assert {who(proxy.address) for _ in range(10)} == {b"A"}


def test_least_latency_leaves_a_server_that_does_not_answer(own, ringmain):
    quick, hole = own(EchoServer(banner=b"A")), own(Blackhole())
    upstream = {"balance": "least_latency", "connect_timeout": "300ms"}
    proxy = ringmain(config([quick.address, hole.address], upstream=upstream))
    wait_until(lambda: who(proxy.address) and proxy.metric("ringmain_server_connect_failures_total", server=hole.address), "it was tried")
    failures = proxy.metric("ringmain_server_connect_failures_total", server=hole.address)
    for _ in range(100):
        assert who(proxy.address) == b"A"
    assert proxy.metric("ringmain_server_connect_failures_total", server=hole.address) == failures


# ---- Ejection -------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_a_server_that_refuses_is_ejected_and_returns(own, ringmain):
    good, bad = own(EchoServer(banner=b"A")), own(EchoServer(banner=b"B"))
    bad.stop()
    ejection = {"consecutive_failures": 3, "time": "1s", "max_time": "2s"}
    proxy = ringmain(config([good.address, bad.address], workers=2, upstream={"ejection": ejection}))
    wait_until(lambda: who(proxy.address) == b"A" and proxy.metric("ringmain_server_ejected", server=bad.address), "it is ejected")
    failures = proxy.metric("ringmain_server_connect_failures_total", server=bad.address)
    assert failures == 3 and status_of(proxy, bad)["ejected"] and proxy.log_lines("server ejected", bad.address)
    for _ in range(10):
        assert who(proxy.address) == b"A"
    assert proxy.metric("ringmain_server_connect_failures_total", server=bad.address) == failures
    bad.start()
    wait_until(lambda: who(proxy.address) == b"B", "it is back")
    assert proxy.metric("ringmain_server_ejected", server=bad.address) == 0
    assert proxy.metric("ringmain_server_ejections_total", server=bad.address) == 1


def test_a_server_that_hangs_up_early_is_ejected_if_that_counts(own, ringmain):
    """Its port is open, but whoever connects is reset before a byte: what a crashed backend behind a port forwarder looks like."""
    good, bad = own(EchoServer(banner=b"A")), own(ManualServer())
    ejection = {"consecutive_failures": 2, "count_early_ends": "on", "time": "1m"}
    proxy = ringmain(config([good.address, bad.address], upstream={"ejection": ejection}))
    hanging_up = Job(lambda: [reset(bad.accept(timeout=30)) for _ in range(2)])
    for _ in range(8):
        assert who(proxy.address) == b"A"
    hanging_up.finish()
    proxy.wait_metric("ringmain_server_ejected", 1, server=bad.address)
    assert proxy.metric("ringmain_server_connect_failures_total", server=bad.address, reason="lost") == 2


def test_with_too_few_servers_up_health_is_ignored(own, ringmain):
    servers = [own(EchoServer(banner=bytes([65 + i]))) for i in range(4)]
    check = {"type": "tcp", "interval": "50ms", "timeout": "500ms", "rise": 1, "fall": 1}
    upstream = {"health_check": check, "panic_threshold": "50%", "connect_tries": 4}
    proxy = ringmain(config([server.address for server in servers], upstream=upstream))
    for server in servers[:3]:
        server.stop()
        proxy.wait_metric("ringmain_server_up", 0, server=server.address)
    assert proxy.metric("ringmain_upstream_panic") == 1
    before = proxy.metric("ringmain_server_connect_failures_total", server=servers[0].address)
    assert {who(proxy.address) for _ in range(8)} == {b"D"}, "those that are down are tried, and passed over"
    assert proxy.metric("ringmain_server_connect_failures_total", server=servers[0].address) > before
    for server in servers[:2]:
        server.start()
        proxy.wait_metric("ringmain_server_up", 1, server=server.address)
    assert proxy.metric("ringmain_upstream_panic") == 0


def test_slow_start_begins_slowly(own, ringmain):
    old, new = own(EchoServer(banner=b"A")), own(EchoServer(banner=b"B"))
    settings = config([old.address], workers=2, upstream={"slow_start": "1m"})
    proxy = ringmain(settings)
    assert who(proxy.address) == b"A"
    reload(proxy, changed(settings, "upstreams.0.servers", [{"address": old.address}, {"address": new.address}]))
    counts = Counter(who(proxy.address) for _ in range(100))
    assert 1 <= counts[b"B"] <= 25, "a tenth of its share, instead of half of the connections"
    assert is_open(own(connect(proxy.address)))


# ---- Retries --------------------------------------------------------------------------------------------------------


def test_retries_have_a_budget(own, ringmain):
    """Of two servers one refuses: half of the clients need a retry, and the budget pays for some."""
    good, dead = own(EchoServer(banner=b"A")), unused_address()
    budget = {"percent": "10%", "per_second": 1}
    proxy = ringmain(config([good.address, dead], upstream={"retry_budget": budget}))
    served = sum(bool(_served(proxy.address)) for _ in range(40))
    assert 20 < served < 32
    assert proxy.metric("ringmain_upstream_retries_denied_total") == 40 - served
    proxy.wait_closed(client_closed=served, connect_failed=40 - served)


def _served(address):
    try:
        return who(address) == b"A"
    except ConnectionResetError:
        return False
