"""What the API server and the cluster's own controllers add to a pod by themselves, written once.

The source of every value is the reference of the Kubernetes API, https://kubernetes.io/docs/reference/kubernetes-api/
(Pod v1 core, "Defaults to …"), and, for what is added, that of the admission plugins and controllers that are named
below. scripts/tests/recorded/defaulted.json holds what a real API server made of specs that use them.
"""

import re
from collections.abc import Mapping

Default = str | int | bool

# (the object that the field is in, the field) -> what it means when nobody says anything.
# "pod" is the pod's spec; containers of every kind are in "containers".
DEFAULTS: Mapping[tuple[str, str], Default] = {
    ("pod", "restartPolicy"): "Always",
    ("pod", "dnsPolicy"): "ClusterFirst",
    ("pod", "schedulerName"): "default-scheduler",
    ("pod", "serviceAccountName"): "default",
    ("pod", "terminationGracePeriodSeconds"): 30,
    ("pod", "enableServiceLinks"): True,
    ("pod", "hostNetwork"): False,
    ("pod", "hostPID"): False,
    ("pod", "hostIPC"): False,
    ("pod", "shareProcessNamespace"): False,
    ("pod", "setHostnameAsFQDN"): False,
    ("containers", "terminationMessagePath"): "/dev/termination-log",
    ("containers", "terminationMessagePolicy"): "File",
    ("containers", "stdin"): False,
    ("containers", "stdinOnce"): False,
    ("containers", "tty"): False,
    ("securityContext", "privileged"): False,
    ("securityContext", "allowPrivilegeEscalation"): True,
    ("securityContext", "readOnlyRootFilesystem"): False,
    ("securityContext", "runAsNonRoot"): False,
    ("securityContext", "procMount"): "Default",
    ("ports", "protocol"): "TCP",
    ("ports", "hostPort"): 0,
    ("volumeMounts", "readOnly"): False,
    ("volumeMounts", "recursiveReadOnly"): "Disabled",
    ("volumeMounts", "mountPropagation"): "None",
    ("fieldRef", "apiVersion"): "v1",
    ("resourceFieldRef", "divisor"): "0",
    ("configMapRef", "optional"): False,
    ("secretRef", "optional"): False,
    ("configMapKeyRef", "optional"): False,
    ("secretKeyRef", "optional"): False,
    **{
        (probe, field): value
        for probe in ("livenessProbe", "readinessProbe", "startupProbe")
        for field, value in (
            ("initialDelaySeconds", 0),
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        )
    },
    ("httpGet", "path"): "/",
    ("httpGet", "scheme"): "HTTP",
    **{(source, "defaultMode"): 0o644 for source in ("secret", "configMap", "downwardAPI", "projected")},
    ("secret", "optional"): False,
    ("configMap", "optional"): False,
    ("persistentVolumeClaim", "readOnly"): False,
    ("serviceAccountToken", "expirationSeconds"): 3600,
    ("image", "pullPolicy"): "IfNotPresent",
    ("csi", "readOnly"): False,
    ("nfs", "readOnly"): False,
    ("volumeClaimTemplate.spec", "volumeMode"): "Filesystem",
    ("tolerations", "operator"): "Equal",
    # Admission policies and their bindings.
    ("policy", "failurePolicy"): "Fail",
    ("matchConstraints", "matchPolicy"): "Equivalent",
    ("matchResources", "matchPolicy"): "Equivalent",
    ("resourceRules", "scope"): "*",
}

# Filled in for every pod, and nothing that a pod does follows from them: where it runs and how soon.
# (The scheduler; the admission plugins Priority and RuntimeClass.)
FREE = ("nodeName", "priority", "preemptionPolicy", "overhead", "schedulingGates")

# Quantities: 1000m and 1 are the same. `*` is any field.
QUANTITIES = (
    ("limits", "*"),
    ("requests", "*"),
    ("emptyDir", "sizeLimit"),
    ("resourceFieldRef", "divisor"),
)

# What tells the elements of a list apart: the merge keys of the Kubernetes API.
KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "resizePolicy": ("resourceName",),
    "matchConditions": ("name",),
    "variables": ("name",),
    "authorities": ("name",),
}
# Where the order counts too: a variable may use those before it, and init containers run one after the other.
ORDERED = ("env", "initContainers", "variables")

# The token that the admission plugin ServiceAccount mounts where nothing forbids it.
TOKEN_VOLUME = re.compile(r"^kube-api-access-[a-z0-9]{5}$")
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a folder
TOKEN_SOURCES = (
    {"serviceAccountToken": {"path": "token"}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {
        "downwardAPI": {
            "items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
            ]
        }
    },
)

# Tolerations of what happens to nodes (admission plugin DefaultTolerationSeconds, the DaemonSet's controller).
TOLERATED = "node.kubernetes.io/"

# Labels that controllers and the admission plugin PodTopologyLabels put on pods.
LABELS = re.compile(
    r"^(pod-template-hash|controller-revision-hash|pod-template-generation|controller-uid|job-name"
    r"|apps\.kubernetes\.io/pod-index|statefulset\.kubernetes\.io/pod-name"
    r"|batch\.kubernetes\.io/(controller-uid|job-name|job-completion-index)"
    r"|topology\.kubernetes\.io/(zone|region))$"
)
RESTARTED = "kubectl.kubernetes.io/restartedAt"  # `kubectl rollout restart`: the same pods, begun anew
INDEX = "JOB_COMPLETION_INDEX"  # the variable of an indexed Job's containers
INDEX_FIELD = "metadata.labels['batch.kubernetes.io/job-completion-index']"
