"""Every query of the dashboards and rules, asked of a real Prometheus that scrapes a loaded proxy; and the rules' own unit tests."""
import contextlib
import json
import math
import re
import subprocess
import threading
from pathlib import Path

import pytest
import yaml

import dnsmasq
import prometheus
from peers import EchoProcess, Pingers, connect, unused_address, wait_until
from proxy import LOAD

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
THRESHOLD = re.compile(r"\s(==|!=|>|<|>=|<=)\s-?[0-9.]+$")

needs_prometheus = pytest.mark.skipif(not (prometheus.PROMETHEUS and prometheus.PROMTOOL), reason="no prometheus (Debian package) here")


@needs_prometheus
def test_rules_by_promtool():
    for arguments in (["check", "rules", *RULES], ["test", "rules", FOLDER / "rules" / "tests" / "rules_test.yml"]):
        done = subprocess.run([prometheus.PROMTOOL, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def settings(echo, dead, resolver):
    """Every feature that has a metric, and limits that are soon reached."""
    return {
        "workers": 2,
        "metrics": {"listen": "127.0.0.1:0"},
        "listeners": [
            {"name": "front", "listen": "127.0.0.1:0", "upstream": "back", "max_connections": 200, "per_source": {"max_connections": 500}},
            {"name": "small", "listen": "127.0.0.1:0", "upstream": "back", "max_connections": 1, "bandwidth": {"to_client": "10MiB/s"}},
            {"name": "proxied", "listen": "127.0.0.1:0", "upstream": "back", "proxy_protocol": "required"},
            {"name": "queue", "listen": "127.0.0.1:0", "upstream": "single"},
            {"name": "flaky", "listen": "127.0.0.1:0", "upstream": "flaky"},
        ],
        "upstreams": [
            {"name": "back", "health_check": {"type": "tcp", "interval": "300ms", "timeout": "200ms"}, "servers": [{"address": echo}]},
            {"name": "single", "max_queue": 3, "queue_timeout": "300ms", "servers": [{"address": echo, "max_connections": 1}]},
            {"name": "flaky", "connect_tries": 2, "retry_budget": {"percent": "50%", "per_second": 1}, "ejection": {"time": "1s"},
             "servers": [{"address": echo}, {"address": dead}]},
            {"name": "named", "dns": resolver.settings(), "servers": [{"dns": f"echo.test:{echo.rsplit(':')[1]}"}]},
        ],
    }


class Restless:
    """Clients that come, say one thing and go, to each of the addresses in turn, until stop()."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.stopped.wait(0.005):
            for address in self.addresses:
                with contextlib.suppress(OSError), contextlib.closing(connect(address, timeout=0.2)) as client:
                    client.sendall(b"x" * 100)
                    client.recv(100)

    def close(self):
        self.stopped.set()
        self.thread.join()


class Load:
    """ringmain-load with bulk, for as long as it is needed."""

    def __init__(self, address):
        self.process = subprocess.Popen(
            [LOAD, "bulk", "--to", address, "--connections", "1", "--rate", "5MiB/s", "--duration", "120s", "--quiet"],
            stdout=subprocess.DEVNULL)

    def running(self):
        return self.process.poll() is None

    def close(self):
        self.process.kill()
        self.process.wait()


def queries():
    """What is asked for: (where, expression), with the choices of a dashboard's reader and without thresholds."""
    for path in sorted(FOLDER.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"]
        for annotation in board["annotations"]["list"]:
            yield f"{path.name}: {annotation['name']}", THRESHOLD.sub("", annotation["target"]["expr"])
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                continue
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            yield f"{path.name}: ${variable['name']}", f"count by ({label}) ({metric})"
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    yield f"{path.name}: {rule['record']}", rule["record"]
                else:
                    yield f"{path.name}: {rule['alert']}", THRESHOLD.sub("", rule["expr"].strip())


def chosen(expression):
    expression = expression.replace("$__rate_interval", prometheus.SPAN)
    return re.sub(r"\$(instance|listener|upstream|server|worker)\b", ".*", expression)


@needs_prometheus
@pytest.mark.ci
@pytest.mark.skipif(dnsmasq.DNSMASQ is None, reason="no dnsmasq (Debian package dnsmasq-base) here")
def test_every_query_has_data(ringmain, own, tmp_path):
    echo = own(EchoProcess()).address
    (tmp_path / "dns").mkdir()
    resolver = own(dnsmasq.Dnsmasq(tmp_path / "dns", {"echo.test": ["127.0.0.1"]}))
    proxy = ringmain(settings(echo, unused_address(), resolver))
    server = own(prometheus.Prometheus(tmp_path, [proxy.addresses["metrics"][0]], RULES))
    addresses = {name: found[0] for name, found in proxy.addresses.items()}
    assert proxy.get("/api/v1/reload", method="POST", headers={"Content-Type": "application/json"}, body="{}")[0] == 200
    own(connect(addresses["small"])), own(connect(addresses["queue"]))  # so that these are full
    own(Restless([addresses[name] for name in ("front", "small", "proxied", "flaky")]))
    own(Restless([addresses["queue"]])), own(Restless([addresses["queue"]]))
    pingers = Pingers(addresses["front"], 4)
    bulk = own(Load(addresses["front"]))
    missing = {}

    def all_there():
        assert not pingers.failed() and bulk.running()
        missing.clear()
        for where, expression in queries():
            values = server.query(chosen(expression))
            if not any(math.isfinite(value) for value in values):
                missing[where] = (expression, values[:3])
        return not missing

    try:
        wait_until(all_there, lambda: f"every query has data; missing: {json.dumps(missing, indent=1)}", 40, interval=1)
    finally:
        pingers.stop()
    assert [rule for rule in server.rules() if rule["health"] != "ok"] == []
    assert len(server.rules()) > 30
    assert [target["lastError"] for target in server.targets()] == [""]
