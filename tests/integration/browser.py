"""Browser: a headless Chromium, driven by its devtools protocol over a pipe (https://chromedevtools.github.io/devtools-protocol/)."""
import base64
import json
import os
import select
import shutil
import subprocess
import time

from peers import PATIENCE, wait_until

CHROMIUM = shutil.which("chromium")
# fd 3 and fd 4 are what --remote-debugging-pipe reads and writes.
_EXEC = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'


class Browser:
    """One process, with a profile in `directory`. new_page() as often as wanted; not thread-safe."""

    def __init__(self, directory):
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
                     "--force-color-profile=srgb", f"--user-data-dir={directory}/profile", "--remote-debugging-pipe", "about:blank"]
        self.log_path = directory / "chromium.log"
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(["bash", "-c", _EXEC, str(to_read), str(to_write), CHROMIUM, *arguments], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, pass_fds=(to_read, to_write), start_new_session=True)
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self._answers, self.pages = b"", 0, {}, {}
        self.call("Browser.getVersion", timeout=60)

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(20 * PATIENCE)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, 9)
            self.process.wait()
        os.close(self._to)
        os.close(self._from)

    def new_page(self, **look):
        return Page(self, **look)

    # ---- The protocol: JSON objects, each with a zero byte behind it ----

    def call(self, method, parameters=None, session=None, timeout=30):
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters or {}}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data):]
        deadline = time.monotonic() + timeout * PATIENCE
        while number not in self._answers:
            assert time.monotonic() < deadline, f"no answer to {method}: {self.log_path.read_text(errors='replace')[-2000:]}"
            self.read(0.1)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def read(self, seconds):
        """Takes what has come, or comes within that time."""
        if not select.select([self._from], [], [], seconds)[0]:
            return
        chunk = os.read(self._from, 1 << 20)
        assert chunk, f"Chromium has ended: {self.log_path.read_text(errors='replace')[-2000:]}"
        *messages, self._buffer = (self._buffer + chunk).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].on_event(message["method"], message["params"])


class Page:
    def __init__(self, browser, width=1280, height=900, dark=False, mobile=False):
        self.browser = browser
        self.complaints = []  # of the console, exceptions and refused requests
        self.requests = []
        self.answer = None  # a function of a request's URL and headers: (status, body) instead of what the server says, or None
        self.target = browser.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self.session = browser.call("Target.attachToTarget", {"targetId": self.target, "flatten": True})["sessionId"]
        browser.pages[self.session] = self
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            self.call(f"{domain}.enable")
        self.look(width, height, dark, mobile)

    def call(self, method, **parameters):
        return self.browser.call(method, parameters, self.session)

    def close(self):
        self.browser.pages.pop(self.session, None)
        self.browser.call("Target.closeTarget", {"targetId": self.target})

    def look(self, width, height, dark=False, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def on_event(self, method, parameters):
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"].get("exception", parameters["exceptionDetails"])))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(parameters["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append((parameters["request"]["method"], parameters["request"]["url"]))
        elif method == "Fetch.requestPaused":
            self._answer(parameters)

    def instead(self, answer):
        """From now on `answer(url, headers)` is asked first."""
        self.answer = answer
        self.call("Fetch.enable", patterns=[{"urlPattern": "*"}])

    def _answer(self, parameters):
        request = parameters["request"]
        instead = self.answer(request["url"], request["headers"])
        message = {"requestId": parameters["requestId"]}
        method = "Fetch.continueRequest"
        if instead is not None:
            method = "Fetch.fulfillRequest"
            message.update(responseCode=instead[0], body=base64.b64encode(instead[1].encode()).decode())
        self.browser._number += 1  # its answer says nothing
        number = self.browser._number
        data = json.dumps({"id": number, "method": method, "params": message, "sessionId": self.session}).encode() + b"\0"
        while data:
            data = data[os.write(self.browser._to, data):]

    def open(self, url):
        self.call("Page.navigate", url=url)

    def eval(self, script):
        """The value of an expression; of what it promises, if it is a promise."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script, what=None, timeout=15):
        """Polls until the expression is true, and returns its value."""
        return wait_until(lambda: self.eval(script), lambda: f"{what or script}; complaints: {self.complaints}", timeout, interval=0.05)

    def screenshot(self, path, whole=False):
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
            picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        else:
            picture = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    def key(self, key, code=None):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key,
                      windowsVirtualKeyCode={"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37}.get(key, 0),
                      **({"text": "\r"} if key == "Enter" and kind == "keyDown" else {}))

    def metrics(self):
        return {one["name"]: one["value"] for one in self.call("Performance.getMetrics")["metrics"]}
