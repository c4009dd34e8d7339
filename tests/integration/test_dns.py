"""Servers found by name: they come and go as a resolver says, and no session notices; no failure takes one away."""
import contextlib
import json
import signal
import socket
import threading
import time

import pytest

from dnsmasq import DNSMASQ, Dnsmasq
from peers import PATIENCE, Crowd, EchoServer, Job, ManualServer, refusal, wait_until
from proxy import config, run_command
from reloading import assert_none_fell, ask, changed, failed, reload, states, visitors, who
from takeover_peer import line  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(DNSMASQ is None, reason="dnsmasq (Debian package dnsmasq-base) is not here")

NAME = "db.test"
LOOKUPS = "ringmain_dns_lookups_total"
HOSTS = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]


class Cluster:
    """Echo servers A, B, C on one port of several addresses."""

    def __init__(self, own):
        self.servers = [own(EchoServer(f"{HOSTS[0]}:0", banner=b"A"))]
        self.port = int(self.servers[0].address.rsplit(":", 1)[1])
        for host, banner in zip(HOSTS[1:], (b"B", b"C")):
            self.servers.append(own(EchoServer(f"{host}:{self.port}", banner=banner)))

    def at(self, *numbers):
        return [f"{HOSTS[i]}:{self.port}" for i in numbers]


@pytest.fixture
def cluster(own):
    return Cluster(own)


@pytest.fixture
def resolver(own, tmp_path):
    """resolver(hosts, ...) starts a Dnsmasq."""

    def start(hosts, **options):
        directory = tmp_path / "dns"
        directory.mkdir()
        return own(Dnsmasq(directory, hosts, **options))

    return start


def named(dns, port, name=NAME, dns_settings=None, **more):
    options = {"type": "srv"} if port is None else {}
    server = {"dns": name if port is None else f"{name}:{port}", **options, **more.pop("server", {})}
    return config([server], upstream={"dns": dns.settings(**(dns_settings or {}))}, **more)


def servers(proxy):
    """By address: active or draining."""
    return {s["address"]: s["state"] for s in proxy.status("?sessions=0")["upstreams"][0]["servers"]}


def wait_servers(proxy, active, draining=()):
    wanted = {**dict.fromkeys(active, "active"), **dict.fromkeys(draining, "draining")}
    wait_until(lambda: servers(proxy) == wanted, lambda: f"servers are {wanted}; they are {servers(proxy)}")


def name_status(proxy, number=0):
    return proxy.status("?sessions=0")["upstreams"][0]["names"][number]


def wait_lookups(proxy, result, more=2):
    """Waits for some more lookups with that result."""
    before = proxy.metric(LOOKUPS, result=result)
    proxy.wait_metric(LOOKUPS, lambda count: count >= before + more, result=result)


def banners(address, tries=12):
    return {who(address) for _ in range(tries)}


@contextlib.contextmanager
def busy(crowd):
    """Exchanges over and over, every byte verified."""
    over, rounds = threading.Event(), [0]

    def run():
        while not over.is_set():
            crowd.exchange(4096)
            rounds[0] += 1

    job = Job(run)
    try:
        yield
    finally:
        over.set()
        job.finish()
    assert rounds[0]


# ---- What is found --------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_servers_come_and_go(cluster, own, resolver, ringmain):
    dns = resolver({NAME: HOSTS[:2]})
    proxy = ringmain(named(dns, cluster.port, workers=2))
    wait_servers(proxy, cluster.at(0, 1))
    started = time.time()
    crowd = own(Crowd(proxy.address, 8, 1))
    assert set(crowd.banners) == {b"A", b"B"}
    with busy(crowd), visitors(proxy.address, 1):
        dns.say({NAME: [HOSTS[2], HOSTS[1]]})
        wait_servers(proxy, cluster.at(1, 2), cluster.at(0))
        assert banners(proxy.address) == {b"B", b"C"}
        dns.say({NAME: [HOSTS[2]]})
        wait_servers(proxy, cluster.at(2), cluster.at(0, 1))
        assert banners(proxy.address) == {b"C"}
        dns.say({NAME: [HOSTS[2], HOSTS[0]]})
        wait_servers(proxy, cluster.at(0, 2), cluster.at(1))
        assert list(servers(proxy)) == cluster.at(0, 2, 1), "in the order of addresses; what drains comes last"
        assert banners(proxy.address) == {b"A", b"C"}
    assert set(proxy.closed()) <= {"client_reset", "client_closed"}
    for server, banner in zip(cluster.at(0, 1), (b"A", b"B")):
        count = crowd.banners.count(banner)
        proxy.wait_metric("ringmain_server_connections_active", count, server=server)
    for words in (f"server {cluster.at(0)[0]} removed", f"server {cluster.at(2)[0]} added"):
        wait_until(lambda: proxy.log_lines("found: upstream back: ", words), lambda: f"{words!r} in the log:\n{proxy.log()}")
    assert sum(value for labels, value in proxy.metrics()[LOOKUPS].items()
               if {("upstream", "back"), ("name", f"{NAME}:{cluster.port}"), ("result", "success")} == set(labels)) >= 4
    assert started - 1 <= proxy.metric("ringmain_dns_last_success_timestamp_seconds") <= time.time() + 1
    found = name_status(proxy)
    assert found.pop("age_seconds") < 10 * PATIENCE
    assert found == {"name": f"{NAME}:{cluster.port}", "type": "any", "state": "found", "addresses": 2, "last_error": None}
    crowd.close()
    wait_servers(proxy, cluster.at(0, 2))


@pytest.mark.parametrize("kind, addresses", [("aaaa", ["[::1]"]), ("a", HOSTS[:1]), ("any", [HOSTS[0], "[::1]"])])
def test_types(kind, addresses, cluster, own, resolver, ringmain):
    six = own(EchoServer(f"[::1]:{cluster.port}", banner=b"6"))
    dns = resolver({NAME: ["::1", HOSTS[0]]})
    proxy = ringmain(named(dns, cluster.port, server={"type": kind}))
    wait_servers(proxy, [f"{address}:{cluster.port}" for address in addresses])
    assert banners(proxy.address) == {{HOSTS[0]: b"A", "[::1]": six.banner}[address] for address in addresses}


def test_services(cluster, own, resolver, ringmain):
    others = [own(EchoServer("127.0.0.5:0", banner=name)) for name in (b"E", b"F")]
    ports = [int(server.address.rsplit(":", 1)[1]) for server in others]
    services = [["_db._tcp.test", "a.test", cluster.port, 10, 600], ["_db._tcp.test", "e.test", ports[0], 10, 300],
                ["_db._tcp.test", "e.test", ports[1], 20, 7]]
    dns = resolver({"a.test": HOSTS[:1], "e.test": ["127.0.0.5"]}, services=services)
    proxy = ringmain(named(dns, None, "_db._tcp.test"))
    wait_servers(proxy, [others[0].address, others[1].address, *cluster.at(0)])

    def weights():
        return {s["address"]: s["weight"] for s in proxy.status()["upstreams"][0]["servers"]}

    assert weights() == {cluster.at(0)[0]: 256, others[0].address: 128, others[1].address: 7}
    assert {b"A", b"E"} <= banners(proxy.address)
    crowd = own(Crowd(proxy.address, 3, 1))
    dns.say({"a.test": HOSTS[1:2], "e.test": ["127.0.0.5"]})  # a host moves
    wait_until(lambda: set(cluster.at(1)) < set(servers(proxy)), "it is followed")
    dns.say({"e.test": ["127.0.0.5"]})  # it is not known any more, but the service still names it
    wait_lookups(proxy, "success")
    assert servers(proxy)[cluster.at(1)[0]] == "active"
    dns.kill()
    dns.start(services[1:2])
    wait_until(lambda: {a for a, state in servers(proxy).items() if state == "active"} == {others[0].address}, "one is left")
    assert banners(proxy.address) == {b"E"}
    crowd.exchange()


def test_long_answers(own, resolver, ringmain):
    """More than fits into a datagram: asked for again by TCP."""
    server = own(EchoServer("0.0.0.0:0", banner=b"A"))
    port = int(server.address.rsplit(":", 1)[1])
    hosts = [f"127.0.1.{i}" for i in range(1, 101)]
    proxy = ringmain(named(resolver({NAME: hosts}), port))
    assert sorted(servers(proxy)) == sorted(f"{host}:{port}" for host in hosts)
    assert who(proxy.address) == b"A"


def test_system_resolver(own, launch):
    """Neither a file nor a resolver of ours: localhost is in /etc/hosts."""
    server = own(EchoServer(banner=b"L"))
    port = server.address.rsplit(":", 1)[1]
    arguments = ["run", "--listen", "127.0.0.1:0", "--to", f"localhost:{port}", "--admin", "127.0.0.1:0"]
    proxy = launch(None, arguments=arguments).wait_ready()
    assert server.address in servers(proxy)
    assert who(proxy.address) == b"L"


# ---- Failures take nothing away -------------------------------------------------------------------------------------


FAILURES = {
    "no_such_name": (lambda dns: dns.say({}), {}),
    "no_records": (lambda dns: dns.say({NAME: ["::1"]}), {"server": {"type": "a"}}),
    "server_failure": (lambda dns: dns.say({}), {"name": "db.elsewhere"}),
    "timeout": (lambda dns: dns.signal(signal.SIGSTOP), {}),
    "unreachable": (lambda dns: dns.kill(), {}),
}


@pytest.mark.parametrize("result", FAILURES)
def test_last_answer_stays(result, cluster, own, resolver, ringmain):
    fail, options = FAILURES[result]
    name = options.get("name", NAME)
    dns = resolver({name: HOSTS[:2]})
    proxy = ringmain(named(dns, cluster.port, **options))
    crowd = own(Crowd(proxy.address, 4, 1))
    fail(dns)
    with busy(crowd), visitors(proxy.address, 1):
        wait_lookups(proxy, result, more=3)
        wait_servers(proxy, cluster.at(0, 1))
        assert banners(proxy.address) == {b"A", b"B"}
        found = name_status(proxy)
        assert (found["state"], found["last_error"], found["addresses"]) == ("kept", result, 2) and found["age_seconds"] > 0
        assert len(proxy.log_lines(" warn ", "name is not found", f"{name}:{cluster.port}", f"reason={result}")) == 1, proxy.log()
        dns.kill()
        dns.say({name: HOSTS[1:]})
        dns.start()
        wait_until(lambda: cluster.at(2)[0] in servers(proxy), "the resolver is asked again")
        assert banners(proxy.address) == {b"B", b"C"}
        assert name_status(proxy)["state"] == "found"
    assert set(proxy.closed()) <= {"client_reset", "client_closed"}


@pytest.mark.sanitizer
def test_start_without_resolver(cluster, resolver, launch):
    dns = resolver({NAME: HOSTS[:1]}, start=False)
    proxy = launch(named(dns, cluster.port)).wait_ready()
    assert refusal(proxy.address) == "reset" and servers(proxy) == {}
    proxy.wait_closed(no_server=1)
    wait_until(lambda: proxy.log_lines(" warn ", "its servers are missing", f"{NAME}:{cluster.port}"), lambda: f"the log says so:\n{proxy.log()}")
    assert name_status(proxy)["state"] == "missing" and name_status(proxy)["age_seconds"] is None
    dns.start()
    wait_servers(proxy, cluster.at(0))
    assert who(proxy.address) == b"A"


@pytest.mark.sanitizer
def test_silent_resolver_holds_nobody_up(cluster, own, launch):
    """Neither a start, which goes on without answers, nor an end."""
    silent = own(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent.bind(("127.0.0.1", 0))
    dns = {"resolvers": [f"127.0.0.1:{silent.getsockname()[1]}"], "timeout": "1m"}
    names = [{"dns": f"n{i}.test:{cluster.port}"} for i in range(100)]  # more than are looked up at once
    settings = config([*names, cluster.at(0)[0]], upstream={"dns": dns})
    for early in (False, True):
        silent.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while silent.recv(512):
                pass
        silent.settimeout(10 * PATIENCE)
        proxy, started = launch(settings), time.monotonic()
        silent.recv(512)
        if not early:
            proxy.wait_ready()
            assert time.monotonic() - started < 5 * PATIENCE
            assert who(proxy.address) == b"A"
        started = time.monotonic()
        assert proxy.stop() == 0 and time.monotonic() - started < 2 * PATIENCE


def test_check_looks_nothing_up(own, tmp_path):
    silent = own(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent.bind(("127.0.0.1", 0))
    silent.setblocking(False)
    path, dns = tmp_path / "c.yaml", {"resolvers": [f"127.0.0.1:{silent.getsockname()[1]}"]}
    path.write_text(json.dumps(config([{"dns": "db.test:1"}], upstream={"dns": dns})))
    result = run_command("check", str(path))
    assert result.returncode == 0 and "1 name" in result.stdout, result
    with pytest.raises(BlockingIOError):
        silent.recv(512)


# ---- Reloads --------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_reload_keeps_answers(cluster, own, resolver, ringmain):
    dns = resolver({NAME: HOSTS[:2]})
    settings = named(dns, cluster.port)
    proxy = ringmain(settings)
    crowd = own(Crowd(proxy.address, 4, 1))
    dns.kill()
    wait_lookups(proxy, "unreachable")
    assert ask(proxy)[1]["result"] == "unchanged"

    def lookups():
        return {key: value for key, value in proxy.metrics()[LOOKUPS].items() if ("name", f"{NAME}:{cluster.port}") in key}

    with busy(crowd), visitors(proxy.address, 1):
        before = lookups()
        assert len(reload(proxy, changed(settings, "upstreams.0.servers.0.weight", 3))) == 3  # of the name, and of both servers
        more = changed(settings, "upstreams.0.servers", [{"dns": f"other.test:{cluster.port}"}, *settings["upstreams"][0]["servers"]])
        assert f"upstream back: name other.test:{cluster.port} added" in reload(proxy, more)
        wait_servers(proxy, cluster.at(0, 1))
        taken = own(ManualServer())
        failed(proxy, changed(settings, "listeners.0.listen", taken.address))
        assert [name["name"] for name in proxy.status()["upstreams"][0]["names"]] == [f"{host}:{cluster.port}" for host in ("other.test", NAME)]
        reload(proxy, changed(settings, "upstreams.0.dns.min_ttl", "150ms"))
        wait_servers(proxy, cluster.at(0, 1))
        assert_none_fell(before, lookups())
        dns.start()
        dns.say({NAME: HOSTS[1:]})
        wait_until(lambda: cluster.at(2)[0] in servers(proxy), "it is followed again")
    assert set(proxy.closed()) <= {"client_reset", "client_closed"}


def test_reload_between_addresses_and_names(cluster, own, resolver, ringmain):
    """Nobody is refused while a name takes the place of an address, or of another."""
    dns = resolver({NAME: HOSTS[:1], "other.test": HOSTS[:2]})
    proxy = ringmain(config(cluster.at(0)))
    crowd = own(Crowd(proxy.address, 4, 1))
    connects = proxy.metric("ringmain_server_connects_total", server=cluster.at(0)[0])
    with busy(crowd), visitors(proxy.address, 1):
        for settings, there in ((named(dns, cluster.port), [0]), (named(dns, cluster.port, "other.test"), [0, 1]), (config(cluster.at(1)), [1])):
            reload(proxy, settings)
            active = {address for address, state in servers(proxy).items() if state == "active"}
            assert active == set(cluster.at(*there))
    assert proxy.metric("ringmain_server_connects_total", server=cluster.at(0)[0]) > connects, "it is one server all the time"
    assert set(proxy.closed()) <= {"client_reset", "client_closed"}


# ---- Takeover -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alive", [pytest.param(False, marks=pytest.mark.sanitizer), True], ids=["resolver_is_dead", "resolver_answers"])
def test_takeover(alive, cluster, own, resolver, line):  # noqa: F811
    """Sessions with servers that are known by name only go on, those with servers that drain, too; and so do the answers."""
    dns = resolver({NAME: HOSTS[:2]})
    settings = named(dns, cluster.port)
    settings = line.config(settings["upstreams"][0]["servers"], upstream={"dns": dns.settings()}, workers=2)
    old = line.first(settings)
    wait_servers(old, cluster.at(0, 1))
    crowd = own(Crowd(old.address, 8, 1))
    assert set(crowd.banners) == {b"A", b"B"}
    dns.say({NAME: HOSTS[1:]})
    wait_servers(old, cluster.at(1, 2), cluster.at(0))
    if not alive:
        dns.kill()
        wait_lookups(old, "unreachable")
    before = {key: value for key, value in old.metrics()[LOOKUPS].items()}
    with busy(crowd):
        new = line.after(old)
        wait_servers(new, cluster.at(1, 2), cluster.at(0))
        assert_none_fell(before, new.metrics()[LOOKUPS])
        found = name_status(new)
        assert found["state"] == ("found" if alive else "kept") and found["addresses"] == 2 and found["age_seconds"] > 0, found
        assert banners(new.address) == {b"B", b"C"}
        if not alive:
            newer = line.after(new)
            assert banners(newer.address) == {b"B", b"C"}
            dns.start()
            new = newer
        dns.say({NAME: HOSTS[:1]})
        wait_servers(new, cluster.at(0), cluster.at(1))
    assert states(new)["front"] == "active"
    assert {reason for reason in new.closed()} <= {"client_closed", "client_reset"}
