"""The admin port: what it says, and what it survives."""
import json
import random
import socket
import time

import pytest

from peers import PATIENCE, EchoServer, Job, connect, expect_end, ping, read_pattern, reset, send_pattern, wait_until
from proxy import config, run_command

HISTOGRAMS = ["ringmain_connect_duration_seconds", "ringmain_connection_duration_seconds"]
LABELS = {
    "ringmain_connections_total": {"listener"},
    "ringmain_connections_active": {"listener"},
    "ringmain_connections_closed_total": {"listener", "reason"},
    "ringmain_bytes_total": {"listener", "direction"},
    "ringmain_connect_duration_seconds_count": {"upstream"},
    "ringmain_connection_duration_seconds_count": {"listener"},
    "ringmain_server_up": {"upstream", "server"},
    "ringmain_server_connections_active": {"upstream", "server"},
    "ringmain_server_connect_failures_total": {"upstream", "server", "reason"},
    "ringmain_health_checks_total": {"upstream", "server", "result"},
}
# What the workers show of themselves; the words are part of the names.
WORKER_WORDS = [
    "sessions",
    "completions",
    "enters",
    "buffers",
    "starvations",
    "overflows",
    "accept_pauses",
    "loop_turn",
    "relays",
]
CHECK = {"type": "tcp", "interval": "100ms", "timeout": "500ms", "rise": 1, "fall": 1}


@pytest.fixture
def served(own, ringmain):
    """A proxy with two workers, a metrics listener and one server."""
    echo = own(EchoServer())
    settings = config([echo.address], workers=2, metrics={"listen": "127.0.0.1:0"}, upstream={"health_check": CHECK})
    return ringmain(settings), echo


@pytest.mark.sanitizer
def test_every_metric_is_there(served):
    proxy, echo = served
    ping(client := connect(proxy.address))
    metrics = proxy.metrics()
    for name in [
        "ringmain_build_info",
        *LABELS,
        *(h + end for h in HISTOGRAMS for end in ("_bucket", "_sum", "_count")),
    ]:
        assert name in metrics, name
    for name, labels in LABELS.items():
        for sample in metrics[name]:
            assert {label for label, _ in sample} == labels, (name, sample)
    for word in WORKER_WORDS:
        names = [name for name in metrics if name.startswith("ringmain_worker_") and word in name]
        assert names, f"no worker metric about {word}"
        for name in names:
            assert {dict(sample).get("worker") for sample in metrics[name]} == {"0", "1"}, name
    assert dict(next(iter(metrics["ringmain_build_info"])))["version"]
    # The words of a kind exist from the start, so that a rate over them is right from the first event.
    reasons = {dict(sample)["reason"] for sample in metrics["ringmain_connections_closed_total"]}
    assert {
        "client_closed",
        "server_closed",
        "client_reset",
        "server_reset",
        "idle_timeout",
        "drain_timeout",
    } <= reasons
    assert {dict(s)["direction"] for s in metrics["ringmain_bytes_total"]} == {"to_server", "to_client"}
    client.close()


@pytest.mark.sanitizer
def test_metrics_add_up(served):
    proxy, _ = served
    dice, sent = random.Random(5), 0
    for i in range(60):
        client = connect(proxy.address)
        length = dice.choice([0, 1, 64, 5000, 300_000])
        sender = Job(send_pattern, client, i, length)
        read_pattern(client, i, length)
        sender.finish()
        sent += length
        if i % 3:
            client.close()
        else:
            reset(client)
    proxy.wait_active(0)
    metrics = proxy.metrics()

    def total(name, **labels):
        return sum(value for have, value in metrics.get(name, {}).items() if set(labels.items()) <= set(have))

    assert total("ringmain_bytes_total", direction="to_server") == sent
    assert total("ringmain_bytes_total", direction="to_client") == sent
    assert total("ringmain_connections_total") == 60
    assert total("ringmain_connections_closed_total") == 60
    assert total("ringmain_connection_duration_seconds_count") == 60
    # A client that is gone before its server is connected never needed one.
    assert 0 < total("ringmain_connect_duration_seconds_count") <= 60
    assert 0 < total("ringmain_connection_duration_seconds_sum") < 60 * 5
    assert total("ringmain_worker_sessions") == 0
    for name in HISTOGRAMS:
        buckets = [(float(dict(have)["le"]), value) for have, value in metrics[f"{name}_bucket"].items()]
        values = [value for _, value in sorted(buckets)]
        assert values == sorted(values) and sorted(buckets)[-1][0] == float("inf")
        assert values[-1] == total(f"{name}_count")


@pytest.mark.sanitizer
def test_status(served, own):
    proxy, echo = served
    client = own(connect(proxy.address))
    ping(client, 0, 100)
    status = proxy.status()
    assert status["version"] and status["version"] in run_command("version").stdout
    assert status["uptime_seconds"] >= 0
    (listener,) = status["listeners"]
    assert listener["name"] == "front" and listener["addresses"] == [proxy.address]
    assert listener["connections_active"] == 1 and listener["connections_total"] == 1
    (upstream,) = status["upstreams"]
    (server,) = upstream["servers"]
    assert upstream["name"] == "back"
    assert server["address"] == echo.address and server["up"] is True and server["connections_active"] == 1
    assert len(status["workers"]) == 2
    assert sum(worker["sessions"] for worker in status["workers"]) == 1
    echo.stop()
    wait_until(
        lambda: proxy.status()["upstreams"][0]["servers"][0]["up"] is False, "the status shows the server as down"
    )


@pytest.mark.sanitizer
def test_paths_and_methods(served):
    proxy, _ = served
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/status", "/"):
        assert proxy.get(path)[0] == 200, path
    for path in ("/nothing", "/api/v1/nothing", "/metricsx", "/../etc/passwd", "/%2e%2e/etc/passwd", "/index.html"):
        assert proxy.get(path)[0] in (400, 404), path
    assert proxy.get("/metrics", method="DELETE")[0] in (404, 405, 501)


def test_posts_from_elsewhere_are_refused(served):
    proxy, _ = served
    json_type = {"Content-Type": "application/json"}
    for headers in (
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {**json_type, "Host": "evil.example"},
        {**json_type, "Host": "evil.example:" + proxy.admin.rsplit(":", 1)[1]},
    ):
        assert proxy.get("/api/v1/drain", method="POST", headers=headers, body="{}")[0] == 403, headers
    assert proxy.get("/api/v1/nothing", method="POST", headers=json_type, body="{}")[0] == 404
    assert proxy.get("/readyz")[0] == 200


def test_no_get_changes_anything(served):
    proxy, _ = served
    for path in ("/api/v1/drain", "/api/v1/reload", "/api/v1/shutdown", "/quit", "/api/v1/servers"):
        assert proxy.get(path)[0] in (404, 405), path
    assert proxy.get("/readyz")[0] == 200 and proxy.running()


@pytest.mark.sanitizer
def test_metrics_listener_serves_three_paths_only(served):
    proxy, _ = served
    address = proxy.addresses["metrics"][0]
    for path in ("/metrics", "/healthz", "/readyz"):
        assert proxy.get(path, address)[0] == 200, path
    for path in ("/", "/api/v1/status", "/api/v1/drain"):
        assert proxy.get(path, address)[0] == 404, path
    assert proxy.get("/api/v1/drain", address, method="POST", headers={"Content-Type": "application/json"}, body="{}")[
        0
    ] in (403, 404, 405)


GARBAGE = {
    "bytes": random.Random(9).randbytes(5000),
    "zeros": bytes(5000),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.Random(1).randbytes(500),
    "no version": b"GET /metrics\r\n\r\n",
    "bad version": b"GET /metrics HTTP/9.9\r\n\r\n",
    "no path": b"GET\r\n\r\n",
    "long path": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "long header": b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET /metrics HTTP/1.1\r\n" + b"".join(b"H%d: v\r\n" % i for i in range(5000)) + b"\r\n",
    "bad length": b"POST /api/v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "huge length": b"POST /api/v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "bad chunk": b"POST /api/v1/drain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    "control": b"GET /\x00\x01\x02\r\x0b HTTP/1.1\r\nHost: \x00\r\n\r\n",
    "half a request": b"GET /metri",
    "pipelined": b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 500,
}


@pytest.mark.sanitizer
def test_garbage_is_survived(served):
    proxy, _ = served
    for name, data in GARBAGE.items():
        for address in (proxy.admin, proxy.addresses["metrics"][0]):
            sock = connect(address)
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                expect_end(sock, 15)
            except OSError:
                pass  # it hung up before we finished: fine
            finally:
                sock.close()
        assert proxy.get("/healthz")[0] == 200, name
    for data in GARBAGE.values():  # and those who vanish without a word
        sock = connect(proxy.admin)
        try:
            sock.sendall(data[:1000])
            reset(sock)
        except OSError:
            pass
    assert proxy.metrics() and proxy.running()
    assert len(proxy.log_lines()) < 1000


SLOW = [b"", b"G", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{"]


@pytest.mark.sanitizer
def test_slow_clients_do_not_delay_scrapes(served, own):
    """Hundreds of connections that drip bytes, send none, or do not read: scrapes are quick, sessions go on, and the process is not
    filled with sockets."""
    proxy, _ = served
    client = own(connect(proxy.address))
    ping(client)
    metrics = proxy.addresses["metrics"][0]
    before = proxy.fds()
    slow, position, slowest = [], 64, 0
    for i in range(300):
        sock = own(connect((proxy.admin, metrics)[i % 2], receive_buffer=4096))
        sock.setblocking(False)
        sock.send(SLOW[i // 2 % len(SLOW)])
        slow.append(sock)
        if i % 20:
            continue
        for sock in slow:  # each time another byte
            try:
                sock.send(b"x")
            except OSError:
                pass
        for address in (proxy.admin, metrics):
            started = time.monotonic()
            assert proxy.get("/metrics", address)[0] == 200
            slowest = max(slowest, time.monotonic() - started)
        ping(client, position)
        position += 64
        assert proxy.fds() <= before + 2 * 70
    assert slowest < 1 * PATIENCE, f"a scrape took {slowest:.2f} s"
    wait_until(lambda: proxy.fds() <= before + 8, "slow clients are given up", 15)


def mutations(dice, count):
    """Requests that are wrong somewhere."""
    host = b"Host: 127.0.0.1\r\n"
    good = [b"GET /metrics HTTP/1.1\r\n" + host + b"\r\n", b"GET /api/v1/status?sessions=9 HTTP/1.1\r\n" + host + b"Accept: */*\r\n\r\n",
            b"POST /api/v1/servers HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            b"PUT / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"]
    odd = [b"\r\n", b"\n", b"\0", b" ", b"%", b"%00", b":", b"A" * 20_000, b"HTTP/1.1", b"Transfer-Encoding: chunked\r\n", b"\r", b"\xff\xfe",
           b"Content-Length: 99999999999999999999\r\n", b"../", b"Host: y\r\n", b"\t", b"-1", b"{" * 5000]
    for _ in range(count):
        data = bytearray(dice.choice(good))
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(data) + 1)
            if dice.random() < 0.5:
                data[at:at] = dice.choice(odd)
            elif dice.random() < 0.5:
                data[at : at + dice.randint(1, 30)] = b""
            else:
                data[at : at + 1] = bytes([dice.randrange(256)])
        yield bytes(data[: dice.randrange(len(data) + 1)] if dice.random() < 0.2 else data)


@pytest.mark.sanitizer
def test_odd_requests_are_answered_or_ended(served, own):
    """Thousands of broken requests, some at once, some cut off, some followed by a reset."""
    proxy, _ = served
    client = own(connect(proxy.address))
    dice, statuses, before = random.Random(11), {}, proxy.fds()
    for i, data in enumerate(mutations(dice, 2000)):
        sock = connect(proxy.admin)
        try:
            sock.sendall(data)
            if i % 9 == 0:
                reset(sock)
                continue
            sock.shutdown(socket.SHUT_WR)
            answer = sock.recv(1 << 16)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 "), (data, answer)
            status = int(answer[9:12]) if answer else 0
            statuses[status] = statuses.get(status, 0) + 1
        except (ConnectionResetError, BrokenPipeError):  # refused before all was sent
            pass
        finally:
            sock.close()
        if i % 250 == 0:
            ping(client, i // 250 * 64)
            assert proxy.get("/healthz")[0] == 200
    assert {0, 100, 200, 400, 403, 413, 431, 501, 505} <= set(statuses), statuses
    wait_until(lambda: proxy.fds() <= before + 8, "no connection stays")
    assert len(proxy.log_lines()) < 200


def test_scrapes_do_not_disturb_sessions(served, own):
    """Many scrapes at once while bytes flow."""
    proxy, _ = served
    client = own(connect(proxy.address))
    jobs = [Job(lambda: [proxy.metrics() for _ in range(30)]) for _ in range(4)]
    sender = Job(send_pattern, client, 0, 30 << 20)
    read_pattern(client, 0, 30 << 20)
    sender.finish()
    for job in jobs:
        job.finish()


def test_one_log_format_is_json(own, ringmain):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], log={"level": "debug", "format": "json"}))
    ping(own(connect(proxy.address)))
    lines = proxy.log().splitlines()
    assert lines
    for line in lines:
        record = json.loads(line)
        assert record["level"] in ("trace", "debug", "info", "warn", "error")


JSON = {"Content-Type": "application/json"}


def token_file(directory, token, mode=0o600):
    path = directory / "token"
    path.touch()
    path.chmod(mode)
    path.write_text(token + "\n")
    return str(path)


def test_control_off_loopback_takes_the_token(own, ringmain, tmp_path):
    """And a reload takes another token, without a word of either in the log or the status."""
    first, second = "first-0123456789", "second-0123456789"
    path = token_file(tmp_path, first)
    proxy = ringmain(config([own(EchoServer()).address], admin={"listen": "0.0.0.0:0", "token_file": path}))
    assert proxy.log_lines("admin.listen 0.0.0.0:0 is not loopback")

    def reload(token=None, scheme="Bearer", **headers):
        authorization = {"Authorization": f"{scheme} {token}"} if token else {}
        code, body = proxy.get("/api/v1/reload", method="POST", headers={**JSON, **authorization, **headers}, body="{}")
        return code, json.loads(body) if code in (200, 422) else body

    assert reload()[0] == reload(second)[0] == reload(first[:-1])[0] == reload(first, "Basic")[0] == 401
    assert "admin.token_file" in reload()[1]
    assert reload(first, **{"Content-Type": "text/plain"})[0] == 403
    assert reload(first, Host="proxy.example")[1]["result"] == "unchanged"
    for path_read in ("/metrics", "/api/v1/status", "/readyz"):
        assert proxy.get(path_read)[0] == 200

    token_file(tmp_path, second, 0o644)  # too open: nothing changes
    code, answer = reload(first)
    assert code == 422 and "may be read by every user; chmod 600 it" in answer["errors"][0]
    token_file(tmp_path, second)
    code, answer = reload(first)
    assert code == 200 and answer["changes"] == ["control needs another token"]
    assert reload(first)[0] == 401
    assert reload(second)[1]["result"] == "unchanged"
    for text in (proxy.log(), json.dumps(proxy.status()), proxy.get("/metrics")[1], proxy.get("/debug")[1]):
        assert first not in text and second not in text


def test_control_off_loopback_needs_a_token(own, ringmain):
    proxy = ringmain(config([own(EchoServer()).address], admin={"listen": "0.0.0.0:0"}))
    code, body = proxy.get("/api/v1/reload", method="POST", headers={**JSON, "Authorization": "Bearer "}, body="{}")
    assert code == 403 and "admin.token_file" in body
    assert proxy.log_lines("nobody may control this process")


def test_a_bad_token_file_is_an_error_at_the_start(launch, tmp_path):
    for token, mode, words in (("secret-0123456789", 0o644, "chmod 600 it"), ("", 0o600, "is empty; put a token into it"), ("short", 0o600, "less than 16")):
        settings = config(["127.0.0.1:1"], admin={"listen": "127.0.0.1:0", "token_file": token_file(tmp_path, token, mode)})
        proxy = launch(settings)
        proxy.expected_exit = (2,)
        assert proxy.wait() == 2
        assert proxy.log_lines("admin.token_file", words), proxy.log()


def test_debug_names_this_process(served):
    proxy, _ = served
    code, text = proxy.get("/debug")
    assert code == 200
    with open(f"/proc/{proxy.pid}/task/{proxy.pid}/comm") as comm:
        assert f"  {proxy.pid}  {comm.read()}" in text
    workers = [line.split()[0] for line in text.splitlines() if "  rm-worker-" in line]
    assert len(workers) == 2 and f"perf record -F 199 -g -t {','.join(workers)} " in text
    assert proxy.get("/debug", proxy.addresses["metrics"][0])[0] == 404


def test_the_admin_side_speaks_ipv6(own, ringmain):
    proxy = ringmain(config([own(EchoServer()).address], admin={"listen": "[::1]:0"}, metrics={"listen": "[::1]:0"}))
    assert proxy.metrics()
    assert proxy.get("/metrics", proxy.addresses["metrics"][0])[0] == 200
    assert proxy.get("/api/v1/reload", method="POST", headers=JSON, body="{}")[0] == 200
