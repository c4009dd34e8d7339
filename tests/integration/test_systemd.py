"""deploy/systemd: the unit under a real systemd, where `systemctl reload` drops nothing and `systemctl stop` drains; its confinement; settings."""
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from machine import Machine
from peers import EchoServer, connect, ping, unused_address, wait_until
from proxy import RINGMAIN, config

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = FOLDER / "ringmain.service"
SYSTEMD = "/lib/systemd/systemd"

SETUP = """umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/system/ringmain.service.d
cp {directory}/ringmain.service /run/systemd/system/
cp {directory}/test.conf /run/systemd/system/ringmain.service.d/"""

# What this machine may not have: its limits; and where things are, which the unit hides.
DROP_IN = """[Unit]
DefaultDependencies=no
[Service]
LimitNOFILE=4096
LimitMEMLOCK=
StandardError=append:{log}
BindReadOnlyPaths={directory}
"""


class Service(Machine):
    """This system's systemd, which runs the unit and nothing else."""

    def __init__(self, directory, settings):
        if not os.path.exists(SYSTEMD):
            pytest.skip("systemd is not installed")
        directory.chmod(0o755)
        for parent in list(directory.parents)[:2]:
            parent.chmod(0o755)  # the service is no longer root when it looks
        shutil.copy(RINGMAIN, directory / "ringmain")
        self.file, self.log_path = directory / "ringmain.yaml", directory / "log"
        self.file.write_text(json.dumps(settings))
        unit = UNIT.read_text().replace("/usr/bin/ringmain", f"{directory}/ringmain").replace("/etc/ringmain/ringmain.yaml", str(self.file))
        unit = unit.replace("User=ringmain", "User=nobody").replace("Group=ringmain", "Group=nogroup")
        (directory / "ringmain.service").write_text(unit)
        (directory / "test.conf").write_text(DROP_IN.format(log=self.log_path, directory=directory))
        super().__init__(directory, unit="ringmain.service", setup=SETUP.format(directory=directory), become=SYSTEMD)
        self.wait_for(lambda: self.show("ActiveState") == "active", "it runs")

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""


@pytest.mark.slow
def test_reloads_keep_sessions_and_a_stop_drains(own, tmp_path):
    server, address = own(EchoServer()), unused_address()
    settings = config([server.address], listen=address, admin={"listen": unused_address()},
                      takeover={"socket": "/run/ringmain/takeover.sock"}, drain={"timeout": "20s"})
    machine = own(Service(tmp_path, settings))
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


# ---- Confinement ----------------------------------------------------------------------------------------------------


def test_the_unit_is_confined():
    """By systemd's own count: 10 is not at all, 0 entirely."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", str(UNIT)], capture_output=True, text=True)
    if "Overall exposure level" not in done.stdout:
        pytest.skip(f"this systemd cannot tell: {done.stderr}")
    exposure = float(re.search(r"Overall exposure level for ringmain.service: ([\d.]+)", done.stdout)[1])
    print("exposure by systemd-analyze security:", exposure)
    assert exposure <= 2.0, done.stdout


def test_the_unit_is_valid(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    unit = tmp_path / "ringmain.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/ringmain", RINGMAIN).replace("man:ringmain(1) man:ringmain.yaml(5)", "man:ls(1)"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert "ringmain.service" not in done.stderr, done.stderr


def test_stopping_takes_no_longer_than_systemd_waits():
    """With the configuration that the package brings."""
    drain = yaml.safe_load((FOLDER.parent / "debian" / "ringmain.yaml").read_text())["drain"]
    assert int(drain["timeout"].removesuffix("s")) < int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.M)[1])


# ---- Settings -------------------------------------------------------------------------------------------------------


def test_every_sysctl_exists():
    """A misspelt one would be a warning at boot that nobody reads. One for a module that is not loaded is commented out."""
    text = (FOLDER / "sysctl.conf").read_text()
    settings = re.findall(r"^([a-z0-9_.]+) = (.+)$", text, re.M)
    assert len(settings) >= 10
    for name, value in settings:
        path = Path("/proc/sys") / name.replace(".", "/")
        assert path.exists(), name
        assert len(path.read_text().split()) == len(value.split()) and all(number.isdigit() for number in value.split())
    lines = text.splitlines()
    for name, _ in settings:  # each value has its reason above it
        line = next(i for i, each in enumerate(lines) if each.startswith(name))
        assert lines[line - 1].startswith("#") or lines[line - 1].startswith("net.ipv4.tcp_rmem"), name


def test_every_limit_is_one_that_pam_knows():
    known = {"nofile", "memlock", "nproc"}
    rules = [line.split() for line in (FOLDER / "limits.conf").read_text().splitlines() if line and not line.startswith("#")]
    assert {rule[2] for rule in rules} == known
    for user, kind, _, value in rules:
        assert user == "ringmain" and kind in ("soft", "hard") and value.isdigit()
