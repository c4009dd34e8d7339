"""A terminal with a program on it: what the program shows, and what is left when it has ended. The screen is pyte's."""
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pyte

from peers import PATIENCE, wait_until

KEYS = {"up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D", "page down": "\x1b[6~", "end": "\x1b[F", "home": "\x1b[H", "escape": "\x1b"}


class Terminal:
    """Runs a command with a terminal for its standard streams, which controls it, in a session of its own."""

    def __init__(self, command, columns=120, lines=30, env=None):
        self._master, self._slave = pty.openpty()
        self._set_size(columns, lines)
        self.settings = termios.tcgetattr(self._slave)
        self.output = b""  # all that was written
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        base = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**base, "TERM": "xterm-256color", **(env or {})},
        )

    def _set_size(self, columns, lines):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self):
        while select.select([self._master], [], [], 0)[0]:
            piece = os.read(self._master, 1 << 16)
            self.output += piece
            self._stream.feed(piece)

    # ---- Looking at it ----

    def lines(self):
        """What is on the screen now."""
        self._read()
        return [line.rstrip() for line in self.screen.display]

    def text(self):
        return "\n".join(self.lines())

    def wait(self, right, timeout=10):
        """Waits until right(lines) holds for what is on the screen, and returns that."""
        return wait_until(lambda: right(self.lines()) and self.lines(), lambda: f"the screen is right; it is\n{self.text()}", timeout)

    def wait_text(self, *texts):
        """Waits until all these are on the screen."""
        return self.wait(lambda lines: all(text in "\n".join(lines) for text in texts))

    def style(self, text):
        """The character (pyte's: fg, bold, reverse, ...) with which `text` begins on the screen."""
        self._read()
        for number, line in enumerate(self.screen.display):
            if text in line:
                return self.screen.buffer[number][line.index(text)]
        raise AssertionError(f"{text!r} is not on the screen:\n{self.text()}")

    # ---- Doing something ----

    def press(self, *keys):
        for key in keys:
            os.write(self._master, KEYS.get(key, key).encode())

    def resize(self, columns, lines):
        self.screen.resize(lines, columns)
        self._set_size(columns, lines)  # which sends SIGWINCH

    def end(self, timeout=10):
        """Waits for the end of the program and returns its exit code."""
        deadline = time.monotonic() + timeout * PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running:\n{self.text()}"
            self._read()  # what is not read may hold it up
            time.sleep(0.01)
        self._read()
        return self.process.returncode

    def is_given_back(self):
        """Whether the terminal is as it was: settings, screen, cursor, line breaks."""
        self._read()

        def is_on(mode):
            return self.output.rfind(b"\x1b[?%dh" % mode) > self.output.rfind(b"\x1b[?%dl" % mode)

        return termios.tcgetattr(self._slave) == self.settings and not is_on(1049) and is_on(25) and is_on(7)

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._master)
        os.close(self._slave)
