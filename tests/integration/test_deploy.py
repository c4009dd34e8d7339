"""deploy/: the one command, the shipped configurations, Compose and the seccomp profile fit together."""
import functools
import importlib.machinery
import importlib.util
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from peers import wait_until
from proxy import BUILD, ECHO, LOAD, RINGMAIN, run_command

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
SECCOMP = DEPLOY / "seccomp" / "ringmain.json"


def load_yaml(path):
    return yaml.safe_load(path.read_text())


# ---- deploy/run.sh --------------------------------------------------------------------------------------------------

# Runs a command in a network namespace of its own, where all ports are free: the loopback interface is set up
# (SIOCSIFFLAGS, IFF_UP | IFF_RUNNING), then the ports of the first argument are taken.
ALONE = """
import fcntl, os, socket, struct, sys
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
for port in filter(None, sys.argv[1].split(",")):
    taken = socket.create_server(("127.0.0.1", int(port)))
    os.set_inheritable(taken.detach(), True)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def run_sh(*arguments, taken=()):
    """Starts deploy/run.sh --no-build in a process group of its own."""
    unshare = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine does not allow a network namespace (unshare --net)")
    return subprocess.Popen(
        [*unshare, sys.executable, "-c", ALONE, ",".join(map(str, taken)), str(DEPLOY / "run.sh"), "--no-build",
         *arguments],
        env={**os.environ, "RINGMAIN_BUILD": str(BUILD)}, cwd="/", text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True)


def finish(process):
    """Its output, after which nothing that it started may be left."""
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return output


@pytest.mark.ci
def test_run_sh_once():
    process = run_sh("--once")
    output = finish(process)
    assert process.returncode == 0, output
    assert "every byte came back right" in output
    assert "http://127.0.0.1:9900/" in output


@pytest.mark.ci
def test_run_sh_stays_up_until_interrupted():
    process = run_sh()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "up until Ctrl-C" in line:
            break
    assert "up until Ctrl-C" in lines[-1], "".join(lines)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    finish(process)
    assert process.returncode == 0


@pytest.mark.parametrize("port", [7002, 8080, 9900])
def test_run_sh_names_an_occupied_port(port):
    process = run_sh("--once", taken=[port])
    output = finish(process)
    assert process.returncode == 1
    assert output == f"run.sh: port {port} of 127.0.0.1 is in use by another program; end it and try again\n"


def test_run_sh_ends_when_the_proxy_does_not_start(tmp_path):
    build = tmp_path / "build"
    (build / "loadtest").mkdir(parents=True)
    for binary in (LOAD, ECHO):
        (build / "loadtest" / Path(binary).name).symlink_to(binary)
    (build / "ringmain").write_text("#!/bin/sh\necho 'no luck today' >&2\nexit 1\n")
    (build / "ringmain").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "BUILD", build)
        process = run_sh("--once")
    output = finish(process)
    assert process.returncode == 1
    assert output.splitlines()[-1] == "run.sh: ringmain did not start: no luck today"


def test_run_sh_command_line():
    command = str(DEPLOY / "run.sh")
    shown = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stdout.startswith("usage:")
    wrong = subprocess.run([command, "--twice"], capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.startswith("usage:")


# ---- Configurations -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", [DEPLOY / "ringmain.yaml", COMPOSE / "ringmain.yaml", *DEPLOY.glob("kubernetes/*/ringmain.yaml"), DEPLOY / "debian" / "ringmain.yaml"],
                         ids=lambda path: str(path.relative_to(DEPLOY)))
def test_shipped_configuration_is_valid(path):
    result = run_command("check", str(path))
    assert result.returncode == 0, result.stdout + result.stderr


# ---- Docker and Compose ---------------------------------------------------------------------------------------------

def test_dockerfile_installs_what_the_build_needs():
    text = (DEPLOY / "Dockerfile").read_text()
    assert "syntax=" not in text  # it would be pulled from a registry
    packages = re.search(r"^BUILD_PACKAGES=\((.*?)\)", (DEPLOY / "packages.sh").read_text(), re.S | re.M)[1].split()
    installed = re.search(r"--no-install-recommends \\\n(.*?)&&", text, re.S)[1].replace("\\", "").split()
    assert sorted(installed) == sorted(set(packages) - {"libgtest-dev"})


def test_dockerfile_says_what_version_it_is():
    version = re.search(r"^  version: '(.*)',$", (ROOT / "meson.build").read_text(), re.M)[1]
    assert f"\nARG VERSION={version}\n" in (DEPLOY / "Dockerfile").read_text()


def test_dockerfile_gets_what_it_copies():
    """.dockerignore leaves nothing out that it needs."""
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    text = (DEPLOY / "Dockerfile").read_text()
    needed = re.findall(r"^COPY (deploy/\S+)", text, re.M) + re.findall(r"^RUN (deploy/\S+)", text, re.M)
    assert len(needed) >= 3 and set(needed) <= set(let_in)
    assert all((ROOT / path).exists() for path in needed)


def test_image_root_is_all_that_a_program_needs(tmp_path):
    """The program runs with nothing else in the file system."""
    made = subprocess.run([DEPLOY / "image_root", tmp_path / "image", RINGMAIN], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    root = tmp_path / "image" / "root"
    libraries = [path for path in root.rglob("*.so*") if path.is_file()]
    assert libraries and not any(path.is_symlink() for path in root.rglob("*"))
    packages = {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libstdc++6"} <= packages
    for package in packages:
        assert (root / "usr/share/doc" / package / "copyright").is_file()
    if os.geteuid() != 0:
        pytest.skip("it takes root to change the root folder")
    done = subprocess.run(["chroot", root, "/usr/local/bin/ringmain", "version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == run_command("version").stdout, done.stderr


@pytest.fixture(scope="module")
def compose():
    """compose(profile...): the stack as docker-compose understands it."""
    plugins = ("/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins")
    command = shutil.which("docker-compose", path=os.pathsep.join((os.environ["PATH"], "/usr/bin", *plugins)))
    if not command:
        pytest.skip("docker-compose is not installed (Debian package docker-compose)")

    @functools.lru_cache
    def read(*profiles, files=("docker-compose.yml",)):
        options = [word for file in files for word in ("-f", file)] + [word for profile in profiles for word in ("--profile", profile)]
        result = subprocess.run([command, *options, "config"], cwd=COMPOSE, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return yaml.safe_load(result.stdout)

    return read


def test_compose_services_are_gated_and_confined(compose):
    services = compose("load", "chaos")["services"]
    echoes = {"echo-1", "echo-2", "echo-slow"}
    assert {"ringmain", "load", "prometheus", "grafana", "echo-chaos", *echoes} == set(services)
    for name in ("ringmain", "load", "echo-chaos", *echoes):
        assert services[name]["read_only"] is True and services[name]["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in services[name]["security_opt"]
        assert any("seccomp" in option for option in services[name]["security_opt"])
    for service in services.values():
        # A limit above the host's keeps a container from starting.
        assert "ulimits" not in service
    gates = {name: condition["condition"] for name, condition in services["ringmain"]["depends_on"].items()}
    assert gates == dict.fromkeys(echoes, "service_healthy")
    assert services["load"]["depends_on"]["ringmain"]["condition"] == "service_healthy"


def test_compose_profiles(compose):
    calm = set(compose()["services"])
    # docker-compose 1.29 shows services of other profiles, too; Compose 2 does not.
    named = {name for name, service in compose("load", "chaos")["services"].items() if service.get("profiles")}
    assert named == {"load", "echo-chaos"} and {"ringmain", "echo-1", "prometheus", "grafana"} <= calm - named
    services = compose("load", "chaos")["services"]
    assert services["load"]["profiles"] == ["load"] and services["echo-chaos"]["profiles"] == ["chaos"]
    assert services["echo-chaos"]["command"][:3] == ["timeout", "--signal=KILL", "20s"] and services["echo-chaos"]["restart"] == "always"
    assert "container_name" not in services["load"] and "ports" not in services["load"]  # either would keep it from being scaled


def test_compose_mounts_exist(compose):
    for service in compose("load", "chaos")["services"].values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            assert os.path.exists(source), source


def test_compose_addresses_and_ports_fit_the_configuration(compose):
    config, stack = load_yaml(COMPOSE / "ringmain.yaml"), compose("load", "chaos")
    services = stack["services"]
    (network,) = stack["networks"]["ring"]["ipam"]["config"]
    address = ipaddress.ip_address(services["ringmain"]["networks"]["ring"]["ipv4_address"])
    assert address in ipaddress.ip_network(network["subnet"]) and address not in ipaddress.ip_network(network["ip_range"])
    (server,) = config["upstreams"][0]["servers"]
    name, port = server["dns"].split(":")
    for echo in ("echo-1", "echo-2", "echo-slow", "echo-chaos"):
        assert services[echo]["networks"]["ring"]["aliases"] == [name]
        assert f"0.0.0.0:{port}" in services[echo]["command"]
    port = config["listeners"][0]["listen"].split(":")[1]
    assert f"{address}:{port}" in services["load"]["command"]
    metrics_port = config["metrics"]["listen"].split(":")[1]
    targets = load_yaml(COMPOSE / "prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"ringmain:{metrics_port}"]
    published = re.findall(r"\b(\d+)\b", json.dumps(services["ringmain"]["ports"]))
    assert port in published and metrics_port in published


def test_compose_without_a_registry(compose):
    """debian/debian.yml leaves no image to pull but Grafana's, which is not started then."""
    stack = compose(files=("docker-compose.yml", "debian/debian.yml"))
    assert {name for name, service in stack["services"].items() if "build" not in service} == {"grafana"}
    assert os.path.exists(os.path.join(stack["services"]["prometheus"]["build"]["context"], "prometheus.Dockerfile"))


def test_compose_echo_health_check_is_a_command_of_the_tools():
    """As the engine would run it, at an echo server; and at none."""
    (check,) = {json.dumps(service["healthcheck"]["test"][1:]) for name, service in load_yaml(COMPOSE / "docker-compose.yml")["services"].items()
                if name.startswith("echo")}
    program, *arguments = json.loads(check)
    assert program == Path(LOAD).name
    with subprocess.Popen([ECHO, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as echo:
        address = re.search(r"address=(\S+)", echo.stdout.readline())[1]
        arguments[arguments.index("127.0.0.1:7000")] = address
        assert subprocess.run([LOAD, *arguments], capture_output=True, timeout=10).returncode == 0
        echo.terminate()
    assert subprocess.run([LOAD, *arguments], capture_output=True, timeout=10).returncode == 1


def test_compose_test_fills_in_dashboards():
    """deploy/compose/test asks what the panels ask; here only how it reads them."""
    loader = importlib.machinery.SourceFileLoader("compose_test", str(COMPOSE / "test"))
    script = importlib.util.module_from_spec(importlib.util.spec_from_loader("compose_test", loader))
    loader.exec_module(script)
    found = [(title, script.filled_in(expression)) for file in (ROOT / "dashboards").glob("*.json")
             for title, expression in script.expressions(json.loads(file.read_text()))]
    assert len(found) > 30 and not [expression for _, expression in found if "$" in expression]
    assert script.filled_in('rate(a{instance=~"$instance",b=~"${listener:regex}"}[$__rate_interval])') == 'rate(a{instance=~".*",b=~".*"}[30s])'


def test_grafana_is_provisioned():
    provisioning = COMPOSE / "grafana" / "provisioning"
    (source,) = load_yaml(provisioning / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = load_yaml(provisioning / "dashboards" / "ringmain.yml")["providers"]
    grafana = load_yaml(COMPOSE / "docker-compose.yml")["services"]["grafana"]
    assert f"../../dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    text = (ROOT / "dashboards" / home.name).read_text()
    named = {value for value in re.findall(r'"uid":\s*"([^"]+)"', json.dumps(find_datasources(json.loads(text))))}
    # Either a variable of the dashboard, which takes the default source, or this one.
    assert all(uid.startswith("$") or uid in (source["uid"], "-- Grafana --", "grafana") for uid in named), named


def find_datasources(node):
    """Every value of a key `datasource`, at any depth."""
    if isinstance(node, dict):
        return [value for key, value in node.items() if key == "datasource"] + \
               [found for value in node.values() for found in find_datasources(value)]
    return [found for value in node for found in find_datasources(value)] if isinstance(node, list) else []


# ---- seccomp --------------------------------------------------------------------------------------------------------

def test_seccomp_profile_is_plain_enough_for_kubernetes():
    profile = json.loads(SECCOMP.read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = set()
    for rule in profile["syscalls"]:
        # Kubernetes hands the profile to the runtime as it is: Docker's conditions are not understood there.
        assert rule.keys() <= {"names", "action", "args", "errnoRet"}
        allowed |= set(rule["names"]) if rule["action"] == "SCMP_ACT_ALLOW" else set()
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register", "fstatfs"} <= allowed  # the last is for runc itself
    assert not allowed & {"ptrace", "mount", "unshare", "setns", "bpf", "init_module", "kexec_load", "keyctl"}


# Loads the profile into this process, then becomes the command.
CONFINE = """
import json, os, seccomp, sys
profile = json.load(open(sys.argv[1]))
confine = seccomp.SyscallFilter(seccomp.ERRNO(profile["defaultErrnoRet"]))
for rule in profile["syscalls"]:
    action = seccomp.ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else seccomp.ERRNO(rule["errnoRet"])
    arguments = [seccomp.Arg(a["index"], seccomp.MASKED_EQ, a["value"], a["valueTwo"]) for a in rule.get("args", [])]
    for name in rule["names"]:
        try:
            number = seccomp.resolve_syscall(seccomp.Arch(), name)
        except ValueError:
            number = -1
        if number >= 0:  # not every processor has every call
            confine.add_rule(action, name, *arguments)
confine.load()
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_seccomp_profile_suffices(tmp_path):
    pytest.importorskip("seccomp", reason="python3-seccomp is not installed")
    confined = [sys.executable, "-c", CONFINE, str(SECCOMP)]
    denied = subprocess.run([*confined, "/usr/bin/unshare", "--uts", "true"], capture_output=True, text=True)
    assert denied.returncode != 0 and "Operation not permitted" in denied.stderr  # the filter is in force

    processes, logs = [], []

    def start(*command):
        logs.append(tmp_path / f"log{len(logs)}")
        with open(logs[-1], "w", encoding="utf-8") as log:
            processes.append(subprocess.Popen([*confined, *command], stdout=log, stderr=subprocess.STDOUT))
        address = re.compile(r"listening .*address=(\S+)")
        wait_until(lambda: address.search(logs[-1].read_text()) or processes[-1].poll() is not None, "an address")
        found = address.search(logs[-1].read_text())
        assert found, logs[-1].read_text()
        return found[1]

    try:
        server = start(ECHO, "--listen", "127.0.0.1:0")
        front = start(RINGMAIN, "run", "--listen", "127.0.0.1:0", "--to", server, "--admin", "127.0.0.1:0")
        load = subprocess.run([*confined, LOAD, "ping", "--to", front, "--connections", "10", "--duration", "1s"],
                              capture_output=True, text=True, timeout=30)
        assert load.returncode == 0, load.stdout + load.stderr
        for process in reversed(processes):
            process.terminate()
            assert process.wait(timeout=15) == 0, "\n".join(log.read_text() for log in logs)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
