"""deploy/examples: each file is valid as it is, and does what it says once its addresses are those of a test."""
import copy
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from peers import EchoServer, ManualServer, connect, ping, read_exactly, wait_until
from proxy import run_command
from reloading import who

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"
FILES = sorted(EXAMPLES.rglob("*.yaml"))
V2 = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_valid(path):
    done = run_command("check", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert path.read_text().startswith("# "), "says what it is for"


def test_all_are_in_the_list():
    text = (EXAMPLES / "README.md").read_text()
    assert len(FILES) == 5
    for path in FILES:
        assert str(path.relative_to(EXAMPLES)) in text


def local(name, servers, tmp_path, **changes):
    """The example with local addresses and small numbers of what a test machine has little of."""
    settings = yaml.load((EXAMPLES / name).read_text(), yaml.BaseLoader)  # "on" stays a word
    settings["admin"] = {"listen": "127.0.0.1:0"}
    settings.pop("metrics", None)
    settings["workers"] = 2
    settings["limits"] = {}
    settings["drain"] = {"timeout": "500ms"}
    if "takeover" in settings:
        settings["takeover"] = {"socket": f"{tmp_path}/takeover.sock"}
    settings["listeners"][0]["listen"] = "127.0.0.1:0"
    upstream = settings["upstreams"][0]
    entries = (upstream["servers"] + [copy.deepcopy(upstream["servers"][0]) for _ in servers])[: len(servers)]
    for entry, server in zip(entries, servers):
        entry.pop("dns", None)
        entry["address"] = server.address
    upstream["servers"] = entries
    upstream.pop("dns", None)
    upstream.update(changes)
    return settings


def letters(own, count):
    return [own(EchoServer(banner=bytes([65 + i]))) for i in range(count)]


@pytest.mark.parametrize("name", ["vpn-gateway.yaml", "ha-pair/ringmain.yaml"])
def test_a_client_comes_back_to_its_server(name, own, ringmain, tmp_path):
    proxy = ringmain(local(name, letters(own, 3), tmp_path))
    assert len({who(proxy.address) for _ in range(5)}) == 1
    places = set()
    for i in range(1, 30):
        with socket.create_connection(connect_name(proxy.address), source_address=(f"127.0.3.{i}", 0)) as client:
            places.add(read_exactly(client, 1))
    assert places == {b"A", b"B", b"C"}


def connect_name(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def test_databases_are_spared_and_checked(own, ringmain, tmp_path):
    """The check speaks enough PostgreSQL; a third connection waits for its turn."""
    server = own(ManualServer())
    settings = local("database-pool.yaml", [server], tmp_path)
    settings["upstreams"][0]["servers"][0]["max_connections"] = 1
    proxy = ringmain(settings)
    check = server.accept()
    assert read_exactly(check, 8) == bytes.fromhex("0000000804d2162f")
    assert proxy.metric("ringmain_server_up") == 0, "down until it has answered"
    check.sendall(b"N")
    proxy.wait_metric("ringmain_server_up", 1)
    first, second = own(connect(proxy.address)), own(connect(proxy.address))
    proxy.wait_metric("ringmain_upstream_queued", 1)
    for client in (first, second):
        client.sendall(b"x")
        while True:
            upstream = server.accept()
            if read_exactly(upstream, 1) == b"x":  # or the next check
                break
        upstream.close()
        client.close()


def test_game_servers_learn_who_plays(own, ringmain, tmp_path):
    server = own(ManualServer())
    settings = local("game-gateway.yaml", [server], tmp_path)
    settings["upstreams"][0]["health_check"]["interval"] = "1h"
    proxy = ringmain(settings)
    client = own(connect(proxy.address))
    client.sendall(b"hello")
    while True:
        upstream = server.accept()
        header = read_exactly(upstream, 16)
        assert header[:12] == V2
        if header[12] == 0x21:  # not LOCAL, which a health check is
            break
    addresses = read_exactly(upstream, 12)
    assert socket.inet_ntoa(addresses[:4]) == "127.0.0.1"
    assert int.from_bytes(addresses[8:10], "big") == client.getsockname()[1]
    assert read_exactly(upstream, 5) == b"hello"


def test_a_sidecar_listens_on_a_unix_socket(own, ringmain, tmp_path):
    settings = local("sidecar.yaml", letters(own, 1), tmp_path, health_check={"interval": "1s"})
    settings["listeners"][0]["listen"] = f"unix:{tmp_path}/backend.sock"
    proxy = ringmain(settings)
    client = own(connect(proxy.address))
    assert read_exactly(client, 1) == b"A"
    ping(client)


def test_keepalived_takes_the_file(tmp_path):
    """If it is installed here."""
    try:
        done = subprocess.run(["keepalived", "-t", "-f", str(EXAMPLES / "ha-pair" / "keepalived.conf")], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("keepalived is not installed")
    assert "error" not in (done.stdout + done.stderr).lower()


def test_readyz_tells_keepalived(own, ringmain, tmp_path):
    settings = local("ha-pair/ringmain.yaml", letters(own, 1), tmp_path)
    settings["drain"] = {"delay": "1s", "timeout": "2s"}
    proxy = ringmain(settings)
    assert proxy.get("/readyz")[0] == 200
    proxy.process.terminate()
    wait_until(lambda: proxy.get("/readyz")[0] == 503, "/readyz is 503")
    assert who(proxy.address) == b"A", "and clients are still served"
    assert proxy.wait() == 0
