"""`ringmain upgrade`: the running process starts its program anew, which takes everything over; what a service manager is told of it.

Not against the sanitizer builds: ThreadSanitizer takes a clone for a fork, after which it allows no new thread. The takeover itself is tested there.
"""
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
        assert command_line(proxy) == [*started_with, b"--takeover-only"]
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
    shutil.copy(RINGMAIN, f"{program}.new")
    os.rename(f"{program}.new", program)
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
                        r"running process's; that one goes on\n", done.stderr), done.stderr
    wait_until(lambda: proxy.log_lines("upgrade failed: the new process"), "it is in the log, too")
    assert proxy.log_lines("takeover failed", taken.address)
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


FIRST = {"itself": [], "an init": ["sh", "-c", '"$@" & wait $!', "sh"]}


@pytest.mark.parametrize("first", FIRST)
def test_what_a_container_ends_with_refuses(first, own, launch, tmp_path):
    """The first process of it, or the child that this one waits for."""
    if subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "true"], capture_output=True).returncode != 0:
        pytest.skip("no new PID namespace can be made here")
    server = own(EchoServer())
    wrapper = ["unshare", "--pid", "--fork", "--kill-child", *FIRST[first]]
    proxy = launch(settings_for([server.address], tmp_path), wrapper=wrapper).wait_ready()
    done = upgrade(proxy)
    assert done.returncode == 1 and "the container would end with this process" in done.stderr
    ping(own(connect(proxy.address)))
    process = proxy.pid
    while children := Path(f"/proc/{process}/task/{process}/children").read_text().split():
        process = int(children[0])
    os.kill(process, signal.SIGTERM)
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
    before = time.monotonic_ns() // 1000
    proxy.signal(signal.SIGHUP)
    state, stamp = told()
    assert state == "RELOADING=1" and 0 <= int(stamp.removeprefix("MONOTONIC_USEC=")) - before < 10_000_000
    assert told() == ["READY=1"]
    done = upgrade(proxy)
    assert done.returncode == 0, done.stderr
    assert told()[0] == "RELOADING=1"
    proxy, _ = upgraded(proxy, done.stdout)
    assert told() == [f"MAINPID={proxy.pid}"]
    assert told() == ["READY=1"]
    settings, text = json.loads(proxy.config_path.read_text()), proxy.config_path.read_text()
    settings["listeners"].append({"name": "more", "listen": server.address, "upstream": settings["upstreams"][0]["name"]})
    proxy.config_path.write_text(json.dumps(settings))
    assert upgrade(proxy).returncode == 1  # its port is taken
    assert [told()[0], told()[0]] == ["RELOADING=1", "READY=1"]
    proxy.config_path.write_text(text)
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    assert told() == ["STOPPING=1"]


# ---- Told to end meanwhile ------------------------------------------------------------------------------------------


def slow_program(tmp_path, seconds):
    """A program that was ringmain when the proxy was started from it, and now takes a while before it is."""
    program = tmp_path / "ringmain"
    program.unlink()
    program.write_text(f"#!/bin/sh\nsleep {seconds}\nexec {RINGMAIN} \"$@\"\n")
    program.chmod(0o755)


def test_a_stop_is_not_undone(own, launch, tmp_path):
    """Told to end while the new process starts, it ends; the new one finds nobody to take over from, and does not start as usual."""
    server = own(EchoServer())
    shutil.copy(RINGMAIN, tmp_path / "ringmain")
    proxy = launch(settings_for([server.address], tmp_path), binary=str(tmp_path / "ringmain")).wait_ready()
    slow_program(tmp_path, 1)
    asked = Job(upgrade, proxy)
    wait_until(lambda: proxy.log_lines("upgrading: starting"), "the new one is started")
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    assert asked.finish().returncode == 1
    wait_until(lambda: proxy.log_lines("nobody to take over from"), "the new one has looked")
    pid, status = os.waitpid(-1, 0)  # the only child that is left
    assert os.waitstatus_to_exitcode(status) == 1
    assert not proxy.log_lines("starting normally")


def test_a_stop_in_the_middle_reaches_the_new_one(own, launch, upgraded, tmp_path):
    """Whoever sent it may have meant the process that was there a moment before."""
    server = own(EchoServer())
    proxy = launch(settings_for([server.address], tmp_path)).wait_ready()
    client = own(connect(proxy.address))
    ping(client)
    proxy.signal(signal.SIGSTOP)
    asked = Job(upgrade, proxy)
    time.sleep(0.3)  # it is asked, and cannot answer
    proxy.signal(signal.SIGCONT)
    wait_until(lambda: proxy.log_lines("handing over sessions="), "it hands over")
    proxy.signal(signal.SIGTERM)
    done = asked.finish()
    if done.returncode != 0:  # it came first
        assert proxy.wait() == 0
        return
    proxy, _ = upgraded(proxy, done.stdout)
    client.close()
    assert proxy.wait() == 0
    assert proxy.log_lines("draining")


def test_a_working_directory_that_is_gone(own, launch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    server = own(EchoServer())
    wrapper = ["sh", "-c", f'rmdir {gone}; exec "$@"', "sh"]
    ping(own(connect(launch(config([server.address]), cwd=gone, wrapper=wrapper).wait_ready().address)))
