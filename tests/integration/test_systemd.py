"""deploy/systemd/ringmain.service under a real systemd, in namespaces of its own: `systemctl reload` drops nothing, `systemctl stop` drains."""
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from peers import EchoServer, connect, ping, unused_address, wait_until
from proxy import RINGMAIN, config

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "ringmain.service"
SYSTEMD = "/lib/systemd/systemd"

BOOT = """#!/bin/sh -e
echo $$ > {cgroup}/cgroup.procs
exec unshare --pid --mount --fork --mount-proc --cgroup --kill-child sh -ec '
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system/ringmain.service.d
cp {directory}/ringmain.service /run/systemd/system/
cp {directory}/test.conf /run/systemd/system/ringmain.service.d/
export container=docker
exec {systemd} --system --unit=ringmain.service --log-target=console --show-status=no'
"""


class Machine:
    """A systemd that runs the unit and nothing else."""

    def __init__(self, directory, settings):
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        cgroup2 = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
        if os.geteuid() != 0 or not os.path.exists(SYSTEMD) or cgroup2 is None:
            pytest.skip("no systemd can be started here: it takes root, the package and a cgroup2 file system")
        self.cgroup = Path(cgroup2) / f"ringmain-test-{os.getpid()}"
        try:
            self.cgroup.mkdir()
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        directory.chmod(0o755)
        for parent in list(directory.parents)[:2]:
            parent.chmod(0o755)  # the service is no longer root when it looks
        shutil.copy(RINGMAIN, directory / "ringmain")
        self.file, self.log_path = directory / "ringmain.yaml", directory / "log"
        self.file.write_text(json.dumps(settings))
        unit = UNIT.read_text().replace("/usr/bin/ringmain", f"{directory}/ringmain").replace("/etc/ringmain/ringmain.yaml", str(self.file))
        unit = unit.replace("User=ringmain", "User=nobody").replace("Group=ringmain", "Group=nogroup")
        unit = unit.replace("LimitNOFILE=1048576", "LimitNOFILE=4096")
        (directory / "ringmain.service").write_text(unit)
        (directory / "test.conf").write_text(f"[Unit]\nDefaultDependencies=no\n[Service]\nStandardError=append:{self.log_path}\n")
        boot = directory / "boot"
        boot.write_text(BOOT.format(cgroup=self.cgroup, directory=directory, systemd=SYSTEMD))
        with open(directory / "systemd.log", "w") as log:
            self.process = subprocess.Popen(["sh", str(boot)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(lambda: self.process.poll() is not None or self.show("ActiveState") == "active", lambda: f"it runs: {self.log()}", timeout=20)
        if self.process.poll() is not None:
            why = (directory / "systemd.log").read_text()
            self.close()
            pytest.skip(f"systemd does not start here: {why}")

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    def systemctl(self, *arguments):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            return subprocess.CompletedProcess([], 1, "", "")
        command = ["nsenter", "-t", children[0], "-p", "-m", "-C", "systemctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def show(self, name):
        return self.systemctl("show", "-P", name, "ringmain.service").stdout.strip()

    def close(self):
        self.process.kill()  # and with it everything inside
        self.process.wait()

        def removed():
            for directory in sorted(self.cgroup.rglob("*/"), reverse=True) + [self.cgroup]:
                if directory.is_dir():
                    directory.rmdir()
            return True

        def tried():
            try:
                return removed()
            except OSError:
                return False

        wait_until(tried, "the control group is empty")


@pytest.mark.slow
def test_reloads_keep_sessions_and_a_stop_drains(own, tmp_path):
    server, address = own(EchoServer()), unused_address()
    settings = config([server.address], listen=address, admin={"listen": unused_address()},
                      takeover={"socket": "/run/ringmain/takeover.sock"}, drain={"timeout": "20s"})
    machine = own(Machine(tmp_path, settings))
    clients, pids = [own(connect(address)) for _ in range(10)], {machine.show("MainPID")}
    position = 0

    def still_there():
        nonlocal position
        for client in clients:
            ping(client, position, 3000)
        position += 3000

    still_there()
    for _ in range(3):
        done = machine.systemctl("reload", "ringmain.service")
        assert done.returncode == 0, done.stderr + machine.log()
        still_there()
        pids.add(machine.show("MainPID"))
        assert machine.show("SubState") == "running" and machine.show("NRestarts") == "0"
    assert len(pids) == 4

    machine.file.write_text(json.dumps({**settings, "workers": "many"}))
    assert machine.systemctl("reload", "ringmain.service").returncode != 0
    assert machine.show("SubState") == "running" and machine.show("MainPID") in pids
    still_there()

    assert machine.systemctl("stop", "--no-block", "ringmain.service").returncode == 0
    wait_until(lambda: "draining sessions=10" in machine.log(), machine.log)
    still_there()
    time.sleep(1)  # longer than a stop that does not wait would take
    still_there()
    assert machine.show("ActiveState") == "deactivating"
    for client in clients:
        client.close()
    wait_until(lambda: machine.show("ActiveState") == "inactive", machine.log)
    assert machine.show("Result") == "success"
