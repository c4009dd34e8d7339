"""The peers of the proxy: clients, servers, and the bytes they exchange.

Every byte is checked. Payload is a slice of one pseudo-random stream with a prime period, so a byte that is lost,
doubled, reordered or that comes from another session does not match at its position. Every socket has a timeout: a test
fails, it does not hang.
"""
import asyncio
import os
import random
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time

SANITIZER = bool(os.environ.get("RINGMAIN_SANITIZER"))
# What a deadline is multiplied with: sanitizer builds are several times slower.
PATIENCE = 5 if SANITIZER else 1
SOCKET_TIMEOUT = 20 * PATIENCE

PERIOD = 1048573  # a prime, so that no buffer size is a multiple of it
_STREAM = random.Random(2).randbytes(PERIOD) * 4
SPACING = 7919 * 13  # between the stream positions of two sessions


def pattern(position, length):
    """`length` bytes of the stream from `position`."""
    start = position % PERIOD
    if start + length <= len(_STREAM):
        return _STREAM[start : start + length]
    pieces = []
    while length > 0:
        piece = min(length, 3 * PERIOD)
        pieces.append(pattern(position, piece))
        position, length = position + piece, length - piece
    return b"".join(pieces)


class Verifier:
    """Checks a received stream against the pattern, chunk by chunk."""

    def __init__(self, position=0):
        self.start = position
        self.received = 0

    def feed(self, chunk):
        at = self.start + self.received
        if not _STREAM.startswith(chunk, at % PERIOD) and chunk != pattern(at, len(chunk)):
            expected = pattern(at, len(chunk))
            wrong = next(i for i, (a, b) in enumerate(zip(chunk, expected)) if a != b)
            raise AssertionError(
                f"byte {self.received + wrong} of the stream is wrong ({len(chunk)} bytes received at once)"
            )
        self.received += len(chunk)


def wait_until(predicate, what, timeout=10, interval=0.01):
    """Polls until `predicate()` is true and returns its value; fails after `timeout` s (more under sanitizers)."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout * PATIENCE} s: {what() if callable(what) else what}")
        time.sleep(interval)


def wait_steady(read, hold=0.5, timeout=30):
    """Waits until `read()` has not changed for `hold` seconds and returns it."""
    last, since = read(), time.monotonic()
    deadline = since + timeout * PATIENCE
    while time.monotonic() - since < hold * (2 if SANITIZER else 1):
        assert time.monotonic() < deadline, f"still changing, now {last}"
        time.sleep(0.01)
        value = read()
        if value != last:
            last, since = value, time.monotonic()
    return last


# ---- Addresses and sockets ------------------------------------------------------------------------------------------


def parse_address(text):
    """`127.0.0.1:80`, `[::1]:80`, `unix:/path` as (family, sockaddr)."""
    if text.startswith("unix:"):
        return socket.AF_UNIX, text[5:]
    host, port = text.rsplit(":", 1)
    if host.startswith("["):
        return socket.AF_INET6, (host[1:-1], int(port))
    return socket.AF_INET, (host, int(port))


def format_address(sock):
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def connect(address, receive_buffer=None, send_buffer=None, timeout=None, source=None):
    family, name = parse_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(timeout or SOCKET_TIMEOUT)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if send_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    try:
        if source:
            sock.bind((source, 0))
        sock.connect(name)
    except OSError:
        sock.close()
        raise
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def listen(address="127.0.0.1:0", backlog=4096):
    family, name = parse_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(SOCKET_TIMEOUT)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(name)
    sock.listen(backlog)
    return sock


_handed_out = set()


def unused_address():
    """An address on which nobody listens, another each time: the kernel may well choose a port again that it chose just now."""
    while True:
        with listen() as sock:
            address = format_address(sock)
        if address not in _handed_out:
            _handed_out.add(address)
            return address


def reset(sock):
    """Closes with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_exactly(sock, length):
    pieces = []
    while length > 0:
        piece = sock.recv(min(length, 1 << 20))
        assert piece, f"the stream ended {length} bytes early"
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def read_pattern(sock, position, length, chunk=1 << 20, progress=None):
    """Reads and checks exactly `length` bytes."""
    verifier = Verifier(position)
    while verifier.received < length:
        size = chunk() if callable(chunk) else chunk
        piece = sock.recv(min(size, length - verifier.received))
        assert piece, f"the stream ended after {verifier.received} of {length} bytes"
        verifier.feed(piece)
        if progress:
            progress(verifier.received)


def read_pattern_to_end(sock, position=0):
    """Reads and checks until the peer's FIN; returns the number of bytes."""
    verifier = Verifier(position)
    while piece := sock.recv(1 << 20):
        verifier.feed(piece)
    return verifier.received


def send_pattern(sock, position, length, chunk=1 << 18, progress=None):
    sent = 0
    while sent < length:
        size = min(chunk() if callable(chunk) else chunk, length - sent)
        sock.sendall(pattern(position + sent, size))
        sent += size
        if progress:
            progress(sent)


def ping(sock, position=0, length=64):
    """One verified round trip through an echo server."""
    message = pattern(position, length)
    sock.sendall(message)
    assert read_exactly(sock, length) == message, "the echo differs"


def expect_end(sock, timeout=5):
    """Reads until the connection ends; returns 'fin' or 'reset'. Fails if it stays open."""
    sock.settimeout(timeout * PATIENCE)
    try:
        while sock.recv(1 << 16):
            pass
        return "fin"
    except (ConnectionResetError, BrokenPipeError):
        return "reset"
    except TimeoutError:
        raise AssertionError(f"the connection is still open after {timeout * PATIENCE} s") from None


def refusal(address, timeout=5, source=None):
    """Connects where no session is to be had; returns how it ended: 'fin' or 'reset'."""
    try:
        sock = connect(address, source=source)
    except ConnectionResetError:  # it came before connect() returned
        return "reset"
    with sock:
        return expect_end(sock, timeout)


def is_open(sock):
    """Whether the peer has neither closed nor reset (data may wait)."""
    sock.setblocking(False)
    try:
        return sock.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        sock.settimeout(SOCKET_TIMEOUT)


class Job(threading.Thread):
    """A thread whose exception is raised by join()."""

    def __init__(self, function, *args, **kwargs):
        super().__init__(daemon=True)
        self._call = (function, args, kwargs)
        self._error = None
        self.result = None
        self.start()

    def run(self):
        function, args, kwargs = self._call
        try:
            self.result = function(*args, **kwargs)
        except BaseException as error:  # handed to the test's thread
            self._error = error

    def finish(self, timeout=120):
        self.join(timeout * PATIENCE)
        assert not self.is_alive(), "the thread did not finish"
        if self._error:
            raise self._error
        return self.result


# ---- Servers --------------------------------------------------------------------------------------------------------


class ManualServer:
    """A listening socket; the test itself plays the server."""

    def __init__(self, address="127.0.0.1:0", backlog=4096):
        self.listener = listen(address, backlog)
        self.address = format_address(self.listener)
        self.sockets = []

    def accept(self, timeout=None):
        self.listener.settimeout(timeout or SOCKET_TIMEOUT)
        sock, _ = self.listener.accept()
        sock.settimeout(SOCKET_TIMEOUT)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets.append(sock)
        return sock

    def close(self):
        for sock in [self.listener, *self.sockets]:
            sock.close()


class EchoServer:
    """Echoes, in a thread of its own, with backpressure; its FIN follows the peer's, after the last byte.

    `banner` is sent first on every connection: it tells the client which server it got. stop() kills it as a crash
    would (RST on every connection); start() brings it back on the same address.
    """

    def __init__(self, address="127.0.0.1:0", banner=b"", discard=False):
        self.banner = banner
        self.discard = discard
        self.accepted = 0
        self.transports = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.address = address
        self._server = None
        self.start()

    @property
    def active(self):
        return len(self.transports)

    def start(self):
        listener = listen(self.address)
        self.address = format_address(listener)
        listener.setblocking(False)
        unix = listener.family == socket.AF_UNIX
        create = self._loop.create_unix_server if unix else self._loop.create_server
        self._server = self._call(create(lambda: _Echo(self), sock=listener, backlog=4096))

    def stop(self):
        async def abort():
            if self._server:
                self._server.close()
            for transport in list(self.transports):
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()

        self._call(abort())
        self._server = None

    def close(self):
        if self._loop.is_closed():
            return
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SOCKET_TIMEOUT)


class _Echo(asyncio.Protocol):
    def __init__(self, server):
        self.server = server

    def connection_made(self, transport):
        self.transport = transport
        self.server.accepted += 1
        self.server.transports.add(transport)
        if self.server.banner:
            transport.write(self.server.banner)

    def data_received(self, data):
        if not self.server.discard:
            self.transport.write(data)

    def eof_received(self):
        self.transport.write_eof()

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def connection_lost(self, _):
        self.server.transports.discard(self.transport)


class EchoProcess:
    """An EchoServer in a process of its own, to be killed with SIGKILL and started again on the same port."""

    def __init__(self, banner=b""):
        self.banner = banner
        self.address = "127.0.0.1:0"
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), self.address, self.banner.decode()],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the echo process did not start"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def close(self):
        if self.process.poll() is None:
            self.kill()


class Blackhole:
    """A listening socket whose accept queue is full: a connect to it neither succeeds nor fails."""

    def __init__(self):
        self.listener = listen(backlog=0)
        self.address = format_address(self.listener)
        self.fillers = []
        for _ in range(16):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.listener.getsockname())
            self.fillers.append(filler)
        # The kernel has taken what it takes; the others are retrying.
        with socket.socket() as probe:
            probe.settimeout(0.3)
            try:
                probe.connect(self.listener.getsockname())
            except TimeoutError:
                return
        raise AssertionError("the blackhole accepts connections")

    def close(self):
        for sock in [self.listener, *self.fillers]:
            sock.close()


# ---- Many clients ---------------------------------------------------------------------------------------------------


class Crowd:
    """Many clients of an echo server, each with its own part of the stream."""

    def __init__(self, address, count, banner_length=0):
        self.socks = []
        self.banners = []
        self.positions = []
        try:
            for i in range(count):
                self.socks.append(connect(address))
                self.positions.append(i * SPACING)
            if banner_length:
                self.banners = [read_exactly(sock, banner_length) for sock in self.socks]
        except BaseException:
            self.close()
            raise

    def exchange(self, length=64):
        """One verified round trip of each, all in flight at once. `length` must fit into the sockets' buffers."""
        for sock, position in zip(self.socks, self.positions):
            sock.sendall(pattern(position, length))
        for i, sock in enumerate(self.socks):
            Verifier(self.positions[i]).feed(read_exactly(sock, length))
            self.positions[i] += length

    def close(self):
        for sock in self.socks:
            sock.close()


class Pingers:
    """Closed-loop verified pings over many sessions, in a thread, until stop(); keeps every latency, in seconds."""

    def __init__(self, address, count, length=64, warm=None):
        self.socks = [connect(address) for _ in range(count)]
        self.length = length
        self.rounds = [0] * count
        self.latencies = []
        self._sent_at = [0.0] * count
        self._got = [b""] * count
        self._stop = False
        self._job = Job(self._run)

    def _send(self, i):
        self._sent_at[i] = time.perf_counter()
        self.socks[i].sendall(self._message(i))

    def _message(self, i):
        return pattern(i * SPACING + self.rounds[i] * self.length, self.length)

    def _run(self):
        with selectors.DefaultSelector() as selector:
            for i, sock in enumerate(self.socks):
                selector.register(sock, selectors.EVENT_READ, i)
                self._send(i)
            while not self._stop:
                for key, _ in selector.select(0.05):
                    self._receive(key.data)

    def _receive(self, i):
        piece = self.socks[i].recv(4096)
        assert piece, f"ping session {i} was closed"
        self._got[i] += piece
        if len(self._got[i]) < self.length:
            return
        assert self._got[i] == self._message(i), f"ping session {i}: the echo differs"
        self.latencies.append(time.perf_counter() - self._sent_at[i])
        self._got[i] = b""
        self.rounds[i] += 1
        self._send(i)

    def failed(self):
        return not self._job.is_alive()

    def stop(self):
        """Ends the pings; raises what went wrong."""
        self._stop = True
        try:
            self._job.finish()
        finally:
            for sock in self.socks:
                sock.close()

    def quantile(self, q):
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


if __name__ == "__main__":  # EchoProcess
    server = EchoServer(sys.argv[1], banner=sys.argv[2].encode())
    print(server.address, flush=True)
    threading.Event().wait()
