"""Dnsmasq: a real resolver on a free port of 127.0.0.1, whose answers the test chooses."""
import shutil
import signal
import subprocess

from peers import PATIENCE, unused_address, wait_until

DNSMASQ = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin")

# It knows nothing but what it is told: names of .test that it does not know do not exist, of others it refuses to say anything.
CONFIGURATION = """\
port={port}
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
cache-size=0
local=/test/
local-ttl={ttl}
addn-hosts={hosts}
"""


class Dnsmasq:
    """Killed with kill(), stopped and continued with signal(), started again with start(): its port stays."""

    def __init__(self, directory, hosts, services=(), ttl=1, start=True):
        self.directory, self.ttl = directory, ttl
        self.address = unused_address()
        self.process, self.services = None, services
        self.say(hosts)
        if start:
            self.start()

    def settings(self, **more):
        """For an upstream: what it says is asked for again and again."""
        return {"resolvers": [self.address], "min_ttl": "100ms", "max_ttl": "200ms", "timeout": "300ms", "tries": 2, **more}

    def say(self, hosts):
        """`hosts`: names, and a list of addresses for each."""
        self.hosts = hosts
        lines = [f"{address} {name}\n" for name, addresses in hosts.items() for address in addresses]
        new = self.directory / "hosts.new"
        new.write_text("".join(lines))
        new.replace(self.directory / "hosts")
        if self.process:
            self.process.send_signal(signal.SIGHUP)

    def start(self, services=None):
        """`services`: lists of name, host, port, priority and weight."""
        self.services = self.services if services is None else services
        text = CONFIGURATION.format(port=self.address.rsplit(":", 1)[1], ttl=self.ttl, hosts=self.directory / "hosts")
        text += "".join(f"srv-host={','.join(map(str, service))}\n" for service in self.services)
        (self.directory / "dnsmasq.conf").write_text(text)
        log = self.directory / "dnsmasq.log"
        with open(log, "w") as file:
            self.process = subprocess.Popen([DNSMASQ, "--no-daemon", f"--conf-file={self.directory}/dnsmasq.conf"],
                                            stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        hosts = f"read {self.directory / 'hosts'}"
        wait_until(lambda: "started" in log.read_text() and hosts in log.read_text() or self.process.poll() is not None,
                   lambda: f"dnsmasq runs: {log.read_text()}")
        assert self.process.poll() is None, log.read_text()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait(10 * PATIENCE)
        self.process = None

    def close(self):
        self.kill()
