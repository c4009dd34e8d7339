"""Reload in place: what the file says anew reaches the running workers, and no session and no client notices."""
import json
import os
import re
import shutil
import signal
import time

import pytest

from peers import PATIENCE, Blackhole, Crowd, EchoServer, Job, ManualServer, connect, expect_end, ping
from peers import refusal, unused_address, wait_steady, wait_until
from proxy import config
from reloading import CHECK, JSON, RELOADS, SUCCESSFUL, WATCH, abc, accepts, ask, changed, failed, listening  # noqa: F401
from reloading import reload, rewrite, states, text_of, visitors, who


# ---- Asking for it --------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("way", ["signal", "post"])
def test_two_ways(way, abc, own, ringmain):
    a, b, _ = (server.address for server in abc)
    proxy = ringmain(config([a]))
    assert set(proxy.metrics()[RELOADS]) == {(("result", "success"),), (("result", "failure"),)}
    assert proxy.metric(RELOADS) == 0 and proxy.metric(SUCCESSFUL) == 1
    old = own(Crowd(proxy.address, 1, 1))
    rewrite(proxy, config([b]))
    assert who(proxy.address) == b"A", "nobody said reload"
    changes, started = {f"upstream back: server {a} removed", f"upstream back: server {b} added"}, time.time()
    if way == "signal":
        proxy.signal(signal.SIGHUP)
    else:
        code, answer = ask(proxy)
        assert code == 200 and answer["result"] == "reloaded" and set(answer["changes"]) == changes, answer
    proxy.wait_metric(RELOADS, 1, result="success")
    at = proxy.metric("ringmain_config_last_reload_success_timestamp_seconds")
    assert started - 1 <= at <= time.time() + 1 and proxy.metric(RELOADS, result="failure") == 0
    assert who(proxy.address) == b"B"
    for words in ("reloaded", *changes):
        wait_until(lambda: proxy.log_lines(words), lambda: f"the log says {words!r}:\n{proxy.log()}")
    explicit = json.dumps(json.loads(text_of(changed(config([b]), "upstreams.0.balance", "round_robin"))))
    for text in (None, explicit):  # the same with a default written out, and on one line
        code, answer = ask(proxy, text)
        assert code == 200 and answer["result"] == "unchanged" and not answer.get("changes"), answer
    old.exchange()


def test_who_may_reload(abc, ringmain):
    a, b, _ = (server.address for server in abc)
    proxy = ringmain(config([a], metrics={"listen": "127.0.0.1:0"}))
    rewrite(proxy, config([b], metrics={"listen": "127.0.0.1:0"}))
    for headers in ({}, {"Content-Type": "text/plain"}, {**JSON, "Host": "evil.example"}):
        assert proxy.get("/api/v1/reload", method="POST", headers=headers, body="{}")[0] == 403, headers
    assert proxy.get("/api/v1/reload")[0] == 405
    metrics = proxy.addresses["metrics"][0]
    assert proxy.get("/api/v1/reload", metrics, method="POST", headers=JSON, body="{}")[0] in (403, 404, 405)
    assert who(proxy.address) == b"A" and proxy.metric(RELOADS) == 0


@pytest.mark.parametrize("why", ["no_file", "draining"])
def test_not_now(why, own, launch):
    server = own(EchoServer())
    arguments = ["run", "--listen", "127.0.0.1:0", "--to", server.address, "--admin", "127.0.0.1:0"]
    settings = config([server.address], drain={"timeout": "30s"})
    proxy = launch(settings, arguments=arguments if why == "no_file" else None).wait_ready()
    client = own(connect(proxy.address))
    ping(client)
    if why == "draining":
        proxy.signal(signal.SIGTERM)
        wait_until(lambda: proxy.get("/readyz")[0] == 503, "/readyz is 503")
    code, answer = ask(proxy)
    assert code == 409 and answer["errors"], answer
    proxy.signal(signal.SIGHUP)
    ping(client, 64)
    assert proxy.metric(RELOADS, result="success") == 0
    client.close()


def test_many_at_once(abc, ringmain):
    proxy = ringmain(config([abc[0].address]))
    jobs = [Job(lambda: [ask(proxy)[1]["result"] for _ in range(10)]) for _ in range(3)]
    for i in range(20):
        rewrite(proxy, config([abc[i % 2].address], workers=1 + i % 2))
        proxy.signal(signal.SIGHUP)
    assert {result for job in jobs for result in job.finish()} <= {"reloaded", "unchanged"}
    assert ask(proxy, config([abc[2].address]))[0] == 200
    assert who(proxy.address) == b"C" and proxy.metric(RELOADS, result="failure") == 0


# ---- All or nothing -------------------------------------------------------------------------------------------------


BROKEN = {
    "cut off": lambda good: good[:-20],
    "empty": lambda good: "",
    "unknown key": lambda good: good.replace('"servers"', '"balanse": "round_robin", "servers"'),
    "no such upstream": lambda good: good.replace('"upstream": "back"', '"upstream": "bcak"'),
}


@pytest.mark.sanitizer
@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_broken_file(spoil, abc, ringmain):
    proxy = ringmain(config([abc[0].address]))
    good = text_of(config([abc[1].address], workers=2))
    errors, place = failed(proxy, spoil(good)), re.compile(re.escape(str(proxy.config_path)) + r":\d+:\d+: \S")
    assert all(place.match(error) for error in errors), errors
    proxy.signal(signal.SIGHUP)
    proxy.wait_metric(RELOADS, 2, result="failure")
    for words in ("reload failed", errors[0].split(" ")[0]):
        wait_until(lambda: proxy.log_lines(" error ", words), lambda: f"{words!r} in the log:\n{proxy.log()}")
    proxy.config_path.unlink()
    assert str(proxy.config_path) in failed(proxy)[0]
    assert proxy.metric(RELOADS, result="success") == 0 and proxy.metric(SUCCESSFUL) == 0
    assert who(proxy.address) == b"A" and len(proxy.status()["workers"]) == 1
    reload(proxy, good)
    assert who(proxy.address) == b"B" and proxy.metric(SUCCESSFUL) == 1


@pytest.mark.sanitizer
def test_listener_that_cannot_bind(abc, own, ringmain):
    """One bad listener among many changes: none of them happens. Once it can be bound all do."""
    a, b, _ = (server.address for server in abc)
    taken, front, free, late = own(ManualServer()), *(unused_address() for _ in range(3))
    new = config([b], listen=free, workers=2, listener={"name": "free"}, limits={"max_connections": 50})
    new["listeners"] += [{"name": "bad", "listen": taken.address, "upstream": "back"}]
    new["listeners"] += [{"name": "late", "listen": late, "upstream": "back"}]
    proxy = ringmain(config([a], listen=front))
    crowd = own(Crowd(front, 10, 1))
    kept, files, limit = listening(front), wait_steady(proxy.fds), proxy.metric("ringmain_max_connections")
    with visitors(front, 1):
        for _ in range(2):
            (error,) = failed(proxy, new)
            assert all(word in error for word in ("bad", taken.address, "in use")), error
    assert listening(front) == kept and not accepts(free) and not accepts(late)
    assert states(proxy) == {"front": "active", a: "active"} and who(front) == b"A"
    assert proxy.metric("ringmain_max_connections") == limit and len(proxy.status()["workers"]) == 1
    crowd.exchange()
    wait_until(lambda: proxy.fds() <= files, lambda: f"{files} file descriptors; there are {proxy.fds()}")
    taken.close()
    reload(proxy, new)
    assert who(free) == who(taken.address) == who(late) == b"B" and not accepts(front)
    assert proxy.metric("ringmain_max_connections") == 50
    crowd.exchange()


# ---- Every setting --------------------------------------------------------------------------------------------------


# Paths, values, and the words that the one change must hold.
SETTINGS = [
    ("listeners.0.idle_timeout", "5s", "listener front: idle_timeout off -> 5s"),
    ("listeners.0.half_closed_timeout", "1m", "listener front half_closed_timeout 5m 1m"),
    ("listeners.0.client_idle_timeout", "5s", "listener front: client_idle_timeout off -> 5s"),
    ("listeners.0.server_idle_timeout", "5s", "listener front: server_idle_timeout off -> 5s"),
    ("listeners.0.max_lifetime", "1h", "listener front: max_lifetime off -> 1h"),
    ("listeners.0.lifetime_jitter", "20%", "listener front: lifetime_jitter 10% -> 20%"),
    ("listeners.0.socket", {"user_timeout": "5s"}, "listener front: socket.user_timeout off -> 5s"),
    ("upstreams.0.socket", {"dscp": 46}, "upstream back: socket.dscp off -> 46"),
    ("listeners.0.keepalive", "7s", "listener front keepalive 30s 7s"),
    ("listeners.0.max_connections", 7, "listener front max_connections off 7"),
    ("listeners.0.backlog", 100, "listener front backlog 4096 100"),
    ("listeners.0.upstream", "spare", "listener front upstream back spare"),
    ("upstreams.0.balance", "least_connections", "upstream back balance round_robin least_connections"),
    ("upstreams.0.connect_timeout", "1s", "upstream back connect_timeout 2s 1s"),
    ("upstreams.0.connect_total_timeout", "5s", "upstream back: connect_total_timeout off -> 5s"),
    ("upstreams.0.connect_tries", 2, "upstream back connect_tries 3 2"),
    ("upstreams.0.source_addresses", ["127.0.0.1"], "upstream back source_addresses 127.0.0.1"),
    ("upstreams.0.close_removed_after", "1m", "upstream back close_removed_after off 1m"),
    ("upstreams.0.health_check", CHECK, "upstream back health_check"),
    ("upstreams.0.servers.0.weight", 3, "upstream back weight 1 3"),
    ("workers", 2, "workers: 1 -> 2"),
    ("limits", {"max_connections": 50}, "max_connections 50"),
    ("log", {"level": "warn"}, "level info warn"),
    ("metrics", {"listen": "127.0.0.1:0"}, "metrics listen"),
]


@pytest.mark.parametrize("path, value, words", SETTINGS, ids=[case[0] for case in SETTINGS])
def test_change_of(path, value, words, own, ringmain):
    """One change there, one back: each is told, and after each the file says what runs."""
    settings, spare = config([own(EchoServer()).address]), own(EchoServer())
    settings["upstreams"].append({"name": "spare", "servers": [{"address": spare.address}]})
    proxy = ringmain(settings)
    old, kept = own(Crowd(proxy.address, 1)), listening(proxy.address)
    for goal, wanted in ((changed(settings, path, value), words.split()), (settings, [])):
        code, answer = ask(proxy, goal)
        assert code == 200 and len(answer["changes"]) == 1 and answer["next_start"] == [], answer
        assert all(word in answer["changes"][0] for word in wanted), answer
        assert ask(proxy)[1]["result"] == "unchanged"
        assert set(kept) <= set(listening(proxy.address))
        old.exchange()
        ping(own(connect(proxy.address)))
    assert not proxy.closed()


@pytest.mark.parametrize("key", ["idle_timeout", "client_idle_timeout", "server_idle_timeout", "max_lifetime"])
def test_open_sessions_keep_their_timeouts(key, own, ringmain):
    server = own(EchoServer())
    off, short = config([server.address]), config([server.address], listener={key: "500ms"})
    proxy, crowds = ringmain(off), []
    for settings in (short, off, None):
        crowds.append(own(Crowd(proxy.address, 1)))
        crowds[-1].exchange()
        if settings:
            reload(proxy, settings)
    before, hasty, after = crowds
    expect_end(hasty.socks[0])
    time.sleep(1)  # twice the timeout
    before.exchange()
    after.exchange()
    proxy.wait_closed(**{key: 1})


def test_new_sessions_are_made_by_the_new_rules(own, ringmain, session):
    server, hole = own(ManualServer()), own(Blackhole())
    proxy = ringmain(config([server.address], upstream={"connect_timeout": "30s"}))
    for source in ("127.0.0.9", "127.0.0.7"):
        reload(proxy, config([server.address], upstream={"source_addresses": [source]}))
        assert session(proxy, server)[1].getpeername()[0] == source
    reload(proxy, config([hole.address], upstream={"connect_timeout": "200ms"}))
    started = time.monotonic()
    assert refusal(proxy.address) == "reset" and time.monotonic() - started < 1.5 * PATIENCE


@pytest.mark.sanitizer
@pytest.mark.parametrize("kind", ["listener", "process"])
def test_max_connections(kind, abc, own, ringmain):
    def most(count):
        section = "listener" if kind == "listener" else "limits"
        return config([abc[0].address], workers=2, **{section: {"max_connections": count}} if count else {})

    proxy = ringmain(most(2))
    crowds = [own(Crowd(proxy.address, 2, 1))]
    for limit, opened in ((5, 3), (1, 0)):  # two of five are there; then five, of which one is allowed
        refusal(proxy.address)
        reload(proxy, most(limit))
        crowds.append(own(Crowd(proxy.address, opened, 1)))
    refusal(proxy.address)
    for crowd in crowds:
        crowd.exchange()
    for sock in [*crowds[0].socks[1:], *crowds[1].socks]:
        sock.close()
    proxy.wait_active(1)
    refusal(proxy.address)
    reload(proxy, most(None))
    own(Crowd(proxy.address, 20, 1)).exchange()
    assert proxy.closed(f"{kind}_limit") == 4


def test_admin_and_metrics_move(own, ringmain):
    server, (first, second, third, fourth) = own(EchoServer()), (unused_address() for _ in range(4))
    proxy = ringmain(config([server.address], admin={"listen": first}))
    client, admin = own(connect(proxy.address)), {"admin": {"listen": second}}
    reload(proxy, config([server.address], **admin, metrics={"listen": third}))
    proxy.addresses["admin"] = [second]
    wait_until(lambda: not accepts(first), "the old admin address is closed")
    assert proxy.get("/metrics", third)[0] == 200 and proxy.get("/api/v1/status", third)[0] == 404
    reload(proxy, config([server.address], **admin, metrics={"listen": fourth}))
    assert proxy.get("/metrics", fourth)[0] == 200
    reload(proxy, config([server.address], **admin))
    for old in (third, fourth):
        wait_until(lambda: not accepts(old), "the old metrics address is closed")
    ping(client)


def test_log_level(abc, ringmain):
    a, b, c = (server.address for server in abc)
    proxy = ringmain(config([a]))
    for server in (a, b):
        reload(proxy, config([server], log={"level": "error"}))
    failed(proxy, "nonsense")
    wait_until(lambda: proxy.log_lines("reload failed"), "errors are logged")
    assert not proxy.log_lines(b), proxy.log()
    for server in (b, c):
        reload(proxy, config([server]))
    wait_until(lambda: proxy.log_lines(c, "added"), "changes are logged again")


# ---- Watching the file ----------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.ci
def test_watched_file(abc, ringmain):
    a, b, c = (server.address for server in abc)
    proxy = ringmain(config([a], **WATCH))
    rewrite(proxy, config([b], **WATCH))
    proxy.wait_metric(RELOADS, 1, result="success")
    assert who(proxy.address) == b"B"
    rewrite(proxy, config([c, "nonsense"], **WATCH))
    proxy.wait_metric(RELOADS, 1, result="failure")
    wait_until(lambda: proxy.log_lines("reload failed"), "the log says so")
    lines = len(proxy.log_lines())
    assert wait_steady(lambda: len(proxy.log_lines()), hold=3.2) <= lines + 1, "once, not every second"
    assert proxy.metric(RELOADS, result="success") == proxy.metric(RELOADS, result="failure") == 1
    assert who(proxy.address) == b"B" and proxy.metric(SUCCESSFUL) == 0
    rewrite(proxy, config([c], **WATCH))
    proxy.wait_metric(RELOADS, 2, result="success")
    assert who(proxy.address) == b"C"


def test_not_watched_by_default(abc, ringmain):
    proxy = ringmain(config([abc[0].address]))
    rewrite(proxy, config([abc[1].address]))
    assert wait_steady(lambda: proxy.metric(RELOADS), hold=3) == 0 and who(proxy.address) == b"A"


@pytest.mark.ci
def test_file_that_is_being_written(abc, ringmain):
    """It is not loaded before its writer is through."""
    proxy = ringmain(config([abc[0].address], **WATCH))
    text = text_of(config([abc[1].address], **WATCH))
    for part in range(1, 17):
        proxy.config_path.write_text(text[: len(text) * part // 17])
        time.sleep(0.25)  # the pace of the writer, who is at work for four looks
    proxy.config_path.write_text(text)
    proxy.wait_metric(RELOADS, 1, result="success")
    assert who(proxy.address) == b"B" and proxy.metric(RELOADS, result="failure") == 0


@pytest.mark.sanitizer
def test_watched_config_map(abc, launch, tmp_path):
    """Symbolic links that are swapped as Kubernetes does it."""
    volume = tmp_path / "volume"

    def project(version, server):
        (volume / version).mkdir(parents=True)
        (volume / version / "ringmain.yaml").write_text(text_of(config([server.address], **WATCH)))
        (volume / "..data_tmp").symlink_to(version)
        (volume / "..data_tmp").replace(volume / "..data")

    project("..2026_01", abc[0])
    (volume / "ringmain.yaml").symlink_to("..data/ringmain.yaml")
    proxy = launch(None, arguments=["run", "--config", str(volume / "ringmain.yaml")]).wait_ready()
    for count, server in enumerate(abc[1:], 1):
        last = os.readlink(volume / "..data")
        project(f"..2026_0{count + 1}", server)
        shutil.rmtree(volume / last)
        proxy.wait_metric(RELOADS, count, result="success")
        assert who(proxy.address) == server.banner
    assert proxy.metric(RELOADS, result="failure") == 0
