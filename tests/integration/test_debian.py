"""The Debian packages, in a system made by debootstrap whose first process is its own systemd: installed, upgraded under load, removed, purged."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from machine import Machine
from peers import EchoServer, Pingers, wait_until
from proxy import BUILD

ROOT = Path(__file__).resolve().parents[2]
BUILDER = ROOT / "deploy" / "debian" / "build"

# Its own network, for the package's configuration has fixed ports. The limits are those of this machine; and what systemd brings that a test can do
# without is not started.
SETUP = """mount --bind {root} {root}
mount -t proc proc {root}/proc
mount -t sysfs sysfs {root}/sys
mount -t cgroup2 none {root}/sys/fs/cgroup
mount -t tmpfs tmpfs {root}/run
mount --rbind /dev {root}/dev
/usr/bin/python3 -c "{loopback}"
cd {root}
mkdir -p old-root
pivot_root . old-root
umount -l /old-root"""
LOOPBACK = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack(\\\"16sh14x\\\", b\\\"lo\\\", 0x41))"
DROP_IN = "[Service]\nLimitNOFILE=4096\nLimitMEMLOCK=\n"

CONFIG = """admin: {{ listen: 127.0.0.1:9900 }}
takeover: {{ socket: /run/ringmain/takeover.sock }}
drain: {{ timeout: 5s }}
listeners:
  - {{ name: front, listen: 127.0.0.1:8080, upstream: back }}
upstreams:
  - {{ name: back, servers: [{{ address: "{server}" }}] }}
"""


def build(folder, version):
    done = subprocess.run([BUILDER, "--version", version, "--binaries", BUILD, folder], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (package,) = folder.glob(f"ringmain_{version}_*.deb")
    return package


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Two versions that differ by their numbers."""
    for program in ("dpkg-buildpackage", "dh"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian packages dpkg-dev, debhelper)")
    folder = tmp_path_factory.mktemp("packages")
    return [build(folder, version) for version in ("0.1.0", "0.1.1")]


@pytest.fixture(scope="module")
def system(tmp_path_factory, packages):
    """The file system of a small Debian with what the package depends on."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("it takes root and debootstrap")
    root = tmp_path_factory.mktemp("system") / "root"
    release = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.M)[1]
    mirror = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True).stdout.split()
    done = subprocess.run(["debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv", release, root, *mirror[:1]], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"debootstrap does not work here: {done.stdout[-500:]}")
    depends = subprocess.run(["dpkg-deb", "-f", packages[0], "Depends"], capture_output=True, text=True, check=True).stdout
    names = [re.match(r"\S+", each.strip())[0] for each in depends.split(",")]
    install(root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *names)
    drop_in = root / "etc/systemd/system/ringmain.service.d/test.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(DROP_IN)
    for unit in ("getty.target", "systemd-logind.service", "systemd-networkd-wait-online.service"):
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    yield root
    shutil.rmtree(root)


def install(root, *command):
    done = subprocess.run(["chroot", root, *command], capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                                                                                          "DEBIAN_FRONTEND": "noninteractive"})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def machine(system, tmp_path):
    setup = SETUP.format(root=system, loopback=LOOPBACK)
    machine = Machine(tmp_path, unit="multi-user.target", setup=setup, become="/lib/systemd/systemd", options="--net")
    machine.wait_for(lambda: machine.show("ActiveState", "multi-user.target") == "active", "it has booted", timeout=60)
    yield machine
    machine.close()


def files(root):
    """What is in /etc, /usr and /var, but for what the package system keeps for itself."""
    found = set()
    for top in ("etc", "usr", "var"):
        for path in (root / top).rglob("*"):
            name = str(path.relative_to(root))
            if not re.match(r"var/(lib/dpkg|lib/systemd|lib/apt|cache|log/(dpkg|apt|alternatives|journal|btmp|wtmp|lastlog)|tmp)|etc/(passwd|group|shadow|gshadow|subuid|subgid)", name):
                found.add(name)
    return found


def broken(package, folder):
    """The same with a program that ends at once."""
    work = folder / "broken"
    subprocess.run(["dpkg-deb", "-R", package, work], check=True)
    control = work / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 0.1.2", control.read_text(), flags=re.M))
    (work / "usr/bin/ringmain").write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    made = folder / "ringmain_0.1.2.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", work, made], check=True, capture_output=True)
    return made


@pytest.mark.slow
def test_a_life_of_the_package(machine, system, packages, own, tmp_path):
    before = files(system)
    for package in [*packages, broken(packages[0], tmp_path)]:
        shutil.copy(package, system / "root")

    def dpkg(*arguments):
        done = machine.run("dpkg", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def said():
        return machine.run("journalctl", "-u", "ringmain", "--no-pager").stdout + machine.console.read_text()

    # Installed, it runs with the configuration that it brings.
    dpkg("-i", f"/root/{packages[0].name}")
    assert machine.show("ActiveState") == "active", said()
    assert machine.show("UnitFileState") == "enabled"
    assert machine.run("ringmain", "health", "--config", "/etc/ringmain/ringmain.yaml").stdout == "ready\n"
    user = machine.run("ps", "-o", "user=", "-p", machine.show("MainPID")).stdout.strip() or Path(
        f"{system}/etc/passwd").read_text()
    assert "ringmain" in user

    # Configured, it carries a stream.
    with machine.network():
        server = own(EchoServer("127.0.0.1:7001"))
        (system / "etc/ringmain/ringmain.yaml").write_text(CONFIG.format(server=server.address))
        assert machine.systemctl("reload", "ringmain").returncode == 0, said()
        streams = Pingers("127.0.0.1:8080", 20, length=2000)
    wait_until(lambda: min(streams.rounds) > 5, "every stream moves")

    def moves():
        rounds = list(streams.rounds)
        wait_until(lambda: all(now > then + 5 for then, now in zip(rounds, streams.rounds)), "every stream moves on")

    # The next version takes over: another process, another file, the same streams.
    process = machine.show("MainPID")
    told = dpkg("-i", f"/root/{packages[1].name}")
    assert "the new version has taken over" in told, told + said()
    moves()
    assert machine.show("MainPID") != process and machine.show("NRestarts") == "0" and machine.show("ActiveState") == "active"
    assert machine.run("readlink", f"/proc/{machine.show('MainPID')}/exe").stdout == "/usr/bin/ringmain\n"  # and not "(deleted)"
    assert CONFIG.format(server=server.address) == (system / "etc/ringmain/ringmain.yaml").read_text()

    # A version that does not run: the one before goes on, and the package is there to be replaced.
    process = machine.show("MainPID")
    told = dpkg("-i", "/root/ringmain_0.1.2.deb")
    assert "the version before goes on" in told, told + said()
    moves()
    assert machine.show("MainPID") == process and machine.show("ActiveState") == "active"
    # The version before that again.
    assert "the new version has taken over" in dpkg("-i", f"/root/{packages[0].name}")
    moves()
    assert streams._job.is_alive() and server.accepted == 20
    streams.stop()

    # Removed, it has stopped and left its configuration; purged, nothing is left but the user.
    dpkg("-r", "ringmain")
    assert machine.show("ActiveState") in ("inactive", "failed") and machine.show("MainPID") == "0"
    assert (system / "etc/ringmain/ringmain.yaml").exists()
    dpkg("-P", "ringmain")
    assert files(system) - before == set() and machine.show("LoadState") in ("not-found", "masked")


def test_packages_need_what_the_build_needs():
    control = (ROOT / "deploy" / "debian" / "control").read_text()
    named = re.search(r"^Build-Depends: (.*?)\n\S", control, re.S | re.M)[1]
    depends = {re.match(r"[\w.+-]+", each.strip())[0] for each in named.split(",")}
    packages = set(re.search(r"^BUILD_PACKAGES=\((.*?)\)", (ROOT / "deploy" / "packages.sh").read_text(), re.S | re.M)[1].split())
    # build-essential is taken for granted, tests are not run.
    assert depends - {"debhelper-compat", "python3"} == packages - {"g++", "libgtest-dev"}


def test_every_file_that_is_packaged_is_there():
    folder = ROOT / "deploy" / "debian"
    for listing in [*folder.glob("*.install"), *folder.glob("*.manpages"), *folder.glob("*.docs"), *folder.glob("*.examples")]:
        for line in listing.read_text().splitlines():
            source = line.split()[0]
            assert source.startswith(("usr/bin/", "debian/made/")) or list(ROOT.glob(source)), f"{listing.name}: {source}"


def test_an_upgrade_neither_stops_nor_restarts():
    rules = (ROOT / "deploy" / "debian" / "rules").read_text()
    assert "dh_installsystemd --no-restart-after-upgrade --no-stop-on-upgrade" in rules
