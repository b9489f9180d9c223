"""The platform's parts that can be known without Docker."""

import json
import subprocess
import sys
import tarfile
import threading
from io import BytesIO
from pathlib import Path

import pytest

from delivery.errors import NotReached, PlatformError
from delivery.lock import alone
from delivery.parts import docker
from local import cluster as clusters
from local import host, preload, recipes, runc_bounded, services, tools
from local import kind as kinds
from local.catalog import ArgocdImages, Catalog
from local.closed.images import default_storage
from scripts.tests.daemon import Daemon, daemon
from scripts.tests.world import ROOT

__all__ = ["daemon"]  # a fixture


def test_both_kinds_of_machine_run_the_same_kubernetes() -> None:
    """The node image that is pulled and the one that is built are the same version of Kubernetes."""
    catalog = Catalog(ROOT)
    pulled = catalog.versions["online"]["node"]
    assert pulled.startswith(f"kindest/node:{catalog.module.version('k8s.io/kubernetes')}@sha256:")


def test_an_image_is_named_by_what_goes_into_it() -> None:
    """The second run builds nothing, and a changed recipe is built: the name says what is inside."""
    one = recipes.Recipe("x", "FROM a", {"A": "1"}, stamp="s")
    assert one.tag == recipes.Recipe("x", "FROM a", {"A": "1"}, stamp="s").tag
    others = [
        recipes.Recipe("x", "FROM b", {"A": "1"}, stamp="s"),
        recipes.Recipe("x", "FROM a", {"A": "2"}, stamp="s"),
        recipes.Recipe("x", "FROM a", {"A": "1"}, stamp="t"),
    ]
    assert len({one.tag, *(other.tag for other in others)}) == 4


def test_a_build_context_is_the_same_bytes_again(tmp_path: Path) -> None:
    """Docker's layer cache holds: file dates and owners are not part of what is built."""
    script = tmp_path / "run"
    script.write_text("#!/bin/sh\n")
    first = recipes.context("FROM scratch", {"run": script, "b": b"2"})
    script.touch()
    assert recipes.context("FROM scratch", {"b": b"2", "run": script}) == first
    with tarfile.open(fileobj=BytesIO(first)) as archive:
        modes = {entry.name: entry.mode for entry in archive}
    assert modes == {"Dockerfile": 0o644, "b": 0o644, "run": 0o755}


@pytest.mark.parametrize(
    ("bounding_set", "lacks"),
    [("000001ffffffffff", False), ("000001fffeffffff", True), ("0000000000000000", True)],
)
def test_a_withheld_capability_is_seen(bounding_set: str, lacks: bool) -> None:
    """The bounded runtime is used only where the kernel withholds CAP_SYS_RESOURCE."""
    assert host.lacks_sys_resource(f"Name:\tx\nCapBnd:\t{bounding_set}\n") is lacks


def test_the_bounded_runtime_takes_one_capability_and_no_more(tmp_path: Path) -> None:
    """Every other capability, and the rest of the container's description, stays as Docker wrote it."""
    capabilities = {
        "bounding": ["CAP_SYS_RESOURCE", "CAP_SYS_ADMIN"],
        "effective": ["CAP_SYS_RESOURCE"],
        "ambient": None,
    }
    document = {"hostname": "h", "process": {"args": ["x"], "capabilities": capabilities}}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(document))
    runc_bounded.strip(str(file), "process")
    after = json.loads(file.read_text())
    assert after["process"]["capabilities"] == {"bounding": ["CAP_SYS_ADMIN"], "effective": [], "ambient": []}
    assert (after["hostname"], after["process"]["args"]) == ("h", ["x"])


def test_the_bounded_runtime_hands_everything_else_to_runc(tmp_path: Path) -> None:
    """`docker ps` and the like work as before: arguments reach the real runc unchanged."""
    runc = tmp_path / "runc"
    runc.write_text('#!/bin/sh\necho "$@"\n')
    runc.chmod(0o755)
    command = [sys.executable, "-IS", runc_bounded.__file__, str(runc), "--root", "/r", "state", "c1"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == "--root /r state c1\n"
    )


def test_argocds_images_are_read_from_its_manifest(tmp_path: Path) -> None:
    """Argo CD's own manifest says which images it wants; what is pinned and preloaded follows it."""
    manifest = tmp_path / "core-install.yaml"
    manifest.write_text(
        "  image: quay.io/argoproj/argocd:v9\n  image: example.org/redis:1\n  image: quay.io/argoproj/argocd:v9\n"
    )
    assert ArgocdImages.read(manifest) == ArgocdImages("quay.io/argoproj/argocd:v9", "example.org/redis:1")


def test_kinds_storage_is_read_from_its_source(tmp_path: Path) -> None:
    """The storage class of the built node is kind's own, with the image names that kind gives it."""
    source = tmp_path / "pkg" / "build" / "nodeimage"
    source.mkdir(parents=True)
    (source / "const_storage.go").write_text(
        'const storageProvisionerImage = "p:1"\nconst storageHelperImage = "h:2"\n'
        "const defaultStorageManifest = `\nimage: ` + storageProvisionerImage + `\n- ` + storageHelperImage + `\n`\n"
    )
    assert default_storage(tmp_path) == ("\nimage: p:1\n- h:2\n", "p:1", "h:2")


def test_a_taken_port_is_found() -> None:
    """`up` says which port is taken before it makes anything."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert services.taken_ports({"git": port}) == {"git": port}
    assert services.taken_ports({"git": port}) == {}


def test_two_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """Two `delivery up` at once do not build the same cluster twice: the second waits, within a limit."""
    entered = threading.Event()
    with alone(tmp_path / "up.lock", "the other", 1):

        def second() -> None:
            with alone(tmp_path / "up.lock", "the other", 20):
                entered.set()

        thread = threading.Thread(target=second)
        thread.start()
        with pytest.raises(NotReached, match="the other"), alone(tmp_path / "up.lock", "the other", 0.3):
            pass
        assert not entered.is_set()
    thread.join(20)
    assert entered.is_set()


def test_a_home_with_a_space_takes_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder such as `/home/Ada Lovelace/it's here` kind is called, and what it says is in its log."""
    home = tmp_path / "a home" / "it's; here"
    program = home / "programs" / "kind"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$KIND_EXPERIMENTAL_DOCKER_NETWORK: $@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("DELIVERY_STATE", str(home / "state"))
    monkeypatch.setattr(tools, "path", lambda name: program)
    cluster = clusters.chosen("local", ROOT)
    cluster.state.mkdir(parents=True)
    script = kinds._quiet_kind(cluster)
    for arguments in (("create", "cluster", "--config", "a b"), ("get", "clusters")):
        done = subprocess.run([script, *arguments], capture_output=True, text=True, check=True)
        said = f"{cluster.name}: {' '.join(arguments)}\n"
        log = cluster.state / "kind.log"
        assert (done.stdout or log.read_text()) == said


def test_kind_makes_a_node_of_docker_for_its_own_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DOCKER_DEFAULT_PLATFORM, as many have it on a Mac, and an installed podman do not lead kind astray."""
    program = tmp_path / "kind"
    program.write_text('#!/bin/sh\necho "${DOCKER_DEFAULT_PLATFORM-unset} $KIND_EXPERIMENTAL_PROVIDER"\n')
    program.chmod(0o755)
    monkeypatch.setenv("DELIVERY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/amd64")
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
    monkeypatch.setattr(tools, "path", lambda name: program)
    cluster = clusters.chosen("local", ROOT)
    cluster.state.mkdir(parents=True)
    done = subprocess.run([kinds._quiet_kind(cluster), "get"], capture_output=True, text=True, check=True)
    assert done.stdout == "unset docker\n"


def test_an_environment_that_came_later_has_no_port(tmp_path: Path) -> None:
    """I add an environment and say `up` again: the node that is there has no port for it, and I am told so."""
    cluster = clusters.chosen("local", ROOT)
    made_of, wanted = tmp_path / "kind.yaml", kinds.configuration(cluster)
    kinds._insist_on_ports(cluster, made_of, wanted)
    made_of.write_text(wanted)
    kinds._insist_on_ports(cluster, made_of, wanted)
    made_of.write_text(wanted.replace("8083", "8084"))
    with pytest.raises(PlatformError, match="asked for port 8083") as refused:
        kinds._insist_on_ports(cluster, made_of, wanted)
    assert "delivery down" in refused.value.hint


def test_a_service_is_made_anew_when_its_image_is_gone(daemon: Daemon) -> None:
    """A registry whose old image somebody removed is replaced, not in its own way."""
    daemon.has("registry:3")
    daemon.answers["/containers/manual-app-registry/json"] = (200, {"Id": "old", "Image": "sha256:gone"})
    daemon.answers["/containers/old"] = (204, {})
    daemon.answers["/containers/create"] = (201, {"Id": "new"})
    daemon.answers["/containers/new/json"] = (200, {"Id": "new"})
    client = docker.client()
    try:
        made = services._container(client, clusters.chosen("local", ROOT), "registry", "registry:3", {})
    finally:
        client.close()
    assert made.id == "new"


def test_the_node_is_named_by_what_is_preloaded() -> None:
    """A changed database image makes another node image; the same one is not made again."""
    one = preload.Node("base:1", {"postgresql": "p:1"}, "s")
    assert one.name == preload.Node("base:1", {"postgresql": "p:1"}, "s").name
    assert one.name != preload.Node("base:1", {"postgresql": "p:2"}, "s").name
