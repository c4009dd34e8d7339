"""Which server a connection gets: exact counts, whatever the number of workers."""
from collections import Counter

import pytest

from peers import Crowd, EchoServer, Job, connect, ping, read_exactly
from proxy import config


def _servers(own, count, weights=None):
    servers = [own(EchoServer(banner=bytes([65 + i]))) for i in range(count)]
    entries = [{"address": s.address, "weight": w} for s, w in zip(servers, weights or [1] * count)]
    return servers, entries


def _crowd_at_once(address, threads, each):
    """threads × each connections, opened from several threads at once; they stay open."""
    jobs = [Job(Crowd, address, each, 1) for _ in range(threads)]
    return [job.finish() for job in jobs]


def _counts(crowds):
    return Counter(banner.decode() for crowd in crowds for banner in crowd.banners)


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "weights, expected", [([1, 1], [60, 60]), ([1, 1, 1], [40, 40, 40]), ([3, 1], [90, 30]), ([5, 2, 1], [75, 30, 15])]
)
def test_round_robin_is_exact(workers, weights, expected, own, ringmain):
    servers, entries = _servers(own, len(weights), weights)
    proxy = ringmain(config(entries, workers=workers))
    crowds = [own(crowd) for crowd in _crowd_at_once(proxy.address, 4, 30)]
    counts = _counts(crowds)
    assert [counts[chr(65 + i)] for i in range(len(weights))] == expected
    for server, count in zip(servers, expected):
        assert proxy.metric("ringmain_server_connections_active", server=server.address) == count


def test_weighted_round_robin_is_smooth(own, ringmain):
    """Weights 3 and 1 do not mean three in a row and then one for every four: in any four in a row, three and one."""
    _, entries = _servers(own, 2, [3, 1])
    proxy = ringmain(config(entries))
    order = []
    for _ in range(24):
        client = own(connect(proxy.address))
        order.append(read_exactly(client, 1))
    for i in range(0, 24, 4):
        assert Counter(order[i : i + 4]) == {b"A": 3, b"B": 1}
    # With 5 and 5 the same in turn.
    _, entries = _servers(own, 2, [5, 5])
    proxy = ringmain(config(entries))
    order = [read_exactly(own(connect(proxy.address)), 1) for _ in range(10)]
    assert all(a != b for a, b in zip(order, order[1:]))


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [1, 2])
def test_least_connections_is_exact(workers, own, ringmain):
    _, entries = _servers(own, 3)
    proxy = ringmain(config(entries, workers=workers, upstream={"balance": "least_connections"}))
    held = []
    for _ in range(31):
        client = own(connect(proxy.address))
        held.append(read_exactly(client, 1))
        counts = Counter(held)
        assert max(counts.values()) - min(counts.get(name, 0) for name in (b"A", b"B", b"C")) <= 1
    crowds = [own(crowd) for crowd in _crowd_at_once(proxy.address, 4, 20)]
    counts = _counts(crowds) + Counter(banner.decode() for banner in held)
    assert sorted(counts.values()) == [37, 37, 37]


@pytest.mark.parametrize("workers", [1, 2])
def test_weighted_least_connections(workers, own, ringmain):
    _, entries = _servers(own, 2, [3, 1])
    proxy = ringmain(config(entries, workers=workers, upstream={"balance": "least_connections"}))
    crowds = [own(crowd) for crowd in _crowd_at_once(proxy.address, 4, 20)]
    counts = _counts(crowds)
    assert abs(counts["A"] - 60) <= 1 and counts["A"] + counts["B"] == 80, counts


@pytest.mark.sanitizer
def test_least_connections_goes_where_sessions_ended(own, ringmain):
    servers, entries = _servers(own, 2)
    proxy = ringmain(config(entries, workers=2, upstream={"balance": "least_connections"}))
    first = own(Crowd(proxy.address, 40, 1))
    for sock, banner in zip(first.socks, first.banners):
        if banner == b"B":
            sock.close()
    proxy.wait_metric("ringmain_server_connections_active", 0, server=servers[1].address)
    second = own(Crowd(proxy.address, 20, 1))
    assert set(second.banners) == {b"B"}


def test_sessions_stay_with_their_server(own, ringmain):
    _, entries = _servers(own, 2)
    proxy = ringmain(config(entries, workers=2))
    crowd = own(Crowd(proxy.address, 40, 1))
    for _ in range(5):
        crowd.exchange(500)
    for server in entries:
        assert proxy.metric("ringmain_server_connections_active", server=server["address"]) == 20


def test_two_listeners_two_upstreams(own, ringmain):
    a, b = own(EchoServer(banner=b"A")), own(EchoServer(banner=b"B"))
    settings = config([a.address])
    settings["listeners"].append({"name": "other", "listen": "127.0.0.1:0", "upstream": "second"})
    settings["upstreams"].append({"name": "second", "servers": [{"address": b.address}]})
    proxy = ringmain(settings)
    for name, banner, times in (("front", b"A", 3), ("other", b"B", 5)):
        for _ in range(times):
            client = own(connect(proxy.addresses[name][0]))
            assert read_exactly(client, 1) == banner
            ping(client)
        assert proxy.metric("ringmain_connections_total", listener=name) == times
    assert proxy.metric("ringmain_server_connections_active", upstream="second") == 5
