"""What the API server and the cluster's own controllers add to pods and other objects by themselves, written once.

The source of every value is the reference of the Kubernetes API, https://kubernetes.io/docs/reference/kubernetes-api/
("Defaults to …"), and, for what is added, that of the admission plugins and controllers that are named below.
scripts/tests/recorded/defaulted.json and objects.json hold what a real API server made of specs that use them.
"""

import re
from collections.abc import Mapping

Default = str | int | bool

# (the object that the field is in, the field) -> what it means when nobody says anything.
# "pod" is the pod's spec; containers of every kind are in "containers"; the spec of any other kind is in its kind.
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
    ("syncWindows", "manualSync"): False,  # of Argo CD's AppProject
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
    # What the chart has beside pods.
    ("Service", "type"): "ClusterIP",
    ("Service", "sessionAffinity"): "None",
    ("Service", "internalTrafficPolicy"): "Cluster",
    ("Service", "externalTrafficPolicy"): "Cluster",
    ("Service", "allocateLoadBalancerNodePorts"): True,
    ("Service", "publishNotReadyAddresses"): False,
    ("clientIP", "timeoutSeconds"): 10800,
    ("HorizontalPodAutoscaler", "minReplicas"): 1,
    ("PersistentVolumeClaim", "volumeMode"): "Filesystem",
    ("Deployment", "revisionHistoryLimit"): 10,
    ("Deployment", "progressDeadlineSeconds"): 600,
    ("Deployment", "minReadySeconds"): 0,
    ("Deployment", "paused"): False,
    ("strategy", "type"): "RollingUpdate",
    ("strategy.rollingUpdate", "maxUnavailable"): "25%",
    ("strategy.rollingUpdate", "maxSurge"): "25%",
    ("StatefulSet", "revisionHistoryLimit"): 10,
    ("StatefulSet", "minReadySeconds"): 0,
    ("StatefulSet", "podManagementPolicy"): "OrderedReady",
    ("DaemonSet", "revisionHistoryLimit"): 10,
    ("DaemonSet", "minReadySeconds"): 0,
    ("updateStrategy", "type"): "RollingUpdate",
    ("updateStrategy.rollingUpdate", "partition"): 0,
    ("updateStrategy.rollingUpdate", "maxUnavailable"): 1,
    ("updateStrategy.rollingUpdate", "maxSurge"): 0,
    ("persistentVolumeClaimRetentionPolicy", "whenDeleted"): "Retain",
    ("persistentVolumeClaimRetentionPolicy", "whenScaled"): "Retain",
    ("volumeClaimTemplates", "apiVersion"): "v1",
    ("volumeClaimTemplates", "kind"): "PersistentVolumeClaim",
    ("volumeClaimTemplates.spec", "volumeMode"): "Filesystem",
    ("Job", "parallelism"): 1,
    ("Job", "completions"): 1,
    ("Job", "backoffLimit"): 6,
    ("Job", "completionMode"): "NonIndexed",
    ("Job", "suspend"): False,
    ("Job", "manualSelector"): False,
    ("Job", "podReplacementPolicy"): "TerminatingOrFailed",
    ("CronJob", "concurrencyPolicy"): "Allow",
    ("CronJob", "suspend"): False,
    ("CronJob", "successfulJobsHistoryLimit"): 3,
    ("CronJob", "failedJobsHistoryLimit"): 1,
}

# Fields of a spec that the API server or a controller chooses where Git leaves the choice to it.
CHOSEN: Mapping[str, tuple[str, ...]] = {
    "Service": ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"),
    "Ingress": ("ingressClassName",),
    "PersistentVolumeClaim": ("volumeName", "storageClassName"),
    "Job": ("selector",),
}
# The kinds that have defaults. One of any other kind, a ConfigMap or what a team's own definitions bring, is in the
# cluster exactly what was applied.
COMPLETED = frozenset({kind for kind, _ in DEFAULTS if kind[:1].isupper()} | {*CHOSEN, "NetworkPolicy"})
# Where `{}` says something, all of them, and to leave the field out says another thing.
SAYS_ALL = tuple(
    (peers, selector) for peers in ("from", "to") for selector in ("podSelector", "namespaceSelector")
)

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
# The same where the field means another thing in another object; empty where only the place tells them apart.
KEYS_IN: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("Service", "ports"): ("port", "protocol"),
    ("ingress", "ports"): (),
    ("egress", "ports"): (),
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

# Annotations that Argo CD, kubectl and the cluster's own controllers put on objects.
ANNOTATIONS = re.compile(
    r"^(argocd\.argoproj\.io/(tracking-id|installation-id)|kubectl\.kubernetes\.io/last-applied-configuration"
    r"|deployment\.kubernetes\.io/revision|deprecated\.daemonset\.template\.generation"
    r"|pv\.kubernetes\.io/bind-completed|pv\.kubernetes\.io/bound-by-controller"
    r"|volume\.(beta\.)?kubernetes\.io/(storage-provisioner|selected-node)|batch\.kubernetes\.io/job-tracking)$"
)
# What is in every namespace by itself: of Kubernetes, of OpenShift, of Istio.
EVERYWHERE = {
    ("ConfigMap", "kube-root-ca.crt"),
    ("ConfigMap", "openshift-service-ca.crt"),
    ("ConfigMap", "istio-ca-root-cert"),
    ("ServiceAccount", "default"),
}
# Who of Kubernetes' own kinds makes which others, and names itself as their owner.
MADE_BY: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("ReplicaSet",),
    "CronJob": ("Job",),
    "Service": ("EndpointSlice",),
    "StatefulSet": ("ControllerRevision", "PersistentVolumeClaim"),
    "DaemonSet": ("ControllerRevision",),
}
# Their API groups.
OF_KUBERNETES = re.compile(
    r"^(|apps|batch|autoscaling|policy|(networking|rbac\.authorization|discovery|storage)\.k8s\.io)$"
)
