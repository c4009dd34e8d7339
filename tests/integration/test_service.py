"""ringmain as a service: signs of life for the service manager and sockets from it, `ringmain health`, and `--linger` for containers."""
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from peers import SANITIZER, Crowd, EchoServer, ManualServer, connect, format_address, listen, ping, unused_address, wait_until
from proxy import config, run_command

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000


class Manager:
    """What systemd is to a service: a socket that hears what it is told, and by whom."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(self.path)
        self.socket.settimeout(10)

    def told(self):
        """(process, message), once there is one."""
        message, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
        return struct.unpack("iii", ancillary[0][2])[0], message.decode()

    def told_by(self, process, message):
        """Waits until this process has said this; returns what came before."""
        before = []
        while before[-1:] != [(process, message)]:
            before.append(self.told())
        return before[:-1]

    def nothing_new(self):
        self.socket.setblocking(False)
        try:
            return [self.told()]
        except BlockingIOError:
            return []
        finally:
            self.socket.settimeout(10)

    def close(self):
        self.socket.close()


class Stopped:
    """One thread of a process that stands still, until close()."""

    def __init__(self, thread):
        self.thread, self.libc = thread, ctypes.CDLL(None, use_errno=True)
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            self.ptrace(request)
        os.waitpid(thread, WALL)

    def ptrace(self, request):
        if self.libc.ptrace(request, self.thread, None, None) != 0:
            pytest.skip(f"no thread can be stopped here: {os.strerror(ctypes.get_errno())}")

    def close(self):
        self.libc.ptrace(PTRACE_DETACH, self.thread, None, None)


def thread_of(process, name):
    return next(int(task.name) for task in Path(f"/proc/{process}/task").iterdir() if (task / "comm").read_text().strip() == name)


@pytest.mark.skipif(SANITIZER, reason="stops threads by ptrace, as the leak check does")
def test_signs_of_life_end_when_a_worker_stands_still(own, launch, tmp_path):
    server, manager = own(EchoServer()), own(Manager(tmp_path / "notify"))
    proxy = launch(config([server.address], workers=2, drain={"delay": "1s", "timeout": "1s"}),
                   env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"}).wait_ready()
    assert manager.told() == (proxy.pid, "READY=1")
    for _ in range(3):  # nobody connects meanwhile
        assert manager.told() == (proxy.pid, "WATCHDOG=1")

    stands_still = own(Stopped(thread_of(proxy.pid, "rm-worker-1")))
    wait_until(lambda: proxy.log_lines("a worker has not taken a turn"), "it is noticed")
    while manager.nothing_new():
        pass
    wait_until(lambda: len(proxy.log_lines("a worker has not taken a turn")) >= 4, "it stays so")
    assert manager.nothing_new() == []

    stands_still.close()
    assert manager.told() == (proxy.pid, "WATCHDOG=1")
    proxy.signal(signal.SIGTERM)
    manager.told_by(proxy.pid, "STOPPING=1")
    assert manager.told() == (proxy.pid, "WATCHDOG=1")  # while it drains, too
    assert proxy.wait() == 0


@pytest.mark.parametrize("value", ["0", "many", ""])
def test_without_a_watchdog(value, own, launch, tmp_path):
    server, manager = own(EchoServer()), own(Manager(tmp_path / "notify"))
    proxy = launch(config([server.address]), env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": value}).wait_ready()
    assert manager.told() == (proxy.pid, "READY=1")
    assert proxy.stop() == 0
    assert manager.told() == (proxy.pid, "STOPPING=1")


# ---- ringmain health ------------------------------------------------------------------------------------------------


def health(*arguments):
    done = run_command("health", *arguments)
    return done.returncode, done.stdout + done.stderr


def test_health_is_readiness(own, ringmain):
    server = own(EchoServer())
    admin, metrics = unused_address(), unused_address()
    settings = config([server.address], admin={"listen": admin}, metrics={"listen": metrics}, drain={"delay": "10s", "timeout": "1s"})
    proxy = ringmain(settings)
    for arguments in (["--admin", admin], ["--admin", metrics], ["--config", str(proxy.config_path)]):
        assert health(*arguments) == (0, "ready\n")
    proxy.signal(signal.SIGTERM)
    wait_until(lambda: proxy.log_lines("draining"), "it drains")
    assert health("--admin", admin) == (1, f"ringmain: health: {admin}: it runs, but is not ready: it starts or drains\n")
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    assert health("--config", str(proxy.config_path)) == (1, f"ringmain: health: {admin}: Connection refused\n")


def test_health_of_what_is_no_ringmain(own):
    server = own(EchoServer())  # sends the request back
    assert health("--admin", server.address) == (1, f"ringmain: health: {server.address}: it answers: GET /readyz HTTP/1.1\n")
    silent = own(ManualServer())
    started = time.monotonic()
    assert health("--admin", silent.address) == (1, f"ringmain: health: {silent.address}: no answer within 2 s\n")
    assert time.monotonic() - started >= 2


def test_health_command_line(tmp_path):
    code, said = health("--admin", "here")
    assert code == 2 and said.startswith("ringmain: health: --admin: ")
    assert health("--config", str(tmp_path / "none.yaml"))[0] == 2
    assert health("--config", "a.yaml", "--admin", "127.0.0.1:9900")[0] == 2


# ---- Socket activation ----------------------------------------------------------------------------------------------

# Becomes the command, with the sockets from file descriptor 3 on, as systemd passes them. The first argument says whether to it.
PASS = """
import os, sys
os.environ.update(LISTEN_PID=str(os.getpid()) if sys.argv[1] == "ours" else "1", LISTEN_FDS=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


def passing(launch, settings, sockets, whose="ours", **options):
    """A ringmain that is started with these sockets."""
    duplicates = [fcntl.fcntl(sock, fcntl.F_DUPFD, 100) for sock in sockets]

    def arrange():
        for number, duplicate in enumerate(duplicates, 3):
            os.dup2(duplicate, number)

    try:
        return launch(settings, wrapper=[sys.executable, "-c", PASS, whose, str(len(sockets))], preexec_fn=arrange, close_fds=False, **options)
    finally:
        for duplicate in duplicates:
            os.close(duplicate)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_socket_of_the_service_manager(kind, own, launch, tmp_path):
    """All workers accept from it; it is there when ringmain is not; a takeover passes it on."""
    server = own(EchoServer())
    sock = own(listen("127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/front"))
    address = format_address(sock)
    settings = config([server.address], listen=address, workers=3, takeover={"socket": f"{tmp_path}/takeover"})
    early = own(connect(address))  # before ringmain is there
    proxy = passing(launch, settings, [sock]).wait_ready()
    assert proxy.address == address and proxy.log_lines("started", "workers=3")
    crowd = own(Crowd(address, 60))
    crowd.exchange(2000)
    ping(early, length=2000)
    assert all(entry["sessions"] >= 10 for entry in proxy.status()["workers"]), "all workers have some"

    new = launch(None, arguments=["run", "--config", str(proxy.config_path), "--takeover"])
    wait_until(lambda: new.log_lines("took over sessions=61"), new.log)
    assert proxy.wait() == 0
    crowd.exchange(2000)
    ping(own(connect(address)), length=2000)
    assert new.stop() == 0
    own(connect(address))  # still listened on
    if kind == "unix":
        assert os.path.exists(f"{tmp_path}/front")  # which was not ringmain's to remove


def test_sockets_of_nobody(own, launch):
    server, other = own(EchoServer()), own(listen())
    plain = own(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    proxy = passing(launch, config([server.address], listen=unused_address()), [other, plain]).wait_ready()
    assert proxy.log_lines("no listener is configured with the address", format_address(other))
    assert proxy.log_lines("file descriptor 4 of the service manager is no stream socket")
    ping(own(connect(proxy.address)))


def test_sockets_for_another_process(own, launch):
    """As what a service starts inherits the variables, and sockets that are not its."""
    server, sock = own(EchoServer()), listen()
    address = format_address(sock)
    proxy = passing(launch, config([server.address], listen=address), [sock], whose="another's")
    sock.close()
    assert proxy.wait() == 1 and proxy.log_lines("in use")
    proxy.expected_exit = (1,)


# ---- --linger -------------------------------------------------------------------------------------------------------


def test_one_that_lingers_stays_until_it_is_told_to_end(own, launch, tmp_path):
    """As the pod of the version before does, whose container would be started again if it ended."""
    server = own(EchoServer())
    settings = config([server.address], listen=unused_address(), admin={"listen": unused_address()},
                      takeover={"socket": f"{tmp_path}/takeover"}, drain={"timeout": "500ms"})
    file = tmp_path / "ringmain.yaml"
    file.write_text(json.dumps(settings))
    arguments = ["run", "--config", str(file), "--takeover", "--linger"]
    old = launch(None, arguments=arguments).wait_ready()
    client = own(connect(settings["listeners"][0]["listen"]))
    ping(client, length=3000)
    new = launch(None, arguments=arguments).wait_ready()
    assert new.log_lines("took over sessions=1")
    wait_until(lambda: old.log_lines("lingering until SIGTERM"), "the old one has nothing left to do")
    ping(client, length=3000)
    assert old.running() and len(os.listdir(f"/proc/{old.pid}/task")) <= 2  # the main thread and the log's
    assert not any(target.startswith("socket:") for target in links(f"/proc/{old.pid}/fd"))
    other = own(connect(settings["listeners"][0]["listen"]))
    ping(other)
    client.close()
    wait_until(lambda: server.active == 1, "an end reaches the server, though the old process had the connection as well")
    old.signal(signal.SIGHUP)  # means nothing to it
    old.signal(signal.SIGTERM)
    assert old.wait() == 0
    ping(other, length=3000)
    other.close()
    assert new.running() and not new.log_lines("draining")
    new.signal(signal.SIGTERM)  # nobody has taken over from it: an end like any other
    assert new.wait() == 0


def links(directory):
    found = []
    for name in os.listdir(directory):
        try:
            found.append(os.readlink(f"{directory}/{name}"))
        except FileNotFoundError:
            pass
    return found


def test_linger_alone_changes_nothing(own, launch):
    server = own(EchoServer())
    proxy = launch(None, arguments=["run", "--listen", "127.0.0.1:0", "--to", server.address, "--admin", "127.0.0.1:0", "--linger"]).wait_ready()
    client = own(connect(proxy.address))
    ping(client)
    client.close()
    assert proxy.stop() == 0
