"""`ringmain top`: what it shows on a terminal, what it prints elsewhere, and what it says when there is nobody to ask."""
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time

import pytest

from peers import PATIENCE, Crowd, EchoServer, connect, format_address, listen, pattern, ping, read_exactly, unused_address, wait_until
from proxy import RINGMAIN, config, run_command
from terminal import Terminal

ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def top(proxy, *arguments, **options):
    return run_command("top", "--admin", getattr(proxy, "admin", proxy), *arguments, **options)


@pytest.fixture
def terminal(own):
    """terminal(proxy, arguments...) starts a top on a terminal and waits until it shows something."""

    def start(proxy, *arguments, interval="100ms", **options):
        command = [RINGMAIN, "top", "--admin", getattr(proxy, "admin", proxy), "--interval", interval, *arguments]
        item = own(Terminal(command, **options))
        item.wait(lambda lines: lines[0].startswith("ringmain "))
        return item

    return start


class Printer:
    """A top whose output is read line by line while it runs."""

    def __init__(self, proxy, *arguments):
        self.errors = b""
        self._pending = b""
        self.process = subprocess.Popen(
            [RINGMAIN, "top", "--admin", getattr(proxy, "admin", proxy), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def line(self):
        deadline = time.monotonic() + 10 * PATIENCE
        while b"\n" not in self._pending:
            fds = [self.process.stdout, self.process.stderr]
            for ready in select.select(fds, [], [], max(0, deadline - time.monotonic()))[0]:
                piece = os.read(ready.fileno(), 1 << 16)
                assert piece, f"it has ended: {self.errors}"
                if ready is self.process.stdout:
                    self._pending += piece
                else:
                    self.errors += piece
            assert time.monotonic() < deadline, "no line"
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode()

    def until(self, right):
        """The first object for which right(object) holds."""
        found = []

        def check():
            found[:] = [json.loads(self.line())]
            return right(found[0])

        wait_until(check, lambda: f"an object is right; the last was {found}", interval=0)
        return found[0]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class FakeAdmin:
    """Answers each request as `answer(request)` says, which may be bytes, or None for no answer at all."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self._listener = listen()
        self._listener.settimeout(None)
        self.address = format_address(self._listener)
        self._kept = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            request = b""
            while b"\r\n\r\n" not in request:
                piece = sock.recv(4096)
                if not piece:
                    break
                request += piece
            self.requests.append(request.decode())
            answer = self.answer(request.decode())
            if answer is None:
                self._kept.append(sock)
                continue
            sock.sendall(answer)
            sock.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._kept:
            sock.close()


def http(body, status="200 OK"):
    body = body.encode() if isinstance(body, str) else body
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)) + body


def status(**more):
    return json.dumps({"version": "0", "pid": 1, "state": "ready", "uptime_seconds": 1, "listeners": [], "upstreams": [], "workers": [], **more})


# ---- On a terminal --------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_it_draws_sorts_filters_and_quits(own, ringmain, terminal):
    echo, other = own(EchoServer()), own(EchoServer())
    dead = unused_address()
    settings = config([echo.address, dead], upstream={"health_check": {"interval": "50ms", "fall": 1}})
    settings["listeners"] += [{"name": "busy", "listen": "127.0.0.1:0", "upstream": "other"}]
    settings["upstreams"] += [{"name": "other", "servers": [{"address": other.address}]}]
    proxy = ringmain(settings)
    proxy.wait_metric("ringmain_server_up", 0, server=dead)
    own(Crowd(proxy.addresses["front"][0], 2)).exchange()
    own(Crowd(proxy.addresses["busy"][0], 5)).exchange()

    screen = terminal(proxy)
    lines = screen.wait_text("7 sessions", "2 of 3 servers up")
    assert lines[0].startswith(f"ringmain 0.1.0  {proxy.admin}  ready  pid {proxy.pid}  up ")
    assert re.search(r" every 0\.1s$", lines[0])
    assert [line.split()[0] for line in lines[4:8] if line] == ["LISTENER", "busy", "front"]
    assert re.match(r"busy +active .* 5 ", lines[5])
    assert screen.style("2 of 3 servers up").fg == "red"
    assert screen.style("active").fg == "default"

    screen.press(*[">"] * 4)
    screen.wait_text("by ACTIVE, descending")
    screen.press("r")
    lines = screen.wait_text("by ACTIVE, ascending")
    assert [line.split()[0] for line in lines[5:7]] == ["front", "busy"]
    assert screen.style("ACTIVE ").reverse

    screen.press("/", "bus")
    lines = screen.wait_text("filter: bus_")
    assert lines[5].startswith("busy") and lines[6] == ""
    screen.press("y", "\r")
    screen.wait(lambda lines: lines[-1].startswith("filter: busy  h help"))
    screen.press("escape")
    screen.wait(lambda lines: lines[5].startswith("front") and lines[6].startswith("busy"))

    screen.press("3")
    lines = screen.wait_text("SERVER ", "down")
    assert [line.split()[1] for line in lines[5:8]] == sorted([echo.address, dead], key=lambda a: [echo.address, dead].index(a)) + [other.address]
    assert screen.style("down").fg == "red"
    assert "refused" in screen.text()

    screen.press("\t")
    screen.wait(lambda lines: lines[4].startswith("WORKER") and re.match(r" +0 +active +7 ", lines[5]))
    screen.press("5")
    lines = screen.wait(lambda lines: len([line for line in lines if "established" in line]) == 7)
    sessions = {session["client"] for session in proxy.sessions()}
    assert {line.split()[1] for line in lines[5:12]} == sessions

    screen.press("h")
    screen.wait_text("Keys", "Columns of sessions", "since a byte came from either side")
    screen.press("h")
    screen.wait_text("established")

    screen.press("q")
    assert screen.end() == 0
    assert screen.is_given_back()


def test_figures_move(own, ringmain, terminal):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address]))
    screen = terminal(proxy)
    client = own(connect(proxy.address))
    screen.wait_text("1 sessions")
    ping(client, length=64 << 10)
    screen.wait(lambda lines: re.search(r"\d(\.\d+)?KiB/s to servers", lines[2]))
    screen.wait(lambda lines: lines[2].startswith("0B/s to servers"))
    screen.press("p")
    screen.wait(lambda lines: lines[0].endswith(" paused"))
    client.close()
    proxy.wait_active(0)
    asked = proxy.metric("ringmain_connections_total")
    ping(own(connect(proxy.address)))
    ping(own(connect(proxy.address)))
    proxy.wait_active(2)
    assert "1 sessions" in screen.text() and asked == 1
    screen.press("p")
    screen.wait_text("2 sessions")


def test_it_follows_the_size_of_the_terminal(own, ringmain, terminal):
    servers = [f"127.0.0.1:{port}" for port in range(20001, 20061)]
    proxy = ringmain(config(servers))
    screen = terminal(proxy, "--view", "servers", columns=160, lines=40)
    screen.wait_text("rows 1-34 of 60", "LAST FAILED CHECK")
    screen.resize(60, 12)
    lines = screen.wait_text("rows 1-6 of 60")
    assert "LAST FAILED CHECK" not in lines[4] and "SERVER" in lines[4] and "ACTIVE" in lines[4]
    assert all(len(line) <= 60 for line in lines)
    screen.press("end")
    lines = screen.wait_text("rows 55-60 of 60")
    assert [f"127.0.0.1:{port}" in line for port, line in zip(range(20055, 20061), lines[5:11])] == [True] * 6
    screen.press("up")
    screen.wait_text("rows 54-59 of 60")
    for size in [(20, 5), (5, 2), (1, 1)]:
        screen.resize(*size)
        screen.wait(lambda lines: len(lines) == size[1] and lines[0][:1] in ("r", "~"))
    screen.resize(160, 70)
    lines = screen.wait_text("LAST FAILED CHECK", "h help")
    assert len([line for line in lines if "127.0.0.1:200" in line]) == 60


def test_the_terminal_is_given_back_whatever_happens(own, ringmain, terminal):
    proxy = ringmain(config(["127.0.0.1:9"]))
    for end, code in [
        (lambda s: s.press("\x03"), 0),
        (lambda s: s.process.send_signal(signal.SIGTERM), 0),
        (lambda s: s.process.send_signal(signal.SIGHUP), 0),
        (lambda s: s.process.send_signal(signal.SIGABRT), -signal.SIGABRT),
        (lambda s: s.process.send_signal(signal.SIGSEGV), -signal.SIGSEGV),
    ]:
        screen = terminal(proxy)
        assert not screen.is_given_back()
        end(screen)
        assert screen.end() == code
        assert screen.is_given_back()


def test_it_can_be_suspended(own, ringmain):
    """With Ctrl-Z, from a shell with job control; then the shell has the terminal, as it was."""
    proxy = ringmain(config(["127.0.0.1:9"]))
    script = f"set -m; {RINGMAIN} top --admin {proxy.admin} --interval 100ms; echo it is stopped; read line; fg; echo it ended with $?"
    screen = own(Terminal(["bash", "--norc", "-c", script]))
    screen.wait_text("LISTENER")
    screen.press("\x1a")
    screen.wait_text("it is stopped")
    assert screen.is_given_back()
    screen.press("x\r")
    screen.wait(lambda lines: lines[0].startswith("ringmain ") and lines[-1].startswith("h help"))
    assert not screen.is_given_back()
    screen.press("q")
    screen.wait_text("it ended with 0")
    assert screen.end() == 0


def test_a_hidden_cursor_and_no_colour(own, ringmain, terminal):
    proxy = ringmain(config([unused_address()], upstream={"health_check": {"interval": "50ms", "fall": 1}}))
    proxy.wait_metric("ringmain_server_up", 0)
    screen = terminal(proxy, "--view", "servers", env={"NO_COLOR": "1"})
    screen.wait_text("down")
    assert screen.style("down").fg == "default" and screen.style("down").bold
    screen.press("q")
    assert screen.end() == 0
    assert not re.search(rb"\x1b\[[0-9;]*(3|4|9|10)[0-9]m", screen.output)
    coloured = terminal(proxy, "--view", "servers")
    coloured.wait_text("down")
    assert coloured.style("down").fg == "red"


def test_names_with_control_characters_do_no_harm(own, terminal):
    evil = "\x1b]0;pwned\x07\x1b[31mred\x9b2J\r\nend\x7f"
    thing = {key: evil for key in ("name", "state", "upstream", "address", "balance", "id", "client", "server", "listener", "last_check_failure")}
    body = status(
        version=evil, listeners=[{**thing, "addresses": [evil]}], upstreams=[{**thing, "servers": [thing]}], sessions={"total": 1, "list": [thing]}
    )
    admin = own(FakeAdmin(lambda request: http(body)))
    screen = terminal(admin.address)
    for view in ("1 listeners", "2 upstreams", "3 servers", "4 workers", "5 sessions"):
        screen.press(view[0])
        screen.wait(lambda lines, view=view: screen.style(view).reverse)
    screen.wait_text("?[31mred")
    screen.press("q")
    assert screen.end() == 0
    left = ESCAPE.sub(b"", screen.output)
    assert all(0x20 <= byte < 0x7F for byte in left), left
    text = top(admin.address, "--once", "--interval", "100ms", "--view", "listeners,servers,sessions").stdout
    assert "?[31mred" in text
    assert all(char == "\n" or 0x20 <= ord(char) < 0x7F for char in text)
    one = top(admin.address, "--once", "--json", "--interval", "100ms").stdout
    assert all(char == "\n" or 0x20 <= ord(char) < 0x7F for char in one)
    assert json.loads(one)["listeners"][0]["name"] == evil


# ---- The admin address goes away ------------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_it_says_that_nobody_answers_and_recovers(own, ringmain, terminal):
    address = unused_address()
    echo = own(EchoServer())
    settings = config([echo.address], admin={"listen": address})
    proxy = ringmain(settings)
    ping(own(connect(proxy.address)))
    screen = terminal(proxy)
    printer = own(Printer(proxy, "--json", "--interval", "100ms"))
    lines = own(Printer(proxy, "--view", "listeners", "--interval", "100ms"))
    screen.wait_text("1 sessions")
    assert "error" not in json.loads(printer.line())
    assert lines.line().startswith("ringmain 0.1.0")
    assert proxy.stop() == 0

    shown = screen.wait_text(f"nothing listens at {address}")
    assert re.match(r"no answer for \d+\.\ds: ", shown[2]) and screen.style("no answer").fg == "red"
    assert shown[5].startswith("front")
    error = printer.until(lambda one: "nothing listens" in one.get("error", ""))
    assert error["admin"] == address

    again = ringmain(settings)
    ping(own(connect(again.address)))
    shown = screen.wait(lambda lines: "to servers" in lines[2] and f"pid {again.pid}" in lines[0])
    ok = printer.until(lambda one: "error" not in one and one["process"]["pid"] == again.pid)
    assert ok["totals"]["connections_active"] <= 1
    wait_until(lambda: f"pid {again.pid}" in lines.line(), "it prints again")
    wait_until(lambda: lines.line() and lines.errors.decode().endswith("answers again\n"), lambda: f"it says so: {lines.errors}")
    # Once for each kind of error, not at each refresh: it may have been waiting for an answer at the end.
    assert 2 <= len(lines.errors.decode().splitlines()) <= 3, lines.errors
    screen.press("q")
    assert screen.end() == 0


def test_keys_are_obeyed_while_an_answer_is_awaited(own, terminal):
    answers = [http(status())] * 2
    admin = own(FakeAdmin(lambda request: answers.pop() if answers else None))
    screen = terminal(admin.address)
    wait_until(lambda: len(admin.requests) == 3, "it waits")
    screen.press("3")
    screen.wait_text("no servers")
    start = time.monotonic()
    screen.press("q")
    assert screen.end() == 0
    assert time.monotonic() - start < 2 * PATIENCE


# ---- Elsewhere than on a terminal -----------------------------------------------------------------------------------


@pytest.mark.sanitizer
def test_once_prints_a_table(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], listener={"max_connections": 100}))
    own(Crowd(proxy.address, 3)).exchange(1000)
    result = top(proxy, "--once", "--interval", "100ms")
    assert (result.returncode, result.stderr) == (0, "")
    blocks = [block.splitlines() for block in result.stdout.split("\n\n")]
    assert [block[0].split()[0] for block in blocks] == ["ringmain", "LISTENER", "UPSTREAM", "UPSTREAM", "WORKER"]
    assert blocks[0][0].startswith(f"ringmain 0.1.0  {proxy.admin}  ready  pid {proxy.pid}  up ")
    assert blocks[0][1] == "3 sessions  0/s new  0/s closed  1 of 1 servers up"
    assert blocks[0][2] == "0B/s to servers  0B/s to clients"
    assert blocks[1][1].split() == ["front", "active", proxy.address, "back", "3", "100", "0", "0", "0", "0", "0B", "0B", "3", "0", "0", "2.93KiB", "2.93KiB"]
    assert blocks[2][1].split() == ["back", "up", "1", "1", "3", "0", "0", "0", "round_robin", "-", "-"]
    assert blocks[3][1].split() == ["back", echo.address, "up", "3", "-", "1", "0", "0", "3", "0", "0", "-"]
    assert blocks[4][1].split()[:3] == ["0", "active", "3"]
    assert "\x1b" not in result.stdout


@pytest.mark.sanitizer
def test_json_has_every_figure(own, ringmain):
    """The rates of all refreshes together make what was sent."""
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], workers=2))
    printer = own(Printer(proxy, "--json", "--interval", "200ms", "--view", "listeners,upstreams,servers,workers,sessions"))
    first = json.loads(printer.line())
    assert first["totals"]["connections_active"] == 0
    assert first["listeners"][0]["accepted_per_second"] == 0
    clients = [own(connect(proxy.address)) for _ in range(4)]
    for client in clients:
        ping(client, length=50_000)
    sums = {"accepted": 0, "to_server": 0, "to_client": 0, "connects": 0, "total": 0}

    def add(report):
        assert report["interval_seconds"] == pytest.approx(0.2, rel=0.9)
        listener = report["listeners"][0]
        for key in ("accepted", "to_server", "to_client"):
            sums[key] += listener[f"{key}_per_second"] * report["interval_seconds"]
        sums["connects"] += report["servers"][0]["connects_per_second"] * report["interval_seconds"]
        sums["total"] += report["totals"]["to_client_per_second"] * report["interval_seconds"]
        return listener["to_client_bytes"] == 200_000 and listener["to_client_per_second"] == 0

    report = printer.until(add)
    assert sums == pytest.approx({"accepted": 4, "to_server": 200_000, "to_client": 200_000, "connects": 4, "total": 200_000}, rel=0.02)
    assert report["admin"] == proxy.admin
    assert report["process"] == {"version": "0.1.0", "pid": proxy.pid, "state": "ready", "uptime_seconds": report["process"]["uptime_seconds"]}
    assert report["totals"]["sessions"] == 4 and report["totals"]["servers"] == report["totals"]["servers_up"] == 1
    listener = report["listeners"][0]
    assert (listener["name"], listener["connections_active"], listener["connections_total"], listener["to_server_bytes"]) == ("front", 4, 4, 200_000)
    assert [upstream["connections_active"] for upstream in report["upstreams"]] == [4]
    assert sum(worker["sessions"] for worker in report["workers"]) == 4
    assert {session["client"] for session in report["sessions"]} == {format_address(client) for client in clients}
    assert all(session["to_server_bytes"] == session["to_client_bytes"] == 50_000 for session in report["sessions"])
    # Nothing that the status has is looked for in the wrong place.
    unknown = {
        (view, key) for view in ("listeners", "upstreams", "servers", "workers", "sessions") for one in report[view] for key, value in one.items() if value is None
    }
    assert unknown <= {
        ("listeners", "max_connections"),
        ("upstreams", "health_check"),
        ("upstreams", "names"),
        ("servers", "max_connections"),
        ("servers", "last_check_failure"),
        ("workers", "completions_per_enter"),
    }


def test_the_top_sessions_come_first(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address]))
    clients = [own(connect(proxy.address)) for _ in range(3)]
    for length, client in zip([100, 30_000, 2_000], clients):
        ping(client, length=length)
    arguments = ["--once", "--json", "--interval", "100ms", "--view", "sessions"]
    report = json.loads(top(proxy, *arguments, "--sort", "to_client_bytes").stdout)
    assert [session["to_client_bytes"] for session in report["sessions"]] == [30_000, 2_000, 100]
    report = json.loads(top(proxy, *arguments, "--sort", "age_seconds").stdout)
    assert [session["client"] for session in report["sessions"]] == [format_address(client) for client in clients]
    one = format_address(clients[1])
    report = json.loads(top(proxy, *arguments, "--filter", one).stdout)
    assert [session["client"] for session in report["sessions"]] == [one]
    report = json.loads(top(proxy, *arguments, "--sessions", "2").stdout)
    assert len(report["sessions"]) == 2 and report["totals"]["sessions"] == 3
    assert "2 of 3 sessions are listed" in top(proxy, "--once", "--interval", "100ms", "--view", "sessions", "--sessions", "2").stdout


def test_plain_lines_where_there_is_no_terminal(own, ringmain):
    proxy = ringmain(config(["127.0.0.1:9"]))
    printer = own(Printer(proxy, "--interval", "100ms", "--view", "workers"))
    blocks = [[printer.line() for _ in range(7)] for _ in range(2)]
    for block in blocks:
        assert block[0].startswith("ringmain 0.1.0  ") and re.search(r"  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", block[0])
        assert block[4].startswith("WORKER") and block[5].split()[:2] == ["0", "active"]
        assert block[3] == block[6] == ""
        assert "\x1b" not in "".join(block)
    assert blocks[0][0] != blocks[1][0]
    # A reader that leaves ends it.
    printer.process.stdout.close()
    assert printer.process.wait(10 * PATIENCE) == -signal.SIGPIPE
    printer.process.stdout = open(os.devnull)  # noqa: SIM115
    # A terminal that knows no control sequences gets lines, too.
    dumb = own(Terminal([RINGMAIN, "top", "--admin", proxy.admin, "--interval", "100ms"], env={"TERM": "dumb"}))
    dumb.wait_text("LISTENER")
    assert b"\x1b" not in dumb.output
    dumb.press("\x03")
    assert dumb.end() == -signal.SIGINT


# ---- What goes wrong ------------------------------------------------------------------------------------------------


def fails(address, *arguments, code=1):
    """The one line that it says."""
    result = top(address, *arguments)
    assert (result.returncode, result.stdout) == (code, ""), result
    (line,) = result.stderr.splitlines()
    assert line.startswith("ringmain: top: ")
    return line


def test_it_says_what_is_wrong_with_the_address(own, ringmain):
    nobody = unused_address()
    assert f"nothing listens at {nobody}" in fails(nobody) and "--admin" in fails(nobody)
    assert "write host:port" in fails("9900", code=2)
    assert "write host:port" in fails("unix:/run/x.sock", code=2)
    assert "write host:port" in fails("127.0.0.1:0", code=2)
    assert "write host:port" in fails("http://127.0.0.1:9900/", code=2)
    assert "cannot look up no-such-host.invalid" in fails("no-such-host.invalid:9900")
    for answer, words in [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "does not speak HTTP: 'SSH-2.0-OpenSSH_9.2p1'"),
        (b"", "closed without an answer"),
        (http("<html>"), "no JSON"),
        (http("{}"), "no status of ringmain"),
        (http(status())[:-10], "broke off"),
        (http("\x1b[2Jno\n", "500 Internal Server Error"), "500 Internal Server Error: ?[2Jno"),
    ]:
        admin = own(FakeAdmin(lambda request, answer=answer: answer))
        assert words in fails(admin.address)
    proxy = ringmain({**config(["127.0.0.1:9"]), "metrics": {"listen": "127.0.0.1:0"}})
    assert "metrics.listen" in fails(proxy.addresses["metrics"][0])
    port = proxy.admin.rsplit(":", 1)[1]
    assert top(f"localhost:{port}", "--once", "--interval", "100ms").returncode == 0


@pytest.mark.ci
def test_an_admin_address_that_never_answers_is_given_up(own):
    admin = own(FakeAdmin(lambda request: None))
    assert "accepts connections but does not answer: nothing came for 5 s" in fails(admin.address)


def test_tokens(own, tmp_path):
    def answer(request):
        if "Authorization: Bearer s3cret\r\n" in request:
            return http(status())
        return http("this needs a token\n", "403 Forbidden")

    admin = own(FakeAdmin(answer))
    line = fails(admin.address)
    assert "403 Forbidden: this needs a token" in line and "--token-file" in line
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    assert top(admin.address, "--token-file", str(token), "--once", "--interval", "100ms").returncode == 0
    token.write_text("wrong")
    assert "403" in fails(admin.address, "--token-file", str(token))
    token.write_text("a\r\nX-Evil: yes")
    assert "one line" in fails(admin.address, "--token-file", str(token))
    token.write_text("")
    assert "no token" in fails(admin.address, "--token-file", str(token))
    assert "cannot read" in fails(admin.address, "--token-file", str(tmp_path / "missing"))
    assert "X-Evil" not in "".join(admin.requests)


def test_bad_usage_is_explained():
    for arguments, words in [
        (["--interval", "2"], "--interval"),
        (["--interval", "1ms"], "100ms to 1h"),
        (["--view", "servers,nothing"], "there is no 'nothing'; write one or more of listeners,upstreams,servers,workers,sessions"),
        (["--view", "servers", "--sort", "size"], "servers have upstream, address, state"),
        (["--sessions", "10001"], "--sessions"),
        (["--what"], "--what"),
    ]:
        result = run_command("top", *arguments)
        assert result.returncode == 2 and result.stdout == "", result
        assert words in result.stderr and len(result.stderr.splitlines()) == 1
    help_text = run_command("top", "--help").stdout
    for option in ("--admin", "--token-file", "--interval", "--view", "--sort", "--filter", "--sessions", "--once", "--json"):
        assert option in help_text
