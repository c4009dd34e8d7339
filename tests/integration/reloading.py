"""What the tests of reloads share."""
import contextlib
import copy
import json
import os
import threading
from pathlib import Path

import pytest

from peers import EchoServer, Job, connect, ping, read_exactly, reset, wait_until

MIB = 1 << 20
JSON = {"Content-Type": "application/json"}
CHECK = {"type": "tcp", "interval": "100ms", "timeout": "500ms", "rise": 2, "fall": 3}
WATCH = {"reload": {"watch": "on"}}
RELOADS = "ringmain_config_reloads_total"
SUCCESSFUL = "ringmain_config_last_reload_successful"


def text_of(settings):
    """The file, with the same defaults as at the start."""
    return json.dumps({"admin": {"listen": "127.0.0.1:0"}, "drain": {"timeout": "500ms"}, **settings}, indent=1)


def rewrite(proxy, settings):
    """Replaces the file at once, by settings or by a text."""
    new = proxy.config_path.with_suffix(".new")
    new.write_text(settings if isinstance(settings, str) else text_of(settings))
    new.replace(proxy.config_path)


def ask(proxy, settings=None):
    """Rewrites the file, unless it is to stay, and reloads it: (HTTP status, answer)."""
    if settings is not None:
        rewrite(proxy, settings)
    code, body = proxy.get("/api/v1/reload", method="POST", headers=JSON, body="{}")
    return code, json.loads(body)


def reload(proxy, settings):
    """A reload that changes something; returns what."""
    code, answer = ask(proxy, settings)
    assert code == 200 and answer["result"] == "reloaded" and answer["changes"], answer
    return answer["changes"]


def failed(proxy, settings=None):
    """A reload that must fail; returns why it did."""
    code, answer = ask(proxy, settings)
    assert code == 422 and answer["result"] == "failed" and answer["errors"], answer
    return answer["errors"]


def states(proxy):
    """active or draining: of each listener by its name, of each server by its address."""
    status = proxy.status("?sessions=0")
    found = {listener["name"]: listener["state"] for listener in status["listeners"]}
    return found | {s["address"]: s["state"] for upstream in status["upstreams"] for s in upstream["servers"]}


def wait_gone(proxy, *names):
    """Waits until neither the status nor the metrics know these listeners, upstreams and servers."""
    wait_until(lambda: not set(names) & set(states(proxy)), lambda: f"{names} are gone; there are {states(proxy)}")
    series = [f'{label}="{name}"' for name in names for label in ("listener", "upstream", "server")]
    wait_until(lambda: not any(one in proxy.get("/metrics")[1] for one in series), f"no metrics of {names}")


def counters(proxy, server):
    """Every counter of the listener `front`, of the upstream `back`, and of its server `server`."""
    found = {}
    for name, samples in proxy.metrics().items():
        for labels, value in samples.items():
            have = dict(labels)
            ours = have.get("upstream") == "back" and have.get("server", server) == server
            if name.endswith(("_total", "_bucket", "_count", "_sum")) and (ours or have.get("listener") == "front"):
                found[name, labels] = value
    assert len(found) > 30
    return found


def assert_none_fell(before, after):
    fell = {key: (value, after.get(key)) for key, value in before.items() if after.get(key, -1) < value}
    assert not fell, fell


def listening(address):
    """The inodes of the TCP sockets that listen on this port."""
    port = int(address.rsplit(":", 1)[1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sorted(row[9] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port)


def accepts(address):
    try:
        connect(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    return True


def who(address):
    """The banner of the server that a new client gets, after a verified exchange."""
    with connect(address) as client:
        banner = read_exactly(client, 1)
        ping(client)
        return banner


def of(crowd, banner):
    return [sock for sock, name in zip(crowd.socks, crowd.banners) if name == banner]


def threads(proxy):
    return len(os.listdir(f"/proc/{proxy.pid}/task"))


def changed(settings, path, value):
    """A copy of `settings` with another value at `path`."""
    result = target = copy.deepcopy(settings)
    *way, last = path.split(".")
    for step in way:
        target = target[int(step) if step.isdigit() else step]
    target[last] = value
    return result


@contextlib.contextmanager
def visitors(address, banner=0):
    """Clients that come, exchange and go, over and over, none of them in vain. Yields a function: how many so far."""
    over, served = threading.Event(), [0, 0]

    def visit(i):
        while not over.is_set():
            sock = connect(address)
            read_exactly(sock, banner)
            ping(sock, served[i] * 64)
            reset(sock)
            served[i] += 1

    jobs = [Job(visit, i) for i in range(len(served))]
    try:
        yield lambda: sum(served)
    finally:
        over.set()
        for job in jobs:
            job.finish()
    assert all(served)


@pytest.fixture
def abc(own):
    """Three echo servers that say which they are."""
    return [own(EchoServer(banner=name)) for name in (b"A", b"B", b"C")]
