"""A systemd of its own, in namespaces and a control group of its own: a machine as far as a service can tell."""
import contextlib
import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from peers import wait_until

CLONE_NEWNET = 0x40000000

# {setup} makes the file system, in a mount namespace; {become} ends with systemd.
BOOT = """#!/bin/sh -e
echo $$ > {cgroup}/cgroup.procs
exec unshare --pid --mount --fork --mount-proc --cgroup --kill-child {options} sh -ec '
mount --make-rprivate /
{setup}
export container=docker
exec {become} --system --log-target=console --show-status=no --unit={unit}'
"""


class Machine:
    """Boots with the unit `unit`. close() ends everything in it."""

    def __init__(self, directory, *, unit, setup, become, options=""):
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        cgroup2 = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
        if os.geteuid() != 0 or cgroup2 is None:
            pytest.skip("no systemd can be started here: it takes root and a cgroup2 file system")
        self.cgroup = Path(cgroup2) / f"ringmain-test-{os.getpid()}"
        try:
            self.cgroup.mkdir()
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        self.console = directory / "console"
        boot = directory / "boot"
        boot.write_text(BOOT.format(cgroup=self.cgroup, setup=setup, become=become, options=options, unit=unit))
        with open(self.console, "w") as log:
            self.process = subprocess.Popen(["sh", str(boot)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_for(self, predicate, what, timeout=30):
        """Skips the test if the machine ends instead: then this is no place for one."""
        wait_until(lambda: self.process.poll() is not None or predicate(), lambda: f"{what}: {self.console.read_text()}", timeout=timeout)
        if self.process.poll() is not None:
            why = self.console.read_text()
            self.close()
            pytest.skip(f"systemd does not start here: {why}")

    @property
    def init(self):
        """Its first process, by its number out here; none yet, or none any more."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def run(self, *command, timeout=120):
        if (init := self.init) is None:
            return subprocess.CompletedProcess(command, 1, "", "")
        inside = ["nsenter", "-t", str(init), "-p", "-m", "-n", "-C", "-r", "-w", *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=timeout, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                                                                                           "DEBIAN_FRONTEND": "noninteractive"})

    def systemctl(self, *arguments):
        return self.run("systemctl", *arguments)

    def show(self, name, unit="ringmain.service"):
        return self.systemctl("show", "-P", name, unit).stdout.strip()

    @contextlib.contextmanager
    def network(self):
        """Sockets and threads that this thread makes meanwhile belong to the machine's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as own, open(f"/proc/{self.init}/ns/net") as its:
            assert libc.setns(its.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(own.fileno(), CLONE_NEWNET) == 0

    def close(self):
        self.process.kill()  # and with it everything inside
        self.process.wait()

        def removed():
            try:
                for directory in sorted(self.cgroup.rglob("*/"), reverse=True) + [self.cgroup]:
                    if directory.is_dir():
                        directory.rmdir()
                return True
            except OSError:
                return False

        wait_until(removed, "the control group is empty")
