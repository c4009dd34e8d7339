"""The admin API is as deploy/openapi.yaml says: every path, every status, every answer."""
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from peers import Crowd, EchoServer, ManualServer, expect_end, ping, unused_address, wait_until
from proxy import config
from test_sessions import stopped_worker

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = yaml.safe_load((ROOT / "deploy" / "openapi.yaml").read_text())
JSON = {"Content-Type": "application/json"}
# Only in the instant in which one process hands over to another, or has closed all.
NOT_TRIED = {("/api/v1/sessions/close", "post", "409")}
CHECK = {"type": "tcp", "interval": "100ms", "timeout": "1s", "rise": 1, "fall": 1}


def resolved(node):
    """A part of the document, behind its reference."""
    while "$ref" in node:
        target = DOCUMENT
        for key in node["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        node = target
    return node


def validate(value, schema):
    resolver = jsonschema.RefResolver("", DOCUMENT)
    errors = list(jsonschema.Draft202012Validator(schema, resolver=resolver).iter_errors(value))
    assert not errors, "\n".join(f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in errors)


class Api:
    """Asks a proxy, and holds each answer against the document."""

    tried = set()

    def __init__(self, proxy):
        self.proxy = proxy

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, body=None, headers=None):
        body = body if isinstance(body, str) else json.dumps({} if body is None else body)
        return self.ask("POST", path, body, JSON if headers is None else headers)

    def ask(self, method, path, body=None, headers=None):
        """(status, what was answered: parsed, if it is JSON)."""
        status, text, answered = self.proxy.answer(path, method=method, body=body, headers=headers)
        place = path.split("?")[0]
        described = DOCUMENT["paths"][place]
        # A method that a path does not take is described by 405 of one that it does.
        verb = method.lower() if method.lower() in described else next(iter(described))
        assert str(status) in described[verb]["responses"], f"{method} {path} answers {status}: {text[:200]}"
        response = resolved(described[verb]["responses"][str(status)])
        kind = answered["Content-Type"].split(";")[0]
        assert kind in response["content"], f"{method} {path}: {kind}"
        for name, header in response.get("headers", {}).items():
            validate(answered[name], header["schema"])
        value = json.loads(text) if kind == "application/json" else text
        validate(value, response["content"][kind]["schema"])
        Api.tried.add((place, verb, str(status)))
        return status, value


def test_the_document_is_sound():
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema), name
    assert DOCUMENT["openapi"].startswith("3.1")

    def references(node):
        if isinstance(node, dict):
            yield from [node["$ref"]] if "$ref" in node else []
            node = list(node.values())
        for one in node if isinstance(node, list) else []:
            yield from references(one)

    for reference in references(DOCUMENT):
        resolved({"$ref": reference})
    used = {reference.rsplit("/", 1)[1] for reference in references(DOCUMENT)}
    assert used == set(DOCUMENT["components"]["schemas"]) | set(DOCUMENT["components"]["responses"])


def test_every_path_is_described():
    routes = (ROOT / "src" / "admin" / "routes.cc").read_text()
    paths = set(re.findall(r'\{"(/[^"]*)", ', routes))
    assert len(paths) > 8 and paths == set(DOCUMENT["paths"])


@pytest.mark.sanitizer
def test_answers(own, ringmain):
    """One proxy with everything that shows in a status; then the same while it drains."""
    server, echo = own(ManualServer()), own(EchoServer())
    settings = config(
        [echo.address, {"address": unused_address(), "weight": 7, "backup": "on", "max_connections": 5}],
        workers=2,
        listener={"access": [{"allow": "127.0.0.0/8"}, {"deny": "all"}], "accept_rate": "1000/s", "max_connections": 500,
                  "per_source": {"max_connections": 400}},
        upstream={"health_check": CHECK},
        drain={"timeout": "60s"},
    )
    settings["upstreams"].append({"name": "found", "dns": {"resolvers": [unused_address()], "timeout": "100ms", "tries": 1},
                                  "servers": [{"dns": "nothing.test:1"}, {"address": server.address}]})
    settings["listeners"].append({"name": "side", "listen": "127.0.0.1:0", "upstream": "found", "proxy_protocol": {"accept": "optional", "from": ["127.0.0.0/8"]}})
    proxy = ringmain(settings)
    api = Api(proxy)
    crowd = own(Crowd(proxy.address, 30))
    crowd.exchange()
    wait_until(lambda: proxy.status()["upstreams"][0]["servers"][1]["flips"], "the backup is down")
    for path in ("/healthz", "/readyz", "/metrics", "/", "/api/v1/openapi.yaml", "/api/v1/status", "/api/v1/sessions"):
        assert api.get(path)[0] == 200, path
        assert api.post(path)[0] == 405, path
    assert api.get("/api/v1/openapi.yaml")[1] == (ROOT / "deploy" / "openapi.yaml").read_text()
    for path in ("/api/v1/reload", "/api/v1/servers", "/api/v1/sessions/close", "/api/v1/drain"):
        assert api.get(path)[0] == 405, path
        assert api.post(path, headers={"Content-Type": "text/plain"})[0] == 403, path
        assert api.post(path, headers={**JSON, "Host": "example.org"})[0] == 403, path
    assert api.get("/api/v1/status?sessions=x")[0] == 400
    assert len(api.get("/api/v1/status?sessions=30")[1]["sessions"]["list"]) == 30
    assert api.get("/api/v1/sessions?sort=size")[0] == 400
    sessions(api, proxy, crowd)
    changes(api, proxy)

    api.post("/api/v1/drain")
    wait_until(lambda: api.get("/readyz")[0] == 503, "it drains")
    assert api.post("/api/v1/drain")[0] == 409
    assert api.post("/api/v1/reload")[0] == 409
    assert api.post("/api/v1/servers", {"upstream": "front", "server": "x", "state": "drain"})[0] == 409
    assert api.get("/api/v1/status")[1]["state"] == "draining"
    # What is left can be closed, one by one, and then the process ends.
    left = api.get("/api/v1/sessions")[1]["sessions"]
    assert len(left) == 29
    for session in left[:-1]:
        assert api.post("/api/v1/sessions/close", {"id": session["id"]})[0] == 200
    proxy.wait_closed(admin=29)
    api.post("/api/v1/sessions/close", {"id": left[-1]["id"]})
    assert proxy.wait() == 0


def sessions(api, proxy, crowd):
    assert api.post("/api/v1/sessions/close", "nonsense")[0] == 400
    assert api.post("/api/v1/sessions/close", {"id": "0-99999"})[0] == 404
    assert api.post("/api/v1/sessions/close", {"id": "7-1"})[0] == 404
    assert api.post("/api/v1/sessions/close", " " * 70000)[0] == 413
    seen, path = [], "/api/v1/sessions?limit=7&sort=bytes"
    ping(crowd.socks[4], 64, 500)
    page = api.get(path)[1]
    assert page["total"] == page["matched"] == 30 and page["missing_workers"] == []
    victim = page["sessions"][0]
    assert victim["client"] == "%s:%d" % crowd.socks[4].getsockname(), "it has the most bytes"
    while True:
        seen += [session["id"] for session in page["sessions"]]
        if page["next"] is None:
            break
        page = api.get(f"{path}&after={page['next']}")[1]
    assert len(seen) == len(set(seen)) == 30
    ages = [session["age_seconds"] for session in api.get("/api/v1/sessions?sort=age")[1]["sessions"]]
    assert ages == sorted(ages, reverse=True) and len(ages) == 30
    for query, matched in (("listener=front", 30), ("listener=side", 0), ("upstream=back", 30), ("upstream=%62ack&server=" + victim["server"], 30),
                           ("server=nobody", 0), ("client=" + victim["client"], 1), ("client=127.0.0.1", 30), ("client=10.0.0.0/8", 0)):
        page = api.get("/api/v1/sessions?" + query)[1]
        assert page["matched"] == len(page["sessions"]) == matched and page["total"] == 30, query
    status, closed = api.post("/api/v1/sessions/close", {"id": victim["id"]})
    assert status == 200 and closed["session"]["id"] == victim["id"] and closed["session"]["state"] == "established"
    expect_end(crowd.socks.pop(4))
    proxy.wait_closed(admin=1)
    assert api.post("/api/v1/sessions/close", {"id": victim["id"]})[0] == 404
    assert proxy.log_lines("session closed on request", victim["id"])
    crowd.exchange()
    with stopped_worker(proxy, 0):
        assert api.post("/api/v1/sessions/close", {"id": "0-99999"})[0] == 503
        page = api.get("/api/v1/sessions")[1]
        assert page["missing_workers"] == [0] and page["total"] == 29


def changes(api, proxy):
    address = proxy.status()["upstreams"][0]["servers"][1]["address"]
    change = {"upstream": "back", "server": address, "state": "drain"}
    assert api.post("/api/v1/servers", change)[0] == 200
    assert api.post("/api/v1/servers", {**change, "weight": 0})[0] == 400
    assert api.post("/api/v1/servers", {**change, "server": "nobody"})[0] == 404
    assert api.post("/api/v1/servers", " " * 70000)[0] == 413
    assert api.post("/api/v1/reload")[1]["result"] == "unchanged"
    text = proxy.config_path.read_text()
    proxy.config_path.write_text(text.replace('"60s"', '"50s"'))
    assert api.post("/api/v1/reload")[1]["result"] == "reloaded"
    proxy.config_path.write_text("nonsense")
    assert api.post("/api/v1/reload")[0] == 422
    proxy.config_path.write_text(text)
    assert api.post("/api/v1/reload")[0] == 200


def test_everything_that_is_described_was_tried():
    """After the test before this one."""
    if not Api.tried:
        pytest.skip("test_answers did not run")
    described = {(path, verb, status) for path, item in DOCUMENT["paths"].items() for verb, operation in item.items() for status in operation["responses"]}
    assert described - Api.tried == NOT_TRIED
