"""What health checks say and want to hear: bytes, patterns and HTTP; where they go, how often, and what they begin with."""
import asyncio
import socket
import threading
import time
from pathlib import Path

import pytest

from peers import PATIENCE, EchoServer, connect, format_address, listen, ping, refusal, unused_address, wait_until
from proxy import config
from reloading import failed, reload
from takeover_peer import line  # noqa: F401 (fixture)

FAST = {"interval": "50ms", "timeout": "2s", "rise": 2, "fall": 2, "jitter": "0%"}
REDIS = {**FAST, "type": "send_expect", "send": "PING\r\n", "expect": "+PONG"}
HTTP = {**FAST, "type": "http", "path": "/health", "status": "200-299"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


class Answering:
    """A server that answers every line that a client sends with `answer`, in pieces of `piece` bytes; it keeps what it heard.

    With `answer` None it says nothing, with `silent` it closes at once. All of it may change at any time.
    """

    def __init__(self, address="127.0.0.1:0", answer=b"", piece=1 << 20):
        self.answer, self.piece, self.silent = answer, piece, False
        self.heard, self.times = [], []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listener = listen(address)
        self.address = format_address(listener)
        listener.setblocking(False)
        unix = listener.family == socket.AF_UNIX
        start = asyncio.start_unix_server if unix else asyncio.start_server
        self._server = self._call(start(self._serve, sock=listener))

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20 * PATIENCE)

    async def _serve(self, reader, writer):
        self.times.append(time.monotonic())
        try:
            if self.silent:
                return
            heard = await reader.readuntil(b"\n")
            if heard.startswith(b"GET "):
                heard += await reader.readuntil(b"\r\n\r\n")
            self.heard.append(heard)
            while self.answer is None:
                await asyncio.sleep(0.01)
            answer, piece = self.answer, self.piece
            for at in range(0, len(answer), piece):
                writer.write(answer[at : at + piece])
                await writer.drain()
                if at + piece < len(answer):
                    await asyncio.sleep(0.001)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the check has heard enough
        finally:
            writer.close()

    def close(self):
        async def stop():
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._call(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def checked(servers, check, **options):
    return config([getattr(server, "address", server) for server in servers], upstream={"health_check": check}, **options)


def wait_up(proxy, server, up):
    proxy.wait_metric("ringmain_server_up", int(up), server=getattr(server, "address", server))


def why_down(proxy, server):
    """The reasons in the log, in their order."""
    return [line.split('reason="')[1].split('"')[0] for line in proxy.log_lines("server down", server.address)]


def entry(proxy, server):
    servers = proxy.status("?sessions=0")["upstreams"][0]["servers"]
    return next(one for one in servers if one["address"] == server.address)


# ---- What is said and heard -----------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("where", ["tcp", "unix"])
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_a_server_like_redis(where, piece, own, ringmain, public_dir):
    address = "127.0.0.1:0" if where == "tcp" else f"unix:{public_dir}/redis"
    server = own(Answering(address, b"+PONG\r\n", piece))
    proxy = ringmain(checked([server], REDIS))
    proxy.wait_metric("ringmain_health_checks_total", lambda count: count >= 3, result="success")
    assert set(server.heard) == {b"PING\r\n"} and proxy.metric("ringmain_health_checks_total", result="failure") == 0
    assert proxy.status()["upstreams"][0]["health_check"] == "send_expect"
    assert entry(proxy, server)["last_check_failure"] is None

    server.answer = b"-LOADING Redis is loading the dataset in memory\r\n"
    wait_up(proxy, server, False)
    assert why_down(proxy, server) == ["closed without a match"]
    assert entry(proxy, server)["last_check_failure"] == "closed without a match"
    assert refusal(proxy.address) == "reset"
    server.answer = b"+PONG\r\n"
    wait_up(proxy, server, True)
    assert entry(proxy, server)["last_check_failure"] == "closed without a match", "the last one"
    assert len(proxy.log_lines("server up", server.address)) == 1


@pytest.mark.sanitizer
@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_a_server_of_http(where, own, ringmain, public_dir):
    address = "127.0.0.1:0" if where == "tcp" else f"unix:{public_dir}/http"
    server = own(Answering(address, OK, 7))
    proxy = ringmain(checked([server], HTTP, workers=2))
    proxy.wait_metric("ringmain_health_checks_total", lambda count: count >= 3, result="success")
    lines = server.heard[0].decode().split("\r\n")
    host = server.address if where == "tcp" else "localhost"
    assert lines[0] == "GET /health HTTP/1.0" and f"Host: {host}" in lines and lines[-2:] == ["", ""]

    for answer, reason in (
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.0 302 Found\r\n\r\n", "status 302"),
        (b"SSH-2.0-something\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200", "closed without a whole status line"),
        (b"", "closed without an answer"),
    ):
        server.answer = answer
        wait_up(proxy, server, False)
        wait_until(lambda: entry(proxy, server)["last_check_failure"] == reason, lambda: f"{reason}: {entry(proxy, server)}")
        assert why_down(proxy, server)[-1] == reason
        server.answer = OK
        wait_up(proxy, server, True)


def test_what_is_late_or_too_much(own, ringmain):
    late, much = own(Answering(answer=None)), own(Answering(answer=b"." * (1 << 20)))
    proxy = ringmain(checked([late, much], {**REDIS, "timeout": "300ms"}))
    for server, reason in ((late, "timed out after 300ms without an answer"), (much, "no match in the first 16 KiB")):
        wait_up(proxy, server, False)
        assert why_down(proxy, server) == [reason]
    late.answer = much.answer = b"+PONG\r\n"
    for server in (late, much):
        wait_up(proxy, server, True)


@pytest.mark.parametrize(
    "expect, good, bad",
    [
        ({"hex": "0d 0a 00 ff"}, b"...\r\n\x00\xff...", b"...\r\n\x00\xfe..."),
        ({"pattern": "^\\+(PONG|OK)\\r\\n"}, b"+OK\r\n", b" +OK\r\n"),
        ({"pattern": "role:(master|primary)"}, b"$5\r\nrole:master\r\n", b"role:slave\r\n"),
        (None, b"x", b""),
    ],
)
def test_what_may_be_expected(expect, good, bad, own, ringmain):
    check = {**FAST, "type": "send_expect", "send": {"hex": "0a"}, **({"expect": expect} if expect else {})}
    server = own(Answering(answer=good))
    proxy = ringmain(checked([server], check))
    proxy.wait_metric("ringmain_health_checks_total", lambda count: count >= 2, result="success")
    server.answer = bad
    wait_up(proxy, server, False)
    server.answer = good
    wait_up(proxy, server, True)


def test_a_greeting_needs_nothing_sent(own, ringmain):
    server = own(EchoServer(banner=b"220 ready\r\n"))
    proxy = ringmain(checked([server], {**FAST, "type": "send_expect", "expect": "220 ", "timeout": "300ms"}))
    proxy.wait_metric("ringmain_health_checks_total", lambda count: count >= 2, result="success")
    server.stop()
    wait_up(proxy, server, False)
    assert why_down(proxy, server) == ["connection refused"]
    server.start()
    wait_up(proxy, server, True)
    server.banner = b"421 too busy\r\n"
    wait_up(proxy, server, False)
    assert why_down(proxy, server)[-1] == "timed out after 300ms without a match", "it did not close"


# ---- Where, when ----------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("how", ["port", "address", "unix"])
def test_something_else_is_checked(how, own, ringmain, public_dir):
    """Sessions go to the server, checks to what stands for it; only the latter counts."""
    server = own(EchoServer())
    agent = own(Answering(f"unix:{public_dir}/agent" if how == "unix" else "127.0.0.1:0", OK))
    override = {"port": int(agent.address.split(":")[1])} if how == "port" else {"address": agent.address}
    proxy = ringmain(checked([server], {**HTTP, **override}))
    proxy.wait_metric("ringmain_health_checks_total", lambda count: count >= 2, result="success")
    ping(own(connect(proxy.address)))
    assert server.accepted == 1, "no check came to the server itself"
    agent.answer = b"HTTP/1.0 500 \r\n\r\n"
    wait_up(proxy, server, False)
    assert why_down(proxy, server) == ["status 500"]
    agent.answer = OK
    wait_up(proxy, server, True)


def test_fast_interval(own, ringmain):
    """A server that contradicts its state is checked 20 times as often, until it has flipped."""
    server = own(Answering(answer=OK))
    check = {**HTTP, "interval": "1s", "fast_interval": "50ms", "rise": 5, "fall": 5}
    proxy = ringmain(checked([server], check))
    wait_until(lambda: len(server.times) >= 2, "two checks")
    assert server.times[1] - server.times[0] > 0.7

    for up, answer in ((0, b"HTTP/1.0 500 \r\n\r\n"), (1, OK)):
        start = len(server.times)
        server.answer = answer
        wait_up(proxy, server, up)
        # Five results, four intervals of 50 ms; at 1 s each they would take 4 s.
        wait_until(lambda: len(server.times) >= start + 6, "the check after the flip")
        times = server.times[start : start + 6]
        assert times[4] - times[0] < 2 * PATIENCE
        assert times[5] - times[4] > 0.7, "agreed: slow again"


@pytest.mark.sanitizer
def test_start_down(own, ringmain):
    """No client gets to a server before its checks said so; a reload leaves what is known alone."""
    good, bad = own(EchoServer(banner=b"+")), own(EchoServer(banner=b"-"))
    check = {**FAST, "type": "send_expect", "expect": "+", "start": "down", "rise": 3}
    held = own(Answering(answer=None))
    proxy = ringmain(checked([held], {**HTTP, "start": "down"}))
    assert proxy.metric("ringmain_server_up", server=held.address) == 0
    assert refusal(proxy.address) == "reset"
    held.answer = OK
    wait_up(proxy, held, True)

    proxy = ringmain(checked([good, bad], check))
    wait_up(proxy, good, True)
    assert entry(proxy, bad)["up"] is False and not proxy.log_lines("server down")
    before = proxy.metric("ringmain_health_checks_total", server=good.address, result="success")
    assert before >= 3
    new = own(Answering(answer=None))
    slow = {**check, "interval": "10m"}
    changes = reload(proxy, checked([good, bad, new], slow))
    assert "upstream back: health_check.interval 50ms -> 10m" in changes
    assert [entry(proxy, server)["up"] for server in (good, bad, new)] == [True, False, False]
    # Never checked, but known: it stays up.
    other = own(EchoServer())
    proxy = ringmain(config([other.address]))
    reload(proxy, checked([other], {**check, "interval": "10m", "fall": 100}))
    assert entry(proxy, other)["up"] is True and entry(proxy, other)["health_checked"] is True


def test_another_type_goes_on_where_the_last_one_was(own, ringmain):
    server = own(Answering(answer=b"HTTP/1.0 500 \r\n\r\n"))
    proxy = ringmain(checked([server], HTTP))
    wait_up(proxy, server, False)
    changes = reload(proxy, checked([server], {**HTTP, "status": "500", "interval": "10m"}))
    assert set(changes) == {
        "upstream back: health_check.status 200-299 -> 500",
        "upstream back: health_check.interval 50ms -> 10m",
    }
    assert entry(proxy, server)["up"] is False
    reload(proxy, checked([server], {**FAST, "rise": 1}))
    wait_up(proxy, server, True)
    assert proxy.status()["upstreams"][0]["health_check"] == "tcp"
    errors = failed(proxy, checked([server], {**HTTP, "type": "send_expect"}))
    assert any("path is for checks of type http" in error for error in errors), errors


def test_takeover_keeps_what_is_known(own, line):  # noqa: F811
    good, bad = own(Answering(answer=OK)), own(Answering(answer=b"HTTP/1.0 500 \r\n\r\n"))
    check = {**HTTP, "start": "down"}
    old = line.first(line.config([good.address, bad.address], upstream={"health_check": check}))
    wait_up(old, good, True)
    good.answer = bad.answer = None  # nothing more is learnt
    new = line.after(old, line.config([good.address, bad.address], upstream={"health_check": {**check, "timeout": "1h"}}))
    assert [entry(new, server)["up"] for server in (good, bad)] == [True, False]


# ---- Many -----------------------------------------------------------------------------------------------------------


def test_hundreds_at_once(own, ringmain):
    """500 servers answer late, each: all are checked in every interval, by one thread."""
    count = 500

    async def serve(reader, writer):
        times[writer.get_extra_info("sockname")[1]].append(time.monotonic())
        try:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.3)
            writer.write(OK)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def start():
        return [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(count)]

    loop, times = asyncio.new_event_loop(), {}
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers = asyncio.run_coroutine_threadsafe(start(), loop).result(20 * PATIENCE)
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    times.update((port, []) for port in ports)
    try:
        check = {**HTTP, "interval": "2s", "timeout": "1500ms", "fall": 3}
        started = time.monotonic()
        proxy = ringmain(checked([f"127.0.0.1:{port}" for port in ports], check))
        wait_until(lambda: min(map(len, times.values())) >= 2, "each was checked twice", timeout=20)
        # One after the other would take 500 times 300 ms for the first round alone.
        assert time.monotonic() - started < 10 * PATIENCE
        proxy.wait_metric("ringmain_health_checks_total", lambda n: n >= 2 * count, result="success")
        assert proxy.metric("ringmain_server_up") == count
        assert proxy.metric("ringmain_health_checks_total", result="failure") == 0
        names = [path.read_text().strip() for path in Path(f"/proc/{proxy.pid}/task").glob("*/comm")]
        assert names.count("rm-health") == 1
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        for server in servers:
            server.close()


def test_unreachable_overrides_are_failures(own, ringmain):
    server = own(EchoServer())
    proxy = ringmain(checked([server], {**FAST, "address": unused_address()}))
    wait_up(proxy, server, False)
    assert why_down(proxy, server) == ["connection refused"]
