"""The live page in a real browser: what it shows, what it does, and what it takes.

With RINGMAIN_SCREENSHOTS=FOLDER the pictures are kept there.
"""
import os
from pathlib import Path

import pytest

import browser as browser_module
from browser import Browser
from peers import PATIENCE, Crowd, EchoServer, Pingers, connect, expect_end, is_open, ping, unused_address, wait_until
from proxy import config

pytestmark = pytest.mark.ci
CHECK = {"type": "tcp", "interval": "200ms", "timeout": "1s", "rise": 1, "fall": 1}
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844, "mobile": True}
# Whatever looks like markup would become some, if it were not taken as text.
NASTY = "unix:/nowhere/<img src=x onerror=alert(1)>&amp;\"'`<b>.sock"
HIDDEN_NAMES = """[...document.querySelectorAll("button, input, select, a, [tabindex]")].filter((node) => node.offsetParent !== null)
  .filter((node) => !(node.textContent.trim() || node.getAttribute("aria-label") || node.labels?.length)).map((node) => node.outerHTML)"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if browser_module.CHROMIUM is None:
        pytest.fail("no chromium: deploy/packages.sh lists it")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def page(chromium, own):
    """page(proxy, ...) opens the live page and waits for its second answer, which has rates."""

    def open_page(proxy, rounds=2, **look):
        page = own(chromium.new_page(**look))
        page.open(f"http://{proxy.admin}/")
        page.wait(f"Number(document.body?.dataset.rounds) >= {rounds}", f"{rounds} answers are shown")
        return page

    return open_page


@pytest.fixture
def pictures(tmp_path):
    folder = Path(os.environ.get("RINGMAIN_SCREENSHOTS") or tmp_path)
    folder.mkdir(exist_ok=True)
    return folder


def with_servers(count, own):
    """Settings with one upstream of so many servers. Of 500 some are down; there is one more that is named to be misunderstood."""
    if count == 0:
        server = {"dns": "nothing.test:5432"}
        return config([server], upstream={"dns": {"resolvers": [unused_address()], "timeout": "100ms", "tries": 1}}, workers=2)
    echo = own(EchoServer("0.0.0.0:0"))
    port, closed = echo.address.rsplit(":", 1)[1], unused_address().rsplit(":", 1)[1]
    hosts = [f"127.0.{1 + i // 250}.{1 + i % 250}" for i in range(count)]
    servers = [{"address": f"{host}:{closed if count > 3 and i % 97 == 50 else port}"} for i, host in enumerate(hosts)]
    settings = config(servers, workers=2, upstream={"health_check": CHECK, "balance": "least_connections"})
    if count == 3:
        settings["upstreams"].append({"name": "strange", "health_check": CHECK, "servers": [{"address": NASTY}]})
        settings["listeners"].append({"name": "side", "listen": "127.0.0.1:0", "upstream": "strange", "max_connections": 100})
    return settings


@pytest.mark.parametrize("count", [0, 3, 500])
def test_every_size_and_look(count, own, ringmain, page, pictures):
    proxy = ringmain(with_servers(count, own))
    pingers = None
    if count:
        own(Crowd(proxy.address, 40)).exchange()
        pingers = Pingers(proxy.address, 5)
    try:
        one = page(proxy, rounds=3, **DESKTOP)
        for name, look in (("desktop", DESKTOP), ("phone", PHONE)):
            for dark in (False, True):
                one.look(**look, dark=dark)
                one.wait("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
                one.screenshot(pictures / f"page-{count}-{name}-{'dark' if dark else 'light'}.png", whole=True)
                assert one.eval("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
        assert one.eval(HIDDEN_NAMES) == []
        text = one.eval("document.body.innerText")
        assert "ready" in text and {0: "no servers", 3: "3 of 4 servers in service", 500: "495 of 500 servers in service"}[count] in text
        if count == 0:
            assert "This upstream has no servers now." in text and "There are no sessions now." in text
            assert "nothing.test:5432: missing" in text
        else:
            assert "45 open" in text
            assert one.eval("document.querySelectorAll('#session-table tbody tr').length") == 20
        if count == 3:
            assert NASTY in text
            assert one.eval("document.querySelectorAll('img, #upstreams b').length") == 0
        if count == 500:
            quick_with_many(one)
        assert one.complaints == []
        outside = [url for _, url in one.requests if not url.startswith((f"http://{proxy.admin}/", "data:"))]
        assert not outside and all(method == "GET" for method, _ in one.requests)
    finally:
        if pingers:
            pingers.stop()


def quick_with_many(page):
    rows = "document.querySelectorAll('#upstreams tbody tr').length"
    assert page.eval(rows) == 20
    assert page.eval("document.querySelector('#upstreams tbody .pill').textContent") == "down", "what is not in service comes first"
    page.eval("document.querySelector('.more').click()")
    assert page.eval(rows) == 500
    page.eval("window.kept = document.querySelector('#upstreams tbody tr:nth-child(300)')")
    before, rounds = page.metrics(), page.eval("Number(document.body.dataset.rounds)")
    page.wait(f"Number(document.body.dataset.rounds) >= {rounds + 3}")
    after = page.metrics()
    spent = sum(after[name] - before[name] for name in ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")) / 3
    print(f"{1000 * spent:.1f} ms of script and layout for an answer with 500 servers")
    assert spent < 0.2 * PATIENCE
    assert page.eval("kept === document.querySelector('#upstreams tbody tr:nth-child(300)')"), "rows are kept"
    search = "document.querySelector('#server-search').value = '127.0.2.7:'; document.querySelector('#server-search').dispatchEvent(new Event('input'))"
    page.eval(search)
    assert page.eval(rows) == 1
    page.eval("document.querySelector('#server-search').value = 'no such'; document.querySelector('#server-search').dispatchEvent(new Event('input'))")
    assert "No server fits." in page.eval("document.querySelector('#upstreams').innerText")
    page.eval("document.querySelector('#server-search').value = ''; document.querySelector('#problems').click()")
    assert page.eval(rows) == 5
    page.eval("document.querySelector('#problems').click()")


def test_actions(own, ringmain, page):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address], drain={"timeout": "60s"}))
    clients = [own(connect(proxy.address)) for _ in range(3)]
    for i, client in enumerate(clients):
        ping(client, 0, 100 * (i + 1))
    one = page(proxy, **DESKTOP)
    message = "document.querySelector('#message p').textContent"

    def server():
        return proxy.status()["upstreams"][0]["servers"][0]["configured_state"]

    # The most bytes come first. Nothing happens before it is confirmed; the keyboard suffices.
    one.eval("document.querySelector('#session-table tbody tr button').focus()")
    one.key("Enter")
    one.wait("document.querySelector('#confirm').open")
    one.key("Escape")
    one.wait("!document.querySelector('#confirm').open")
    assert all(is_open(client) for client in clients)
    one.eval("document.querySelector('#session-table tbody tr button').focus()")
    one.key("Enter")
    one.wait("document.querySelector('#confirm').open")
    one.eval("document.querySelector('#confirm-yes').focus()")
    one.key("Enter")
    expect_end(clients[2])
    assert is_open(clients[0]) and is_open(clients[1])
    proxy.wait_closed(admin=1)
    assert "is closed" in one.wait(message)
    one.wait("document.querySelectorAll('#session-table tbody tr').length === 2")

    change = "document.querySelector('#upstreams tbody tr td.act button:last-child')"
    one.eval(f"{change}.click()")
    one.wait("document.querySelector('#confirm').open")
    one.eval("document.querySelector('#confirm-yes').click()")
    wait_until(lambda: server() == "drain", "the server is drained")
    one.wait(f"{change}.textContent === 'Enable'")
    assert one.eval("document.querySelector('#upstreams tbody .pill').textContent") == "drain"
    one.eval(f"{change}.click()")
    wait_until(lambda: server() == "enabled", "the server is enabled")

    text = proxy.config_path.read_text()
    proxy.config_path.write_text(text.replace('"60s"', '"50s"'))
    one.eval("document.querySelector('#reload').click()")
    one.wait(f"{message}.includes('50s')", "what has changed is shown")
    proxy.config_path.write_text("nonsense")
    one.eval("document.querySelector('#reload').click()")
    one.wait(f"document.querySelector('#message').classList.contains('bad') && {message}.includes(':1:1: ')", "what is wrong is shown")

    one.eval("document.querySelector('#drain').click()")
    one.wait("document.querySelector('#confirm').open")
    one.eval("document.querySelector('#confirm-yes').click()")
    one.wait("document.querySelector('#state').textContent === 'draining'")
    for client in clients[:2]:
        client.close()
    assert proxy.wait() == 0
    one.wait("!document.querySelector('#offline').hidden && document.querySelector('main').classList.contains('stale')", "that nobody answers is shown")


def test_finding_sessions(own, ringmain, page):
    echo = own(EchoServer())
    proxy = ringmain(config([echo.address, unused_address()], workers=2))
    sources = [f"127.0.0.{i}" for i in range(2, 32)]
    clients = [own(connect(proxy.address, source=source)) for source in sources]
    for client in clients:
        ping(client)
    one = page(proxy, **DESKTOP)
    count = "document.querySelector('#session-count').textContent"

    def say(client):
        one.eval(f"document.querySelector('#by-client').value = '{client}'; document.querySelector('#by-client').dispatchEvent(new Event('input'))")

    one.wait(f"{count} === '30 open'")
    one.eval("document.querySelector('#sort').value = 'age'; document.querySelector('#sort').dispatchEvent(new Event('change'))")
    one.wait("document.querySelector('#session-table tbody th span').textContent.startsWith('127.0.0.2:')", "the oldest comes first")
    one.wait("!document.querySelector('#next-page').disabled")
    one.eval("document.querySelector('#next-page').click()")
    one.wait("document.querySelectorAll('#session-table tbody tr').length === 10 && document.querySelector('#next-page').disabled")
    one.eval("document.querySelector('#first-page').click()")
    one.wait("document.querySelectorAll('#session-table tbody tr').length === 20")
    say("127.0.0.7")
    one.wait(f"{count} === '1 of 30 fit'")
    say("127.0")
    one.wait(f"{count} === '30 of 30 fit'", "the beginning of an address")
    say("127.0.0.8/29")
    one.wait(f"{count} === '8 of 30 fit'")
    say("nonsense")
    one.wait("document.querySelector('#client-hint').textContent.startsWith('client: write an address')")
    say("")
    one.wait(f"{count} === '30 open' && document.querySelector('#client-hint').hidden")
    one.eval("document.querySelector('#upstreams tbody tr:nth-child(2) td.act button').click()")
    one.wait("document.querySelector('#no-sessions').textContent === 'No session fits.'")
    one.eval("document.querySelector('#server-only button').click()")
    one.wait(f"{count} === '30 open'")


def test_it_asks_for_a_token(own, ringmain, page):
    """When an address wants one of those who control it; with the right one all is as usual."""
    echo = own(EchoServer())
    one = page(ringmain(config([echo.address])), **DESKTOP)
    shown, seen = "!document.querySelector('#token-form').hidden", []

    def answer(url, headers):
        if "/api/v1/reload" not in url:
            return None
        seen.append(headers.get("Authorization"))
        return None if seen[-1] == "Bearer right" else (401, "control needs Authorization: Bearer\n")

    one.instead(answer)
    assert not one.eval(shown)
    one.eval("document.querySelector('#reload').click()")
    one.wait(shown)
    for token in ("wrong", "right"):
        one.eval(f"document.querySelector('#token').value = '{token}'; document.querySelector('#token-form').requestSubmit()")
        assert not one.eval(shown)
        one.eval("document.querySelector('#message').hidden = true; document.querySelector('#reload').click()")
        one.wait("!document.querySelector('#message').hidden")
        assert one.eval(shown) == (token == "wrong")
    assert seen == [None, "Bearer wrong", "Bearer right"]
    assert "nothing has changed" in one.eval("document.querySelector('#message p').textContent")
    assert one.eval("sessionStorage.getItem('ringmain-token')") == "right" and one.eval("localStorage.length") == 0


def test_a_pause_and_a_chart_by_keyboard(own, ringmain, page):
    echo = own(EchoServer())
    one = page(ringmain(config([echo.address])), rounds=3, **DESKTOP)
    one.eval("document.querySelector('.plot').focus()")
    one.key("ArrowLeft")
    one.wait("document.querySelector('.times').lastChild.textContent.startsWith('at ')")
    one.key("Escape")
    one.wait("document.querySelector('.times').lastChild.textContent === 'now'")
    one.eval("document.querySelector('#pause').click()")
    one.eval("new Promise((done) => setTimeout(done, 500))")  # one that was under way
    rounds = one.eval("document.body.dataset.rounds")
    one.eval("new Promise((done) => setTimeout(done, 2500))")
    assert one.eval("document.body.dataset.rounds") == rounds
    one.eval("document.querySelector('#pause').click()")
    one.wait(f"Number(document.body.dataset.rounds) > {rounds}")
