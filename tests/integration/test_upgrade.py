"""`ringmain upgrade`: the running process starts its program anew, which takes everything over; what a service manager is told of it."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from peers import EchoServer, Job, ManualServer, connect, ping, unused_address, wait_until
from proxy import RINGMAIN, Ringmain, config, run_command

class _Sibling:
    """What Popen is to a child, of one that another child has started."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout=None):
        deadline = time.monotonic() + (timeout or 60)
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("ringmain", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Upgraded(Ringmain):
    """The process that took over from `old`, whose log and file it goes on with."""

    def __init__(self, old, pid):
        self.config_path, self.log_path, self.addresses = old.config_path, old.log_path, old.addresses
        self.exit_code, self.expected_exit = None, (0,)
        self.process = _Sibling(pid)


@pytest.fixture
def upgraded(tmp_path):
    """upgraded(old, command's output) is the process after an upgrade; it must end cleanly."""
    found = []

    def after(old, output):
        said = re.fullmatch(r"process (\d+) took over (\d+) sessions?, which stood still for \d+ ms\n", output)
        assert said, output
        found.append(Upgraded(old, int(said[1])))
        assert old.wait() == 0
        return found[-1], int(said[2])

    yield after
    for process in reversed(found):
        process.finish()


def settings_for(servers, tmp_path, **options):
    return config(servers, **{"admin": {"listen": unused_address()}, "takeover": {"socket": f"{tmp_path}/takeover"}, **options})


def upgrade(proxy, **options):
    return run_command("upgrade", "--config", str(proxy.config_path), **options)


def command_line(proxy):
    return Path(f"/proc/{proxy.pid}/cmdline").read_bytes().split(b"\0")[:-1]


@pytest.mark.sanitizer
def test_sessions_live_through_upgrades(own, ringmain, upgraded, tmp_path):
    server = own(EchoServer())
    proxy = ringmain(settings_for([server.address], tmp_path, workers=2))
    started_with = command_line(proxy)
    clients = [own(connect(proxy.address)) for _ in range(20)]
    for upgrades in range(1, 4):
        for client in clients:
            ping(client, length=3000)
        done = upgrade(proxy)
        assert done.returncode == 0, done.stderr
        proxy, sessions = upgraded(proxy, done.stdout)
        assert sessions == 20
        assert command_line(proxy) == [*started_with, b"--takeover"]
        wait_until(lambda: proxy.get("/readyz")[0] == 200, "the new one is ready")
        assert len(proxy.log_lines("upgrading: starting")) == upgrades
    for client in clients:
        ping(client, length=3000)
    assert proxy.metric("ringmain_connections_active") == 20 and server.active == 20


def test_the_program_that_is_there_now_is_started(own, launch, upgraded, tmp_path):
    """As after a package upgrade: another file has been put in its place. The new file may say what it likes, it is just run."""
    server = own(EchoServer())
    program = tmp_path / "bin" / "ringmain"
    program.parent.mkdir()
    shutil.copy(RINGMAIN, program)
    proxy = launch(settings_for([server.address], tmp_path), binary=str(program)).wait_ready()
    client = own(connect(proxy.address))
    ping(client)
    shutil.copy(RINGMAIN, f"{program}.new")
    os.rename(f"{program}.new", program)
    done = upgrade(proxy)
    assert done.returncode == 0, done.stderr
    proxy, _ = upgraded(proxy, done.stdout)
    assert os.stat(f"/proc/{proxy.pid}/exe").st_ino == os.stat(program).st_ino
    ping(client)


@pytest.mark.parametrize("named", ["relative", "in PATH"])
def test_however_it_was_started(named, own, launch, upgraded, tmp_path):
    server = own(EchoServer())
    program = tmp_path / "bin" / "ringmain"
    program.parent.mkdir()
    shutil.copy(RINGMAIN, program)
    options = {"binary": "bin/ringmain"} if named == "relative" else {"binary": "ringmain", "env": {"PATH": f"{program.parent}:{os.environ['PATH']}"}}
    proxy = launch(settings_for([server.address], tmp_path), cwd=tmp_path, **options).wait_ready()
    client = own(connect(proxy.address))
    ping(client)
    done = upgrade(proxy)
    assert done.returncode == 0, done.stderr
    upgraded(proxy, done.stdout)
    ping(client)


# ---- What goes wrong changes nothing --------------------------------------------------------------------------------


def test_a_bad_file_is_found_before(own, ringmain, tmp_path):
    server = own(EchoServer())
    proxy = ringmain(settings_for([server.address], tmp_path))
    settings = json.loads(proxy.config_path.read_text())
    proxy.config_path.write_text(json.dumps({**settings, "workers": "many"}))
    done = upgrade(proxy)
    assert done.returncode == 2 and f"{proxy.config_path}:1:" in done.stderr and "workers: 'many'" in done.stderr
    assert not proxy.log_lines("upgrading")


def test_a_new_process_that_fails_is_reported(own, ringmain, tmp_path):
    """Its listener cannot be had; the running process, and its sessions, go on."""
    server, taken = own(EchoServer()), own(ManualServer())
    proxy = ringmain(settings_for([server.address], tmp_path))
    client = own(connect(proxy.address))
    settings = json.loads(proxy.config_path.read_text())
    good = proxy.config_path.read_text()
    settings["listeners"].append({"name": "more", "listen": taken.address, "upstream": settings["upstreams"][0]["name"]})
    proxy.config_path.write_text(json.dumps(settings))
    done = upgrade(proxy)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"ringmain: upgrade: the new process \(pid \d+\) ended before it took over; why is in its log, which is the "
                        r"running process's; the running process goes on\n", done.stderr), done.stderr
    assert proxy.log_lines("takeover failed", taken.address) and proxy.log_lines("upgrade failed, going on")
    ping(client)
    proxy.config_path.write_text(good)
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: proxy.log_lines("reloaded: nothing has changed"), "it can still be reloaded")


def test_without_the_program(own, launch, tmp_path):
    server = own(EchoServer())
    program = tmp_path / "ringmain"
    shutil.copy(RINGMAIN, program)
    proxy = launch(settings_for([server.address], tmp_path), binary=str(program)).wait_ready()
    program.unlink()
    done = upgrade(proxy)
    assert done.returncode == 1
    assert done.stderr == f"ringmain: upgrade: cannot start {program}: No such file or directory; the running process goes on\n"
    ping(own(connect(proxy.address)))


def test_a_program_that_hangs_or_dies(own, launch, tmp_path):
    """One upgrade at a time; a new process that is killed is reported as such."""
    server = own(EchoServer())
    program, pid_file = tmp_path / "ringmain", tmp_path / "pid"
    shutil.copy(RINGMAIN, program)
    proxy = launch(settings_for([server.address], tmp_path), binary=str(program)).wait_ready()
    program.unlink()
    program.write_text(f"#!/bin/sh\necho $$ > {pid_file}.new && mv {pid_file}.new {pid_file}\nexec sleep 60\n")
    program.chmod(0o755)
    first = Job(upgrade, proxy)
    wait_until(pid_file.exists, "the new process runs")
    # It is the parent's, which may be a service manager, and not the proxy's, which it outlives.
    assert f"PPid:\t{os.getpid()}\n" in Path(f"/proc/{pid_file.read_text().strip()}/status").read_text()
    second = upgrade(proxy)
    assert second.returncode == 1 and "an upgrade is under way already" in second.stderr
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    done = first.finish()
    assert done.returncode == 1 and "ended before it took over" in done.stderr
    ping(own(connect(proxy.address)))


@pytest.mark.parametrize("socket_is", ["missing", "dead", "not configured"])
def test_with_nobody_to_ask(socket_is, own, tmp_path):
    path, file = tmp_path / "takeover", tmp_path / "ringmain.yaml"
    settings = config(["127.0.0.1:1"], takeover={"socket": str(path)})
    if socket_is == "not configured":
        del settings["takeover"]
    if socket_is == "dead":
        left = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        left.bind(str(path))
        left.close()
    file.write_text(json.dumps(settings))
    done = run_command("upgrade", "--config", str(file))
    if socket_is == "not configured":
        assert done.returncode == 2 and "takeover.socket is not in the configuration" in done.stderr
    else:
        assert done.returncode == 1 and done.stderr == f"ringmain: upgrade: nobody answers at {path}; start it with ringmain run\n"


def test_the_first_process_of_a_container_refuses(own, launch, tmp_path):
    """The container would end with it."""
    if subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "true"], capture_output=True).returncode != 0:
        pytest.skip("no new PID namespace can be made here")
    server = own(EchoServer())
    proxy = launch(settings_for([server.address], tmp_path), wrapper=["unshare", "--pid", "--fork", "--kill-child"]).wait_ready()
    done = upgrade(proxy)
    assert done.returncode == 1 and "first process of its container" in done.stderr
    ping(own(connect(proxy.address)))
    os.kill(int(Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text()), signal.SIGTERM)
    assert proxy.wait() == 0


# ---- The service manager --------------------------------------------------------------------------------------------


def test_the_service_manager_follows(own, launch, upgraded, tmp_path):
    """READY once it serves; RELOADING and READY around a reload; the new process's MAINPID while the old one is still there; STOPPING."""
    server = own(EchoServer())
    manager = own(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    manager.bind(f"{tmp_path}/notify")
    manager.settimeout(10)

    def told():
        return manager.recv(4096).decode().split("\n")

    proxy = launch(settings_for([server.address], tmp_path), env={"NOTIFY_SOCKET": f"{tmp_path}/notify"}).wait_ready()
    assert told() == ["READY=1"]
    proxy.signal(signal.SIGHUP)
    before = time.monotonic_ns() // 1000
    state, stamp = told()
    assert state == "RELOADING=1" and 0 <= int(stamp.removeprefix("MONOTONIC_USEC=")) - before < 10_000_000
    assert told() == ["READY=1"]
    done = upgrade(proxy)
    assert done.returncode == 0, done.stderr
    proxy, _ = upgraded(proxy, done.stdout)
    assert told() == [f"MAINPID={proxy.pid}"]
    assert told() == ["READY=1"]
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    assert told() == ["STOPPING=1"]
