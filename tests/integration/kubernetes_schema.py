"""A strict JSON schema of the Kubernetes fields that deploy/kubernetes uses: an unknown field, a wrong type or a missing
one fails. A new field needs a line here. Names and types are those of the Kubernetes API reference, v1 and apps/v1."""

NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
TEXT = {"type": "string"}
LABELS = {"type": "object", "additionalProperties": TEXT}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
COUNT = {"type": "integer", "minimum": 0}
QUANTITY = {"type": "string", "pattern": "^[0-9]+(m|Ki|Mi|Gi)?$"}


def record(required=(), **fields):
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def items(schema):
    return {"type": "array", "items": schema, "minItems": 1}


METADATA = record(["name"], name=NAME, namespace=NAME, labels=LABELS, annotations=LABELS)
QUANTITIES = {"type": "object", "properties": {"cpu": QUANTITY, "memory": QUANTITY}, "additionalProperties": False}
PROBE = record(
    ["httpGet"], httpGet=record(["path", "port"], path=TEXT, port={"anyOf": [NAME, PORT]}), periodSeconds=COUNT,
    timeoutSeconds=COUNT, failureThreshold=COUNT, initialDelaySeconds=COUNT)
CONTAINER = record(
    ["name", "image"], name=NAME, image=TEXT, args=items(TEXT), command=items(TEXT),
    ports=items(record(["containerPort"], name=NAME, containerPort=PORT, hostPort=PORT, protocol={"enum": ["TCP"]})),
    securityContext=record(
        allowPrivilegeEscalation={"type": "boolean"}, readOnlyRootFilesystem={"type": "boolean"},
        capabilities=record(drop=items(TEXT), add=items(TEXT))),
    resources=record(requests=QUANTITIES, limits=QUANTITIES),
    startupProbe=PROBE, readinessProbe=PROBE, livenessProbe=PROBE,
    volumeMounts=items(record(["name", "mountPath"], name=NAME, mountPath=TEXT, readOnly={"type": "boolean"})))
POD = record(
    ["containers"], automountServiceAccountToken={"type": "boolean"}, terminationGracePeriodSeconds=COUNT,
    securityContext=record(
        runAsNonRoot={"type": "boolean"}, runAsUser=COUNT, runAsGroup=COUNT,
        seccompProfile=record(["type"], type={"enum": ["Localhost", "RuntimeDefault"]}, localhostProfile=TEXT)),
    containers=items(CONTAINER), volumes=items(record(["name"], name=NAME, configMap=record(["name"], name=NAME))))


def kind(name, version, **fields):
    return record(["apiVersion", "kind", "metadata", *fields], apiVersion={"const": version}, kind={"const": name},
                  metadata=METADATA, **fields)


KINDS = {
    "Namespace": record(["apiVersion", "kind", "metadata"], apiVersion={"const": "v1"}, kind={"const": "Namespace"},
                        metadata=METADATA),
    "Service": kind("Service", "v1", spec=record(
        ["selector", "ports"], selector=LABELS,
        ports=items(record(
            ["port"], name=NAME, port=PORT, targetPort={"anyOf": [NAME, PORT]}, protocol={"enum": ["TCP"]})))),
    "DaemonSet": kind("DaemonSet", "apps/v1", spec=record(
        ["selector", "template"], selector=record(["matchLabels"], matchLabels=LABELS),
        updateStrategy=record(["type"], type={"enum": ["RollingUpdate", "OnDelete"]},
                              rollingUpdate=record(maxUnavailable=COUNT, maxSurge=COUNT)),
        template=record(["metadata", "spec"], metadata=record(labels=LABELS, annotations=LABELS), spec=POD))),
    "Kustomization": record(
        ["apiVersion", "kind", "resources"], apiVersion={"const": "kustomize.config.k8s.io/v1beta1"},
        kind={"const": "Kustomization"}, namespace=NAME, resources=items(TEXT),
        configMapGenerator=items(record(["name", "files"], name=NAME, files=items(TEXT))),
        generatorOptions=record([], disableNameSuffixHash={"type": "boolean"}),
        images=items(record(["name"], name=TEXT, newName=TEXT, newTag=TEXT))),
}
