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
FLAG = {"type": "boolean"}
PORT_OR_NAME = {"anyOf": [NAME, PORT]}
COUNT_OR_PERCENT = {"anyOf": [COUNT, {"type": "string", "pattern": "^[0-9]+%$"}]}
SELECTOR = record(["matchLabels"], matchLabels=LABELS)
SECCOMP = record(["type"], type={"enum": ["Localhost", "RuntimeDefault"]}, localhostProfile=TEXT)
PROBE = record(
    httpGet=record(["path", "port"], path=TEXT, port=PORT_OR_NAME), tcpSocket=record(["port"], port=PORT_OR_NAME),
    periodSeconds=COUNT, timeoutSeconds=COUNT, failureThreshold=COUNT, initialDelaySeconds=COUNT)
CONTAINER = record(
    ["name", "image"], name=NAME, image=TEXT, args=items(TEXT), command=items(TEXT), restartPolicy={"const": "Always"},
    ports=items(record(["containerPort"], name=NAME, containerPort=PORT, hostPort=PORT, protocol={"enum": ["TCP"]})),
    securityContext=record(
        allowPrivilegeEscalation=FLAG, readOnlyRootFilesystem=FLAG, runAsNonRoot=FLAG, runAsUser=COUNT,
        capabilities=record(drop=items(TEXT), add=items(TEXT)), seccompProfile=SECCOMP),
    resources=record(requests=QUANTITIES, limits=QUANTITIES),
    startupProbe=PROBE, readinessProbe=PROBE, livenessProbe=PROBE,
    volumeMounts=items(record(["name", "mountPath"], name=NAME, mountPath=TEXT, readOnly=FLAG)))
VOLUME = record(
    ["name"], name=NAME, configMap=record(["name"], name=NAME), emptyDir=record(sizeLimit=QUANTITY),
    hostPath=record(["path", "type"], path=TEXT, type={"enum": ["Directory", "DirectoryOrCreate"]}))
POD = record(
    ["containers"], automountServiceAccountToken=FLAG, terminationGracePeriodSeconds=COUNT, hostNetwork=FLAG,
    dnsPolicy={"enum": ["ClusterFirst", "ClusterFirstWithHostNet"]},
    tolerations=items(record(key=TEXT, operator={"enum": ["Exists", "Equal"]}, effect={"enum": ["NoExecute", "NoSchedule"]})),
    topologySpreadConstraints=items(record(
        ["maxSkew", "topologyKey", "whenUnsatisfiable"], maxSkew=COUNT, topologyKey=TEXT,
        whenUnsatisfiable={"enum": ["ScheduleAnyway", "DoNotSchedule"]}, labelSelector=SELECTOR)),
    securityContext=record(runAsNonRoot=FLAG, runAsUser=COUNT, runAsGroup=COUNT, fsGroup=COUNT, seccompProfile=SECCOMP),
    initContainers=items(CONTAINER), containers=items(CONTAINER), volumes=items(VOLUME))
TEMPLATE = record(["metadata", "spec"], metadata=record(labels=LABELS, annotations=LABELS), spec=POD)
ROLLING = record(maxUnavailable=COUNT_OR_PERCENT, maxSurge=COUNT_OR_PERCENT)


def kind(name, version, **fields):
    return record(["apiVersion", "kind", "metadata", *fields], apiVersion={"const": version}, kind={"const": name},
                  metadata=METADATA, **fields)


def kustomization(name, version):
    return record(
        ["apiVersion", "kind", "resources"], apiVersion={"const": f"kustomize.config.k8s.io/{version}"}, kind={"const": name},
        namespace=NAME, resources=items(TEXT), components=items(TEXT),
        configMapGenerator=items(record(["name", "files"], name=NAME, files=items(TEXT))),
        generatorOptions=record([], disableNameSuffixHash=FLAG),
        patches=items(record(["target", "patch"], target=record(["kind"], kind=TEXT, name=TEXT), patch=TEXT,
                             options=record(allowKindChange=FLAG))),
        images=items(record(["name"], name=TEXT, newName=TEXT, newTag=TEXT)))


KINDS = {
    "Namespace": kind("Namespace", "v1"),
    "ConfigMap": kind("ConfigMap", "v1", data=LABELS),
    "Service": kind("Service", "v1", spec=record(
        ["selector", "ports"], selector=LABELS, clusterIP={"const": "None"}, type={"enum": ["ClusterIP", "LoadBalancer"]},
        externalTrafficPolicy={"enum": ["Local", "Cluster"]},
        ports=items(record(["port"], name=NAME, port=PORT, targetPort=PORT_OR_NAME, protocol={"enum": ["TCP"]})))),
    "DaemonSet": kind("DaemonSet", "apps/v1", spec=record(
        ["selector", "template"], selector=SELECTOR, template=TEMPLATE, minReadySeconds=COUNT,
        updateStrategy=record(["type"], type={"enum": ["RollingUpdate", "OnDelete"]}, rollingUpdate=ROLLING))),
    "Deployment": kind("Deployment", "apps/v1", spec=record(
        ["selector", "template"], selector=SELECTOR, template=TEMPLATE, minReadySeconds=COUNT, replicas=COUNT,
        strategy=record(["type"], type={"enum": ["RollingUpdate", "Recreate"]}, rollingUpdate=ROLLING))),
    "NetworkPolicy": kind("NetworkPolicy", "networking.k8s.io/v1", spec=record(
        ["podSelector"], podSelector=SELECTOR, policyTypes=items({"enum": ["Ingress", "Egress"]}),
        ingress=items(record(
            ports=items(record(["port"], port=PORT_OR_NAME, protocol={"enum": ["TCP"]})),
            **{"from": items(record(namespaceSelector=SELECTOR, podSelector=SELECTOR))})))),
    "PodDisruptionBudget": kind("PodDisruptionBudget", "policy/v1", spec=record(
        ["selector"], maxUnavailable=COUNT_OR_PERCENT, minAvailable=COUNT_OR_PERCENT, selector=SELECTOR)),
    # Of the Prometheus operator.
    "ServiceMonitor": kind("ServiceMonitor", "monitoring.coreos.com/v1", spec=record(
        ["selector", "endpoints"], selector=SELECTOR, endpoints=items(record(
            ["port"], port=NAME, path=TEXT, interval=TEXT, relabelings=items(record(
                sourceLabels=items(TEXT), targetLabel=TEXT, action={"enum": ["replace", "labeldrop"]}, regex=TEXT)))))),
    "Kustomization": kustomization("Kustomization", "v1beta1"),
    "Component": kustomization("Component", "v1alpha1"),
}
