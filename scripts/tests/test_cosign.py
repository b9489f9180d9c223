"""cosign itself: what the fast tests' own signer does is what cosign does, in both directions."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery.errors import PlatformError
from delivery.parts import cosign, dsse
from delivery.parts.registry import connect
from delivery.signed import keys, statements
from scripts.tests import signing
from scripts.tests.world import SIGNERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Shelf

    from scripts.tests.world import World

REVISION = "f" * 40


@pytest.fixture
def digest(shelf: Shelf) -> str:
    """An image of ours in the registry."""
    return shelf.push("15", REVISION, REVISION, "15")


@pytest.fixture
def signed_by_cosign(stocked: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world with cosign itself, and with key pairs that it made."""
    signing.remove(monkeypatch)
    folder = stocked.context.site.state / "keys"
    for name in SIGNERS:
        for file in (folder / f"{name}.key", folder / f"{name}.pub"):
            file.unlink()
        cosign.generate(folder / name, (folder / f"{name}.password").read_text())
    return stocked


@pytest.mark.slow
def test_cosign_takes_what_our_own_signer_made(
    stocked: World, digest: str, program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """cosign verify-attestation by hand verifies it; its payload is an in-toto v1 Statement about the digest."""
    stocked.prove(stocked.context.environment("stage"), digest)
    image, place = stocked.context.site.image, stocked.context.site.statements_of("stage")
    environment = {
        "DOCKER_CONFIG": str(image.docker_config),
        "COSIGN_REPOSITORY": place.here,
        "PATH": "/usr/bin",
        "HOME": str(stocked.checkout),
    }

    def verified(key: str) -> subprocess.CompletedProcess[bytes]:
        command = [program("cosign"), "verify-attestation", "--insecure-ignore-tlog=true"]
        command += ["--key", str(keys.public(stocked.context.site, key))]
        command += ["--type", statements.TEST_RESULT, f"{image.here}@{digest}"]
        return subprocess.run(command, env=environment, capture_output=True, check=False)

    said = verified("stage")
    assert said.returncode == 0, said.stderr
    assert verified("dev").returncode
    payload = json.loads(base64.b64decode(json.loads(said.stdout)["payload"]))
    assert payload["_type"] == "https://in-toto.io/Statement/v1"
    [subject] = payload["subject"]
    assert subject == {"name": image.name, "digest": {"sha256": digest.removeprefix("sha256:")}}
    predicate = payload["predicate"]
    assert predicate["result"] == "PASSED"
    assert {name.partition("/")[0] for name in predicate["passedTests"]} == set(predicate["run"]["suites"])
    assert {one["name"]: list(one["digest"]) for one in predicate["configuration"]} == {
        "suites": ["gitTree"],
        "chart": ["sha256"],
        "values-stage.yaml": ["sha256"],
        "manifests": ["sha256"],
        "commit": ["gitCommit"],
    }


@pytest.mark.slow
def test_the_password_of_a_key_is_in_no_argument(
    signed_by_cosign: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users of this machine cannot read a key's password from the list of processes."""
    seen: list[list[str]] = []
    run = subprocess.run

    def watched(command: list[str], **options: Any) -> Any:
        seen.append([str(part) for part in command])
        return run(command, **options)

    monkeypatch.setattr(cosign.subprocess, "run", watched)
    signer = signed_by_cosign.context.site.signer("stage")
    cosign.sign(b"{}", keys.private(signed_by_cosign.context.site, "stage"))
    assert signer.password_file
    password = signer.password_file.read_text()
    assert seen
    assert all(password not in part for command in seen for part in command)


def test_cosign_that_is_not_there(stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is one line and a hint."""
    signing.remove(monkeypatch)
    monkeypatch.setattr(cosign.programs, "path", lambda name: Path("/nowhere/cosign"))
    with pytest.raises(PlatformError, match="cosign is not there") as refused:
        cosign.sign(b"{}", keys.private(stocked.context.site, "dev"))
    assert refused.value.hint


def test_what_our_own_signer_does_not_take(tmp_path: Path) -> None:
    """Another key, another payload, another type of payload, a wrong password: the signature is really verified."""
    for name in ("one", "other"):
        signing.generate(tmp_path / name, "secret")
    (tmp_path / "password").write_text("secret")
    key = cosign.Key(str(tmp_path / "one.key"), tmp_path / "password")
    text = signing.sign(b'{"result": "FAILED"}', key).text
    assert signing.signed_by(text, tmp_path / "one.pub")
    assert not signing.signed_by(text, tmp_path / "other.pub")
    document = json.loads(text)
    changed = base64.b64encode(b'{"result": "PASSED"}').decode()
    for wrong in ({"payload": changed}, {"payloadType": "text/plain"}, {"signatures": []}):
        assert not signing.signed_by(json.dumps(document | wrong).encode(), tmp_path / "one.pub")
    (tmp_path / "password").write_text("guess")
    with pytest.raises(cosign.CosignFailed):
        signing.sign(b"{}", key)


@pytest.mark.slow
def test_what_cosign_signed_is_verified(signed_by_cosign: World, digest: str) -> None:
    """What cosign signed is verified in process with the key that cosign made, and with no other."""
    context = signed_by_cosign.context
    signed_by_cosign.prove(context.environment("stage"), digest)
    with connect(context.site.image) as registry:
        [text] = statements.stored(context, registry, digest, ["stage"])
    public = {name: keys.public(context.site, name).read_text() for name in ("stage", "dev")}
    said = {name: dsse.verifier(pem)(cosign.envelope(text)) for name, pem in public.items()}
    assert said == {"stage": True, "dev": False}
