"""deploy/kubernetes: every manifest is of its kind, and what `kubectl kustomize` makes of each overlay fits together."""
import copy
import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

import kubernetes_schema
from proxy import run_command

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(str(path.parent.relative_to(KUBERNETES)) for path in KUBERNETES.rglob("kustomization.yaml")
                  if "components" not in path.parts)
FILES = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name != "ringmain.yaml")


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def name_of(path):
    return str(path.relative_to(KUBERNETES))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_manifest_fits_the_schema(path):
    for document in documents(path.read_text()):
        jsonschema.validate(document, kubernetes_schema.KINDS[document["kind"]])


def test_the_schema_notices_a_misspelt_field():
    (broken,) = documents((KUBERNETES / "base" / "daemonset.yaml").read_text())
    port = broken["spec"]["template"]["spec"]["containers"][0]["ports"][0]
    port["containerport"] = port.pop("containerPort")
    with pytest.raises(jsonschema.ValidationError, match="container[pP]ort"):
        jsonschema.validate(broken, kubernetes_schema.KINDS["DaemonSet"])


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "kustomization.yaml"], ids=name_of)
def test_kustomization_names_every_file_beside_it(path):
    (kustomization,) = documents(path.read_text())
    named = [name for name in kustomization["resources"] if ".." not in name] + ["kustomization.yaml"]
    for generator in kustomization.get("configMapGenerator", []):
        named += generator["files"]
    assert sorted(named) == sorted(other.name for other in path.parent.iterdir())


# ---- What is made of it ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built():
    """built(overlay): the objects of it, as kubectl sends them to the cluster."""
    kubectl = shutil.which("kubectl")
    if kubectl is None or subprocess.run([kubectl, "kustomize", KUBERNETES / "base"], capture_output=True).returncode != 0:
        pytest.skip("no kubectl whose kustomize is new enough")
    made = {}

    def build(overlay):
        if overlay not in made:
            done = subprocess.run([kubectl, "kustomize", KUBERNETES / overlay], capture_output=True, text=True)
            assert done.returncode == 0 and done.stderr == "", done.stderr
            made[overlay] = documents(done.stdout)
        return copy.deepcopy(made[overlay])

    return build


def of_kind(objects, *kinds):
    return [each for each in objects if each["kind"] in kinds]


def workloads(objects):
    return of_kind(objects, "DaemonSet", "Deployment")


def containers(pod):
    return pod.get("initContainers", []) + pod["containers"]


def configuration_text(objects, pod):
    """What ringmain reads in this pod; none if it is another program's."""
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(objects, "ConfigMap")}
    named = [volume["configMap"]["name"] for volume in pod.get("volumes", []) if "configMap" in volume]
    return maps[named[0]]["ringmain.yaml"] if named else None


def configuration(objects, pod):
    text = configuration_text(objects, pod)
    return None if text is None else yaml.safe_load(text)


def seconds(duration):
    value, unit = re.fullmatch(r"(\d+)(ms|s|m)", duration).groups()
    return int(value) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def check(objects):
    """What a server would refuse, or would let through and it would never work. Yields sentences."""
    pods = [(each["metadata"]["name"], each["spec"]["template"]) for each in workloads(objects)]
    levels = {each["metadata"]["name"]: each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for each in of_kind(objects, "Namespace")}
    for each in workloads(objects):
        if not each["spec"]["selector"]["matchLabels"].items() <= each["spec"]["template"]["metadata"]["labels"].items():
            yield f"{each['metadata']['name']} does not select its own pods"
    for each in of_kind(objects, "Service", "NetworkPolicy", "PodDisruptionBudget"):
        spec = each["spec"]
        selector = spec["podSelector"]["matchLabels"] if "podSelector" in spec else spec["selector"].get("matchLabels", spec["selector"])
        chosen = [template for _, template in pods if selector.items() <= template["metadata"]["labels"].items()]
        if len(chosen) != 1:
            yield f"{each['kind']} {each['metadata']['name']} selects {len(chosen)} workloads"
            continue
        listened = ports_of(objects, chosen[0]["spec"])
        for port in spec["ports"] if each["kind"] == "Service" else []:
            if port["targetPort"] not in listened:
                yield f"Service {each['metadata']['name']}: nobody listens on {port['targetPort']}"
    for name, template in pods:
        yield from check_pod(objects, name, template["spec"], levels)


def ports_of(objects, pod):
    """Numbers that the pod's programs listen on, by configuration and command line."""
    config, found = configuration(objects, pod), set()
    for address in [config["metrics"]["listen"], config["listeners"][0]["listen"]] if config else []:
        found.add(int(address.rsplit(":", 1)[1])) if not address.startswith("unix:") else None
    for container in containers(pod):
        found |= {int(argument.rsplit(":", 1)[1]) for argument in container.get("args", []) if re.fullmatch(r"0\.0\.0\.0:\d+", argument)}
    return found


def check_pod(objects, name, pod, levels):
    listened = ports_of(objects, pod)
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in containers(pod):
        if ":" not in container["image"]:
            yield f"{name}: the image {container['image']} has no tag"
        for port in container.get("ports", []):
            if port["containerPort"] not in listened:
                yield f"{name}: nobody listens on {port['containerPort']}"
            if "hostPort" in port and "privileged" not in levels.values():
                yield f"{name}: a hostPort needs a namespace of the level privileged"
            if pod.get("hostNetwork") and port.get("hostPort") != port["containerPort"]:
                yield f"{name}: in the host's network hostPort must be containerPort"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for how in container.get(probe, {}).values():
                if isinstance(how, dict) and how["port"] not in listened:
                    yield f"{name}: nobody answers the {probe} at {how['port']}"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{name}: there is no volume {mount['name']}"
        if container["securityContext"].get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{name}: {container['name']} keeps capabilities"
        for context in (container["securityContext"], pod.get("securityContext", {})):
            profile = context.get("seccompProfile", {})
            if profile.get("type") == "Localhost" and profile.get("localhostProfile") != installed_profile():
                yield f"{name}: no profile of that name is on the nodes: {profile.get('localhostProfile')}"
    if (config := configuration(objects, pod)) is not None:
        drain = sum(seconds(config["drain"].get(key, "0s")) for key in ("delay", "timeout"))
        if pod["terminationGracePeriodSeconds"] <= drain:
            yield f"{name}: is killed before it has drained"
    if pod.get("hostNetwork") and pod.get("dnsPolicy") != "ClusterFirstWithHostNet":
        yield f"{name}: does not find Services by name"


def installed_profile():
    """Below the kubelet's folder, where node-setup puts it."""
    (setup,) = documents((KUBERNETES / "node-setup" / "daemonset.yaml").read_text())
    pod = setup["spec"]["template"]["spec"]
    (volume,) = [each["hostPath"]["path"] for each in pod["volumes"] if each["name"] == "seccomp"]
    assert volume == "/var/lib/kubelet/seccomp"  # the kubelet's --root-dir and seccomp
    return re.search(r"/node/seccomp/(\S+)", pod["initContainers"][0]["command"][2])[1]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_fits_together(overlay, built):
    objects = built(overlay)
    for each in objects:
        jsonschema.validate(each, kubernetes_schema.KINDS[each["kind"]])
    assert list(check(objects)) == []
    assert len({each["metadata"].get("namespace", each["metadata"]["name"]) for each in objects}) == 1


BREAK = {
    "does not select its own pods": lambda spec, pod: spec["selector"]["matchLabels"].update({"app.kubernetes.io/name": "other"}),
    "selects 0 workloads": lambda spec, pod: spec["template"]["metadata"]["labels"].update({"app.kubernetes.io/name": "other"}),
    "hostPort must be containerPort": lambda spec, pod: pod["containers"][0]["ports"][0].update(hostPort=80),
    "nobody listens on 8081": lambda spec, pod: pod["containers"][0]["ports"][0].update(containerPort=8081),
    "nobody answers the livenessProbe": lambda spec, pod: pod["containers"][0]["livenessProbe"]["httpGet"].update(port=9900),
    "there is no volume run": lambda spec, pod: pod["volumes"].pop(),
    "no profile of that name": lambda spec, pod: pod["securityContext"]["seccompProfile"].update(localhostProfile="ringmain.json"),
    "is killed before it has drained": lambda spec, pod: pod.update(terminationGracePeriodSeconds=30),
    "does not find Services": lambda spec, pod: pod.update(dnsPolicy="ClusterFirst"),
    "has no tag": lambda spec, pod: pod["containers"][0].update(image="ringmain"),
}


@pytest.mark.parametrize("said", BREAK)
def test_the_checks_notice(said, built):
    objects = built("overlays/host-network")
    (workload,) = workloads(objects)
    BREAK[said](workload["spec"], workload["spec"]["template"]["spec"])
    assert any(said in sentence for sentence in check(objects))


def test_host_ports_need_the_level():
    objects = documents((KUBERNETES / "base" / "namespace.yaml").read_text())
    pod = {"containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 1, "hostPort": 1}], "securityContext": {}}]}
    assert any("level privileged" in sentence for sentence in check_pod(objects, "a", pod, {"ringmain": "restricted"}))


def test_base_is_restricted(built):
    """As the level wants it: what the server would refuse."""
    (workload,) = workloads(built("base"))
    pod = workload["spec"]["template"]["spec"]
    assert "hostNetwork" not in pod and all("hostPath" not in volume for volume in pod["volumes"])
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert all("hostPort" not in port for port in container["ports"])


def test_takeover_lets_two_pods_be_on_a_node(built):
    (workload,) = workloads(built("overlays/takeover"))
    spec, pod = workload["spec"], workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "ports" not in container and pod["hostNetwork"] is True
    assert {"--takeover", "--linger"} <= set(container["args"])
    config = configuration(built("overlays/takeover"), pod)
    folder = Path(config["takeover"]["socket"]).parent
    (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == str(folder)]
    (volume,) = [each for each in pod["volumes"] if each["name"] == mount["name"]]
    (setup,) = documents((KUBERNETES / "node-setup" / "daemonset.yaml").read_text())
    made = {each["hostPath"]["path"] for each in setup["spec"]["template"]["spec"]["volumes"]}
    assert volume["hostPath"] == {"path": str(folder), "type": "Directory"} and volume["hostPath"]["path"] in made
    user = pod["securityContext"]["runAsUser"]
    assert f"chown {user}:{pod['securityContext']['runAsGroup']} " in setup["spec"]["template"]["spec"]["initContainers"][0]["command"][2]
    # Long enough for a start that waits for names (3 s) and a takeover.
    assert spec["minReadySeconds"] >= 30


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "node-setup"])
def test_arguments_and_configuration_are_ringmains(overlay, built, tmp_path):
    objects = built(overlay)
    for workload in workloads(objects):
        pod = workload["spec"]["template"]["spec"]
        if (config := configuration(objects, pod)) is None:
            continue
        file = tmp_path / "ringmain.yaml"
        file.write_text(configuration_text(objects, pod))
        checked = run_command("check", str(file))
        assert checked.returncode == 0, checked.stderr
        assert config["reload"] == {"watch": True}
        (container,) = [each for each in containers(pod) if each["image"].startswith("ringmain:")]
        # A file that is not there comes after the command line.
        done = run_command(*[str(tmp_path / "none") if argument.startswith("/etc/") else argument for argument in container["args"]])
        assert done.returncode == 2 and "none" in done.stderr and "see ringmain --help" not in done.stderr


# ---- The published schemas ------------------------------------------------------------------------------------------

PACKAGES = ["typescript@5", "kubernetes-types", "kubernetes-models", "@kubernetes-models/prometheus-operator", "@kubernetes-models/base"]
TYPES = {"v1": "core/v1", "apps/v1": "apps/v1", "policy/v1": "policy/v1", "networking.k8s.io/v1": "networking/v1"}
VALIDATE = """
import { readFileSync } from "node:fs";
let failed = 0;
for (const [name, object] of JSON.parse(readFileSync("objects.json"))) {
  const operator = object.apiVersion.startsWith("monitoring.coreos.com/");
  const models = await import((operator ? "@kubernetes-models/prometheus-operator/" : "kubernetes-models/") + object.apiVersion);
  try {
    new models[object.kind](object).validate();
  } catch (error) {
    failed = 1;
    console.log(name, object.kind, error.message);
  }
}
process.exit(failed);
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with the npm packages."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("types")
    (folder / "package.json").write_text("{}")
    done = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *PACKAGES], cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"the npm packages cannot be had: {done.stderr[-300:]}")
    return folder


def objects_of_all(built):
    return [(overlay, each) for overlay in OVERLAYS for each in built(overlay)]


def compile_types(folder, objects):
    lines = []
    for i, (_, each) in enumerate(objects):
        if each["apiVersion"] in TYPES:
            lines.append(f'import type {{ {each["kind"]} as T{i} }} from "kubernetes-types/{TYPES[each["apiVersion"]]}";')
            lines.append(f"export const o{i}: T{i} = {json.dumps(each)};")
    (folder / "objects.ts").write_text("\n".join(lines))
    return subprocess.run(["node_modules/.bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "node", "objects.ts"],
                          cwd=folder, capture_output=True, text=True)


def validate_models(folder, objects):
    (folder / "objects.json").write_text(json.dumps(objects))
    (folder / "validate.mjs").write_text(VALIDATE)
    return subprocess.run(["node", "validate.mjs"], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_published_types(built, packages):
    objects = objects_of_all(built)
    done = compile_types(packages, objects)
    assert done.returncode == 0, done.stdout
    broken = next(each for _, each in objects if each["kind"] == "DaemonSet")
    broken["spec"]["template"]["spec"]["hostnetwork"] = True
    assert "hostnetwork" in compile_types(packages, objects).stdout


@pytest.mark.slow
def test_published_models(built, packages):
    objects = objects_of_all(built)
    # In no overlay.
    monitor = (KUBERNETES / "components" / "prometheus" / "service-monitor.yaml").read_text()
    objects += [("components/prometheus", each) for each in documents(monitor)]
    done = validate_models(packages, objects)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = next(each for _, each in objects if each["kind"] == "DaemonSet")
    broken["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = "lots"
    assert "memory" in validate_models(packages, objects).stdout
