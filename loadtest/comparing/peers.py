"""The proxies that are compared, each as a user would run it: how it is started and what it can do."""
import json
import os
import re
import shlex
import shutil
from pathlib import Path

from comparing.machine import Problem, find, install, version
from comparing.processes import http_get, listens, tree_rss_kib, wait_until

NOBODY = 65534
MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

HAPROXY = """
global
  nbthread {workers}
  maxconn 4500
  maxpipes 1024
{tuning}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  {options}
"""
NGINX = """
{module}
{user}
daemon off;
worker_processes {workers};
worker_rlimit_nofile {nofile};
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections 10000; }}
stream {{
  access_log off;
  tcp_nodelay on;
  proxy_connect_timeout 5s;
  proxy_timeout 1h;
{servers}
}}
"""


class Peer:
    """A kind of proxy. `title` is for people, `name` for options and JSON."""

    name = title = ""
    packages = ()
    most_workers = 64
    forks = False       # a process for each connection
    routes_many = True  # one process can listen on two addresses with a server each
    users = (None,)     # None is whoever runs the comparison
    everywhere = True   # False: only in scenarios that name it
    environment = {}    # on top of the comparison's own

    def missing(self):
        """The packages to install before it can run."""
        return ()

    def version(self):
        return ""

    def describe(self):
        return ""

    def command(self, directory, routes, workers, user):
        """The argv that serves `routes`: (port, server address) each. May write files into `directory`."""
        raise NotImplementedError

    def takes(self, scenario):
        if self.name not in scenario.peers and (scenario.peers or not self.everywhere):
            return False
        if scenario.user not in self.users or scenario.workers > self.most_workers:
            return False
        if scenario.kind == "mixed" and not self.routes_many:
            return False
        # A process for each connection is for few connections that stay.
        return not self.forks or (scenario.kind in ("ping", "bulk") and scenario.connections <= 8)


class Ringmain(Peer):
    name = title = "ringmain"
    users = (None, "nobody")

    def __init__(self, build):
        self.binary = build / "ringmain"

    def version(self):
        return version([self.binary, "version"])

    def describe(self):
        return "workers N, log level error, no health check, idle_timeout 1h; all else by default"

    def command(self, directory, routes, workers, user):
        names = [f"r{index}" for index in range(len(routes))]
        self.admin = directory.ports.take()
        settings = {
            "workers": workers,
            "admin": {"listen": f"127.0.0.1:{self.admin}"},
            "log": {"level": "error"},
            "drain": {"timeout": "1s"},
            "listeners": [{"name": name, "listen": f"127.0.0.1:{port}", "upstream": name, "idle_timeout": "1h"}
                          for name, (port, _) in zip(names, routes)],
            "upstreams": [{"name": name, "servers": [{"address": to}]} for name, (_, to) in zip(names, routes)],
        }
        path = directory.path / "ringmain.yaml"
        path.write_text(json.dumps(settings, indent=1))  # JSON is YAML
        binary = self.binary
        if user is not None:  # who may not be allowed to enter the build folder
            binary = shutil.copy(self.binary, directory.path / "ringmain")
        return [binary, "run", "--config", path]

    def loop_turns(self):
        """{upper bound in seconds: turns of the worker that took no longer}, since its start."""
        body = http_get(f"127.0.0.1:{self.admin}", "/metrics")
        turns = {}
        bucket = r'^ringmain_worker_loop_turn_seconds_bucket\{.*?le="([^"]+)"\} (\S+)$'
        for bound, count in re.findall(bucket, body, re.M):
            turns[float(bound)] = turns.get(float(bound), 0) + float(count)
        return turns


class FixedRingmain(Ringmain):
    """ringmain without its choice between buffers and pipes."""

    everywhere = False

    def __init__(self, build, spliced):
        super().__init__(build)
        self.spliced = spliced
        self.name = "ringmain-spliced" if spliced else "ringmain-buffered"
        self.title = "ringmain, always pipes" if spliced else "ringmain, always buffers"
        if spliced:
            self.binary = build / "loadtest" / "ringmain-always-spliced"
        else:
            self.environment = {"RINGMAIN_DISABLE": "splice"}

    def describe(self):
        return "a build that splices from the first byte on" if self.spliced else "RINGMAIN_DISABLE=splice"


class HaProxy(Peer):
    packages = ("haproxy",)

    tuning = ""
    options = ""

    def __init__(self, splice):
        self.name = "haproxy-splice" if splice else "haproxy"
        self.title = "HAProxy splice-auto" if splice else "HAProxy"
        if splice:
            self.options = "option splice-auto"

    def missing(self):
        return () if find("haproxy") else self.packages

    def version(self):
        return version([find("haproxy"), "-v"])

    def describe(self):
        settings = ("mode tcp, nbthread N, maxconn 4500, timeouts 1h", self.options, self.tuning)
        return ", ".join(filter(None, settings))

    def command(self, directory, routes, workers, user):
        text = HAPROXY.format(workers=workers, options=self.options.replace(", ", "\n  "), tuning=self.tuning)
        for index, (port, to) in enumerate(routes):
            text += f"listen r{index}\n  bind 127.0.0.1:{port}\n  server s{index} {to}\n"
        path = directory.path / "haproxy.cfg"
        path.write_text(text)
        return [find("haproxy"), "-db", "-q", "-f", path]


class SplicingHaProxy(HaProxy):
    """Splices from the first byte. splice-auto may never begin: whether a flow is a fast one is looked at only when the
    session is processed as a whole, which plain forwarding does without ("show info": no pipe was ever made)."""

    options = "option splice-request, option splice-response"
    tuning = "tune.pipesize 1048576"

    def __init__(self):
        super().__init__(splice=False)
        self.name, self.title = "haproxy-pipes", "HAProxy, always pipes"

    def describe(self):
        return super().describe() + "; with splice-auto it may never begin to splice"

    def takes(self, scenario):
        return scenario.kind == "bulk" and super().takes(scenario)


class Nginx(Peer):
    name = "nginx"
    title = "nginx stream"
    packages = ("nginx-light", "libnginx-mod-stream")
    users = (None, "nobody")

    def missing(self):
        packages = [] if find("nginx") else ["nginx-light"]
        return packages if MODULE.exists() else [*packages, "libnginx-mod-stream"]

    def version(self):
        return version([find("nginx"), "-v"])

    def describe(self):
        return "worker_processes N, worker_connections 10000, tcp_nodelay on, proxy_timeout 1h, access_log off; " \
               "reuseport with several workers"

    def command(self, directory, routes, workers, user):
        options = " reuseport" if workers > 1 else ""
        servers = "\n".join(f"  server {{ listen 127.0.0.1:{port} backlog=4096{options}; proxy_pass {to}; }}"
                            for port, to in routes)
        path = directory.path / "nginx.conf"
        path.write_text(NGINX.format(directory=directory.path, workers=workers, servers=servers,
                                     nofile=directory.nofile, user="user root;" if user is None else "",
                                     module=f"load_module {MODULE};" if MODULE.exists() else ""))
        return [find("nginx"), "-p", directory.path, "-e", directory.path / "error.log", "-c", path]


class Socat(Peer):
    name = title = "socat"
    packages = ("socat",)
    most_workers = 1
    forks = True
    routes_many = False

    def missing(self):
        return () if find("socat") else self.packages

    def version(self):
        return version([find("socat"), "-V"])

    def describe(self):
        return "a process for each connection (fork), nodelay, 64 KiB buffer (-b 65536)"

    def command(self, directory, routes, workers, user):
        (port, to), = routes
        return [find("socat"), "-b", "65536", f"TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=4096,nodelay",
                f"TCP4:{to},nodelay"]


class Floor(Peer):
    name = "floor"
    title = "bare epoll"
    most_workers = 1

    def __init__(self, build):
        self.binary = build / "loadtest" / "epoll-relay"

    def describe(self):
        return "loadtest/epoll_relay.cc: the least a proxy can do, one thread, 64 KiB copies"

    def command(self, directory, routes, workers, user):
        argv = [self.binary]
        for port, to in routes:
            argv += [f"127.0.0.1:{port}", to]
        return argv


class Custom(Peer):
    """--peer NAME='command {listen} {to}'"""

    routes_many = False

    def __init__(self, text):
        self.name, _, self.text = text.partition("=")
        self.title = self.name
        if not self.name or "{listen}" not in self.text and "{port}" not in self.text or "{to}" not in self.text:
            raise Problem("--peer wants NAME='command {listen} {to}' ({port} and {workers} are known, too)")

    def describe(self):
        return self.text

    def command(self, directory, routes, workers, user):
        (port, to), = routes
        known = {"listen": f"127.0.0.1:{port}", "port": str(port), "to": to, "workers": str(workers)}
        return [re.sub(r"\{(listen|port|to|workers)\}", lambda found: known[found[1]], word)
                for word in shlex.split(self.text)]


class Direct(Peer):
    """No proxy at all: what the load and the servers can do."""

    name = title = "direct"

    def describe(self):
        return "no proxy"


def known(build):
    """All, in the order in which they run: those that matter most beside ringmain."""
    return [Direct(), Floor(build), Nginx(), FixedRingmain(build, False), Ringmain(build), FixedRingmain(build, True),
            HaProxy(False), HaProxy(True), SplicingHaProxy(), Socat()]


def choose(build, names, custom):
    peers = known(build) + [Custom(text) for text in custom]
    by_name = {peer.name: peer for peer in peers}
    if len(by_name) != len(peers):
        raise Problem("two peers have the same name")
    if names:
        wrong = [name for name in names if name not in by_name]
        if wrong:
            raise Problem(f"no peer {wrong[0]}; there are {' '.join(by_name)}")
        peers = [peer for peer in peers if peer.name in names or peer.name == "ringmain"]
    missing = sorted({package for peer in peers for package in peer.missing()})
    if missing:
        install(missing)
    still = [peer.name for peer in peers if peer.missing()]
    if still:
        raise Problem(f"{' '.join(still)}: not there after installing {' '.join(missing)}; leave it out with --peers")
    return peers


class Directory:
    """Where a proxy finds its files; any user may enter it."""

    def __init__(self, path, ports, nofile, user):
        self.path, self.ports, self.nofile = path, ports, nofile
        path.mkdir()
        path.chmod(0o755)
        if user is not None:
            os.chown(path, NOBODY, NOBODY)


class Proxy:
    """One running peer, or none for Direct. `addresses` is where to connect, one for each server address in `to`."""

    def __init__(self, children, peer, directory, to, workers, user, cpus):
        self.peer = peer
        self._children = children
        self.process = None
        self.addresses = to
        if isinstance(peer, Direct):
            return
        routes = [(directory.ports.take(), address) for address in to]
        argv = peer.command(directory, routes, workers, user)
        if user is not None:
            argv = ["setpriv", "--pdeathsig=TERM", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                    "--inh-caps=-all", "--bounding-set=-all", *argv]
        with open(directory.path / "log", "w") as log:
            self.process = children.start(argv, cpus, stdout=log, stderr=log, cwd=directory.path,
                                          env={**os.environ, **peer.environment})
        self.addresses = [f"127.0.0.1:{port}" for port, _ in routes]
        wait_until(lambda: self.process.poll() is not None or all(listens(port) for port, _ in routes),
                   f"{peer.name} listens")
        if self.process.poll() is not None:
            said = (directory.path / "log").read_text(errors="replace").strip()
            raise Problem(f"{peer.name} ended with {self.process.returncode}: {said[-400:]}")

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd")) if self.process else 0

    def rss_kib(self, field):
        return tree_rss_kib(self.pid, field) if self.process else 0

    def stop(self):
        if self.process:
            self._children.stop(self.process)
