"""The two sides of a takeover, each to be played against a real process, and what the tests of takeovers share.

A message is one SEQPACKET datagram: b"rmto", the type, three zeros, then the body; file descriptors come with it.
"""
import contextlib
import itertools
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from peers import PATIENCE, SOCKET_TIMEOUT, SPACING, Job, Pingers, Verifier, connect, parse_address, pattern
from peers import unused_address, wait_steady, wait_until
from proxy import ECHO, config
from reloading import text_of

KIB, MIB = 1 << 10, 1 << 20
MAGIC = b"rmto"
HELLO, OFFER, PAUSE, STATE, FILES, ACKNOWLEDGE, READY, COMMIT, SERVING, ABORT = range(1, 11)
MOST_FILES = 250  # in one message
# More than the proxy and the kernel take on the way to a reader that stands still (test_backpressure.py).
ENOUGH = 6 * MIB


# ---- CBOR: what both sides tell each other --------------------------------------------------------------------------


def _head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    size = next(size for size in (1, 2, 4, 8) if number < 1 << 8 * size)
    return bytes([major << 5 | (23 + size.bit_length())]) + number.to_bytes(size, "big")


def encode(value):
    for simple, code in ((False, 0xF4), (True, 0xF5), (None, 0xF6)):
        if value is simple:
            return bytes([code])
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return _head(5, len(value)) + b"".join(encode(key) + encode(item) for key, item in value.items())
    return _head(4, len(value)) + b"".join(map(encode, value))


def _item(data, at):
    """(the item at that place, where the next one begins)"""
    major, code, at = data[at] >> 5, data[at] & 31, at + 1
    assert code < 28, "a length that is not given"
    size = 0 if code < 24 else 1 << code - 24
    head, at = bytes(data[at : at + size]), at + size
    if major == 7:
        simple = {20: False, 21: True, 22: None}
        return (struct.unpack({2: ">e", 4: ">f", 8: ">d"}[size], head)[0] if size > 1 else simple[code]), at
    number = int.from_bytes(head, "big") if size else code
    if major < 2:
        return (number if major == 0 else -1 - number), at
    if major < 4:
        piece, at = bytes(data[at : at + number]), at + number
        assert len(piece) == number, "it ends early"
        return (piece if major == 2 else piece.decode()), at
    items = []
    for _ in range({4: 1, 5: 2}[major] * number):
        item, at = _item(data, at)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2]))), at


def decode(data):
    value, end = _item(data, 0)
    assert end == len(data), f"{len(data) - end} bytes after the end"
    return value


# ---- Messages -------------------------------------------------------------------------------------------------------


class Channel:
    """One end of the connection; keeps the file descriptors that came, until close()."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(SOCKET_TIMEOUT)
        self.kept, self.heard = [], (None, b"")

    def send(self, kind, body=b"", files=()):
        message = MAGIC + bytes([kind, 0, 0, 0]) + body
        socket.send_fds(self.sock, [message], files) if files else self.sock.send(message)

    def receive(self):
        """(type, body, file descriptors); the type is None at the end."""
        for _ in range(2):
            try:
                data, files, flags, _ = socket.recv_fds(self.sock, MIB, MOST_FILES + 3)
            except ConnectionResetError:
                continue  # it closed with messages unread; what it said before is still there
            self.kept += files
            if not data:
                break
            assert data[:4] == MAGIC and data[5:8] == bytes(3) and not flags & socket.MSG_CTRUNC, (data[:100], flags)
            self.heard = data[4], data[8:]
            return *self.heard, files
        return None, b"", []

    def expect(self, kind):
        got, body, files = self.receive()
        assert got == kind, f"message {got} in place of {kind}: {body[:200]}"
        return body, files

    def send_files(self, files):
        for start in range(0, len(files), MOST_FILES):
            self.send(FILES, files=files[start : start + MOST_FILES])
            self.expect(ACKNOWLEDGE)

    def receive_files(self, count):
        files = []
        while len(files) < count:
            some = self.expect(FILES)[1]
            assert 0 < len(some) <= MOST_FILES
            files += some
            self.send(ACKNOWLEDGE)
        assert len(files) == count
        return files

    def last_words(self):
        """Waits until the other side closes; the type and the body of what it said last."""
        while self.receive()[0] is not None:
            pass
        return self.heard

    def close(self):
        self.sock.close()
        for file in self.kept:
            os.close(file)
        self.kept = []


class Side:
    """Steps, taken one after the other: advance(step) goes on until that one is done."""

    STEPS = {}

    def __init__(self):
        self.done, self.channel = [], None

    def advance(self, last):
        for step, take in self.STEPS.items():
            if last in self.done:
                break
            if step not in self.done:
                take(self)
                self.done.append(step)
        return self

    def close(self):
        if self.channel:
            self.channel.close()


class NewSide(Side):
    """Plays the new process."""

    def __init__(self, path, step="connect"):
        super().__init__()
        self.offered = self.listening = self.state = self.files = None
        self.channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.channel.sock.connect(path)
        self.advance(step)

    def _offer(self):
        self.offered = decode(self.channel.expect(OFFER)[0])["listening"]

    def _listeners(self):
        self.listening = self.channel.receive_files(sum(entry["sockets"] for entry in self.offered))

    def _state(self):
        body, (memory,) = self.channel.expect(STATE)
        self.files = [None] * int(body)
        with open(f"/proc/self/fd/{memory}", "rb") as file:
            self.state = decode(file.read())

    def _sessions(self):
        self.files = self.channel.receive_files(len(self.files))

    STEPS = {
        "connect": lambda self: None,
        "hello": lambda self: self.channel.send(HELLO, encode({"newest": 1, "oldest": 1, "program": "test"})),
        "offer": _offer,
        "listeners": _listeners,
        "pause": lambda self: self.channel.send(PAUSE),
        "state": _state,
        "sessions": _sessions,
        "ready": lambda self: self.channel.send(READY),
        "commit": lambda self: self.channel.expect(COMMIT),
        "serving": lambda self: self.channel.send(SERVING),
    }

    def queued(self, relay):
        """The bytes that a direction holds."""
        pipe = relay.get("pipe")
        return os.read(self.files[pipe["read"]], pipe["bytes"]) if pipe else relay.get("bytes", b"")


class OldSide(Side):
    """Plays the running process, with one listener and one server. `alter` is given what OFFER and STATE tell."""

    def __init__(self, path, front, server, alter=lambda told: told):
        super().__init__()
        self.front, self.server, self.alter = front, server, alter
        self.files, self.sessions = [], []
        self.answering = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.answering.bind(path)
        os.chmod(path, 0o600)
        family, name = parse_address(front)
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT) if family != socket.AF_UNIX else ():
            self.listener.setsockopt(socket.SOL_SOCKET, option, 1)
        self.listener.bind(name)
        for sock in (self.answering, self.listener):
            sock.settimeout(SOCKET_TIMEOUT)  # which makes it non-blocking, too
            sock.listen(1000)

    def place(self, file):
        """Where this file descriptor, which is ours from now on, is among those of the state."""
        os.set_blocking(file, False)
        self.files.append(file)
        return len(self.files) - 1

    def accept(self, connected=True, **more):
        """Takes in a client; `more` is told of the session."""
        now = time.monotonic_ns()
        session = {"route": 0 if connected else 1, "number": len(self.sessions) + 1, "quiet_checks": 0}
        session["client"] = self.place(self.listener.accept()[0].detach())
        if connected:
            session["server"] = self.place(connect(self.server).detach())
        directions = {name: {"received": 0, "sent": 0} for name in ("to_server", "to_client")}
        self.sessions.append({**session, "accepted_at": now, "last_byte_at": now, **directions, **more})
        return self.sessions[-1]

    def state(self):
        took = {"buckets": [], "sum_ns": 0}
        server = {"address": self.server, "up": True, "counters": {}}
        names = {"listener": "front", "upstream": "back", "server": self.server}
        route = {**names, "idle_timeout_ms": 0, "half_closed_timeout_ms": 300_000, "keepalive_s": 30}
        return {"listeners": [{"name": "front", "upstream": "back", "counters": {}, "duration": took}],
                "upstreams": [{"name": "back", "connect_duration": took, "servers": [server]}],
                "workers": [{"counters": {}, "loop_turn": took}],
                "routes": [route, {**route, "server": ""}],
                "sessions": self.sessions}

    def _hello(self):
        self.channel = Channel(self.answering.accept()[0])
        hello = decode(self.channel.expect(HELLO)[0])
        assert hello["oldest"] <= 1 <= hello["newest"], hello

    def _offer(self):
        address = {"listener": "front", "configured": self.front, "bound": self.front}
        listening = [{**address, "sockets": 1, "device": 0, "inode": 0}]
        self.channel.send(OFFER, encode(self.alter({"listening": listening})))

    def send_state(self, text, count):
        memory = os.memfd_create("state")
        try:
            os.write(memory, text)
            os.lseek(memory, 0, os.SEEK_SET)
            self.channel.send(STATE, count, [memory])
        finally:
            os.close(memory)

    def _state(self):
        self.send_state(encode(self.alter(self.state())), b"%d" % len(self.files))

    STEPS = {
        "hello": _hello,
        "offer": _offer,
        "listeners": lambda self: self.channel.send_files([self.listener.fileno()]),
        "pause": lambda self: self.channel.expect(PAUSE),
        "state": _state,
        "half": lambda self: self.channel.send_files(self.files[:1]),
        "sessions": lambda self: self.channel.send_files(self.files[1:]),
        "ready": lambda self: self.channel.expect(READY),
        "commit": lambda self: self.channel.send(COMMIT),
        "serving": lambda self: self.channel.expect(SERVING),
    }

    def close(self):
        super().close()
        for sock in (self.answering, self.listener):
            sock.close()
        for file in self.files:
            os.close(file)
        self.files = []


class Player:
    """A side, played up to `step` by a process of its own, which says so and then stands still until close()."""

    def __init__(self, role, path, step, *more):
        command = [sys.executable, os.path.abspath(__file__), role, path, step, *map(str, more)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait(self, word):
        said = self.process.stdout.readline().strip()
        assert said == word, f"it said '{said}', not '{word}'"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def _play(role, path, step, front="", server="", clients="0"):
    side = NewSide(path) if role == "new" else OldSide(path, front, server)
    if role == "old":
        print("listening", flush=True)
    for _ in range(int(clients)):
        side.accept()
    side.advance(step)
    print(step, flush=True)
    threading.Event().wait()


# ---- Real processes -------------------------------------------------------------------------------------------------


class Line:
    """Processes that take over from each other, at one socket."""

    def __init__(self, launch, directory):
        self.launch, self.directory = launch, Path(directory)
        self.socket, self.admin = f"{directory}/takeover", unused_address()
        self.settings, self.options = None, {}
        self.pauses, self.took = [], 0.0  # in ms; in s, from the last one's start to its success
        self._numbers = itertools.count()

    def config(self, servers, **options):
        return config(servers, **{"admin": {"listen": self.admin}, "takeover": {"socket": self.socket}, **options})

    def first(self, settings, **options):
        """A process that starts as usual; the options are for those that follow, too."""
        self.settings, self.options = settings, {"directory": self.directory, **options}
        return self.launch(settings, **self.options).wait_ready()

    def begin(self, settings=None, **options):
        """Starts a process that is to take over."""
        self.settings = settings or self.settings
        path = self.directory / f"successor-{next(self._numbers)}.yaml"
        path.write_text(text_of(self.settings))
        options = {"directory": self.directory, **self.options, **options}
        new = self.launch(self.settings, arguments=["run", "--config", str(path), "--takeover"], **options)
        new.config_path, new._expected = path, new._count_listening(self.settings)
        return new

    def complete(self, old, new):
        """Waits until `new` is ready and `old` is gone; returns `new`."""
        started = time.monotonic()
        wait_until(lambda: new.log_lines("took over sessions=") or not new.running(),
                   lambda: f"it is taken over; the logs:\n{old.log()}\n{new.log()}", timeout=30)
        self.took = time.monotonic() - started
        assert new.running(), f"the new one ended; the logs:\n{old.log()}\n{new.log()}"
        assert old.wait() == 0, old.log()
        assert old.log_lines("handing over sessions="), old.log()
        (line,) = old.log_lines("handed over sessions=")
        self.pauses.append(float(re.search(r"pause_ms=([\d.]+)", line)[1]))
        return new.wait_ready()

    def after(self, old, settings=None, **options):
        """Takes over from `old`; returns the new process."""
        return self.complete(old, self.begin(settings, **options))


def push(sock, position, sent, limit, chunk=64 * KIB):
    """Sends on from byte `sent` of the pattern for as long as it is taken, but not beyond `limit`; returns how far."""
    timeout = sock.gettimeout()
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sent < limit:
            sent += sock.send(pattern(position + sent, min(chunk, limit - sent)))
    sock.settimeout(timeout)
    return sent


def fill(sock, position, chunk=64 * KIB):
    """Sends to one who does not read until nobody takes any more, but at most ENOUGH; returns how much."""
    sent = [0]

    def more():
        sent[0] = push(sock, position, sent[0], ENOUGH, chunk)
        return sent[0]

    return wait_steady(more, hold=0.3)


class Reader:
    """A client of an echo server. Up to `ahead` bytes are on their way back to it; it reads `most` at a time."""

    def __init__(self, address, number, most, ahead, segment=None):
        family, name = parse_address(address)
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(60 * PATIENCE)
        if segment:  # with short ones the kernel queues little for it: the proxy must
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        self.sock.connect(name)
        self.verifier, self.most, self.ahead, self.sent = Verifier(number * SPACING), most, ahead, 0

    def push(self):
        self.sent = push(self.sock, self.verifier.start, self.sent, self.verifier.received + self.ahead)
        return self.sent

    def read(self, most):
        piece = self.sock.recv(most)
        assert piece, f"the stream ended after {self.verifier.received} of {self.sent} bytes"
        self.verifier.feed(piece)

    def finish(self):
        while self.verifier.received < self.sent:
            self.read(MIB)
        self.sock.shutdown(socket.SHUT_WR)
        assert self.sock.recv(1) == b""
        return self.sent


class Traffic:
    """Verified streams to an echo server: pings, bulk, readers that stand still with megabytes under way, slow ones."""

    def __init__(self, address, pings=10, bulk=2, stopped=2, slow=0):
        self.sessions = pings + bulk + stopped + slow
        kinds = [(MIB, 2 * MIB)] * bulk + [(0, ENOUGH)] * stopped + [(8 * KIB, 256 * KIB, 1000)] * slow
        self.readers = [Reader(address, i, *kind) for i, kind in enumerate(kinds)]
        wait_steady(lambda: sum(reader.push() for reader in self.readers), hold=0.3)
        self._over = threading.Event()
        self._job = Job(self._read)
        self.pingers = Pingers(address, pings)

    def _read(self):
        while not self._over.wait(0.01):
            for reader in self.readers:
                if reader.most:
                    reader.read(reader.most)
                    reader.push()

    def _counts(self):
        return self.pingers.rounds + [reader.verifier.received >> 20 for reader in self.readers if reader.most == MIB]

    def moved_on(self):
        """A function that says whether pings and bulk have moved on since now by more than was under way already."""
        before = self._counts()
        return lambda: all(now >= then + 10 for now, then in zip(self._counts(), before))

    def failed(self):
        return self.pingers.failed() or not self._job.is_alive()

    def wait_moving(self, timeout=15):
        moved = self.moved_on()
        wait_until(lambda: self.failed() or moved(), "streams move on", timeout)
        if self.failed():
            self.finish()  # which raises what went wrong

    def finish(self):
        """Ends all streams: every byte has arrived. Returns how many; of each ping session maybe one message more."""
        self._over.set()
        self.pingers.stop()
        self._job.finish()
        total = sum(reader.finish() for reader in self.readers) + sum(self.pingers.rounds) * self.pingers.length
        self.close()
        return total

    def close(self):
        self._over.set()
        with contextlib.suppress(AssertionError, OSError):
            self.pingers.stop()
        for reader in self.readers:
            with contextlib.suppress(OSError):
                reader.sock.shutdown(socket.SHUT_RDWR)  # which wakes the thread
            reader.sock.close()


def some(values, *chosen):
    """Parameters, of which the chosen ones also run against the sanitizer builds."""
    return [pytest.param(*(value if isinstance(value, tuple) else (value,)),
                         marks=[pytest.mark.sanitizer] * (value in chosen)) for value in values]


@pytest.fixture
def line(launch, tmp_path):
    return Line(launch, tmp_path)


@pytest.fixture
def echo():
    """The address of an echo server in a fast process of its own."""
    process = subprocess.Popen([ECHO, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().split("address=")[1].strip()
    process.terminate()
    process.wait()
    process.stdout.close()


if __name__ == "__main__":  # Player
    _play(*sys.argv[1:])
