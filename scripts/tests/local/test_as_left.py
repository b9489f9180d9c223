"""`demo` again with nothing to do: the platform is not brought up anew where it is as it was left, and only there."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from delivery.parts import docker
from local import as_left, images
from local import cluster as clusters
from local.cluster import Cluster
from scripts.tests.fake_cluster import serving
from scripts.tests.world import ROOT

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
APPLICATIONS = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications"


class Platform:
    """What `up` left: a played API server's lists, and the containers."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.lists: dict[str, list[dict[str, Any]]] = {
            POLICIES: [_object("writers", generation=1)],
            "/apis/apps/v1/deployments": [_object("manual-app", "prod", generation=3)],
            "/apis/rbac.authorization.k8s.io/v1/rolebindings": [_object("tester", "stage")],
            APPLICATIONS: [
                _object("manual-app-prod", "argocd", generation=7)
                | {"spec": {"project": "prod", "source": {"targetRevision": "a", "helm": {}}}}
            ],
        }
        self.containers = {
            f"{cluster.name}-{one}": SimpleNamespace(
                id=one, status="running", attrs={"State": {"StartedAt": "noon"}}
            )
            for one in ("control-plane", "registry", "gateway")
        }
        self.node = "node:1"


def _object(name: str, namespace: str = "", **metadata: Any) -> dict[str, Any]:
    where = {"namespace": namespace} if namespace else {}
    return {"metadata": {"name": name, **where, "uid": name, "resourceVersion": "1", **metadata}}


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform that was brought up a moment ago."""
    monkeypatch.setenv("DELIVERY_STATE", str(tmp_path))
    played = Platform(clusters.chosen("local", ROOT))
    state = played.cluster.state
    (state / "keys").mkdir(parents=True)
    for name in as_left._KEPT:
        (state / name / "file" if (state / name).is_dir() else state / name).write_text(name)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"items": played.lists.get(self.path, [])}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Containers:
        containers = SimpleNamespace(get=lambda name: played.containers[name])

        def close(self) -> None:
            pass

    def source() -> Any:
        node, gateway = SimpleNamespace(name=played.node), SimpleNamespace(tag="gateway:1")
        return SimpleNamespace(
            node=node, registry="registry:1", gateway=gateway, python_images=(), platform_images={}
        )

    monkeypatch.setattr(images, "source", source)
    monkeypatch.setattr(docker, "client", lambda **_: Containers())
    with serving(Answers) as port:
        context = played.cluster.context
        config = {
            "clusters": [{"name": "played", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "me", "user": {"token": "secret"}}],
            "contexts": [{"name": context, "context": {"cluster": "played", "user": "me"}}],
        }
        played.cluster.kubeconfig.write_text(json.dumps(config))
        as_left.remember(played.cluster)
        yield played


def test_nothing_changed(platform: Platform) -> None:
    """What Argo CD and a promotion write into an Application, and a release into prod, is no reason to begin anew."""
    assert as_left.holds(platform.cluster)
    [application] = platform.lists[APPLICATIONS]
    application["metadata"] |= {"generation": 99, "resourceVersion": "99"}
    application["spec"]["source"]["targetRevision"] = "b"
    platform.lists["/apis/apps/v1/deployments"][0]["metadata"]["generation"] = 4
    assert as_left.holds(platform.cluster)
    assert (platform.cluster.state / "as-left.json").stat().st_mode & 0o777 == 0o600


def test_the_first_release_changed_nothing(platform: Platform) -> None:
    """What Argo CD brings into an environment is the release's, also where `up` makes the same kind there."""
    brought = _object(
        "app", "prod", annotations={"argocd.argoproj.io/tracking-id": "app:/ServiceAccount:prod/app"}
    )
    platform.lists["/api/v1/serviceaccounts"] = [brought]
    assert as_left.holds(platform.cluster)


def account_by_hand(platform: Platform) -> None:
    platform.lists["/api/v1/serviceaccounts"] = [_object("mallory", "prod")]


def lock_off(platform: Platform) -> None:
    platform.lists[POLICIES].clear()


def lock_changed(platform: Platform) -> None:
    platform.lists[POLICIES][0]["metadata"]["generation"] = 2


def lock_made_anew(platform: Platform) -> None:
    platform.lists[POLICIES][0]["metadata"]["uid"] = "another"


def rights_changed(platform: Platform) -> None:
    platform.lists["/apis/rbac.authorization.k8s.io/v1/rolebindings"][0]["metadata"]["resourceVersion"] = "2"


def parameters(platform: Platform) -> None:
    platform.lists[APPLICATIONS][0]["spec"]["source"]["helm"] = {"parameters": []}


def application_gone(platform: Platform) -> None:
    platform.lists[APPLICATIONS].clear()


def argocd_scaled(platform: Platform) -> None:
    platform.lists["/apis/apps/v1/statefulsets"] = [_object("controller", "argocd", generation=2)]


def registry_stopped(platform: Platform) -> None:
    platform.containers[f"{platform.cluster.name}-registry"].status = "exited"


def node_restarted(platform: Platform) -> None:
    platform.containers[f"{platform.cluster.name}-control-plane"].attrs = {"State": {"StartedAt": "later"}}


def container_gone(platform: Platform) -> None:
    platform.containers.clear()


def newer_image(platform: Platform) -> None:
    platform.node = "node:2"


def key_gone(platform: Platform) -> None:
    (platform.cluster.state / "keys" / "file").unlink()


def no_login(platform: Platform) -> None:
    platform.cluster.kubeconfig.unlink()


def long_ago(platform: Platform) -> None:
    file = platform.cluster.state / "as-left.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"at": 0}))


def half_written(platform: Platform) -> None:
    (platform.cluster.state / "as-left.json").write_text("[")


def killed_up(platform: Platform) -> None:
    as_left.forget(platform.cluster)


@pytest.mark.parametrize(
    "change",
    [
        *(lock_off, lock_changed, lock_made_anew, rights_changed, parameters, application_gone),
        *(argocd_scaled, registry_stopped, node_restarted, container_gone, newer_image, key_gone),
        *(no_login, long_ago, half_written, killed_up, account_by_hand),
    ],
)
def test_whatever_changed_is_seen(platform: Platform, change: Callable[[Platform], None]) -> None:
    """A lock, a right, a login, a container, an image: then the platform is brought up again."""
    change(platform)
    assert not as_left.holds(platform.cluster)
