"""ringmain-load and ringmain-echo by themselves: against each other, and against servers and clients that are neither."""
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("RINGMAIN_BUILD") or Path(__file__).resolve().parents[2] / "build")
ECHO = str(BUILD / "loadtest" / "ringmain-echo")
LOAD = str(BUILD / "loadtest" / "ringmain-load")


@pytest.fixture
def echo():
    """echo(option, ...) starts ringmain-echo; the object has .addresses and .metrics."""
    running = []

    def start(*options, listen="127.0.0.1:0", **popen):
        process = subprocess.Popen([ECHO, "--listen", listen, *options], stdout=subprocess.PIPE, text=True, **popen)
        running.append(process)
        expected = len(listen.split(",")) + (1 if "--metrics" in options else 0)
        lines = [process.stdout.readline().rstrip("\n") for _ in range(expected)]
        process.addresses = [line.removeprefix("listening address=") for line in lines if line.startswith("listening ")]
        process.metrics = next((line.removeprefix("metrics address=") for line in lines if line.startswith("metrics ")), None)
        assert len(process.addresses) == len(listen.split(",")), lines
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()


@contextlib.contextmanager
def server(behave):
    """A server on a free port that calls behave(connection) once for each connection, one after the other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection, contextlib.suppress(OSError):
                    behave(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield "127.0.0.1:%d" % listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def run_load(*arguments, check=0):
    """Runs ringmain-load and returns its JSON report and what it wrote to standard error."""
    result = subprocess.run([LOAD, *arguments, "--json", "-", "--quiet"], capture_output=True, text=True, timeout=60)
    assert result.returncode == check, result.stdout + result.stderr
    return json.loads(result.stdout), result.stderr


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10)


def receive_exactly(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, "closed after %d of %d bytes" % (len(data), size)
        data += part
    return data


def scrape(address):
    with urllib.request.urlopen("http://%s/metrics" % address, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


# ---- Every mode, every family ----

MODES = {
    "ping": ["ping", "--connections", "20", "--payload", "100"],
    "rate": ["rate", "--connections", "20", "--rate", "1000"],
    "bulk": ["bulk", "--connections", "4"],
    "bulk paced": ["bulk", "--connections", "4", "--rate", "4MiB/s", "--payload", "16KiB"],
    "churn": ["churn", "--connections", "4"],
    "churn reset": ["churn", "--connections", "4", "--reset"],
    "idle": ["idle", "--connections", "50", "--connect-rate", "1000"],
    "idle ping": ["idle", "--connections", "50", "--ping"],
}


@pytest.mark.sanitizer
def test_every_mode_on_every_family(echo, tmp_path):
    path = tmp_path / "echo.sock"
    process = echo(listen="127.0.0.1:0,[::1]:0,unix:%s" % path)
    for address in process.addresses:
        for name, arguments in MODES.items():
            report, errors = run_load(*arguments, "--to", address, "--duration", "200ms")
            assert report["error_total"] == 0 and "connection to" not in errors, name
            assert report["operations"] > 0, name
            if name == "rate":
                assert report["operations"] == 200
            if name == "idle":
                assert report["operations"] == report["connects"] == 50
            if name == "idle ping":
                assert report["operations"] == 100
            if name not in ("idle",):
                assert report["bytes_received"] >= report["operations"] * report["payload_bytes"], name
    process.terminate()
    assert process.wait(10) == 0
    assert not path.exists()


def test_threads_and_large_payloads(echo):
    process = echo("--threads", "2")
    for arguments in (["ping", "--payload", "3MiB"], ["bulk"], ["churn"], ["rate", "--rate", "500"]):
        report, _ = run_load(*arguments, "--to", process.addresses[0], "--connections", "5", "--threads", "2", "--duration", "300ms")
        assert report["error_total"] == 0


def test_warmup_counts_for_nothing(echo):
    process = echo()
    report, _ = run_load("rate", "--rate", "1000", "--to", process.addresses[0], "--duration", "300ms", "--warmup", "300ms")
    assert report["operations"] == 300
    assert 0.29 < report["duration_s"] < 0.6


def test_latency_counts_from_the_intended_time(echo):
    # A server that takes 40 ms for each recv, asked for 100 operations a second: what is sent late must count as late.
    def slow(connection):
        while data := connection.recv(64):
            time.sleep(0.04)
            connection.sendall(data)

    with server(slow) as address:
        report, _ = run_load("rate", "--rate", "100", "--to", address, "--duration", "300ms")
    assert report["operations"] == 30
    assert report["latency_us"]["max"] > 700_000  # 30 operations take 1.2 s, the last was due after 0.3 s


# ---- ringmain-load finds what is wrong ----


def test_mismatch_is_found():
    def flip(connection):
        connection.sendall(receive_exactly(connection, 64))
        data = bytearray(receive_exactly(connection, 64))
        data[5] ^= 1
        connection.sendall(data)
        connection.recv(1)

    with server(flip) as address:
        report, errors = run_load("ping", "--to", address, "--duration", "5s", check=1)
    assert report["errors"]["mismatch"] == report["error_total"] == 1
    assert report["operations"] == 1
    assert "byte 69 is" in errors


@pytest.mark.parametrize("mode", ["ping", "bulk", "idle"])
def test_byte_too_many_is_found(mode):
    def add(connection):
        if mode != "idle":
            data = connection.recv(64)
            connection.sendall(data)
            if mode == "bulk":  # after all of the stream, before its end
                while data := connection.recv(1 << 16):
                    connection.sendall(data)
        connection.sendall(b"x")
        connection.recv(64)

    with server(add) as address:
        report, _ = run_load(mode, "--to", address, "--duration", "500ms", check=1)
    assert report["errors"]["mismatch"] == report["error_total"] == 1


def test_early_close_reset_and_silence():
    def reset(connection):
        connection.recv(64)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    for behave, kind in (
        (lambda connection: connection.recv(64), "closed_early"),
        (reset, "reset"),
        (lambda connection: [None for _ in iter(lambda: connection.recv(64), b"")], "timeout"),
    ):
        with server(behave) as address:
            report, _ = run_load("ping", "--to", address, "--duration", "5s", "--reply-timeout", "200ms", check=1)
        assert report["errors"][kind] == report["error_total"] == 1, kind


def test_refused_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = "127.0.0.1:%d" % gone.getsockname()[1]
    report, errors = run_load("ping", "--to", address, "--connections", "100", "--duration", "5s", check=1)
    assert report["errors"]["connect_failed"] == 100
    assert errors.splitlines()[0] == "connect to %s: Connection refused" % address
    assert errors.count("refused") == 1


def test_reconnect():
    served = []

    def close_first(connection):
        served.append(1)
        while data := connection.recv(64):
            connection.sendall(data)
            if len(served) == 1:
                return

    with server(close_first) as address:
        report, _ = run_load("ping", "--to", address, "--duration", "600ms", "--reconnect", check=1)
    assert report["connects"] == 2 and report["operations"] > 1
    assert report["error_total"] == 1


def test_usage_is_one_line_and_2():
    for program, arguments in (
        (LOAD, []),
        (LOAD, ["pong", "--to", "127.0.0.1:1"]),
        (LOAD, ["ping", "--to", "localhost:1"]),
        (LOAD, ["rate", "--to", "127.0.0.1:1"]),
        (ECHO, []),
        (ECHO, ["--listen", "127.0.0.1"]),
        (ECHO, ["--listen", "127.0.0.1:0", "--mode", "nonsense"]),
        (ECHO, ["--listen", "127.0.0.1:0", "--delay", "5"]),
    ):
        result = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10)
        assert result.returncode == 2, arguments
        assert result.stderr.count("\n") == 1 and result.stdout == "", result.stderr


def test_interrupt_ends_early_with_a_report(echo):
    process = echo()
    load = subprocess.Popen(
        [LOAD, "ping", "--to", process.addresses[0], "--duration", "1h", "--json", "-"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    assert "op/s" in load.stderr.readline()  # the first progress line
    load.send_signal(signal.SIGINT)
    out, err = load.communicate(timeout=10)
    assert load.returncode == 0, err
    assert 0.5 < json.loads(out)["duration_s"] < 10


# ---- ringmain-echo by itself ----


def test_echo_half_close(echo):
    with connect(echo().addresses[0]) as connection:
        connection.sendall(b"a" * 100_000)
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while part := connection.recv(65536):
            data += part
    assert data == b"a" * 100_000


def test_echo_slow_reader_is_not_buffered(echo):
    process = echo()
    with connect(process.addresses[0]) as connection:
        connection.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1 << 28:
                sent += connection.send(b"b" * 65536)
        resident = next(line for line in open("/proc/%d/status" % process.pid) if line.startswith("VmRSS"))
        if not os.environ.get("RINGMAIN_SANITIZER"):
            assert int(resident.split()[1]) < 40 << 10
        # What was taken in comes back.
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        received = 0
        while part := connection.recv(1 << 20):
            received += len(part)
    assert received == sent


def test_echo_delay(echo):
    report, _ = run_load("ping", "--to", echo("--delay", "30ms").addresses[0], "--duration", "200ms", "--connections", "3")
    assert report["latency_us"]["min"] >= 30_000


def test_discard(echo):
    process = echo("--mode", "discard", "--metrics", "127.0.0.1:0")
    report, _ = run_load("bulk", "--one-way", "--to", process.addresses[0], "--duration", "300ms", "--connections", "2")
    assert report["bytes_received"] == 0 and report["operations"] > 0
    metrics = scrape(process.metrics)
    assert metrics['ringmain_echo_bytes_total{direction="received"}'] >= report["bytes_sent"]
    assert metrics['ringmain_echo_bytes_total{direction="sent"}'] == 0


def test_accept_pauses_and_resumes_without_descriptors(echo):
    def limit():
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))

    process = echo("--metrics", "127.0.0.1:0", preexec_fn=limit)
    held = [connect(process.addresses[0]) for _ in range(60)]
    try:
        # The table of files is full once it has accepted what fits; the accept after that ends in the same turn of its loop.
        deadline = time.monotonic() + 10
        while len(os.listdir("/proc/%d/fd" % process.pid)) < 48:
            assert time.monotonic() < deadline, "it accepts fewer connections than it has descriptors for"
        for _ in range(3):
            held[0].sendall(b"still served")
            assert receive_exactly(held[0], 12) == b"still served"
    finally:
        for connection in held:
            connection.close()
    report, _ = run_load("ping", "--to", process.addresses[0], "--duration", "100ms", "--connections", "10")
    assert report["error_total"] == 0
    assert scrape(process.metrics)["ringmain_echo_accept_pauses_total"] > 0


def test_occupied_port_is_named(echo):
    address = echo().addresses[0]
    result = subprocess.run([ECHO, "--listen", address], capture_output=True, text=True, timeout=10)
    assert result.returncode == 1
    assert result.stderr == "ringmain-echo: cannot listen on %s: Address already in use\n" % address


def test_stale_unix_path_is_replaced_a_live_one_is_not(echo, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    echo(listen="unix:%s" % path)
    result = subprocess.run([ECHO, "--listen", "unix:%s" % path], capture_output=True, text=True, timeout=10)
    assert result.returncode == 1 and "Address already in use" in result.stderr
    run_load("ping", "--to", "unix:%s" % path, "--duration", "50ms")


# ---- Frames ----


def frame(payload):
    return struct.pack(">I", len(payload)) + payload


def test_frames_answer_in_order(echo):
    with connect(echo("--mode", "frames").addresses[0]) as connection:
        payloads = [b"", b"one", b"x" * (1 << 20), b"last"]
        requests = b"".join(map(frame, payloads))
        sender = threading.Thread(target=connection.sendall, args=(requests,))
        sender.start()
        for payload in payloads:
            expected = frame(b"\0" + payload)
            assert receive_exactly(connection, len(expected)) == expected
        sender.join()
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_frames_half_close_still_answers(echo):
    with connect(echo("--mode", "frames", "--work", "50ms").addresses[0]) as connection:
        connection.sendall(frame(b"late"))
        connection.shutdown(socket.SHUT_WR)
        assert receive_exactly(connection, 9) == frame(b"\0late")
        assert connection.recv(1) == b""


@pytest.mark.sanitizer
def test_frames_shed_load(echo):
    process = echo("--mode", "frames", "--workers", "1", "--queue", "2", "--work", "20ms", "--metrics", "127.0.0.1:0")
    report, _ = run_load("rate", "--frames", "--rate", "200", "--connections", "10", "--to", process.addresses[0],
                         "--duration", "500ms")
    assert report["busy"] > 0 and report["operations"] > 0
    assert report["busy"] + report["operations"] == 100
    assert report["latency_us"]["max"] < 1_000_000  # shed, not queued
    metrics = scrape(process.metrics)
    assert metrics['ringmain_echo_requests_total{result="ok"}'] == report["operations"]
    assert metrics['ringmain_echo_requests_total{result="busy"}'] == report["busy"]
    assert metrics["ringmain_echo_request_duration_seconds_count"] == report["operations"]
    assert metrics["ringmain_echo_queue_length"] == 0


def test_frames_ping(echo):
    process = echo("--mode", "frames")
    for payload in ("1", "64", "1MiB"):
        report, _ = run_load("ping", "--frames", "--payload", payload, "--connections", "4", "--to", process.addresses[0],
                             "--duration", "200ms")
        assert report["error_total"] == report["busy"] == 0


def test_frames_too_large_closes(echo):
    process = echo("--mode", "frames", "--metrics", "127.0.0.1:0")
    with connect(process.addresses[0]) as connection:
        connection.sendall(struct.pack(">I", (1 << 20) + 1))
        assert connection.recv(1) == b""
    assert scrape(process.metrics)['ringmain_echo_requests_total{result="too_large"}'] == 1
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen("http://%s/other" % process.metrics, timeout=10)
