"""Live takeover: a new process takes every listener and session from the one that runs, and nobody notices."""
import contextlib
import faulthandler
import functools
import json
import os
import pwd
import re
import resource
import select
import shutil
import signal
import socket
import stat
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from peers import PATIENCE, SANITIZER, Blackhole, Crowd, EchoServer, ManualServer, connect, format_address, is_open
from peers import pattern, ping, read_pattern, read_pattern_to_end, reset, unused_address, wait_steady, wait_until
from proxy import LOAD
from reloading import CHECK, abc, accepts, assert_none_fell, listening, of, states, threads, visitors  # noqa: F401
from reloading import wait_gone, who
from takeover_peer import KIB, MIB, Traffic, echo, fill, line, some  # noqa: F401 (fixtures)
from test_reload_running import MOVES
from test_sessions import DIRECTIONS, Flow, only

CHANGES = {**MOVES, "same": {}, "more_workers": {"workers": 5}}
WORKERS = [(1, 1), (2, 2), (1, 3), (3, 1)]
QUICK = functools.partial(pytest.param, marks=pytest.mark.sanitizer)
SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)


def by_client(proxy):
    return {entry["client"]: entry for entry in proxy.sessions()}


def assert_goes_on(before, after):
    """What the status said of each session is true of the same one in the new process."""
    assert before.keys() == after.keys()
    for client, then in before.items():
        now = after[client]
        for key in ("id", "listener", "upstream", "server", "state"):
            assert now[key] == then[key], (key, then, now)
        assert now["age_seconds"] >= then["age_seconds"] and now["idle_seconds"] >= then["idle_seconds"], (then, now)
        for direction in DIRECTIONS:
            for key in ("received_bytes", "sent_bytes", "queued_bytes", "ended"):
                assert now[direction][key] == then[direction][key], (key, then, now)


def every_counter(proxy, workers=99):
    """Counters and histograms, of workers those with a number below `workers`."""
    found = {}
    for name, samples in proxy.metrics().items():
        counts = name.endswith(("_total", "_bucket", "_count", "_sum"))
        for labels, value in samples.items() if counts and name.startswith("ringmain_") else ():
            if int(dict(labels).get("worker", 0)) < workers:
                found[name, labels] = value
    assert len(found) > 100
    return found


# ---- Sessions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before, after", some(WORKERS, (1, 3), (3, 1)))
def test_sessions_go_on(before, after, abc, own, line):
    servers = [server.address for server in abc]
    old = line.first(line.config(servers, workers=before, metrics={"listen": unused_address()}))
    crowd = own(Crowd(old.address, 60, 1))
    crowd.exchange(20000)
    wait_until(lambda: min(entry["idle_seconds"] for entry in old.sessions()) >= 0.5, "all are idle")
    seen = by_client(old)
    new = line.after(old, {**line.settings, "workers": after})
    assert old.log_lines("handed over sessions=60 ") and new.log_lines("took over sessions=60")
    assert new.addresses == old.addresses and stat.S_IMODE(os.stat(line.socket).st_mode) == 0o600
    assert_goes_on(seen, by_client(new))

    crowd.exchange()
    more = own(Crowd(new.address, 30, 1))
    more.exchange()
    now = by_client(new)
    assert len({entry["id"] for entry in now.values()}) == 90
    for sock, banner in zip(crowd.socks, crowd.banners):
        entry = now[format_address(sock)]
        assert entry["server"] == servers[b"ABC".index(banner)]
        assert [entry[direction]["sent_bytes"] for direction in DIRECTIONS] == [20064, 20065]
    new.wait_active(90)
    for server in servers:
        assert new.metric("ringmain_server_connections_active", server=server) == 30
    assert new.metric("ringmain_connections_total") == 90 and new.closed() == {}
    assert len(new.status()["workers"]) == after
    for each in (crowd, more):
        each.close()
    new.wait_closed(client_closed=90)


@pytest.mark.parametrize("disabled", some(["", "splice", "multishot_receive,optlen"], ""))
def test_traffic_does_not_notice(disabled, echo, own, line):
    """Bulk, pings, slow and stopped readers, through takeovers by processes with other numbers of workers."""
    settings = line.config([echo])
    proxy = line.first(settings, env={"RINGMAIN_DISABLE": disabled} if disabled else {})
    traffic = own(Traffic(proxy.address, slow=20))
    for workers in (1, 2, 3, 1, 2):
        if "splice" in proxy.status()["features"]:
            proxy.wait_metric("ringmain_worker_relays", lambda count: count > 0, mode="spliced")
        proxy = line.after(proxy, {**settings, "workers": workers})
        traffic.wait_moving()
    assert proxy.closed() == {}
    total = traffic.finish()
    proxy.wait_active(0)
    for direction in DIRECTIONS:  # one more ping of each may have been under way
        proxy.wait_metric("ringmain_bytes_total", lambda count: 0 <= count - total <= 10 * 64, direction=direction)
    assert sum(proxy.closed().values()) == traffic.sessions == proxy.metric("ringmain_connections_total")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("carried", some(["spliced", "copied", "small"], "spliced"))
def test_stopped_reader(carried, direction, own, line, session):
    """Megabytes are under way to one that does not read, over three takeovers; then it reads over a fourth."""
    server = own(ManualServer())
    settings = line.config([server.address])
    proxy = line.first(settings, env={"RINGMAIN_DISABLE": "splice"} if carried == "copied" else {})
    client, upstream = session(proxy, server, receive_buffer=16 * KIB)
    flow = Flow(client, upstream) if direction == "to_server" else Flow(upstream, client)
    if carried == "spliced" and "splice" in proxy.status()["features"]:
        def spliced():
            flow.move(4 * MIB)
            return only(proxy)[direction]["mode"] == carried

        wait_until(spliced, "it is bulk")
    at = flow.position
    sent = fill(flow.source, at, chunk=1000 if carried == "small" else 64 * KIB)
    while only(proxy)[direction]["queued_bytes"] == 0:  # the kernel found more room
        sent += fill(flow.source, at + sent, chunk=1000)
    back = Flow(flow.target, flow.source)
    for workers in (2, 1, 3):
        before = only(proxy)[direction]
        proxy = line.after(proxy, {**settings, "workers": workers})
        relay = only(proxy)[direction]
        assert relay["received_bytes"] - relay["sent_bytes"] == relay["queued_bytes"]
        assert relay["received_bytes"] >= before["received_bytes"] and relay["sent_bytes"] >= before["sent_bytes"]
        back.move(100_000)
    read_pattern(flow.target, at, MIB)
    proxy = line.after(proxy)
    read_pattern(flow.target, at + MIB, sent - MIB)
    flow.position = at + sent
    flow.move(3 * MIB)
    assert only(proxy)[direction]["sent_bytes"] == flow.position and proxy.closed() == {}


@pytest.mark.parametrize("finished", some(["client", "server"], "client"))
def test_half_closed(finished, own, line, session):
    server = own(ManualServer())
    proxy = line.first(line.config([server.address], workers=2))
    client, upstream = session(proxy, server)
    first, second = (client, upstream) if finished == "client" else (upstream, client)
    Flow(first, second).move(1000)
    first.shutdown(socket.SHUT_WR)
    assert second.recv(1) == b""
    back = Flow(second, first)
    for _ in range(2):
        proxy = line.after(proxy)
        ended = [only(proxy)[direction]["ended"] for direction in DIRECTIONS]
        assert ended == [finished == "client", finished == "server"]
        back.move(3 * MIB)
    second.close()
    assert first.recv(1) == b""
    proxy.wait_closed(**{f"{finished}_closed": 1})


@pytest.mark.sanitizer
def test_both_ended_behind_queues(own, line, session):
    """Both sides have sent all they had and ended, and neither reads before the second takeover."""
    server = own(ManualServer())
    proxy = line.first(line.config([server.address], workers=2))
    client, upstream = session(proxy, server, receive_buffer=16 * KIB)
    lengths = [fill(client, 1), fill(upstream, 2)]
    for sock in (client, upstream):
        sock.shutdown(socket.SHUT_WR)
    for _ in range(2):
        proxy = line.after(proxy)
    assert [read_pattern_to_end(upstream, 1), read_pattern_to_end(client, 2)] == lengths
    wait_until(lambda: sum(proxy.closed().values()) == 1, "it is closed")
    assert set(proxy.closed()) <= {"client_closed", "server_closed"}


@pytest.mark.sanitizer
def test_no_server_has_answered_yet(own, line):
    """Sessions that are connecting get a server of the new file, and it gets all they sent, and their ends."""
    hole, server = own(Blackhole()), own(EchoServer())
    upstream = {"connect_timeout": "60s"}
    old = line.first(line.config([hole.address], workers=2, upstream=upstream))
    crowd = own(Crowd(old.address, 20))
    for i, (sock, position) in enumerate(zip(crowd.socks, crowd.positions)):
        sock.sendall(pattern(position, 3000))
        if i % 2:
            sock.shutdown(socket.SHUT_WR)
    old.wait_active(20)
    assert {entry["state"] for entry in old.sessions()} == {"connecting"}
    new = line.after(line.after(old), line.config([server.address], workers=2, upstream=upstream))
    for i, (sock, position) in enumerate(zip(crowd.socks, crowd.positions)):
        if i % 2:
            assert read_pattern_to_end(sock, position) == 3000
        else:
            read_pattern(sock, position, 3000)
    new.wait_active(10)
    new.wait_closed(client_closed=10)


@pytest.mark.parametrize("key", ["idle_timeout", "half_closed_timeout", "client_idle_timeout", "server_idle_timeout"])
def test_quiet_sessions_end(key, own, line, session):
    """However often they are taken over; busy ones live on."""
    server = own(ManualServer())
    proxy = line.first(line.config([server.address], listener={key: "2s"}))
    pairs = [session(proxy, server) for _ in range(2)]
    for client, upstream in pairs:
        Flow(client, upstream).move(100)
        if key == "half_closed_timeout":
            client.shutdown(socket.SHUT_WR)
            assert upstream.recv(1) == b""
    # What keeps the busy one: a byte of the server's where that counts, else of the client's.
    busy = Flow(*pairs[1]) if key == "client_idle_timeout" else Flow(*reversed(pairs[1]))
    started, (quiet, _) = time.monotonic(), pairs[0]
    while is_open(quiet):
        proxy = line.after(proxy)
        busy.move(10)
        assert time.monotonic() - started < 4 + PATIENCE, "twice the time, and the last takeover"
    assert time.monotonic() - started >= 1.7 and len(line.pauses) >= 2
    proxy.wait_closed(**{key: 1})
    busy.move(10)


def test_a_lifetime_counts_from_the_first_process(own, line, session):
    """By the rules that a session began with, whatever the new file says."""
    server = own(ManualServer())
    listener = {"max_lifetime": "3s", "lifetime_jitter": "0%"}
    proxy = line.first(line.config([server.address], listener=listener))
    started = time.monotonic()
    (client, upstream), = [session(proxy, server)]
    flow = Flow(client, upstream)
    time.sleep(1)  # of its life
    proxy = line.after(proxy, line.config([server.address]))
    try:
        while is_open(client) and time.monotonic() - started < 10 * PATIENCE:
            flow.move(10)
            time.sleep(0.02)  # the pace of the traffic
    except (ConnectionError, AssertionError):  # its end came in the middle of a message
        pass
    assert 2.95 <= time.monotonic() - started < 3.5 + PATIENCE
    proxy.wait_closed(max_lifetime=1)


# ---- Listeners ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", some(CHANGES, "same", "removed", "fewer_workers"))
def test_waiting_clients_are_served(name, own, line):
    """Those in the accept queue, whatever becomes of their listener in the new file."""
    move, server, address = CHANGES[name], own(EchoServer()), unused_address()
    listens = {"elsewhere": unused_address(), "wide": address.replace("127.0.0.1", "0.0.0.0"), None: address}
    # With so few files it accepts one at a time, so that the queue takes a while.
    old = line.first(line.config([server.address], listen=address, workers=3), nofile=8000)
    old.signal(signal.SIGSTOP)
    crowd = own(Crowd(address, 500))
    for sock, position in zip(crowd.socks, crowd.positions):
        sock.sendall(pattern(position, 500))
    listen = listens[move.get("listen")]
    new = line.begin(line.config([server.address], **{"workers": 3, **move, "listen": listen}))
    old.signal(signal.SIGCONT)
    new = line.complete(old, new)
    for sock, position in zip(crowd.socks, crowd.positions):
        read_pattern(sock, position, 500)
    crowd.exchange()
    ping(own(connect(listen.replace("0.0.0.0", "127.0.0.1"))))
    wait_until(lambda: accepts(address) == (move.get("listen") != "elsewhere"), "the old address is as in the file")


@pytest.mark.sanitizer
def test_nobody_is_refused(own, line):
    """Clients come and go all the time; the listening sockets stay the very same."""
    server, address = own(EchoServer()), unused_address()
    settings = line.config([server.address], listen=address, workers=2)
    proxy = line.first(settings)
    kept = set(listening(address))
    with visitors(address) as served:
        for workers in (2, 1, 3, 2):
            proxy = line.after(proxy, {**settings, "workers": workers})
            assert kept <= set(listening(address))
            wait_until(lambda goal=served() + 20: served() >= goal, "visitors are served")
    proxy.wait_active(0)
    proxy.wait_closed(client_reset=served())
    assert proxy.metric("ringmain_connections_total") == served()


@pytest.mark.sanitizer
def test_unix_paths(own, line, public_dir):
    """They stay, the very same, and the last process removes them; SIGTERM drains as usual."""
    server, path = own(EchoServer(f"unix:{public_dir}/back")), Path(public_dir) / "front"
    listens = [f"unix:{path}", "127.0.0.1:0"]
    proxy = line.first(line.config([server.address], listen=listens, workers=2, drain={"timeout": "30s"}))
    inode, crowds = path.stat().st_ino, [own(Crowd(address, 20)) for address in proxy.addresses["front"]]
    for _ in range(3):
        proxy = line.after(proxy)
        assert path.stat().st_ino == inode
        crowds.append(own(Crowd(f"unix:{path}", 5)))
        for crowd in crowds:
            crowd.exchange(20000)
    proxy.signal(signal.SIGTERM)
    wait_until(lambda: proxy.get("/readyz")[0] == 503, "/readyz is 503")
    wait_until(lambda: not accepts(proxy.addresses["front"][1]), "new connections are refused")
    for crowd in crowds:
        crowd.exchange()
        assert proxy.running()
        crowd.close()
    assert proxy.wait() == 0 and not path.exists()


# ---- The configuration ----------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_what_left_the_file_drains(abc, own, line):
    a, b, c = (server.address for server in abc)
    other, alone, every = unused_address(), line.config([a], workers=2), line.config([a, b], workers=2)
    every["listeners"].append({"name": "other", "listen": other, "upstream": "second"})
    every["upstreams"].append({"name": "second", "servers": [{"address": c}]})
    proxy = line.first(every)
    crowds = [own(Crowd(proxy.address, 20, 1)), own(Crowd(other, 10, 1))]
    seen = wait_steady(lambda: {client: entry["server"] for client, entry in by_client(proxy).items()})
    for settings, state in ((alone, "draining"), (alone, "draining"), (every, "active"), (alone, "draining")):
        proxy = line.after(proxy, settings)
        assert states(proxy) == {"front": "active", a: "active", b: state, c: state, "other": state}
        assert accepts(other) == (state == "active")
        if state == "draining":
            assert {who(proxy.addresses["front"][0]) for _ in range(6)} == {b"A"}
        for crowd in crowds:
            crowd.exchange(20000)
        assert seen.items() <= {client: entry["server"] for client, entry in by_client(proxy).items()}.items()
        proxy.wait_metric("ringmain_connections_active", 10, listener="other")
        proxy.wait_metric("ringmain_server_connections_active", 10, server=b)
    assert proxy.metric("ringmain_connections_total", listener="other") >= 10
    for sock in of(crowds[0], b"B") + crowds[1].socks:
        sock.close()
    wait_gone(proxy, "other", "second", b, c)
    for sock in of(crowds[0], b"A"):
        ping(sock)


@pytest.mark.parametrize("before, after", some(WORKERS, (2, 2)))
def test_metrics_and_health_go_on(before, after, abc, own, line):
    """No counter falls, and a server that was found down is down before anybody checks it again."""
    a, b, c = (server.address for server in abc)
    settings = line.config([a, b, c], workers=before, upstream={"health_check": CHECK})
    proxy = line.first(settings)
    crowd = own(Crowd(proxy.address, 30, 1))
    crowd.exchange(20000)
    for sock in [sock for banner in (b"A", b"B", b"C") for sock in of(crowd, banner)[:2]]:
        reset(sock)
    abc[1].stop()
    proxy.wait_metric("ringmain_server_up", 0, server=b)
    proxy.wait_active(16)
    refused = proxy.metric("ringmain_server_connect_failures_total", server=b)
    assert proxy.get("/api/v1/reload", method="POST", headers={"Content-Type": "application/json"}, body="{}")[0] == 200
    then = every_counter(proxy, after)
    assert sum(value for (name, _), value in then.items() if name == "ringmain_config_reloads_total") == 1
    slow = {"health_check": {**CHECK, "interval": "10m"}}
    proxy = line.after(proxy, line.config([a, b, c], workers=after, upstream=slow))
    assert_none_fell(then, every_counter(proxy, after))
    assert proxy.metric("ringmain_server_up", server=b) == 0 and proxy.metric("ringmain_server_up", server=a) == 1
    assert {who(proxy.address) for _ in range(8)} == {b"A", b"C"}
    assert proxy.metric("ringmain_server_connect_failures_total", server=b) == refused
    assert not proxy.log_lines("server down", b)
    proxy.wait_active(16, listener="front")
    gauges = [proxy.metric("ringmain_server_connections_active", server=server) for server in (a, b, c)]
    assert gauges == [8, 0, 8] and proxy.metric("ringmain_worker_sessions") == 16
    assert proxy.metric("ringmain_worker_relays") == 32

    then = every_counter(proxy, before)
    proxy = line.after(proxy, settings)
    assert_none_fell(then, every_counter(proxy, before))
    abc[1].start()
    proxy.wait_metric("ringmain_server_up", 1, server=b)


# ---- Again and again ------------------------------------------------------------------------------------------------


def files(proxy):
    """File descriptors, without those of pipes, which are kept for bulk to come."""
    return proxy.fds() - 2 * proxy.metric("ringmain_worker_pipes")


@pytest.mark.parametrize("count", [QUICK(6), SLOW(60)])
def test_nothing_grows(count, echo, own, line):
    proxy = line.after(line.first(line.config([echo], workers=2)))
    crowd = own(Crowd(proxy.address, 300))
    proxy = line.after(proxy)
    crowd.exchange(3000)
    before, memory, tasks = wait_steady(lambda: files(proxy)), proxy.rss(), threads(proxy)
    for _ in range(count):
        proxy = line.after(proxy)
        crowd.exchange(3000)
    wait_until(lambda: files(proxy) <= before, lambda: f"{before} file descriptors; there are {files(proxy)}")
    wait_until(lambda: threads(proxy) <= tasks, lambda: f"{tasks} threads; there are {threads(proxy)}")
    assert SANITIZER or proxy.rss() - memory <= 2 * MIB


@contextlib.contextmanager
def load(path, mode, address, connections, *more, duration="1h"):
    """ringmain-load, which verifies every byte; yields the process. In the end there was no error."""
    command = [LOAD, mode, "--to", address, "--connections", str(connections), "--duration", duration, "--quiet"]
    command += ["--connect-timeout", "60s", "--reply-timeout", "60s", "--json", str(path), *more]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
            if duration == "1h":
                process.send_signal(signal.SIGINT)
            assert process.wait(60 * PATIENCE) == 0
        finally:
            process.kill()
    assert json.loads(path.read_text())["error_total"] == 0


@pytest.mark.parametrize("takeovers, sessions", [QUICK(5, 200), SLOW(100, 2000)])
def test_torture(takeovers, sessions, echo, own, line, tmp_path):
    """Bulk, pings, and slow readers, half of all: not a byte is lost and not a connection closed."""
    faulthandler.cancel_dump_traceback_later()  # which the suite arms for tests that ought to be shorter
    proxy = line.first(line.config([echo], workers=2))
    before, memory = wait_steady(lambda: files(proxy)), []
    traffic = own(Traffic(proxy.address, pings=10, bulk=2, stopped=4, slow=sessions // 2))
    rest = (sessions - traffic.sessions) // 2
    with load(tmp_path / "rate", "rate", proxy.address, rest, "--rate", "2000"), \
            load(tmp_path / "bulk", "bulk", proxy.address, rest, "--rate", "20MiB/s"):
        proxy.wait_active(sessions, timeout=60)
        queues = [entry["to_client"]["queued_bytes"] for entry in proxy.sessions()]
        assert sum(queued > 0 for queued in queues) >= 4, "bytes wait in the proxy"
        for _ in range(takeovers):
            proxy = line.after(proxy)
            traffic.wait_moving(60)
            assert proxy.closed() == {} and proxy.metric("ringmain_connections_active") == sessions
            memory.append(proxy.rss())
        traffic.finish()
    most, median = max(line.pauses), statistics.median(line.pauses)
    print(f"\n{sessions} sessions, pauses in ms: median {median}, most {most}; {line.pauses}")
    proxy.wait_active(0)
    assert sum(proxy.closed().values()) == sessions == proxy.metric("ringmain_connections_total")
    assert set(proxy.closed()) <= {"client_closed", "client_reset"}, proxy.closed()
    wait_until(lambda: files(proxy) <= before + 4, lambda: f"{before} file descriptors; there are {files(proxy)}")
    first, last = statistics.median(memory[:5]), statistics.median(memory[-5:])
    assert SANITIZER or last <= 1.3 * first + 8 * MIB, memory


@pytest.mark.parametrize("sessions, bound", [(1000, 150), SLOW(9500, 500)])
def test_pause(sessions, bound, echo, line, tmp_path):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2 * sessions + 500:
        pytest.skip("the limit of file descriptors is too low for so many sessions (ulimit -Hn)")
    proxy = line.first(line.config([echo], workers=2))
    duration = f"{4 + sessions // 500}s"
    with load(tmp_path / "idle", "idle", proxy.address, sessions, "--ping", duration=duration) as process:
        proxy.wait_metric("ringmain_bytes_total", 64 * sessions, 60, direction="to_client")
        proxy = line.after(proxy)
        assert process.poll() is None, "the load ended before the takeover did"
    print(f"\n{sessions} idle sessions: a pause of {line.pauses[0]} ms")
    proxy.wait_closed(client_closed=sessions)
    assert SANITIZER or line.pauses[0] < bound


# ---- A real client --------------------------------------------------------------------------------------------------

SSHD = """
ListenAddress {address}
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
"""


@pytest.fixture
def sshd(tmp_path):
    """The address of an SSH server that lets in whoever has the key tmp_path/user."""
    binary = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    if not (binary and shutil.which("ssh") and shutil.which("ssh-keygen")):
        pytest.skip("openssh-server and openssh-client are not installed")
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # where it locks itself in
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    address = unused_address()
    (tmp_path / "sshd").write_text(SSHD.format(address=address, directory=tmp_path))
    with subprocess.Popen([binary, "-D", "-e", "-f", str(tmp_path / "sshd")], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is None and accepts(address), "sshd listens")
            yield address
        finally:
            process.terminate()


@pytest.mark.slow
def test_ssh(sshd, line, tmp_path):
    """An interactive session survives ten takeovers, each while a command writes lines."""
    proxy = line.first(line.config([sshd]))
    command = ["ssh", "-tt", "-F", "none", "-i", str(tmp_path / "user"), "-p", proxy.address.rsplit(":", 1)[1]]
    for option in ("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"):
        command += ["-o", option]
    command += [pwd.getpwuid(os.geteuid()).pw_name + "@127.0.0.1", "stty -echo; exec sh"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as ssh:

        def say(text):
            os.write(ssh.stdin.fileno(), text.encode() + b"\n")

        def hear(word):
            """What it writes, up to that word at the end of a line."""
            heard = b""
            while word + b"\r\n" not in heard:
                assert select.select([ssh.stdout], [], [], 20 * PATIENCE)[0], heard
                piece = os.read(ssh.stdout.fileno(), 64 * KIB)
                assert piece, f"it ended: {heard}"
                heard += piece
            return heard

        try:
            for number in range(10):
                say(f"echo before-$(({number} * 7))")
                hear(b"before-%d" % (number * 7))
                say("i=0; while [ $i -lt 60 ]; do i=$((i + 1)); echo line-$i; sleep 0.02; done; echo o''ver")
                proxy = line.after(proxy)
                lines = re.findall(rb"line-(\d+)\r\n", hear(b"over"))
                assert [int(one) for one in lines] == list(range(1, 61))
            say("exit 7")
            assert ssh.wait(20 * PATIENCE) == 7
        finally:
            ssh.kill()
    proxy.wait_active(0)
    assert proxy.metric("ringmain_connections_total") == 1 and not proxy.closed("takeover_failed")
