"""A stand-in for the cluster's API: it does what Argo CD and the kubelet do, when they are asked to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from delivery.build import image
from delivery.desired import manifests as desired
from delivery.errors import DeliveryError
from delivery.files import write_private
from delivery.parts.git import Repository
from delivery.proof import decide as proof
from delivery.proof import observe
from delivery.verbs import approve as approving
from delivery.verbs import deploy as deploying
from delivery.verbs import promote as promoting
from delivery.verbs.carry import Promotion
from ruamel.yaml import YAML

if TYPE_CHECKING:
    from conftest import Shelf, World

CONTEXT = "team-test"
REPOSITORY = "registry.example/team/manual-app"


class Stage:
    """The namespaces and Applications of the stand-in; tests reach in to break things."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.changed = threading.Condition()
        self.version = 1
        self.pods: dict[str, list[dict[str, Any]]] = {e.namespace: [] for e in world.context.environments}
        self.applications = {
            e.application: {
                "metadata": {"name": e.application, "annotations": {}},
                "spec": {"syncPolicy": {"syncOptions": ["ApplyOutOfSyncOnly=true"]}},
                "status": {"sync": {"status": "OutOfSync"}, "health": {"status": "Missing"}},
            }
            for e in world.context.environments
        }
        self.operations: list[dict[str, Any]] = []
        self.uid = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"  # of the namespace kube-system: which cluster it is
        self.starts_ready = True
        self.beside: list[dict[str, Any]] = []  # pods that come with each deployment
        self.lose_refreshes = 0
        self.sync_fails = ""
        self.architecture = "amd64"
        self.shows = ""  # the digest that nodes show instead of the one that was asked for

    def touch(self) -> None:
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    def patched(self, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        application = self.applications[name]
        environment = next(e for e in self.world.context.environments if e.application == name)
        if "operation" in patch:
            self.operations.append(patch["operation"])
            self.deploy(environment, patch["operation"]["sync"]["revision"])
        elif self.lose_refreshes:
            self.lose_refreshes -= 1
        else:
            head = self.world.head()
            application["status"]["sync"]["revision"] = head
            application["status"]["reconciledAt"] = str(time.monotonic())
            if environment.sync == "automatic":
                self.deploy(environment, head)
        self.touch()
        return application

    def deploy(self, environment: Any, revision: str) -> None:
        status = self.applications[environment.application]["status"]
        state = {"operation": {"sync": {"revision": revision}}, "syncResult": {"revision": revision}}
        if self.sync_fails:
            status["operationState"] = {**state, "phase": "Failed", "message": self.sync_fails}
            return
        text = self.world.file(environment.values, revision)
        data = YAML(typ="safe", pure=True).load(text)
        build, reference = data["image"]["tag"], f"{REPOSITORY}@{data['image']['digest']}"
        self.pods[environment.namespace] = [
            self.pod(environment, f"manual-app-{n}-{build}", reference, build)
            for n in range(data["replicas"])
        ] + self.beside
        status["sync"] = {"status": "Synced", "revision": revision}
        status["health"] = {"status": "Healthy"}
        status["operationState"] = {**state, "phase": "Succeeded"}
        status["history"] = [{"revision": revision}]

    def pod(self, environment: Any, name: str, reference: str, build: str) -> dict[str, Any]:
        ready = "True" if self.starts_ready else "False"
        shown = f"{REPOSITORY}@{self.shows}" if self.shows else reference
        return {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "labels": {"app.kubernetes.io/name": "manual-app"},
            },
            "spec": {"containers": [{"name": "manual-app", "image": reference}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "manual-app", "imageID": shown, "state": {"running": {}}}],
            },
            "answer": {"build": build, "environment": environment.name, "version": "1.2.3"},
        }

    def version_of(self, namespace: str, name: str) -> dict[str, Any] | None:
        for pod in self.pods[namespace]:
            if pod["metadata"]["name"] == name:
                return {"revision": getattr(self, "revision", ""), **pod["answer"]}
        return None


class Answering(BaseHTTPRequestHandler):
    """A server of documents that says nothing of its own."""

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
    stage: Stage

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked, parts = parse_qs(url.query), unquote(url.path).strip("/").split("/")
        if asked.get("watch") == ["True"]:
            return self._watch(float(asked["timeoutSeconds"][0]), int(asked["resourceVersion"][0]))
        if parts[:2] == ["apis", "argoproj.io"]:
            return self._send(self._stamped(self.stage.applications.get(parts[-1])))
        if parts[-1] == "nodes":
            node = {"nodeInfo": {"operatingSystem": "linux", "architecture": self.stage.architecture}}
            return self._send({"metadata": {}, "items": [{"status": node}]})
        if parts[2:] == ["namespaces", "kube-system"]:
            return self._send({"metadata": {"name": "kube-system", "uid": self.stage.uid}})
        namespace = parts[3]
        if parts[-2] == "proxy":
            return self._send(self.stage.version_of(namespace, parts[5].partition(":")[0]))
        version, pods = str(self.stage.version), self.stage.pods[namespace]
        return self._send({"metadata": {"resourceVersion": version}, "items": pods})

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(self._stamped(self.stage.patched(self.path.split("/")[-1], body)))

    def _stamped(self, application: dict[str, Any] | None) -> dict[str, Any] | None:
        if application is not None:
            application["metadata"]["resourceVersion"] = str(self.stage.version)
        return application

    def _watch(self, seconds: float, since: int) -> None:
        with self.stage.changed:
            self.stage.changed.wait_for(lambda: self.stage.version > since, min(seconds, 0.3))
            moved = self.stage.version > since
        event = {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": str(self.stage.version)}}}
        self.write(200, (json.dumps(event) + "\n").encode() if moved else b"")

    def _send(self, document: dict[str, Any] | None) -> None:
        missing = {"kind": "Status", "message": "not found", "code": 404}
        self.write(404 if document is None else 200, json.dumps(document or missing).encode())


def kubeconfig(context: str, server: str) -> str:
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
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def stage(stocked: World) -> Iterator[Stage]:
    """A cluster that is up, with short limits."""
    waits = stocked.context.pipeline.waits
    world = stocked.ruled(waits=waits.model_copy(update={"rollout": 1.0, "settle": 1.0, "argocd": 2.0}))
    played = Stage(world)
    with serving(type("Played", (Handler,), {"stage": played})) as port:
        connect(world, f"http://127.0.0.1:{port}")
        yield played


@pytest.fixture
def built(stage: Stage, shelf: Shelf) -> image.Built:
    """Build 15 of the checkout's commit, in the registry."""
    return put(stage, shelf, "15")


def put(stage: Stage, shelf: Shelf, build: str) -> image.Built:
    revision = image.source(stage.world.context, Repository(stage.world.checkout))
    stage.revision = revision  # type: ignore[attr-defined]
    digest = shelf.push(build, revision, revision, build)
    return image.Built(digest, build, "1.2.3", revision)


def deploy(stage: Stage, digest: str | None = None) -> Promotion:
    return deploying.deploy(stage.world.context, digest)


def promote(stage: Stage, name: str, **options: Any) -> Promotion:
    """Promote once everything is there that the gate asks for."""
    prepare(stage, name)
    return bare_promote(stage, name, **options)


def bare_promote(stage: Stage, name: str, **options: Any) -> Promotion:
    """Promote, whatever the gate will say."""
    context = stage.world.context
    return promoting.promote(context, context.environment(name), **options)


def prepare(stage: Stage, name: str) -> None:
    """PASSED evidence of the environment before, and an approval where one is asked for."""
    world = stage.world
    target = world.context.environment(name)
    if target.source is None:
        return
    source = world.context.environment(target.source)
    try:
        _, digest = desired.named(world.file(source.values), source.values)
    except desired.NothingYet:
        return
    world.prove(source, digest)
    if target.approval:
        approving.run(world.context, target, None)


def proofs(stage: Stage) -> dict[str, proof.Proof]:
    context = stage.world.context
    return {one.facts.environment: one for one in observe.proofs(context, context.environments)}


def refused(stage: Stage, kind: type[DeliveryError], says: str, ask: Callable[[], object]) -> DeliveryError:
    """It is refused with that reason and a hint; Git and every pod are as before."""
    before = (stage.world.head(), json.dumps(stage.pods), len(stage.operations))
    with pytest.raises(kind, match=says) as error:
        ask()
    assert error.value.hint
    assert (stage.world.head(), json.dumps(stage.pods), len(stage.operations)) == before
    return error.value
