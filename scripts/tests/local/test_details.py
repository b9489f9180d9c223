"""What each long phase of `up` says while it runs: the words of the program that works, or what is still missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from delivery.errors import NotReached, PlatformError
from delivery.parts import docker
from local import admission, credentials, host, install, platforms, recipes, services, shell, tools
from local import cluster as clusters
from local import kind as kinds
from local.closed import debian
from local.closed.golang import Module
from local.preload import Node
from scripts.tests.local.test_golang import module
from scripts.tests.world import ROOT

if TYPE_CHECKING:
    from local.cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster that is about to be made, with a state folder of its own."""
    monkeypatch.setenv("DELIVERY_STATE", str(tmp_path / "state"))
    cluster = clusters.chosen("local", ROOT)
    cluster.state.mkdir(parents=True)
    return cluster


def program(folder: Path, name: str, script: str) -> Path:
    """A program of that name, first on PATH."""
    made = folder / "bin" / name
    made.parent.mkdir(exist_ok=True)
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)
    os.environ["PATH"] = f"{made.parent}{os.pathsep}{os.environ['PATH']}"
    return made


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH is as before, afterwards."""
    monkeypatch.setenv("PATH", os.environ["PATH"])


def test_a_program_is_heard_while_it_runs(tmp_path: Path) -> None:
    """What a program says goes on as it comes; its output and its reason to fail are what they were."""
    program(tmp_path, "works", "echo one; echo two >&2; exit $1")
    told: list[str] = []
    assert shell.run(["works", "0"], hint="h", said=told.append) == "one\ntwo\n"
    assert told == ["one", "two"]
    with pytest.raises(PlatformError, match="works failed: two"):
        shell.run(["works", "1"], hint="h", said=told.append)
    program(tmp_path, "hangs", "echo one; exec sleep 60")
    with pytest.raises(PlatformError, match="hangs did not end within 0 s"):
        shell.run(["hangs"], hint="h", limit=0.3, said=told.append)
    assert told == ["one", "two"] * 2 + ["one"]


# As kind 0.33 writes it where it draws no spinner.
KIND = """\
Creating cluster "manual-app" ...
 • Ensuring node image (kindest/node:v1.36.1) 🖼  ...
 ✓ Ensuring node image (kindest/node:v1.36.1) 🖼
 • Preparing nodes 📦  ...
 ✓ Preparing nodes 📦
 • Starting control-plane 🕹️  ...
 ✓ Starting control-plane 🕹️
"""


def test_the_steps_of_kind(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creating the cluster says what kind is at, and nothing of what kind said in an earlier run."""
    leads = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://localhost:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    with (tmp_path / "leads").open("w") as out:
        YAML(typ="safe", pure=True).dump(leads, out)
    (tmp_path / "said").write_text(KIND)
    (cluster.state / "kind.log").write_text(" • Deleting nodes 📦  ...\n")
    kind = program(
        tmp_path,
        "kind",
        f'[ "$1" != create ] || {{ cat "{tmp_path}/said"; cp "{tmp_path}/leads" "{cluster.kubeconfig}"; }}',
    )
    monkeypatch.setattr(tools, "path", lambda name: kind)
    monkeypatch.setattr(kinds, "_node_id", lambda cluster: "")
    told: list[str] = []
    kinds.create(cluster, Node("base", {}, "stamp"), told.append)
    assert told == ["Ensuring node image (kindest/node:v1.36.1)", "Preparing nodes", "Starting control-plane"]
    assert (cluster.state / "kind.log").read_text().endswith(KIND)


def test_which_parts_of_argo_cd_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for Argo CD names the parts that are not Ready yet, one less after each."""
    monkeypatch.setattr(install, "kubectl", lambda *_, **__: "")
    told: list[str] = []
    kind: Any = None
    install.wait_for_argocd(kind, told.append)
    assert told == [
        "until Ready: argocd-redis, argocd-repo-server, argocd-application-controller",
        "until Ready: argocd-repo-server, argocd-application-controller",
        "until Ready: argocd-application-controller",
    ]


def test_why_admission_is_waited_for(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What policy-controller answers while it does not take its policies is said, and then which it has not read."""
    answers = iter(["connection refused"])

    def applied(*_: object, **__: object) -> None:
        if why := next(answers, ""):
            raise PlatformError(f"kubectl apply failed: {why}", "h")

    monkeypatch.setattr(admission.installing, "kubectl", lambda *_, **__: "")
    monkeypatch.setattr(admission.installing, "apply", applied)
    monkeypatch.setattr(admission, "_authorities", lambda cluster: {})
    monkeypatch.setattr(admission.policy, "evidence", lambda *_: [{"metadata": {"name": "stage"}}])
    told: list[str] = []
    anything: Any = None
    admission.wait(anything, anything, cluster, {}, told.append)
    assert told == [
        "until Ready: policy-controller",
        "kubectl apply failed: connection refused",
        "until Ready: clusterimagepolicy/stage",
    ]


def test_who_does_not_answer_yet(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """While registry and Git server start, it is said which of the two does not answer, and how."""
    monkeypatch.setattr(services, "_ANSWER_LIMIT", 0.3)
    site = cluster.site.model_copy(update={"local": cluster.site.local.model_copy(update={"registry": 1})})
    told: list[str] = []
    with pytest.raises(NotReached):
        services._wait_for_answers(
            clusters.Cluster(cluster.pipeline, site), credentials.create(cluster), told.append
        )
    assert set(told) == {"http://localhost:1/v2/: ConnectError"}


def test_what_apt_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing Docker says which package is fetched, unpacked and set up."""
    monkeypatch.setattr(host, "cannot_install", lambda: "")
    program(tmp_path, "apt-cache", "echo docker.io")
    program(
        tmp_path,
        "apt-get",
        'case "$1" in install) echo "Setting up docker.io (26.1.5) ...";; *) echo Get:1;; esac',
    )
    told: list[str] = []
    host.install("docker.io", said=told.append)
    assert told == ["Get:1", "Setting up docker.io (26.1.5) ..."]


def test_what_debootstrap_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preparing Debian says which package debootstrap is at; where it fails, its last line is the reason."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(debian, "package_sources", lambda suite: [])
    made = 'mkdir -p "$3/var/cache" "$3/var/lib/apt" "$3/usr/share"'
    program(tmp_path, "debootstrap", f'{made}; echo "I: Retrieving dpkg 1.22"; echo "I: Unpacking dpkg..."')
    told: list[str] = []
    assert debian.rootfs("trixie", told.append).exists()
    assert told == ["Retrieving dpkg 1.22", "Unpacking dpkg...", "packing it"]
    program(tmp_path, "debootstrap", "echo 'E: Failed getting release file' >&2; exit 1")
    with pytest.raises(PlatformError, match="debootstrap failed: E: Failed getting release file"):
        debian.rootfs("forky")


def test_which_image_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several images it is said which is built, and at which line of its Dockerfile Docker is."""

    def build(context: bytes, tag: str, arguments: object, log: Any, **_: object) -> None:
        log("Step 3/7 : RUN apt-get update")

    monkeypatch.setattr(docker, "build", build)
    monkeypatch.setattr(recipes, "image_exists", lambda name: name.startswith("delivery-platform/there:"))
    wanted = [recipes.Recipe(name, "FROM a") for name in ("there", "redis")]
    told: list[str] = []
    for recipe, said in recipes.each(wanted, told.append):
        recipe.build(said)
    assert told == ["1 of 2: there", "2 of 2: redis", "2 of 2: redis: Step 3/7 : RUN apt-get update"]


PLAYED_GO = """\
case "$1" in
  env) echo go1.99.0 ;;
  list) echo "go: downloading k8s.io/api v1.36.1" >&2; printf 'unsafe\\nk8s.io/api\\nk8s.io/pause\\n' ;;
  build)
    printf 'k8s.io/api\\nk8s.io/pause\\n' >&2
    while [ "$1" != -o ]; do shift; done
    touch "$2/pause" ;;
esac"""


def test_how_far_the_compiler_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, details: dict[str, list[str]]
) -> None:
    """Compiling counts the modules that are fetched, then the packages; when none is left, Go links."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program(tmp_path, "go", PLAYED_GO)
    made: Module = module(tmp_path, "1.26.6")
    made.build("pause", platform=platforms.here())
    assert details["Compiling pause"] == [
        "modules",
        "1 modules downloaded: k8s.io/api",
        "1 of 2 packages",
        "linking",
    ]
