"""What is wrong is said in one line with a hint and an exit code, and nothing is written."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from delivery import roles
from delivery.files import write_private
from delivery.parts import docker
from e2e.conftest import Build
from e2e.delivery import Checkout
from e2e.registry import as_owner
from local import credentials

NOWHERE = f"sha256:{'0' * 64}"


@pytest.fixture(autouse=True)
def nothing_written(platform: Checkout, prod: Build) -> Iterator[None]:
    """Each test here leaves Git and prod as they were."""
    before = (platform.main(), platform.digests("prod"))
    yield
    assert (platform.main(), platform.digests("prod")) == before


@pytest.mark.parametrize(
    "verb", [("promote", "qa"), ("promote", "dev"), ("verify", "qa"), ("promote",), ("fly",)]
)
def test_an_unknown_environment_or_verb(platform: Checkout, verb: tuple[str, ...]) -> None:
    """I mistype: exit 2, and the hint lists what there is."""
    platform.delivery(*verb, expect=2)


def test_a_dirty_tree_is_not_built(platform: Checkout) -> None:
    """Only what is committed is built."""
    (platform.path / "left-over.txt").write_text("not committed")
    try:
        assert "dirty" in platform.delivery("build", expect=2).error
    finally:
        (platform.path / "left-over.txt").unlink()


@pytest.mark.parametrize(
    "digest", ["15", "sha256:short", "SHA256:" + "A" * 64, "registry.local:5000/manual-app:15"]
)
def test_a_malformed_digest(platform: Checkout, digest: str) -> None:
    """A tag or half a digest is not an identity: exit 2."""
    platform.delivery("deploy", "--digest", digest, expect=2)


def test_a_digest_that_is_not_in_the_registry(platform: Checkout) -> None:
    """A digest that nobody pushed cannot be asked for."""
    platform.delivery("deploy", "--digest", NOWHERE, expect=2)


def test_a_tag_that_is_missing(platform: Checkout) -> None:
    """Prod by a Git tag that the server does not have: exit 2."""
    assert "v9.9" in platform.delivery("promote", "prod", "--tag", "v9.9", expect=2).error


def test_another_kube_context_is_never_touched(
    platform: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A kubeconfig that is not the one `up` made stops every verb: exit 4."""
    state = tmp_path_factory.mktemp("foreign") / platform.site
    state.mkdir()
    mine, context = platform.cluster.kubeconfig, roles.DEPLOYER
    write_private(state / "kubeconfig", mine.read_text().replace(context, "production"))
    site = (platform.cluster.state / "site.yaml").read_text()
    (state / "site.yaml").write_text(site.replace(str(mine), str(state / "kubeconfig")))
    ran = platform.delivery("promote", "stage", expect=4, DELIVERY_STATE=str(state.parent))
    assert f"has no usable context {context}" in ran.error


@pytest.mark.parametrize("role", ["registry", "gateway"])
def test_a_server_that_is_down(platform: Checkout, role: str) -> None:
    """The registry or the Git server is away: exit 4, not a stack trace; it works again when it is back."""
    client = docker.client()
    container = client.containers.get(f"{platform.cluster.name}-{role}")
    container.stop(timeout=1)
    try:
        platform.delivery("promote", "stage", expect=4)
    finally:
        container.start()
        client.close()
    platform.delivery("up")
    platform.delivery("promote", "stage")


def test_new_logins_break_no_clone_off(platform: Checkout, tmp_path: Path) -> None:
    """`up` has the Git server read its logins again: who clones meanwhile has the whole of it."""
    client = docker.client()
    gateway = client.containers.get(f"{platform.cluster.name}-gateway")
    try:
        for number in range(12):
            command = [
                "git",
                "clone",
                "--quiet",
                "--bare",
                platform.context.site.git.url,
                str(tmp_path / str(number)),
            ]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as clone:
                while clone.poll() is None:
                    gateway.kill(signal="HUP")
                assert clone.stderr
                assert clone.returncode == 0, clone.stderr.read()
    finally:
        client.close()


def test_an_image_built_again_elsewhere_is_caught(platform: Checkout, image: Build) -> None:
    """The registry's owner moves the build's tag to another image: tag and digest disagree, and that is refused."""
    base = "manual-app/manifests"
    kinds = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    original = as_owner(platform.cluster, "GET", f"{base}/{image.digest}", Accept=kinds)
    assert original.status == 200
    kind = original.headers["content-type"]
    # The same content in other bytes: another digest.
    other = json.dumps(json.loads(original.content), indent=7).encode()
    moved = as_owner(platform.cluster, "PUT", f"{base}/{image.number}", other, Content_Type=kind)
    assert moved.status == 201
    try:
        ran = platform.delivery("deploy", "--digest", image.digest, expect=1)
        assert f"tag {image.number}" in ran.error
        assert platform.delivery("verify", expect=1).code == 1
    finally:
        put = as_owner(platform.cluster, "PUT", f"{base}/{image.number}", original.content, Content_Type=kind)
        assert put.status == 201
    platform.delivery("deploy", "--digest", image.digest)


def test_no_password_leaves_the_state_folder(platform: Checkout, image: Build) -> None:
    """No log and no output of the pipeline holds a password, and the files that do are mine alone."""
    cluster = platform.cluster
    made = credentials.create(cluster)
    logins = [*made.registry.values(), *made.git.values()]
    secrets = [one.password for one in logins]
    encoded = [base64.b64encode(f"{one.username}:{one.password}".encode()).decode() for one in logins]
    ran = platform.delivery("-v", "status")
    logs = [path.read_text(errors="replace") for path in cluster.state.glob("*.log")]
    for secret in (*secrets, *encoded):
        assert all(secret not in text for text in (ran.out, ran.err, *logs))
    names = ("credentials.json", "git-credentials", "git-credentials-developer", "kubeconfig")
    for name in names:
        assert (cluster.state / name).stat().st_mode & 0o077 == 0
    assert cluster.state.stat().st_mode & 0o077 == 0
