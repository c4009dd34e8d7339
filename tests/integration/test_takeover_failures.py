"""Takeovers that go wrong, at every step and on either side, and what each side is told when they do not."""
import collections
import contextlib
import errno
import http.client
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from peers import SOCKET_TIMEOUT, Crowd, EchoServer, Job, ManualServer, connect, expect_end, format_address, is_open
from peers import pattern, ping, read_pattern, reset, unused_address, wait_until
from proxy import RINGMAIN, config, run_command
from reloading import changed, text_of
from takeover_peer import ABORT, HELLO, KIB, MIB, OFFER, SERVING, Line, NewSide, OldSide, Player, Traffic
from takeover_peer import echo, encode, fill, line, some  # noqa: F401 (fixtures)
from test_sessions import Flow

NEW_STEPS = ["connect", "hello", "offer", "listeners", "pause", "state", "sessions"]  # before READY
LOST = "takeover_failed"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")


# ---- Who may, and whether there is anybody --------------------------------------------------------------------------


def test_takeover_without_a_socket(tmp_path):
    path = tmp_path / "bare.yaml"
    path.write_text(text_of(config(["127.0.0.1:1"])))
    done = run_command("run", "--config", str(path), "--takeover")
    assert done.returncode == 2 and "takeover" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.sanitizer
def test_nobody_to_take_over_from(own, line):
    """It starts as usual: there is no path, and then one that a crash has left behind."""
    server = own(EchoServer())
    for _ in range(2):
        proxy = line.begin(line.config([server.address])).wait_ready()
        assert proxy.log_lines("nobody to take over from") and not proxy.log_lines("took over")
        mode = os.stat(line.socket).st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
        ping(own(connect(proxy.address)))
        proxy.expected_exit = (-signal.SIGKILL,)
        proxy.signal(signal.SIGKILL)
        proxy.wait()


def nobody():
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@needs_root
def test_as_an_ordinary_user_with_little_locked_memory(public_dir, launch, own):
    """The memlock limit counts per user: the old one and the new one must fit into the usual 8 MiB."""
    binary = Path(public_dir) / "ringmain"
    shutil.copy(RINGMAIN, binary)
    binary.chmod(0o755)
    server, row = own(EchoServer()), Line(launch, public_dir)
    limit = ["prlimit", f"--memlock={8 * MIB}:{8 * MIB}"]
    proxy = row.first(row.config([server.address], workers=2), binary=str(binary), wrapper=limit, **nobody())
    crowd = own(Crowd(proxy.address, 50))
    for _ in range(3):
        proxy = row.after(proxy)
        crowd.exchange(8000)


def connect_as(user, path):
    """What connect() says, 0 or an errno, in a child process of that user."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            code = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect_ex(path)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_root
def test_only_the_owner(echo, public_dir, launch):
    row = Line(launch, public_dir)
    proxy = row.after(row.first(row.config([echo])))
    assert connect_as(0, row.socket) == 0
    assert connect_as(nobody()["user"], row.socket) == errno.EACCES
    row.after(proxy)


# ---- The new one goes wrong -----------------------------------------------------------------------------------------


WRONG = {
    "close": lambda new: None,
    "abort": lambda new: new.channel.send(ABORT, b"it was a mistake"),
    "type": lambda new: new.channel.send(SERVING),
    "garbage": lambda new: new.channel.sock.send(bytes(100)),
    "short": lambda new: new.channel.sock.send(b"rmt"),
}


@pytest.mark.parametrize("wrong", some([*WRONG, "kill"], "garbage", "kill"))
def test_new_one_goes_wrong(wrong, echo, own, line):
    """At each step before COMMIT: the old one goes on with all that it has, and can be taken over later."""
    proxy = line.first(line.config([echo], workers=2))
    traffic = own(Traffic(proxy.address))
    for step in NEW_STEPS:
        if wrong == "kill":
            new = own(Player("new", line.socket, step))
            new.wait(step)
        else:
            new = own(NewSide(line.socket, step))
            WRONG[wrong](new)
        waiting = own(connect(proxy.address))
        if wrong not in ("close", "kill"):
            new.channel.last_words()  # it does not wait for more
        new.close()
        ping(waiting)
        traffic.wait_moving()
    assert proxy.running() and proxy.closed() == {}
    proxy = line.after(proxy)
    traffic.finish()
    assert not proxy.closed(LOST)


@pytest.mark.parametrize("taken_over_later", some([False, True], False))
def test_new_one_keeps_the_files(taken_over_later, own, line, session):
    """It gave up and lives on, with every socket open: sessions end all the same, in order and by resets."""
    server = own(ManualServer())
    proxy = line.first(line.config([server.address]))
    orderly, broken = session(proxy, server), session(proxy, server)
    for pair in (orderly, broken):
        Flow(*pair).move(100)
    new = own(NewSide(line.socket, "sessions"))
    new.channel.send(ABORT, b"it was a mistake")
    new.channel.last_words()
    for pair in (orderly, broken):
        Flow(*reversed(pair)).move(100)
    if taken_over_later:
        proxy = line.after(proxy)
    client, upstream = orderly
    client.shutdown(socket.SHUT_WR)
    assert expect_end(upstream) == "fin"
    upstream.close()
    assert expect_end(client) == "fin"
    client, upstream = broken
    reset(upstream)
    assert expect_end(client) == "reset"
    proxy.wait_closed(client_closed=1, server_reset=1)


@pytest.mark.slow
def test_new_one_serves_late(echo, own, line):
    """After COMMIT the sessions are the new one's, however long it takes: the old one closes none while the other lives."""
    proxy = line.first(line.config([echo], workers=2))
    crowd = own(Crowd(proxy.address, 20))
    crowd.exchange()
    new = own(NewSide(line.socket, "commit"))
    time.sleep(12)  # longer than any step before may take
    assert proxy.running() and all(is_open(sock) for sock in crowd.socks)
    new.advance("serving")
    assert proxy.wait() == 0
    assert all(is_open(sock) for sock in crowd.socks)
    assert proxy.log_lines("handed over sessions=20")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["connect", "listeners", "state", "sessions"])
def test_new_one_falls_silent(step, echo, own, line):
    proxy = line.first(line.config([echo], workers=2))
    traffic = own(Traffic(proxy.address))
    new = own(NewSide(line.socket, step))
    if step in ("connect", "listeners"):
        traffic.wait_moving()
    new.channel.sock.settimeout(45)
    new.channel.last_words()
    traffic.wait_moving()
    ping(own(connect(proxy.address)))
    assert proxy.closed() == {}
    line.after(proxy)
    traffic.finish()


def admin_answers(proxy):
    try:
        return proxy.get("/healthz")[0] == 200
    except OSError:
        return False


@pytest.mark.sanitizer
def test_new_one_dies_after_commit(own, line):
    """It may have read what nobody can read again: its sessions are reset, and the listeners are taken back."""
    server = own(EchoServer())
    proxy = line.first(line.config([server.address], workers=2))
    crowd = own(Crowd(proxy.address, 20))
    crowd.exchange()
    player = own(Player("new", line.socket, "commit"))
    player.wait("commit")
    waiting = own(connect(proxy.address))
    waiting.sendall(pattern(0, 500))
    player.close()
    read_pattern(waiting, 0, 500)
    assert [expect_end(sock) for sock in crowd.socks] == ["reset"] * 20
    wait_until(lambda: admin_answers(proxy), "its admin side is open again")
    proxy.wait_closed(takeover_failed=20)
    proxy.wait_active(1)
    wait_until(lambda: server.active == 1, "the servers' sides are closed too")
    proxy = line.after(proxy)
    ping(waiting, 500)
    assert proxy.closed() == {LOST: 20} and proxy.metric("ringmain_connections_total") == 21


HELLOS = {
    "later": encode({"newest": 99, "oldest": 99, "program": "test"}),
    "empty": b"",
    "no_cbor": b"\xff" * 20,
    "cut": encode({"newest": 1, "oldest": 1, "program": "test"})[:-3],
    "a_list": encode([1, 1]),
    "nothing_in_it": encode({}),
    "texts": encode({"newest": "1", "oldest": "1", "program": "test"}),
}


@pytest.mark.sanitizer
def test_hellos(echo, own, line):
    """What cannot be is refused before anything moves; what is more than is needed is not."""
    proxy = line.first(line.config([echo]))
    traffic = own(Traffic(proxy.address, bulk=0, stopped=0))
    for name, hello in HELLOS.items():
        new = own(NewSide(line.socket))
        new.channel.send(HELLO, hello)
        kind, words = new.channel.last_words()
        assert kind in (ABORT, None), name
        if name == "later":
            assert kind == ABORT and re.search(rb"\b99\b", words) and re.search(rb"\b1\b", words), words
        traffic.wait_moving()
    new = own(NewSide(line.socket))
    new.channel.send(HELLO, encode(with_unknown_keys({"oldest": 1, "newest": 99, "program": "test"})))
    new.channel.expect(OFFER)
    new.close()
    line.after(proxy)
    traffic.finish()


@pytest.mark.parametrize("count", [8, pytest.param(24, marks=pytest.mark.slow)])
def test_killed_at_any_moment(count, echo, own, line):
    """A real one, by SIGKILL: the old one goes on and nothing is lost, or it had let go already and says so."""
    settings, outcomes = line.config([echo], workers=2), collections.Counter()
    proxy = line.after(line.first(settings))
    usual = line.took
    for i in range(count):
        traffic, lost = own(Traffic(proxy.address)), proxy.closed(LOST)
        new = line.begin()
        new.expected_exit = (-signal.SIGKILL,)
        time.sleep(usual * i / count)  # another moment of the takeover each time
        new.signal(signal.SIGKILL)
        new.wait()
        outcome = outcome_of(proxy, traffic, lost)
        outcomes[outcome] += 1
        if outcome == "nothing lost":
            traffic.finish()
            proxy.wait_active(0)
            assert proxy.closed(LOST) == lost
            continue
        traffic.close()
        if outcome == LOST:
            proxy.wait_metric("ringmain_connections_closed_total", lost + traffic.sessions, reason=LOST)
        else:  # and then it died with all it had
            assert proxy.wait() == 0 and proxy.log_lines("handed over sessions=")
            proxy = line.first(settings)
        with connect(proxy.address) as client:
            ping(client)
        proxy.wait_active(0)
    print(f"\n{count} killed within {usual:.3f} s: {dict(outcomes)}")
    assert outcomes["nothing lost"] >= count // 4
    line.after(proxy)


def outcome_of(old, traffic, lost):
    moved = traffic.moved_on()

    def outcome():
        if not old.running():
            return "taken over"
        if not traffic.failed():
            return "nothing lost" if moved() else None
        with contextlib.suppress(OSError, http.client.HTTPException):  # it may be about to end
            return LOST if old.closed(LOST) > lost else None

    return wait_until(outcome, "the old one goes on, or has ended", timeout=15)


# ---- The old one goes wrong -----------------------------------------------------------------------------------------


def kill_old_one(step, own, line):
    """(the new process, clients of the old one, one that waited in its accept queue)"""
    server, front = own(EchoServer()), unused_address()
    player = own(Player("old", line.socket, step, front, server.address, 5))
    player.wait("listening")
    crowd = own(Crowd(front, 5))
    new = line.begin(line.config([server.address], listen=front, workers=2))
    player.wait(step)
    waiting = own(connect(front))
    player.close()
    return new.wait_ready(), crowd, waiting


@pytest.mark.parametrize("step", some(["hello", "offer", "listeners", "pause", "state", "half"], "listeners", "half"))
def test_old_one_dies_early(step, own, line):
    """The new one serves the listeners, if it has them the clients in their queues too; the sessions are lost."""
    new, crowd, waiting = kill_old_one(step, own, line)
    for sock in crowd.socks:
        expect_end(sock)
    if step not in ("hello", "offer"):
        ping(waiting)
    ping(own(connect(new.address)))
    line.after(new)


@pytest.mark.parametrize("step", some(["ready", "commit"], "ready"))
def test_old_one_dies_late(step, own, line):
    """The new one has everything, and says that it is ready: it goes on with all of it."""
    new, crowd, waiting = kill_old_one(step, own, line)
    crowd.exchange(20000)
    ping(waiting)
    assert new.log_lines("took over sessions=5") and new.closed() == {}
    new = line.after(new)
    crowd.exchange()
    new.wait_active(6)


@pytest.mark.parametrize("step", some(["hello", "listeners", "pause", "ready"], "ready"))
def test_old_one_aborts(step, own, line):
    server = own(EchoServer())
    old = own(OldSide(line.socket, unused_address(), server.address))
    client = own(connect(old.front))
    old.accept()
    new = line.begin(line.config([server.address], listen=old.front))
    new.expected_exit = (1,)
    old.advance(step).channel.send(ABORT, b"not today")
    assert new.wait() == 1 and new.log_lines("not today")
    assert is_open(client) and server.active == 1


@pytest.mark.parametrize("words", some(["not today", ""], "not today"))
@pytest.mark.parametrize("step", ["hello", "listeners", "state", "ready"])
def test_old_one_closes_and_lives_on(step, words, own, line):
    """Its end of the channel proves nothing, and what it said before is heard: the new one takes nothing and starts nothing."""
    server = own(EchoServer())
    old = own(OldSide(line.socket, unused_address(), server.address))
    client = own(connect(old.front))
    old.accept()
    new = line.begin(line.config([server.address], listen=old.front))
    new.expected_exit = (1,)
    old.advance(step)
    if words:
        old.channel.send(ABORT, words.encode())
    old.channel.close()
    assert new.wait() == 1
    assert new.log_lines("takeover failed", words or "lives")
    assert not new.log_lines("starting normally") and not new.log_lines("took over")
    assert is_open(client) and server.active == 1


@pytest.mark.sanitizer
def test_two_at_once(own, line):
    """Who waited for the old one takes over from the other, which was first."""
    server = own(EchoServer())
    old = line.first(line.config([server.address], workers=2))
    crowd = own(Crowd(old.address, 100))
    old.signal(signal.SIGSTOP)
    both = [line.begin(), line.begin()]
    time.sleep(0.5)  # for both to be at its door
    old.signal(signal.SIGCONT)
    assert old.wait() == 0
    wait_until(lambda: all(new.log_lines("took over sessions=100") for new in both), lambda: "\n".join(new.log() for new in both))
    (last,) = [new for new in both if not new.log_lines("handed over sessions=100")]
    (first,) = [new for new in both if new is not last]
    assert first.wait() == 0
    crowd.exchange(5000)
    assert last.wait_ready().metric("ringmain_connections_active") == 100


@pytest.mark.sanitizer
def test_an_aborted_takeover_does_nothing_to_what_was_passed(own, line, public_dir):
    """The sockets are the other's: no option of them changes, and a unix listener keeps its path."""
    server, front = own(EchoServer()), f"unix:{public_dir}/front"
    old = own(OldSide(line.socket, front, server.address))
    client = own(connect(front))
    old.accept()
    client2 = own(connect(front))
    old.accept(connected=False)
    client.sendall(b"nobody reads this yet")
    files = [os.dup(file if isinstance(file, int) else file.fileno()) for file in old.files]
    new = line.begin(line.config([server.address], listen=[front, f"unix:{public_dir}/more"]))
    new.expected_exit = (1,)
    old.advance("ready").channel.send(ABORT, b"not today")
    assert new.wait() == 1
    for file in files:
        with socket.socket(fileno=file) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8)
    for sock in (client, client2):
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):  # neither an end nor a byte
            sock.recv(1)
    assert os.path.exists(front.removeprefix("unix:"))
    assert not os.path.exists(f"{public_dir}/more")


def test_what_the_old_one_was_told_counts_once(own, line):
    """Who stops both may tell each; what the old one passes on is not the second signal, which ends at once."""
    server = own(EchoServer())
    old = own(OldSide(line.socket, unused_address(), server.address))
    client = own(connect(old.front))
    old.accept()
    new = line.begin(line.config([server.address], listen=old.front, drain={"timeout": "20s"}))
    old.advance("serving")
    wait_until(lambda: new.log_lines("started version"), "it has started")
    for _ in range(3):  # all from this process, which plays the old one
        new.signal(signal.SIGTERM)
        wait_until(lambda: new.log_lines("draining sessions=1"), "it drains")
        time.sleep(0.2)
    assert new.running() and is_open(client)
    subprocess.run(["kill", "-TERM", str(new.pid)], check=True)
    assert new.wait() == 0 and new.log_lines("closing sessions=1 reason=shutdown")


def with_unknown_keys(told):
    if isinstance(told, list):
        return [with_unknown_keys(item) for item in told]
    if not isinstance(told, dict):
        return told
    return {"aaa": [None, {"x": b"1"}], **{key: with_unknown_keys(told[key]) for key in told}, "zzz": {"y": [1.5, -7]}}


BAD_STATES = {
    "empty": lambda state: b"",
    "no_cbor": lambda state: b"\xff" * 100,
    "cut": lambda state: encode(state)[:-5],
    "deep": lambda state: b"\x81" * 200_000,
    "huge_array": lambda state: b"\x9b" + b"\x7f" * 8,
    "huge_text": lambda state: b"\x7b" + b"\x7f" * 8,
    "a_list": lambda state: encode([]),
    "type": lambda state: encode(changed(state, "sessions.0.route", "front")),
    "route": lambda state: encode(changed(state, "sessions.0.route", 7)),
    "negative": lambda state: encode(changed(state, "sessions.0.number", -1)),
    "place": lambda state: encode(changed(state, "sessions.0.client", 1000)),
    "same_place": lambda state: encode(changed(state, "sessions.0.server", 0)),
    "no_client": lambda state: encode({**state, "sessions": [{"route": 0, "number": 1}]}),
    "count": b"two",
    "negative_count": b"-1",
    "huge_count": b"9" * 30,
}


@pytest.mark.parametrize("bad", some(BAD_STATES, "cut", "deep", "place", "huge_count"))
def test_garbage_in_the_state(bad, own, line):
    """The new one says ABORT and why, ends, and has done no harm to what it was passed."""
    server = own(EchoServer())
    old = own(OldSide(line.socket, unused_address(), server.address))
    client = own(connect(old.front))
    old.accept()
    new = line.begin(line.config([server.address], listen=old.front))
    new.expected_exit = (1,)
    old.advance("pause")
    told, state = BAD_STATES[bad], old.state()
    old.send_state(*((told(state), b"2") if callable(told) else (encode(state), told)))
    with contextlib.suppress(AssertionError, OSError):
        old.channel.send_files(old.files)  # it may have seen enough before that
    kind, words = old.channel.last_words()
    assert kind == ABORT and words
    assert new.wait() == 1 and new.log_lines("error"), new.log()
    assert is_open(client) and server.active == 1


# ---- What they tell each other --------------------------------------------------------------------------------------


@pytest.mark.parametrize("disabled", some(["", "splice"], ""))
def test_what_the_new_one_is_given(disabled, own, line, session):
    """Every byte, and both sockets: here it is the test that relays the rest."""
    server = own(ManualServer())
    proxy = line.first(line.config([server.address], workers=2), env={"RINGMAIN_DISABLE": disabled} if disabled else {})
    client, upstream = session(proxy, server, receive_buffer=16 * KIB)
    Flow(client, upstream).move(1000)
    sent = fill(upstream, 17)
    upstream.shutdown(socket.SHUT_WR)
    new = own(NewSide(line.socket, "sessions"))
    (listening,), (told,) = new.offered, new.state["sessions"]
    assert (listening["listener"], listening["bound"]) == ("front", proxy.address)
    route, relay = new.state["routes"][told["route"]], told["to_client"]
    assert [route[key] for key in ("listener", "upstream", "server")] == ["front", "back", server.address]
    assert told["to_server"]["received"] == told["to_server"]["sent"] == 1000
    queue = new.queued(relay)
    assert queue and queue == pattern(17 + relay["sent"], relay["received"] - relay["sent"])
    client.sendall(pattern(1000, 500))  # the old one stands still: these wait in the socket
    new.advance("serving")
    assert proxy.wait() == 0

    ours, theirs = (own(socket.socket(fileno=os.dup(new.files[told[side]]))) for side in ("client", "server"))
    for sock in (ours, theirs):
        sock.settimeout(SOCKET_TIMEOUT)

    def relay_rest():
        ours.sendall(queue)
        while piece := theirs.recv(MIB):
            ours.sendall(piece)

    job = Job(relay_rest)
    read_pattern(client, 17, sent)
    job.finish()
    read_pattern(ours, 1000, 500)


@pytest.mark.sanitizer
def test_what_the_old_one_gives(own, line):
    """Queues in memory and in a pipe, sessions half closed and connecting, ends that nobody has read; and many more."""
    server = own(ManualServer())
    old = own(OldSide(line.socket, unused_address(), server.address, alter=with_unknown_keys))

    def open_session(**more):
        client = own(connect(old.front))
        old.accept(**more)
        return client, server.accept()

    ends = os.pipe()
    os.write(ends[1], pattern(4000, 5000))
    pipe = {"bytes": 5000, "read": old.place(ends[0]), "write": old.place(ends[1])}
    full, full_upstream = open_session(
        to_server={"received": 1000, "sent": 400, "bytes": pattern(400, 600)},
        to_client={"received": 9000, "sent": 4000, "pipe": pipe}, accepted_at=time.monotonic_ns() - 60 * 10**9)
    half, half_upstream = open_session(
        to_client={"received": 3000, "sent": 1000, "bytes": pattern(1000, 2000), "ended": True})
    half_upstream.shutdown(socket.SHUT_WR)
    over = {}
    for reason in ("client_closed", "server_closed", "client_reset", "server_reset"):
        source, over[reason] = open_session()[:: 1 if reason.startswith("client") else -1]
        source.sendall(pattern(0, 3000))
        reset(source) if reason.endswith("reset") else source.close()
    many = [open_session() for _ in range(130)]
    early = own(connect(old.front))
    early.sendall(pattern(7, 100))
    old.accept(connected=False)
    new = line.begin(line.config([server.address], listen=old.front, workers=2))
    old.advance("serving").close()
    new.wait_ready()
    assert new.log_lines("took over sessions=137")

    read_pattern(full_upstream, 400, 600)
    read_pattern(full, 4000, 5000)
    (entry,) = [entry for entry in new.sessions() if entry["client"] == format_address(full)]
    assert entry["age_seconds"] >= 60
    assert entry["to_server"]["sent_bytes"] == 1000 and entry["to_client"]["sent_bytes"] == 9000
    read_pattern(half, 1000, 2000)
    assert half.recv(1) == b""
    for reason, target in over.items():
        read_pattern(target, 0, 3000)
        assert expect_end(target) == ("reset" if reason.endswith("reset") else "fin")
        target.close()
    read_pattern(server.accept(), 7, 100)
    for client, upstream in [(full, full_upstream), (half, half_upstream), *many]:
        Flow(client, upstream).move(5000)
    new.wait_closed(**dict.fromkeys(over, 1))
