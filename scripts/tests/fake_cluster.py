"""A cluster's API, played: it does what Argo CD, the Deployment's controller and the kubelet do, step by step.

Its answers are documents that a real cluster gave once (recorded/; e2e/test_recordings.py holds them against
reality), with names, states and what the chart renders put in. A rollout has its time: Argo CD says Progressing,
pods of the old generation serve while new ones start, then they leave; the next step comes when somebody has looked.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from ruamel.yaml import YAML

from delivery.desired import derived, manifests, policy
from delivery.files import write_private
from delivery.parts import helm
from delivery.parts.git import Repository
from delivery.signed import keys
from scripts.tests import recordings

if TYPE_CHECKING:
    from delivery.pipeline import Environment
    from scripts.tests.world import World

CONTEXT = "team-test"
LABEL = "app.kubernetes.io/name"
REPOSITORY = "registry.example/team/manual-app"
Object = dict[str, Any]
# Where the API has the objects that make pods.
PLURALS = {
    "deployments": "Deployment",
    "replicasets": "ReplicaSet",
    "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet",
    "jobs": "Job",
    "cronjobs": "CronJob",
}
# Where the API has what a chart brings beside those.
BESIDE = {
    "services": "Service",
    "configmaps": "ConfigMap",
    "serviceaccounts": "ServiceAccount",
    "networkpolicies": "NetworkPolicy",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "ingresses": "Ingress",
}
# Where the API has what guards the environments.
LOCKS = {
    "validatingadmissionpolicies": "ValidatingAdmissionPolicy",
    "validatingadmissionpolicybindings": "ValidatingAdmissionPolicyBinding",
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
    "clusterimagepolicies": "ClusterImagePolicy",
    "appprojects": "AppProject",
    "configmaps": "ConfigMap",
    "namespaces": "Namespace",
}
# What Argo CD notes in all that it brings.
_TRACKED = {"argocd.argoproj.io/tracking-id": "manual-app-stage:apps/Deployment:stage/manual-app"}
# What the API server writes into a pod whose template does not say it.
SPEC_DEFAULTS = (
    *("restartPolicy", "dnsPolicy", "nodeName", "schedulerName", "tolerations", "priority"),
    *("preemptionPolicy", "terminationGracePeriodSeconds"),
)
CONTAINER_DEFAULTS = ("terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy")


class FakeCluster:
    """Its namespaces and Applications; tests reach in to break things."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.changed = threading.Condition()
        self.version = 1
        self.uid = recordings.load("namespace")["metadata"]["uid"]  # of kube-system: which cluster it is
        self.denied: set[str] = set()  # resources that this user may not read, such as nodes
        self.asked: list[str] = []  # every path, in order
        self.pods: dict[str, list[Object]] = {e.namespace: [] for e in world.context.environments}
        # Namespace -> kind -> the objects that make pods.
        # What guards the environments, as an administrator applied it: kind -> name -> object.
        self.locks: dict[str, dict[str, Object]] = {}
        self.makers: dict[str, dict[str, list[Object]]] = {
            e.namespace: {kind: [] for kind in PLURALS.values()} for e in world.context.environments
        }
        # The same for what pods are not made from; what is in every namespace by itself is there from the beginning.
        self.beside_pods: dict[str, dict[str, list[Object]]] = {
            e.namespace: {kind: _by_itself(kind) for kind in BESIDE.values()}
            for e in world.context.environments
        }
        self.argocd = [part("repo-server"), part("application-controller")]  # the pods of Argo CD itself
        self.applications = {e.application: self._application(e) for e in world.context.environments}
        self.operations: list[Object] = []
        self.lifts: list[list[bool]] = []  # whether each window let a sync by hand through, at each change
        self.starts_ready = True
        self.old_stay = False  # the old generation of pods goes on serving
        self.settles = True  # whether Argo CD ever calls it Healthy
        self.beside: list[Object] = []  # pods that come with each deployment
        self.lose_refreshes = 0
        self.sync_fails = ""
        self.architecture = "amd64"
        self.shows = ""  # the digest that nodes show instead of the one that was asked for
        self.revisions: dict[str, str] = {}  # build -> the commit that its pods say they were built from
        self.seen: list[str] = []  # what each step of the rollouts showed
        self._coming: list[tuple[str, Callable[[], None]]] = []

    def touch(self) -> None:
        """Something changed: whoever watches is told."""
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    def step(self) -> None:
        """Whatever was asked for comes one step further."""
        with self.changed:
            if self._coming:
                name, work = self._coming.pop(0)
                self.seen.append(name)
                work()
                self.touch()

    def patched(self, name: str, patch: Object) -> Object:
        """What Argo CD does with a refresh or an operation that somebody asks for; in a freeze it only compares."""
        application = self.applications[name]
        environment = next(e for e in self.world.context.environments if e.application == name)
        if "spec" in patch:
            application["spec"]["source"] |= patch["spec"]["source"]
        if "operation" in patch:
            self.operations.append(patch["operation"])
            application["operation"] = patch["operation"]
            revision = patch["operation"]["sync"]["revision"]
            if self._windows(environment, by_hand=True):
                status = application["status"].setdefault("operationState", {})
                status |= {"phase": "Running", "message": "Sync operation blocked by sync window"}
                status["operation"] = patch["operation"]
            else:
                self._coming.append(
                    (f"{environment.name} begins", lambda: self._begin(environment, revision))
                )
        elif self.lose_refreshes:
            self.lose_refreshes -= 1
        else:
            application["metadata"].setdefault("annotations", {}).update(patch["metadata"]["annotations"])
            self._coming.append((f"{environment.name} compares", lambda: self._compare(environment)))
        self.touch()
        return application

    def _compare(self, environment: Environment) -> None:
        application = self.applications[environment.application]
        pinned = application["spec"]["source"].get("targetRevision")
        told = environment.guarded and pinned
        head = (
            self.world.git(self.world.server, "rev-parse", f"{pinned}^{{commit}}")
            if told
            else self.world.head()
        )
        application["metadata"]["annotations"].pop("argocd.argoproj.io/refresh", None)
        status = application["status"]
        status["sync"]["revision"] = head
        status["reconciledAt"] = f"2026-11-25T12:{self.version // 60 % 60:02}:{self.version % 60:02}Z"
        told = (status.get("history") or [{}])[-1].get("revision")
        if (pinned or not environment.guarded) and told != head and not self._windows(environment):
            self._begin(environment, head)

    def _windows(self, environment: Environment, by_hand: bool = False) -> list[Object]:
        """The sync windows that stop Argo CD; those that tests make hold always."""
        spec = self.guard()["AppProject"].get(environment.namespace, {"spec": {}})["spec"]
        return [one for one in spec.get("syncWindows") or [] if not (by_hand and one["manualSync"])]

    def lifted(self, name: str, patch: Object) -> Object:
        """Somebody patches an AppProject, as the API server merges it."""
        project = self.guard()["AppProject"][name]
        project["spec"] |= patch["spec"]
        project["metadata"].setdefault("annotations", {}).update(patch["metadata"].get("annotations") or {})
        self.lifts.append([one["manualSync"] for one in project["spec"]["syncWindows"]])
        return project

    def deploy(self, environment: Environment, revision: str) -> None:
        """A sync to a commit, from its beginning to its end."""
        self._begin(environment, revision)
        while self._coming:
            self.step()

    def _begin(self, environment: Environment, revision: str) -> None:
        application = self.applications[environment.application]
        name = environment.name
        application.pop("operation", None)
        status = application["status"]
        state = recordings.load("application")["status"]["operationState"]
        state["operation"]["sync"]["revision"] = state["syncResult"]["revision"] = revision
        status["operationState"] = state
        state["syncResult"]["source"] = application["spec"]["source"]
        if self.sync_fails:
            state |= {"phase": "Failed", "message": self.sync_fails}
            return
        documents = self._rendered(environment, revision)
        asked = next(one for one in documents if one["kind"] == "Deployment")
        text = self.world.file(environment.values, revision)
        build = YAML(typ="safe", pure=True).load(text)["image"]["tag"]
        pods, [container] = self.pods[environment.namespace], asked["spec"]["template"]["spec"]["containers"]
        old = [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(LABEL) == "manual-app"]
        same = self._template(environment) == asked["spec"]["template"]
        self._apply(environment, asked, build)
        self._apply_beside(environment, documents)
        if old and same and all(pod["spec"]["containers"][0]["image"] == container["image"] for pod in old):
            self._settled(environment, revision)
            return
        new = [
            self.pod(environment, f"manual-app-{build}-{n}", container["image"], build)
            for n in range(asked["spec"]["replicas"])
        ]
        ready = [deepcopy(pod["status"]) for pod in new]
        state["phase"], state["message"] = (
            "Running",
            "waiting for healthy state of apps/Deployment/manual-app",
        )
        status["sync"], status["health"] = (
            {"status": "OutOfSync", "revision": revision},
            {"status": "Progressing"},
        )
        for pod in new:
            _starting(pod)
        pods[:] = [*old, *new, *self.beside]

        def start() -> None:
            for pod, said in zip(new, ready, strict=True):
                pod["status"] = said
            for pod in [] if self.old_stay else old:
                pod["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"

        def leave() -> None:
            pods[:] = [pod for pod in pods if not any(pod is one for one in old)]
            self._settled(environment, revision)

        if self.starts_ready:
            self._coming.append((f"{name} starts", start))
            if self.settles and not self.old_stay:
                self._coming.append((f"{name} is settled", leave))

    def _settled(self, environment: Environment, revision: str) -> None:
        status = self.applications[environment.application]["status"]
        compared = {"source": self.applications[environment.application]["spec"]["source"]}
        status["sync"] = {"status": "Synced", "revision": revision, "comparedTo": compared}
        status["health"] = {"status": "Healthy"}
        status["operationState"] |= {"phase": "Succeeded", "message": "successfully synced"}
        status["history"] = [{"revision": revision}]

    def _rendered(self, environment: Environment, revision: str) -> list[Object]:
        """What the chart renders, with Argo CD's Helm."""
        context, server = self.world.context, Repository(self.world.server)
        with tempfile.TemporaryDirectory() as folder:
            tree = manifests.exported(context, server, environment, revision, Path(folder))
            chart, release = tree / context.pipeline.chart.path, context.pipeline.chart.release
            return helm.template(chart, tree / environment.values, release, environment.namespace)

    def _template(self, environment: Environment) -> Object | None:
        deployments = self.makers[environment.namespace]["Deployment"]
        return deployments[0]["spec"]["template"] if deployments else None

    def _apply(self, environment: Environment, asked: Object, build: str) -> None:
        """The Deployment as it is asked for, and its controller's ReplicaSet for this template."""
        makers, name = self.makers[environment.namespace], asked["metadata"]["name"]
        deployment = recordings.app("deployments")
        deployment["metadata"] |= {"name": name, "namespace": environment.namespace, "uid": f"uid-{name}"}
        deployment["metadata"]["labels"] = asked["metadata"].get("labels") or {}
        deployment["metadata"]["annotations"] = _TRACKED
        # Of the real one, whose chart says more, what the API server adds to one that says nothing.
        deployment["spec"] = recordings.beside("Deployment", "plain")["spec"] | asked["spec"]
        makers["Deployment"] = [deployment]
        one = recordings.app("replicasets")
        called = f"{name}-{build}"
        one["metadata"] |= {"name": called, "namespace": environment.namespace, "uid": f"uid-{called}"}
        one["metadata"]["ownerReferences"] = [_owner("Deployment", deployment)]
        others = [other for other in makers["ReplicaSet"] if other["metadata"]["name"] != called]
        makers["ReplicaSet"] = [*others, one]

    def _apply_beside(self, environment: Environment, documents: list[Object]) -> None:
        """All else, as the API server completes it; what Git asked for before and does not now is pruned."""
        for kind in BESIDE.values():
            asked = [_completed(one) for one in documents if one["kind"] == kind]
            self.beside_pods[environment.namespace][kind] = [*_by_itself(kind), *asked]

    def pod(self, environment: Environment, name: str, reference: str, build: str) -> Object:
        """A pod of the app that runs and is Ready, as its ReplicaSet makes it and the real API shows it."""
        pod = recordings.app("pods")
        asked = deepcopy(self._template(environment))
        assert asked, "nothing was deployed"
        [owner] = self.makers[environment.namespace]["ReplicaSet"][-1:]
        pod["metadata"] |= {"name": name, "namespace": environment.namespace, "uid": f"uid-{name}"}
        pod["metadata"]["labels"] = asked["metadata"]["labels"] | {"pod-template-hash": build}
        pod["metadata"]["ownerReferences"] = [_owner("ReplicaSet", owner)]
        recorded, [status] = pod["spec"], pod["status"]["containerStatuses"]
        [container], [defaults] = asked["spec"]["containers"], recorded["containers"]
        container |= {name: defaults[name] for name in CONTAINER_DEFAULTS if name not in container}
        container["image"] = reference
        pod["spec"] = {name: recorded[name] for name in SPEC_DEFAULTS} | asked["spec"]
        status |= {"image": reference, "imageID": f"{REPOSITORY}@{self.shows}" if self.shows else reference}
        pod["answer"] = {"build": build, "environment": environment.name, "version": "1.2.3"}
        return pod

    def guard(self) -> dict[str, dict[str, Object]]:
        """The locks, as they were generated for the site and as the API server then shows them; made once."""
        if not self.locks:
            made: dict[str, dict[str, Object]] = {kind: {} for kind in LOCKS.values()}
            for one in _generated(self.world):
                made[one["kind"]][one["metadata"]["name"]] = one
            self.locks = made
        return self.locks

    def answer(self, namespace: str, name: str) -> Object | None:
        """What a pod says at /version."""
        for pod in self.pods[namespace]:
            if pod["metadata"]["name"] == name:
                return {"revision": self.revisions.get(pod["answer"]["build"], ""), **pod["answer"]}
        return None

    def nodes(self) -> Object:
        """All there are: one."""
        nodes = recordings.load("nodes")
        for node in nodes["items"]:
            node["status"]["nodeInfo"]["architecture"] = self.architecture
        return nodes

    def _application(self, environment: Environment) -> Object:
        application = recordings.load("application")
        application["metadata"] |= {"name": environment.application, "annotations": {}}
        context = self.world.context
        asked = derived.application(context.pipeline, environment, derived.of(context.pipeline, context.site))
        application["spec"] = asked["spec"]
        application["status"] = {"sync": {"status": "OutOfSync"}, "health": {"status": "Missing"}}
        return application


def _by_itself(kind: str) -> list[Object]:
    """What a real cluster had of a kind in a new namespace."""
    names = {"ConfigMap": "kube-root-ca.crt", "ServiceAccount": "default"}
    return [recordings.beside(kind, names[kind])] if kind in names else []


def _completed(asked: Object) -> Object:
    """An object as Argo CD applied it and the API server shows it: a real Service that says nothing has the rest."""
    one = deepcopy(asked)
    one["metadata"] |= {"annotations": _TRACKED, "uid": f"uid-{asked['kind']}-{asked['metadata']['name']}"}
    if asked["kind"] == "Service":
        one["spec"] = recordings.beside("Service", "plain")["spec"] | one["spec"]
        one["spec"]["ports"] = [{"protocol": "TCP", **port} for port in one["spec"]["ports"]]
    return one


def part(name: str, ready: str = "True") -> Object:
    """A pod of Argo CD, as argocd/install has it."""
    pod = recordings.app("pods")
    pod["metadata"] |= {
        "name": f"argocd-{name}-0",
        "namespace": "argocd",
        "labels": {LABEL: f"argocd-{name}"},
    }
    [container] = pod["spec"]["containers"]
    container |= {"name": f"argocd-{name}", "env": [{"name": "ARGOCD_GPG_ENABLED", "value": "true"}]}
    pod["status"]["conditions"] = [{"type": "Ready", "status": ready}]
    return pod


def _generated(world: World) -> Iterator[Object]:
    """All that guards this site: what `delivery policy` prints, the projects, and policy-controller's webhook."""
    context = world.context
    pipeline, site = context.pipeline, context.site
    sees, name = derived.of(pipeline, site), site.image.name
    yield from map(_defaulted, policy.admission(pipeline, sees, name))
    if image_policy := policy.image_policy(pipeline, sees, name, keys.authorities(context)):
        yield image_policy
    gates = [one.gate for one in pipeline.environments if one.guarded]
    yield policy.keyring(site.argocd.namespace, [keys.commit_certificate(site, one) for one in gates])
    yield policy.public_keys(pipeline.chart.release, keys.everybody(site))
    for one in pipeline.environments:
        yield derived.project(pipeline, one, sees)
        yield policy.labelled(pipeline, sees)[one.namespace]
    for file in ("validating-webhook", "config"):
        text = (pipeline.root / f"policy/policy-controller/{file}.yaml").read_text()
        yield dict(YAML(typ="safe", pure=True).load(text))


def _defaulted(one: Object) -> Object:
    """As the API server completes a policy or its binding."""
    matches = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
    for field in ("matchConstraints", "matchResources"):
        if field in one["spec"]:
            one["spec"][field] = matches | one["spec"][field]
            for rule in one["spec"][field].get("resourceRules", ()):
                rule.setdefault("scope", "*")
    return one


def _owner(kind: str, one: Object) -> Object:
    """As a controller names itself in what it makes."""
    reference = recordings.app("pods")["metadata"]["ownerReferences"][0]
    metadata = one["metadata"]
    return reference | {"kind": kind, "name": metadata["name"], "uid": metadata["uid"]}


def _starting(pod: Object) -> None:
    """Nobody has pulled its image yet."""
    pod["status"]["phase"] = "Pending"
    for condition in pod["status"]["conditions"]:
        if condition["type"] in ("Ready", "ContainersReady"):
            condition["status"] = "False"
    for status in pod["status"]["containerStatuses"]:
        waiting = {"waiting": {"reason": "ContainerCreating"}}
        status |= {"imageID": "", "ready": False, "started": False, "state": waiting}


class Answering(BaseHTTPRequestHandler):
    """A server of documents that says nothing of its own."""

    # Head and body are two packets: on a connection that is kept, the second would wait 40 ms for the first's receipt.
    disable_nagle_algorithm = True

    def write(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        with suppress(ConnectionError):  # the asker may have given up
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


class Handler(Answering):
    """The few calls of the Kubernetes API that `delivery` makes."""

    protocol_version = "HTTP/1.1"
    cluster: FakeCluster

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked, parts = parse_qs(url.query), unquote(url.path).strip("/").split("/")
        self.cluster.asked.append(url.path)
        if denied := self.cluster.denied & set(parts):
            return self._refuse(403, f"{denied.pop()} is forbidden: User cannot get it")
        if asked.get("watch") == ["True"]:
            return self._watch(float(asked["timeoutSeconds"][0]), int(asked["resourceVersion"][0]))
        with self.cluster.changed:  # one thing after the other, as the API server has it
            self._get(parts)

    def _get(self, parts: list[str]) -> None:
        if parts[2:] == ["namespaces", "kube-system"]:
            namespace = recordings.load("namespace")
            namespace["metadata"]["uid"] = self.cluster.uid
            return self._send(namespace)
        if parts == ["apis"]:
            return self._send(recordings.load("apis"))
        if parts[-3:] == ["namespaces", self.cluster.world.context.site.argocd.namespace, "pods"]:
            return self._send({"metadata": {"resourceVersion": "1"}, "items": self.cluster.argocd})
        if parts[-3] == "namespaces" and (kind := BESIDE.get(parts[-1])):
            return self._send({"metadata": {}, "items": self.cluster.beside_pods[parts[-2]][kind]})
        if kind := LOCKS.get(parts[-1]):
            return self._send({"metadata": {}, "items": list(self.cluster.guard()[kind].values())})
        if kind := LOCKS.get(parts[-2]):
            return self._send(self._stamped(self.cluster.guard()[kind].get(parts[-1])))
        if parts[:2] == ["apis", "argoproj.io"]:
            return self._send(self._stamped(self.cluster.applications.get(parts[-1])))
        if parts[-1] == "nodes":
            return self._send(self.cluster.nodes())
        if parts[-2] == "proxy":
            return self._send(self.cluster.answer(parts[3], parts[5].partition(":")[0]))
        if kind := PLURALS.get(parts[-1]):
            return self._send({"metadata": {}, "items": self.cluster.makers[parts[-2]][kind]})
        pods = recordings.load("pods") | {"items": self.cluster.pods[parts[3]]}
        pods["metadata"]["resourceVersion"] = str(self.cluster.version)
        return self._send(pods)

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        *_, kind, name = self.path.split("/")
        act = self.cluster.lifted if kind == "appprojects" else self.cluster.patched
        with self.cluster.changed:
            known = body.get("metadata", {}).pop("resourceVersion", None)
            if known not in (None, str(self.cluster.version)):
                return self._refuse(409, "the object has been modified")
            self._send(self._stamped(act(name, body)))

    def _stamped(self, one: Object | None) -> Object | None:
        if one is not None:
            one["metadata"]["resourceVersion"] = str(self.cluster.version)
        return one

    def _watch(self, seconds: float, since: int) -> None:
        # Whoever watches has seen all there was: now the next thing happens.
        if self.cluster.version <= since:
            self.cluster.step()
        with self.cluster.changed:
            self.cluster.changed.wait_for(lambda: self.cluster.version > since, min(seconds, 0.3))
            moved = self.cluster.version > since
        event = {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": str(self.cluster.version)}}}
        self.write(200, (json.dumps(event) + "\n").encode() if moved else b"")

    def _send(self, document: Object | None) -> None:
        if document is None:
            return self._refuse(404, "not found")
        self.write(200, json.dumps(document).encode())

    def _refuse(self, status: int, message: str) -> None:
        self.write(status, json.dumps({"kind": "Status", "message": message, "code": status}).encode())


def kubeconfig(context: str, server: str) -> str:
    """A kubeconfig with one context."""
    return (
        f"apiVersion: v1\nkind: Config\ncurrent-context: {context}\n"
        f"clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
        f"contexts: [{{name: {context}, context: {{cluster: c, user: u}}}}]\n"
    )


def connect(world: World, server: str, context: str = CONTEXT) -> None:
    """Write the kubeconfig of the world's site."""
    file = world.context.site.kubeconfig
    assert file
    write_private(file, kubeconfig(context, server))


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server of this handler, on a port of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answering(cluster: FakeCluster) -> Iterator[str]:
    """The URL at which a cluster answers."""
    with serving(type("Played", (Handler,), {"cluster": cluster})) as port:
        yield f"http://127.0.0.1:{port}"
