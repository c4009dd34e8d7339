"""Prometheus: the real one (Debian package prometheus), scraping a proxy under test often."""
import json
import shutil
import subprocess
import urllib.parse
import urllib.request

from peers import PATIENCE, unused_address, wait_until

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
EVERY = "500ms"
# What a dashboard's $__rate_interval is here: some scrapes.
SPAN = "5s"


class Prometheus:
    def __init__(self, directory, targets, rule_files=()):
        self.address = unused_address()
        settings = {
            "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
            "rule_files": [str(path) for path in rule_files],
            "scrape_configs": [{"job_name": "ringmain", "static_configs": [{"targets": targets}]}],
        }
        config = directory / "prometheus.json"  # YAML, too
        config.write_text(json.dumps(settings))
        self.log_path = directory / "prometheus.log"
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}",
                 f"--web.listen-address={self.address}", "--log.level=warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._ready, lambda: f"Prometheus is ready; its log:\n{self.log_path.read_text()}", 20)

    def _ready(self):
        assert self.process.poll() is None, self.log_path.read_text()
        try:
            return self._get("/-/ready") is not None
        except OSError:
            return False

    def _get(self, path, **parameters):
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10 * PATIENCE) as response:
            return response.read()

    def query(self, expression):
        """The values of an instant query."""
        answer = json.loads(self._get("/api/v1/query", query=expression))
        assert answer["status"] == "success", answer
        return [float(one["value"][1]) for one in answer["data"]["result"]]

    def rules(self):
        groups = json.loads(self._get("/api/v1/rules"))["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def targets(self):
        return json.loads(self._get("/api/v1/targets"))["data"]["activeTargets"]

    def close(self):
        self.process.terminate()
        self.process.wait()
