"""A gate's keys: one that is missing, open to others or of the wrong kind is named, and nothing is written."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery.build import image
from delivery.errors import PlatformError, Refused
from delivery.parts import openpgp
from delivery.verbs import approve as approving
from scripts.tests.steps import bare_promote, deploy, prepare, promote, refused

if TYPE_CHECKING:
    from scripts.tests.fake_cluster import FakeCluster


def test_a_signature_is_of_these_bytes_by_this_key() -> None:
    """Other bytes, another key, no signature at all: none of them counts; and the certificate alone signs nothing."""
    secret, public = openpgp.generate("gate <gate@example.test>")
    _, other = openpgp.generate("other <other@example.test>")
    signature = openpgp.sign(secret, b"one")
    assert openpgp.verified(public, b"one", signature)
    assert not openpgp.verified(public, b"two", signature)
    assert not openpgp.verified(other, b"one", signature)
    assert not openpgp.verified(public, b"one", "")
    with pytest.raises(openpgp.NoKey):
        openpgp.sign(public, b"one")
    with pytest.raises(openpgp.NoKey):
        openpgp.signing_key_id("nothing")


def gone(file: Path) -> None:
    file.unlink()


def opened(file: Path) -> None:
    file.chmod(0o644)


def certificate(file: Path) -> None:
    file.write_bytes(file.with_suffix(".asc").read_bytes())


def garbage(file: Path) -> None:
    file.write_text("not a key\n")


def public(file: Path) -> None:
    file.write_bytes(file.with_suffix(".pub").read_bytes())


def expired(file: Path) -> None:
    """A key that gpg made for one day, years ago."""
    gpg = shutil.which("gpg")
    if gpg is None:
        pytest.skip("no gpg on PATH, which makes a key of the past")
    with tempfile.TemporaryDirectory(dir="/tmp") as home:  # gpg's socket has a short path
        command = [gpg, "--homedir", home, "--batch", "--pinentry-mode=loopback", "--passphrase="]
        then = ["--faked-system-time", "20200101T000000"]
        new = ["--quick-gen-key", "gate <gate@example.test>", "ed25519", "sign", "1d"]
        subprocess.run([*command, *then, *new], check=True, capture_output=True)
        secret = [*command, "--armor", "--export-secret-keys"]
        file.write_bytes(subprocess.run(secret, check=True, capture_output=True).stdout)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("gate-stage.pgp", gone, r"the key of gate-stage is not on this machine: .*gate-stage\.pgp"),
        ("gate-stage.pgp", opened, r"the key of gate-stage is readable by others: .*gate-stage\.pgp"),
        ("gate-stage.pgp", certificate, "the OpenPGP key of gate-stage cannot sign"),
        ("gate-stage.pgp", garbage, "the OpenPGP key of gate-stage cannot sign"),
        ("gate-stage.asc", gone, r"the OpenPGP certificate of gate-stage is missing: .*gate-stage\.asc"),
        ("gate-stage.asc", garbage, r"gate-stage\.asc holds no OpenPGP certificate of gate-stage"),
        ("gate-stage.key", gone, r"the key of gate-stage is not on this machine: .*gate-stage\.key"),
        ("gate-stage.key", opened, r"the key of gate-stage is readable by others: .*gate-stage\.key"),
        ("gate-stage.pgp", expired, "the OpenPGP key of gate-stage cannot sign: it expired on 2020-01-02"),
        ("gate-stage.key", garbage, r"gate-stage\.key holds no private key of gate-stage"),
        ("gate-stage.key", public, r"gate-stage\.key holds no private key of gate-stage"),
        ("gate-stage.password", opened, "the key of gate-stage is readable by others"),
    ],
    ids=lambda one: one.__name__ if callable(one) else str(one)[:20],
)
def test_a_key_that_cannot_be_used(
    cluster: FakeCluster, built: image.Built, name: str, change: Callable[[Path], None], says: str
) -> None:
    """I promote where the gate's key is not as it must be: I am told which file and why, before anything is written."""
    deploy(cluster)
    prepare(cluster, "stage")
    change(cluster.world.context.site.state / "keys" / name)
    refused(cluster, PlatformError, says, lambda: bare_promote(cluster, "stage"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (gone, r"the key of approver is not on this machine: .*approver\.key"),
        (opened, r"the key of approver is readable by others: .*approver\.key"),
        (garbage, r"approver\.key holds no private key of approver"),
        (public, r"approver\.key holds no private key of approver"),
    ],
    ids=lambda one: one.__name__ if callable(one) else "",
)
def test_an_approver_s_key_that_cannot_be_used(
    cluster: FakeCluster, built: image.Built, change: Callable[[Path], None], says: str
) -> None:
    """I approve where my key is not as it must be: I am told which file and why, and nothing is signed."""
    deploy(cluster)
    promote(cluster, "stage")
    context = cluster.world.context
    prod = context.environment("prod")
    cluster.world.prove(context.environment("stage"), built.digest)
    change(context.site.state / "keys" / "approver.key")
    refused(cluster, PlatformError, says, lambda: approving.run(context, prod, None))
    refused(cluster, Refused, "prod needs one approval", lambda: bare_promote(cluster, "prod"))


def test_a_key_in_a_variable(
    cluster: FakeCluster, built: image.Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CI job has the gate's OpenPGP key in a variable: unset it is said so by its name, set it signs."""
    deploy(cluster)
    prepare(cluster, "stage")
    signer = cluster.world.context.site.signer("gate-stage")
    assert signer.commits
    assert isinstance(signer.commits.key, Path)
    secret = signer.commits.key.read_text()
    commits = signer.commits.model_copy(update={"key": "env://GATE_STAGE_KEY"})
    cluster.world = cluster.world.keyed("gate-stage", commits=commits)
    refused(
        cluster,
        PlatformError,
        "is to be in GATE_STAGE_KEY, which is not set",
        lambda: bare_promote(cluster, "stage"),
    )
    monkeypatch.setenv("GATE_STAGE_KEY", secret)
    assert bare_promote(cluster, "stage").new
