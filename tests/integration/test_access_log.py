"""The access log: one line for each session, true in every field, and never in the way of traffic."""
import contextlib
import json
import os
import re
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from peers import PATIENCE, Blackhole, Crowd, EchoServer, ManualServer, Pingers, connect, format_address, ping, read_exactly, refusal, reset
from peers import unused_address, wait_until
from proxy import LOAD, config
from reloading import failed, reload, visitors
from takeover_peer import echo, line  # noqa: F401 (fixtures)
from test_proxy_protocol import AUTHORITY, DESTINATION, SOURCE, v1, v2

LINES = "ringmain_access_log_lines_total"
DURATIONS = ("duration", "queued", "connect", "first_byte")
BYTES = ("to_server", "to_client")
TLS = 0x20


def lines_of(path):
    """The lines of a log of either form, as dicts with the keys and types of the JSON one."""
    text = Path(path).read_text() if Path(path).exists() else ""
    assert text == "" or text.endswith("\n"), text[-200:]
    return [parse(one) for one in text.splitlines()]


def parse(one):
    return json.loads(one) if one.startswith("{") else parse_text(one)


def parse_text(one):
    when, event, rest = one.split(" ", 2)
    fields = dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', rest))
    assert " ".join(f"{key}={value}" for key, value in fields.items()) == rest, one
    value = {key: None if text == "-" else text[1:-1] if text.startswith('"') else text for key, text in fields.items()}
    proxy = value["proxy_protocol"] and {
        "version": int(value["proxy_protocol"][1:]),
        **{key: value.get(key) for key in ("from", "destination", "authority", "tls_version")},
    }
    return {
        "time": when,
        "event": event,
        **{key: value[key] for key in ("id", "listener", "client", "upstream", "server", "reason", "started")},
        **{f"{key}_seconds": value[key] and float(value[key]) for key in DURATIONS},
        **{f"{key}_bytes": int(value[key]) for key in BYTES},
        "retries": int(value["retries"]),
        "proxy_protocol": proxy,
    }


def ends(path, count, timeout=10):
    """Waits until so many sessions have ended; their lines, in the order of the file."""
    def found():
        return [entry for entry in lines_of(path) if entry["event"] == "end"]

    wait_until(lambda: len(found()) >= count, lambda: f"{count} lines; there are {len(found())}", timeout)
    assert len(found()) == count
    return found()


def seconds_since_epoch(text):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text), text
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def logging_to(path, **options):
    return {"access_log": {"to": str(path), **options}}


@pytest.fixture(params=["text", "json"])
def form(request):
    return request.param


# ---- What a line says -----------------------------------------------------------------------------------------------


def test_each_field(form, tmp_path, own, ringmain, session):
    path, server, unix = tmp_path / "log", own(ManualServer()), f"unix:{tmp_path}/front"
    proxy = ringmain(config([server.address], listen=["127.0.0.1:0", unix], workers=2, **logging_to(path, format=form)))
    began = time.time()
    client, upstream = session(proxy, server)
    (listed,) = proxy.sessions()
    client.sendall(b"q" * 1000)
    read_exactly(upstream, 1000)
    time.sleep(0.3)  # which is to be seen in the time to the first byte
    upstream.sendall(b"a" * 70000)
    read_exactly(client, 70000)
    address = format_address(client)
    assert lines_of(path) == [], "it has not ended"
    time.sleep(0.2)
    client.close()
    assert upstream.recv(1) == b""
    upstream.close()
    (entry,) = ends(path, 1)
    ended = time.time()
    for key, expected in {
        "event": "end",
        "id": listed["id"],
        "listener": "front",
        "client": address,
        "upstream": "back",
        "server": server.address,
        "reason": "client_closed",
        "queued_seconds": 0,
        "to_server_bytes": 1000,
        "to_client_bytes": 70000,
        "retries": 0,
        "proxy_protocol": None,
    }.items():
        assert entry[key] == expected, (key, entry)
    assert 0 < entry["connect_seconds"] < 0.3
    assert 0.3 <= entry["first_byte_seconds"] < 0.5 * PATIENCE
    assert 0.5 <= entry["duration_seconds"] <= ended - began
    assert entry["first_byte_seconds"] + 0.2 <= entry["duration_seconds"]
    started, written = seconds_since_epoch(entry["started"]), seconds_since_epoch(entry["time"])
    assert began - 0.01 <= started and written <= ended + 0.01
    assert abs(written - started - entry["duration_seconds"]) <= 0.002
    assert proxy.metric(LINES, result="written") == 1

    with connect(unix) as client, server.accept() as upstream:
        upstream.close()
        assert client.recv(1) == b""
    entry = ends(path, 2)[1]
    assert entry["client"] == "unix:" and entry["reason"] == "server_closed"
    assert entry["first_byte_seconds"] is None and entry["to_server_bytes"] == 0


def test_retries_queue_and_reasons(form, tmp_path, own, ringmain):
    """What became of each of some sessions that had it less easy."""
    path, server, dead, hole = tmp_path / "log", own(ManualServer()), unused_address(), own(Blackhole())
    upstreams = {
        "tries": {"servers": [{"address": dead}, {"address": server.address}]},
        "full": {"servers": [{"address": server.address, "max_connections": 1}], "queue_timeout": "800ms"},
        "dead": {"servers": [{"address": dead}], "connect_tries": 1},
        "slow": {"servers": [{"address": hole.address}], "connect_timeout": "200ms", "connect_tries": 1},
    }
    settings = {
        "workers": 1,
        "listeners": [{"name": name, "listen": "127.0.0.1:0", "upstream": name} for name in upstreams],
        "upstreams": [{"name": name, **upstream} for name, upstream in upstreams.items()],
        **logging_to(path, format=form),
    }
    proxy = ringmain(settings)
    at = {name: addresses[0] for name, addresses in proxy.addresses.items()}
    with connect(at["tries"]), server.accept() as upstream:  # the first is tried first
        reset(upstream)
        (entry,) = ends(path, 1)
    assert entry["retries"] == 1 and entry["server"] == server.address and entry["connect_seconds"] is not None
    assert entry["reason"] == "server_reset"  # there was no third server to take its place

    with connect(at["full"]) as first:
        with server.accept() as upstream:
            first.sendall(b"x")
            assert read_exactly(upstream, 1) == b"x"
            with connect(at["full"]):
                late = ends(path, 2)[1]
            second = own(connect(at["full"]))
            second.sendall(b"y")
            wait_until(lambda: len(proxy.sessions()) == 2, "the second waits")
            time.sleep(0.1)
    with server.accept() as upstream:
        assert read_exactly(upstream, 1) == b"y"
        second.close()
    assert late["reason"] == "queue_timeout" and late["server"] is None and late["connect_seconds"] is None
    assert 0.8 <= late["queued_seconds"] <= late["duration_seconds"] < 1.2 * PATIENCE
    waited = ends(path, 4)[3]
    assert 0.1 <= waited["queued_seconds"] < 0.8 and waited["server"] == server.address
    assert waited["to_server_bytes"] == 1 and waited["duration_seconds"] >= waited["queued_seconds"] + waited["connect_seconds"]

    assert refusal(at["dead"]) == "reset"
    entry = ends(path, 5)[-1]
    assert entry["reason"] == "connect_failed" and entry["server"] == dead and entry["connect_seconds"] is None
    assert refusal(at["slow"]) == "reset"
    entry = ends(path, 6)[-1]
    assert entry["reason"] == "connect_timeout" and entry["server"] == hole.address and entry["duration_seconds"] >= 0.2


def test_proxy_protocol(form, tmp_path, own, ringmain):
    path, server = tmp_path / "log", own(EchoServer())
    proxy = ringmain(config([server.address], listener={"proxy_protocol": "required"}, **logging_to(path, format=form)))
    headers = [
        v1(),
        v2(tlvs=[(AUTHORITY, b"db.example.org"), (TLS, b"\x07\0\0\0\0\x21\x00\x07TLSv1.3")]),
        v2(tlvs=[(AUTHORITY, b"x reason=idle_timeout\n{\"event\"")]),
        v2(source=None, destination=None, command=0),
    ]
    peers = []
    for header in headers:
        with connect(proxy.address) as client:
            peers.append(format_address(client))
            client.sendall(header)
            ping(client)
        ends(path, len(peers))
    entries = ends(path, len(headers))
    source, destination = (f"{host}:{port}" for host, port in (SOURCE, DESTINATION))
    for entry, peer in zip(entries, peers):
        assert entry["to_server_bytes"] == 64 and entry["reason"] == "client_closed"
    assert [entry["client"] for entry in entries] == [source, source, source, peers[3]]
    said = [entry["proxy_protocol"] for entry in entries]
    assert said[0] == {"version": 1, "from": peers[0], "destination": destination, "authority": None, "tls_version": None}
    assert said[1] == {"version": 2, "from": peers[1], "destination": destination, "authority": "db.example.org",
                       "tls_version": "TLSv1.3"}
    escaped = "x reason=idle_timeout\\n{\\\"event\\\"" if form == "text" else "x reason=idle_timeout\n{\"event\""
    assert said[2]["authority"] == escaped
    assert said[3] is None, "it spoke of its own connection"


def test_lines_in_between_and_a_sample(tmp_path, own, ringmain, session):
    path, server = tmp_path / "log", own(ManualServer())
    log = {"format": "json", "at_start": "on", "every": "1s"}
    listen = unused_address()
    proxy = ringmain(config([server.address], listen=listen, workers=2, **logging_to(path, **log)))
    began = time.monotonic()
    client, upstream = session(proxy, server)
    client.sendall(b"x" * 10)
    read_exactly(upstream, 10)
    wait_until(lambda: [e["event"] for e in lines_of(path)] == ["start", "running", "running"], "two lines in between")
    assert 2 <= time.monotonic() - began < 4 * PATIENCE
    reset(client)
    ends(path, 1)
    start, *running, end = lines_of(path)
    assert len({entry["id"] for entry in (start, *running, end)}) == 1
    assert start["client"] == end["client"] and start["server"] is None and start["duration_seconds"] == 0
    for i, entry in enumerate(running, 1):
        assert i <= entry["duration_seconds"] <= i + 1.4 * PATIENCE
        assert entry["reason"] is None and entry["server"] == server.address and entry["to_server_bytes"] == 10
    assert end["reason"] == "client_reset"

    reload(proxy, config([own(EchoServer()).address], listen=listen, workers=2,
                         **logging_to(path, format="json", sample="30%", at_start="on")))
    path.unlink()
    proxy.signal(signal.SIGUSR1)
    wait_until(path.exists, "it is opened anew")
    with contextlib.closing(Crowd(proxy.address, 400)) as crowd:
        crowd.exchange()
    proxy.wait_active(0)
    time.sleep(0.1)  # for a line too many, too
    started, ended = ([e["id"] for e in lines_of(path) if e["event"] == event] for event in ("start", "end"))
    assert sorted(started) == sorted(ended) and len(set(ended)) == len(ended)
    assert 80 <= len(ended) <= 160


# ---- Where lines go -------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_rotation_loses_nothing(tmp_path, own, ringmain):
    path, server = tmp_path / "log", own(EchoServer())
    proxy = ringmain(config([server.address], workers=2, **logging_to(path, format="json")))
    rotated = []
    with visitors(proxy.address) as served:
        for i in range(8):
            wait_until(lambda goal=served() + 50: served() >= goal, "visitors are served")
            rotated.append(path.rename(tmp_path / f"log.{i}"))
            proxy.signal(signal.SIGUSR1)
            wait_until(path.exists, "it is opened anew")
            wait_until(lambda: path.stat().st_size > 0, "lines go there")
    proxy.wait_active(0)
    total = proxy.metric("ringmain_connections_total")
    assert total == served()
    files = [*rotated, path]
    wait_until(lambda: sum(len(lines_of(file)) for file in files) >= total, "every line is there")
    entries = [entry for file in files for entry in lines_of(file)]
    assert len(entries) == total and len({entry["id"] for entry in entries}) == total
    assert all(len(lines_of(file)) > 0 for file in files)
    assert proxy.metric(LINES, result="written") == total and proxy.metric(LINES) == total
    assert len(proxy.log_lines("logs opened anew")) == 8

    path.unlink()
    path.mkdir()  # it cannot be opened; the old one is written on
    proxy.signal(signal.SIGUSR1)
    wait_until(lambda: proxy.log_lines("a log is not opened anew", str(path)), "that is logged")
    assert proxy.running()


@pytest.mark.ci
def test_nobody_reads(tmp_path, echo, ringmain):  # noqa: F811
    """A FIFO without a reader: traffic goes on, what has no room is counted, and what had is there for a reader."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    proxy = ringmain(config([echo], workers=1, **logging_to(fifo)))
    with contextlib.ExitStack() as running:
        pings = Pingers(proxy.address, 4)
        running.callback(pings.stop)

        def churned():
            subprocess.run([LOAD, "churn", "--to", proxy.address, "--connections", "20", "--duration", "1s", "--reset"],
                           check=True, capture_output=True)
            return proxy.metric(LINES, result="queue_full") > 0

        wait_until(churned, "the queue is full", timeout=60, interval=0)
        assert not pings.failed()
        before = len(pings.latencies)
        wait_until(lambda: len(pings.latencies) > before + 1000, "pings go on")
        assert pings.quantile(0.5) < 0.05 * PATIENCE
    proxy.wait_active(0)
    total = sum(proxy.closed().values())
    dropped = proxy.metric(LINES, result="queue_full")
    assert 0 < dropped < total
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    text = b""
    try:
        def everything():
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(reader, 1 << 16):
                    text += piece
            return proxy.metric(LINES, result="written") == total - dropped

        wait_until(everything, lambda: f"{total - dropped} lines are written", timeout=20)
        everything()
    finally:
        os.close(reader)
    lines = [parse(one) for one in text.decode().splitlines()]
    assert len(lines) == total - dropped == len({entry["id"] for entry in lines})
    # It ends soon though nobody reads.
    started = time.monotonic()
    assert proxy.stop() == 0 and time.monotonic() - started < 5 * PATIENCE


def test_standard_output_and_a_rate(tmp_path, own, ringmain):
    server = own(EchoServer())
    proxy = ringmain(config([server.address], access_log={"to": "stdout", "format": "json", "max_rate": "10/m"}))
    with contextlib.closing(Crowd(proxy.address, 40)) as crowd:
        crowd.exchange()
    proxy.wait_metric(LINES, 40)
    assert proxy.metric(LINES, result="over_rate") == 40 - 1  # ten a minute allow one at once
    (entry,) = (json.loads(one) for one in proxy.log_lines('{"time":', '"event":"end"'))
    assert entry["reason"] == "client_closed"


# ---- Changes --------------------------------------------------------------------------------------------------------


def test_reload(tmp_path, own, ringmain, session):
    """On, elsewhere, in another form, without a listener, off; sessions that were there before are in it."""
    server, first, second = own(ManualServer()), tmp_path / "first", tmp_path / "second"
    listen, other = unused_address(), unused_address()
    base = config([server.address], listen=listen, workers=2)
    base["listeners"].append({"name": "other", "listen": other, "upstream": "back"})

    def threads():
        names = (Path(f"/proc/{proxy.pid}/task/{task}/comm").read_text().strip() for task in os.listdir(f"/proc/{proxy.pid}/task"))
        return [name for name in names if "access" in name]

    proxy = ringmain(base)
    assert threads() == []
    early, resetting = session(proxy, server), session(proxy, server)
    early_address, resetting_address = format_address(early[0]), format_address(resetting[0])
    nobody = {**base, **logging_to(tmp_path / "no" / "log")}
    assert "No such file or directory" in failed(proxy, nobody)[0] and threads() == []
    changes = reload(proxy, {**base, **logging_to(first)})
    assert changes == [f"access_log: off -> {first} text sample 100% max_rate off at_start off every off"]
    assert threads() == ["rm-access-log"]
    early[0].close()
    assert early[1].recv(1) == b""
    early[1].close()
    assert ends(first, 1)[0]["client"] == early_address
    time.sleep(1.2)  # in which every session that was there is asked whose it is
    reset(resetting[0])
    assert ends(first, 2)[1]["client"] == resetting_address

    reload(proxy, {**base, **logging_to(second, format="json")})
    with connect(listen), server.accept():
        pass
    (entry,) = ends(second, 1)
    assert entry["listener"] == "front" and len(lines_of(first)) == 2
    assert second.read_text().startswith("{") and not first.read_text().startswith("{")

    without = {**base, **logging_to(second, format="json")}
    without["listeners"] = [base["listeners"][0], {**base["listeners"][1], "access_log": "off"}]
    assert reload(proxy, without) == ["listener other: access_log on -> off"]
    for address in (other, listen):
        with connect(address), server.accept():
            pass
    assert ends(second, 2)[1]["listener"] == "front"

    kept = session(proxy, server)
    reload(proxy, base)
    assert threads() == []
    reset(kept[0])
    proxy.wait_active(0)
    assert len(lines_of(second)) == 2
    reload(proxy, {**base, **logging_to(second)})
    with connect(listen), server.accept():
        pass
    assert len(ends(second, 3)) == 3
    assert proxy.metric(LINES, result="written") == 5


def test_the_end_of_the_process(tmp_path, own, launch):
    """Sessions that the end cuts are in it, too; and a file that cannot be opened keeps the process from starting."""
    path, server = tmp_path / "log", own(EchoServer())
    proxy = launch(config([server.address], workers=2, **logging_to(path))).wait_ready()
    crowd = own(Crowd(proxy.address, 50))
    crowd.exchange()
    assert proxy.stop() == 0
    entries = ends(path, 50)
    assert {entry["reason"] for entry in entries} == {"drain_timeout"} and {entry["to_client_bytes"] for entry in entries} == {64}

    proxy = launch(config([server.address], **logging_to(tmp_path)))
    proxy.expected_exit = (1,)
    assert proxy.wait() == 1 and proxy.log_lines(f"access_log.to: {tmp_path}: Is a directory")


@pytest.mark.sanitizer
def test_takeover(tmp_path, own, line, session):  # noqa: F811
    """One line for each session, by the process that ends it, about all of its life."""
    path, server, dead = tmp_path / "log", own(ManualServer()), unused_address()
    settings = line.config([dead, server.address], workers=2, **logging_to(path, format="json", every="1s"))
    proxy = line.first(settings)
    began = time.monotonic()
    client, upstream = session(proxy, server)
    reader = connect(proxy.address)
    reader_upstream = server.accept()
    client.sendall(b"x" * 500)
    read_exactly(upstream, 500)
    upstream.sendall(b"y" * 300)
    read_exactly(client, 300)
    address, known = format_address(client), {entry["client"]: entry for entry in proxy.sessions()}
    first_byte = time.monotonic() - began
    proxy = line.after(proxy, {**settings, "workers": 1})
    client.sendall(b"x" * 50)
    read_exactly(upstream, 50)
    reset(reader)
    proxy.wait_active(1)
    # The last one writes elsewhere, in another form.
    other = tmp_path / "other"
    proxy = line.after(proxy, {**settings, **logging_to(other)})
    upstream.sendall(b"y" * 30)
    read_exactly(client, 30)
    client.close()
    assert upstream.recv(1) == b""
    upstream.close()
    (entry,) = ends(other, 1)
    lived = time.monotonic() - began
    assert entry["client"] == address and entry["id"] == known[address]["id"] and entry["server"] == server.address
    assert (entry["to_server_bytes"], entry["to_client_bytes"]) == (550, 330)
    assert lived - 1.5 * PATIENCE <= entry["duration_seconds"] <= lived
    assert entry["first_byte_seconds"] <= first_byte and 0 < entry["connect_seconds"] < first_byte
    assert entry["reason"] == "client_closed" and entry["retries"] in (0, 1)
    before = [one for one in lines_of(path) if one["event"] == "end"]
    assert [one["reason"] for one in before] == ["client_reset"], "that of the second process"
    assert max(entry["retries"], before[0]["retries"]) == 1, "one of them came to the dead server first"
    assert proxy.metric(LINES, result="written") >= 2
    reader_upstream.close()


def test_the_ordinary_log_in_a_file(tmp_path, own, launch):
    path, moved, server, admin = tmp_path / "log", tmp_path / "log.1", own(EchoServer()), unused_address()
    settings = config([server.address], admin={"listen": admin}, log={"to": str(path)})
    proxy = launch(settings)
    proxy.addresses["admin"] = [admin]
    wait_until(lambda: path.exists() and "started version=" in path.read_text(), "it has started")
    path.rename(moved)
    proxy.signal(signal.SIGUSR1)
    wait_until(lambda: path.exists() and "logs opened anew" in path.read_text(), "it is opened anew")
    assert "started version=" in moved.read_text() and "started" not in path.read_text()
    assert "No such file or directory" in failed(proxy, {**settings, "log": {"to": str(tmp_path / "no" / "log")}})[0]
    assert reload(proxy, {**settings, "log": {}}) == [f"log.to: {path} -> stderr"]
    wait_until(lambda: proxy.log_lines("reloaded: log.to"), "it goes to standard error")
    assert "reload failed" in path.read_text() and "reloaded: log.to" not in path.read_text()
