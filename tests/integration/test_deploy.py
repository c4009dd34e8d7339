"""deploy/: the one command, the shipped configurations, Compose, Kubernetes and the seccomp profile fit together."""
import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

import kubernetes_schema
from peers import wait_until
from proxy import BUILD, ECHO, LOAD, RINGMAIN, run_command

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
KUBERNETES = DEPLOY / "kubernetes"
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

@pytest.mark.parametrize("path", [DEPLOY / "ringmain.yaml", COMPOSE / "ringmain.yaml", KUBERNETES / "ringmain.yaml"],
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


@pytest.fixture(scope="module")
def compose():
    """The stack as docker-compose understands it."""
    plugins = ("/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins")
    command = shutil.which("docker-compose", path=os.pathsep.join((os.environ["PATH"], "/usr/bin", *plugins)))
    if not command:
        pytest.skip("docker-compose is not installed (Debian package docker-compose)")
    result = subprocess.run([command, "config"], cwd=COMPOSE, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return yaml.safe_load(result.stdout)


def test_compose_services_are_gated_and_confined(compose):
    services = compose["services"]
    assert {"ringmain", "echo-1", "echo-2", "echo-slow", "load", "prometheus", "grafana"} == set(services)
    for name in ("ringmain", "load", "echo-1", "echo-2", "echo-slow"):
        assert services[name]["read_only"] is True and services[name]["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in services[name]["security_opt"]
        assert any("seccomp" in option for option in services[name]["security_opt"])
        # A limit above the host's keeps a container from starting.
        assert "ulimits" not in services[name]
    gates = {name: condition["condition"] for name, condition in services["ringmain"]["depends_on"].items()}
    assert gates == {"echo-1": "service_healthy", "echo-2": "service_healthy", "echo-slow": "service_healthy"}
    assert services["load"]["depends_on"]["ringmain"]["condition"] == "service_healthy"


def test_compose_mounts_exist(compose):
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            assert os.path.exists(source), source


def test_compose_addresses_and_ports_fit_the_configuration(compose):
    config = load_yaml(COMPOSE / "ringmain.yaml")
    services = compose["services"]
    address = {name: services[name]["networks"]["ring"]["ipv4_address"] for name in
               ("echo-1", "echo-2", "echo-slow", "ringmain")}
    subnet = ipaddress.ip_network(compose["networks"]["ring"]["ipam"]["config"][0]["subnet"])
    assert all(ipaddress.ip_address(each) in subnet for each in address.values())
    servers = [server["address"] for server in config["upstreams"][0]["servers"]]
    assert servers == [f"{address[name]}:7000" for name in ("echo-1", "echo-2", "echo-slow")]
    port = config["listeners"][0]["listen"].split(":")[1]
    assert f"{address['ringmain']}:{port}" in services["load"]["command"]
    metrics_port = config["metrics"]["listen"].split(":")[1]
    targets = load_yaml(COMPOSE / "prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"ringmain:{metrics_port}"]
    published = re.findall(r"\b(\d+)\b", json.dumps(services["ringmain"]["ports"]))
    assert port in published and metrics_port in published


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


# ---- Kubernetes -----------------------------------------------------------------------------------------------------

def manifests():
    return {path.name: load_yaml(path) for path in KUBERNETES.glob("*.yaml") if path.name != "ringmain.yaml"}


@pytest.mark.parametrize("name", sorted(manifests()))
def test_manifest_fits_the_schema(name):
    manifest = manifests()[name]
    jsonschema.validate(manifest, kubernetes_schema.KINDS[manifest["kind"]])


def test_the_schema_notices_a_misspelt_field():
    broken = manifests()["daemonset.yaml"]
    port = broken["spec"]["template"]["spec"]["containers"][0]["ports"][0]
    port["hostport"] = port.pop("hostPort")
    with pytest.raises(jsonschema.ValidationError, match="hostport"):
        jsonschema.validate(broken, kubernetes_schema.KINDS["DaemonSet"])


def test_kustomization_names_every_file():
    kustomization = manifests()["kustomization.yaml"]
    (generator,) = kustomization["configMapGenerator"]
    named = [*kustomization["resources"], *generator["files"], "kustomization.yaml"]
    assert sorted(named) == sorted(path.name for path in KUBERNETES.iterdir())


def test_manifests_fit_together():
    files = manifests()
    daemon_set, service = files["daemonset.yaml"]["spec"], files["service.yaml"]["spec"]
    pod = daemon_set["template"]["spec"]
    (container,) = pod["containers"]
    labels = daemon_set["template"]["metadata"]["labels"]
    for selector in (daemon_set["selector"]["matchLabels"], service["selector"]):
        assert selector and selector.items() <= labels.items()
    assert files["kustomization.yaml"]["namespace"] == files["namespace.yaml"]["metadata"]["name"]
    assert files["kustomization.yaml"]["images"][0]["name"] == container["image"]

    ports = {port["name"]: port for port in container["ports"]}
    for port in service["ports"]:
        assert port["targetPort"] in ports
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    config = load_yaml(KUBERNETES / "ringmain.yaml")
    assert config["metrics"]["listen"].endswith(f":{ports['metrics']['containerPort']}")
    assert config["listeners"][0]["listen"].endswith(f":{ports['tunnel']['containerPort']}")

    (generator,) = files["kustomization.yaml"]["configMapGenerator"]
    (volume,) = pod["volumes"]
    (mount,) = container["volumeMounts"]
    assert volume["configMap"]["name"] == generator["name"] and mount["name"] == volume["name"]
    assert container["args"][-1] == f"{mount['mountPath']}/{generator['files'][0]}"


def test_host_port_has_the_namespace_level_it_needs():
    files = manifests()
    container = files["daemonset.yaml"]["spec"]["template"]["spec"]["containers"][0]
    assert any("hostPort" in port for port in container["ports"])
    # The levels baseline and restricted forbid it.
    assert files["namespace.yaml"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_pod_outlives_the_drain():
    drain = load_yaml(KUBERNETES / "ringmain.yaml")["drain"]
    seconds = sum(int(value.removesuffix("s")) for value in drain.values())
    pod = manifests()["daemonset.yaml"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > seconds


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
