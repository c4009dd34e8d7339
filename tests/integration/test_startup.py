"""Start-up: addresses of every kind, addresses that cannot be had, and kernels that refuse."""
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

import seccomp_exec
from peers import (
    Crowd,
    EchoServer,
    Job,
    ManualServer,
    connect,
    format_address,
    listen,
    ping,
    read_pattern,
    read_pattern_to_end,
    send_pattern,
    unused_address,
    wait_until,
)
from proxy import RINGMAIN, config

FEATURES = ["defer_taskrun", "registered_ring", "multishot_accept", "multishot_receive", "optlen"]
MIB = 1 << 20


def _has_ipv6():
    try:
        listen("[::1]:0").close()
        return True
    except OSError:
        return False


def _exits(proxy, code):
    """Waits for a start that must fail; returns its log lines."""
    proxy.expected_exit = (code,)
    assert proxy.wait(20) == code, proxy.log()
    return proxy.log().splitlines()


def _answers(path):
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def _roundtrip(proxy, server, address=None):
    """A session with bulk both ways and a half-close."""
    client = connect(address or proxy.address)
    upstream = server.accept()
    receiver = Job(read_pattern_to_end, upstream, 1)
    send_pattern(client, 1, 3 * MIB)
    client.shutdown(socket.SHUT_WR)
    assert receiver.finish() == 3 * MIB
    sender = Job(send_pattern, upstream, 2, 3 * MIB)
    read_pattern(client, 2, 3 * MIB)
    sender.finish()
    upstream.close()
    assert client.recv(1) == b""
    client.close()


# ---- Addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("back", ["ipv4", "ipv6", "unix"])
@pytest.mark.parametrize("front", ["ipv4", "ipv6", "unix"])
def test_every_family_on_both_sides(front, back, own, ringmain, tmp_path):
    if "ipv6" in (front, back) and not _has_ipv6():
        pytest.skip("no IPv6 here")
    addresses = {"ipv4": "127.0.0.1:0", "ipv6": "[::1]:0"}
    server = own(ManualServer(addresses.get(back, f"unix:{tmp_path}/back.sock")))
    proxy = ringmain(config([server.address], listen=addresses.get(front, f"unix:{tmp_path}/front.sock"), workers=2))
    for _ in range(3):
        _roundtrip(proxy, server)
    proxy.wait_active(0)
    proxy.wait_closed(client_closed=3)
    assert proxy.status()["listeners"][0]["addresses"] == [proxy.address]
    assert proxy.metric("ringmain_server_up", server=server.address) == 1


@pytest.mark.sanitizer
def test_many_addresses_of_one_listener(own, ringmain, tmp_path):
    echo = own(EchoServer())
    listens = ["127.0.0.1:0", "127.0.0.1:0", f"unix:{tmp_path}/front.sock"] + (["[::1]:0"] if _has_ipv6() else [])
    proxy = ringmain(config([echo.address], listen=listens, workers=2))
    assert len(proxy.addresses["front"]) == len(set(proxy.addresses["front"])) == len(listens)
    for address in proxy.addresses["front"]:
        crowd = own(Crowd(address, 10))
        crowd.exchange(3000)
    assert proxy.metric("ringmain_connections_active", listener="front") == 10 * len(listens)
    assert proxy.status()["listeners"][0]["addresses"] == proxy.addresses["front"]


def test_all_ipv6_addresses_means_ipv6_only(own, ringmain):
    if not _has_ipv6():
        pytest.skip("no IPv6 here")
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], listen="[::]:0"))
    port = proxy.address.rsplit(":", 1)[1]
    ping(own(connect(f"[::1]:{port}")))
    with pytest.raises(ConnectionRefusedError):
        connect(f"127.0.0.1:{port}")


def test_unix_listener_replaces_a_stale_path(own, ringmain, tmp_path):
    path = tmp_path / "front.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], listen=f"unix:{path}", workers=2))
    crowd = own(Crowd(f"unix:{path}", 50))
    crowd.exchange(500)
    crowd.close()
    proxy.wait_active(0)
    # After a crash the path is stale again, after a clean end it may be: either way the next one starts.
    proxy.expected_exit = (-signal.SIGKILL,)
    proxy.signal(signal.SIGKILL)
    proxy.wait()
    # The kernel takes a killed process's ring down after the process, and its listening sockets with it.
    wait_until(lambda: not _answers(path), "nobody answers")
    for _ in range(2):
        proxy = ringmain(config([echo.address], listen=f"unix:{path}"))
        ping(own(connect(f"unix:{path}")))
        assert proxy.stop() == 0


def test_unix_path_that_answers_is_left_alone(own, launch, tmp_path):
    path = tmp_path / "front.sock"
    owner = own(EchoServer(f"unix:{path}"))
    proxy = launch(config([owner.address], listen=f"unix:{path}"))
    lines = _exits(proxy, 1)
    assert len([line for line in lines if str(path) in line]) == 1, lines
    ping(own(connect(f"unix:{path}")))


def test_file_that_is_no_socket_is_left_alone(own, launch, tmp_path):
    path = tmp_path / "front.sock"
    path.write_text("precious")
    lines = _exits(launch(config(["127.0.0.1:1"], listen=f"unix:{path}")), 1)
    assert len([line for line in lines if str(path) in line]) == 1, lines
    assert path.read_text() == "precious"


def test_missing_unix_server_is_refused(own, ringmain, tmp_path):
    echo = own(EchoServer())
    missing = f"unix:{tmp_path}/missing.sock"
    proxy = ringmain(config([missing, echo.address]))
    crowd = own(Crowd(proxy.address, 4))
    crowd.exchange()
    assert proxy.metric("ringmain_server_connect_failures_total", server=missing, reason="refused") >= 2


# ---- Addresses that cannot be had -----------------------------------------------------------------------------------


@pytest.mark.sanitizer
@pytest.mark.parametrize("workers", [1, 2])
def test_occupied_port(workers, own, launch):
    taken = own(listen())
    address = format_address(taken)
    lines = _exits(launch(config(["127.0.0.1:1"], listen=address, workers=workers)), 1)
    errors = [line for line in lines if address in line]
    assert len(errors) == 1 and "in use" in errors[0].lower(), lines


def test_port_of_another_ringmain(own, ringmain, launch):
    """A second instance by mistake fails: it must not share the port with the first (SO_REUSEPORT would let it)."""
    echo = own(EchoServer())
    first = ringmain(config([echo.address], workers=2))
    lines = _exits(launch(config([echo.address], listen=first.address)), 1)
    errors = [line for line in lines if first.address in line]
    assert len(errors) == 1 and "in use" in errors[0].lower(), lines
    crowd = own(Crowd(first.address, 20))
    crowd.exchange()


@pytest.mark.parametrize("section", ["admin", "metrics"])
def test_occupied_admin_port(section, own, launch):
    taken = own(listen())
    address = format_address(taken)
    lines = _exits(launch(config(["127.0.0.1:1"], **{section: {"listen": address}})), 1)
    errors = [line for line in lines if address in line]
    assert len(errors) == 1 and "in use" in errors[0].lower() and section in errors[0], lines


def test_address_of_another_machine(launch):
    lines = _exits(launch(config(["127.0.0.1:1"], listen="192.0.2.1:8080")), 1)
    assert len([line for line in lines if "192.0.2.1:8080" in line]) == 1, lines
    lines = _exits(launch(config(["127.0.0.1:1"], admin={"listen": "192.0.2.1:9900"})), 1)
    assert len([line for line in lines if "192.0.2.1:9900" in line]) == 1, lines


def test_directory_that_is_not_there(launch, tmp_path):
    path = tmp_path / "nowhere" / "front.sock"
    lines = _exits(launch(config(["127.0.0.1:1"], listen=f"unix:{path}")), 1)
    assert len([line for line in lines if str(path) in line]) == 1, lines


def test_nothing_is_left_after_a_failed_start(own, launch, tmp_path):
    """The first address could be had, the second not: afterwards both are free."""
    taken = own(listen())
    path = tmp_path / "front.sock"
    _exits(launch(config(["127.0.0.1:1"], listen=[f"unix:{path}", format_address(taken)])), 1)
    if path.exists():
        with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(str(path))
    else:
        own(listen(f"unix:{path}"))


# ---- Kernels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["EPERM", "ENOSYS"])
def test_io_uring_refused(code, launch):
    wrapper = [sys.executable, os.path.abspath(seccomp_exec.__file__), code]
    lines = _exits(launch(config(["127.0.0.1:1"]), wrapper=wrapper), 1)
    errors = [line for line in lines if "io_uring" in line]
    assert len(errors) == 1 and code in errors[0] and "seccomp" in errors[0], lines
    assert not [line for line in lines if "listening" in line]


@pytest.mark.sanitizer
@pytest.mark.parametrize("disabled", [*FEATURES, ",".join(FEATURES)])
def test_without_optional_features(disabled, own, ringmain):
    server, echo = own(ManualServer()), own(EchoServer())
    settings = config([server.address], workers=2)
    settings["listeners"].append({"name": "echo", "listen": "127.0.0.1:0", "upstream": "echo"})
    settings["upstreams"].append({"name": "echo", "servers": [{"address": echo.address}]})
    proxy = ringmain(settings, env={"RINGMAIN_DISABLE": disabled})
    features = proxy.status()["features"]
    assert all(name not in features for name in disabled.split(",")), features
    _roundtrip(proxy, server)
    crowd = own(Crowd(proxy.addresses["echo"][0], 100))
    for length in (1, 64, 20000):
        crowd.exchange(length)


def test_two_as_an_ordinary_user_with_little_locked_memory(public_dir, launch, own):
    """The memlock limit counts per user, over all processes: two at once must fit into the usual 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become nobody")
    nobody = pwd.getpwnam("nobody")
    binary = Path(public_dir) / "ringmain"
    shutil.copy(RINGMAIN, binary)
    binary.chmod(0o755)
    echo = own(EchoServer())
    options = dict(
        directory=public_dir,
        binary=str(binary),
        wrapper=["prlimit", f"--memlock={8 * MIB}:{8 * MIB}"],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
    )
    proxies = [launch(config([echo.address], workers=2), **options) for _ in range(2)]
    for proxy in proxies:
        proxy.wait_ready()
        crowd = own(Crowd(proxy.address, 50))
        crowd.exchange(8000)
    # And again at once, while what the first two locked is still counted.
    for proxy in proxies:
        proxy.signal(signal.SIGTERM)
    third = launch(config([echo.address], workers=2), **options).wait_ready()
    ping(own(connect(third.address)))


def test_workers_follow_the_affinity(own, ringmain):
    echo = own(EchoServer())
    cpu = min(os.sched_getaffinity(0))
    proxy = ringmain(config([echo.address], workers="auto"), wrapper=["taskset", "-c", str(cpu)])
    assert len(proxy.status()["workers"]) == 1
    ping(own(connect(proxy.address)))


def test_threads_are_refused(public_dir, launch):
    """Whichever of its threads the limit of processes refuses: one line says so, and the exit is orderly."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user who has no processes")
    binary = Path(public_dir) / "ringmain"
    shutil.copy(RINGMAIN, binary)
    binary.chmod(0o755)
    user = 4_000_000_000 + os.getpid()

    def start(processes):
        wrapper = ["prlimit", f"--nproc={processes}:{processes}"]
        options = dict(directory=public_dir, binary=str(binary), wrapper=wrapper, user=user, group=user, extra_groups=[])
        return launch(config(["127.0.0.1:1"], workers=2), **options)

    proxy = start(200)
    wait_until(lambda: proxy.log_lines("started version"), "it runs")
    threads = len(os.listdir(f"/proc/{proxy.pid}/task"))
    assert proxy.stop() == 0
    # The first is the log's, the last three are those of health checks and of the two workers; between them is the admin side's.
    for processes in (1, 2, threads - 3, threads - 2, threads - 1):
        lines = _exits(start(processes), 1)
        assert len(lines) == 1 and "error" in lines[0], (processes, lines)
        assert "thread" in lines[0] or "cannot start the log" in lines[0], (processes, lines)


def _only_echoes(crowd):
    """Verified round trips, and not a byte more."""
    crowd.exchange(3000)
    for sock in crowd.socks:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        sock.setblocking(True)


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-", "<&- 2>&-", "<&-"])
def test_standard_streams_closed(closed, own, launch):
    """Sockets must not get their numbers: what is logged would go to a client."""
    echo = own(EchoServer())
    listen_on, admin = unused_address(), unused_address()
    settings = config(
        [unused_address(), echo.address], listen=listen_on, admin={"listen": admin}, listener={"max_connections": 20}
    )
    proxy = launch(settings, wrapper=["sh", "-c", f'exec "$@" {closed}', "sh"])
    proxy.addresses = {"front": [listen_on], "admin": [admin]}  # the log may be gone

    def ready():
        try:
            return proxy.get("/readyz")[0] == 200
        except ConnectionError:
            return False

    wait_until(ready, "/readyz is 200")
    crowd = own(Crowd(listen_on, 20))
    _only_echoes(crowd)
    for _ in range(20):  # each a line in the log
        proxy.signal(signal.SIGHUP)
        try:
            with connect(listen_on) as surplus:
                assert surplus.recv(1000) == b"", "bytes of the log"
        except ConnectionResetError:  # refused
            pass
    proxy.wait_closed(listener_limit=20)
    _only_echoes(crowd)
    for number, symbol in enumerate(["<", ">", "2>"]):
        if f"{symbol}&-" in closed.split():
            assert os.readlink(f"/proc/{proxy.pid}/fd/{number}") == "/dev/null", number
    crowd.close()
    proxy.wait_active(0)
    assert proxy.stop() == 0


@pytest.mark.parametrize("listen_on", ["ipv4", "unix"])
def test_restart_right_after_a_crash(listen_on, own, ringmain, tmp_path):
    """The kernel closes what a killed process's ring holds up to 200 ms later; a supervisor does not wait so long."""
    echo = own(EchoServer())
    address = "127.0.0.1:0" if listen_on == "ipv4" else f"unix:{tmp_path}/front.sock"
    for _ in range(8):
        proxy = ringmain(config([echo.address], listen=address, workers=2))
        address = proxy.address
        crowd = Crowd(address, 20)
        crowd.exchange()
        proxy.expected_exit = (-signal.SIGKILL,)
        proxy.signal(signal.SIGKILL)
        proxy.wait()
        crowd.close()


def test_many_starts_and_stops(own, ringmain):
    """Start, serve, stop, ten times on one fixed port: nothing of one lingers that hinders the next."""
    echo = own(EchoServer())
    address = "127.0.0.1:0"
    for _ in range(10):
        proxy = ringmain(config([echo.address], listen=address, workers=2))
        address = proxy.address
        client = connect(address)
        ping(client)
        client.close()
        assert proxy.stop() == 0


def test_the_table_of_files_is_wide_from_the_start(own, ringmain):
    """With several threads the kernel makes whoever opens the file that widens it wait, a worker with all its sessions."""
    proxy = ringmain(config([own(EchoServer()).address]), nofile=5000)
    size = int(re.search(r"^FDSize:\t(\d+)$", Path(f"/proc/{proxy.pid}/status").read_text(), re.M)[1])
    assert size >= 4096
