"""Signed evidence, with the real cosign and a real registry: what counts, what does not, and what survives."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from delivery.build import image, provenance
from delivery.desired import tree
from delivery.errors import BadInput, PlatformError
from delivery.parts import cosign, syft
from delivery.parts.credentials import docker_config, write_private
from delivery.parts.git import Repository
from delivery.parts.registry import connect
from delivery.signed import evidence, keys, statements

if TYPE_CHECKING:
    from conftest import Shelf, World

OCI = "application/vnd.oci.image.manifest.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
REVISION = "f" * 40


@pytest.fixture
def digest(shelf: Shelf) -> str:
    """An image of ours in the registry."""
    return shelf.push("15", REVISION, REVISION, "15")


def fetched(world: World, digest: str, name: str = "stage") -> evidence.Found:
    with connect(world.cluster) as registry:
        environment = world.pipeline.environment(name)
        return evidence.fetch(world.pipeline, world.cluster, registry, digest, environment)


def envelopes(world: World, digest: str) -> list[bytes]:
    with connect(world.cluster) as registry:
        return registry.attestations(digest)


def replace_attached(shelf: Shelf, digest: str, texts: list[bytes]) -> None:
    """Somebody with the registry's password writes what is attached by hand."""
    layers = [
        shelf._blob(text, DSSE) | {"annotations": {"dev.cosignproject.cosign/signature": ""}}
        for text in texts
    ]
    config = json.dumps(
        {
            "architecture": "",
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            "config": {},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": shelf._blob(config, "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    }
    name = digest.replace(":", "-")
    shelf.ask(
        "PUT", f"manifests/{name}.att", content=json.dumps(manifest).encode(), headers={"Content-Type": OCI}
    )


def signed(world: World, document: dict[str, Any], signer: str = "stage") -> bytes:
    return cosign.sign(json.dumps(document).encode(), keys.private(world.cluster, signer)).text


def statement(world: World, digest: str, **changes: Any) -> dict[str, Any]:
    """A statement of stage that is right, but for what is changed."""
    return {
        "_type": statements.STATEMENT,
        "subject": [
            {"name": world.pipeline.image.repository, "digest": {"sha256": digest.removeprefix("sha256:")}}
        ],
        "predicateType": statements.TEST_RESULT,
        "predicate": world.result(world.pipeline.environment("stage")),
    } | changes


def test_what_is_signed_is_read_back(stocked: World, digest: str) -> None:
    """A PASSED run of stage is found again, with its suites, hashes and time."""
    stage = stocked.pipeline.environment("stage")
    data = stocked.prove(stage, digest)
    found = fetched(stocked, digest)
    assert found.rejected == ()
    [one] = found.evidence
    assert (one.result, one.environment) == ("PASSED", "stage")
    assert one.suites == {
        "smoke": "PASSED",
        "integration": "PASSED",
        "performance": "PASSED",
        "security": "PASSED",
    }
    assert one.trees == tree.at(stocked.pipeline, Repository(stocked.server), stage, "main")
    assert one.finished.isoformat().replace("+00:00", "Z") == data["run"]["finishedOn"]


def test_an_in_toto_reader_can_read_it(stocked: World, digest: str) -> None:
    """cosign verify-attestation by hand verifies it; its payload is an in-toto v1 Statement about the digest."""
    stocked.prove(stocked.pipeline.environment("stage"), digest)
    login = docker_config(stocked.cluster)
    said = subprocess.run(
        [
            cosign_program(),
            *(
                "verify-attestation",
                "--key",
                keys.public(stocked.cluster, "stage"),
                "--insecure-ignore-tlog=true",
            ),
            *("--type", "https://in-toto.io/attestation/test-result/v0.1"),
            f"{stocked.cluster.registry_host}/manual-app@{digest}",
        ],
        env={"DOCKER_CONFIG": str(login), "PATH": "/usr/bin", "HOME": str(stocked.checkout)},
        capture_output=True,
        check=True,
    )
    payload = json.loads(base64.b64decode(json.loads(said.stdout)["payload"]))
    assert payload["_type"] == "https://in-toto.io/Statement/v1"
    [subject] = payload["subject"]
    assert subject == {
        "name": "registry.local:5000/manual-app",
        "digest": {"sha256": digest.removeprefix("sha256:")},
    }
    predicate = payload["predicate"]
    assert predicate["result"] == "PASSED"
    assert {name.partition("/")[0] for name in predicate["passedTests"]} == set(predicate["run"]["suites"])
    assert {one["name"]: list(one["digest"]) for one in predicate["configuration"]} == {
        "suites": ["gitTree"],
        "chart": ["sha256"],
        "values-stage.yaml": ["sha256"],
        "commit": ["gitCommit"],
    }


def cosign_program() -> str:
    from local import tools

    return str(tools.path("cosign"))


def test_failed_runs_leave_evidence(stocked: World, digest: str) -> None:
    """A failed run is kept beside the passed one, and the newest counts."""
    stage = stocked.pipeline.environment("stage")
    stocked.prove(stage, digest, ago=timedelta(minutes=5))
    stocked.prove(stage, digest, tests={"security": "failed"})
    found = fetched(stocked, digest)
    assert [one.result for one in found.evidence] == ["PASSED", "FAILED"]
    assert found.newest is not None
    assert found.newest.failed == ("security/test_it.py::test_it",)


def test_deleted_and_put_back(stocked: World, shelf: Shelf, digest: str) -> None:
    """Deleting what is attached leaves nothing; putting the signed file back brings the evidence back."""
    stocked.prove(stocked.pipeline.environment("stage"), digest)
    answer = shelf.ask("GET", f"manifests/{digest.replace(':', '-')}.att", headers={"Accept": OCI})
    shelf.ask("DELETE", f"manifests/sha256:{hashlib.sha256(answer.content).hexdigest()}")
    assert fetched(stocked, digest) == evidence.Found()
    [file] = (stocked.cluster.state / "statements").rglob("stage-*.json")
    statements.attach(stocked.pipeline, stocked.cluster, digest, cosign.envelope(file.read_bytes()))
    assert fetched(stocked, digest).evidence[0].result == "PASSED"


def test_attached_once(stocked: World, digest: str) -> None:
    """Attaching the same signed file again changes nothing."""
    stocked.prove(stocked.pipeline.environment("stage"), digest)
    before = envelopes(stocked, digest)
    statements.attach(stocked.pipeline, stocked.cluster, digest, cosign.envelope(before[0]))
    assert envelopes(stocked, digest) == before


def test_writers_at_once_lose_nothing(stocked: World, digest: str) -> None:
    """Four that sign about one digest at the same time: all four are there afterwards."""
    dev, stage = (stocked.pipeline.environment(name) for name in ("dev", "stage"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: stocked.prove(one, digest), (dev, stage, dev, stage)))
    assert len(envelopes(stocked, digest)) == 4
    assert len(fetched(stocked, digest).evidence) == len(fetched(stocked, digest, "dev").evidence) == 2


def test_other_environments_do_not_disturb(stocked: World, digest: str) -> None:
    """dev's evidence is neither stage's evidence nor a complaint about it."""
    stocked.prove(stocked.pipeline.environment("dev"), digest)
    assert fetched(stocked, digest) == evidence.Found()


WRONG: dict[str, tuple[str, Callable[[World, str], bytes]]] = {
    "dev's key for stage's evidence": (
        "is not signed by stage, or was changed",
        lambda world, digest: signed(world, statement(world, digest), "dev"),
    ),
    "another digest": (
        "is not signed by stage, or was changed|is about another digest",
        lambda world, digest: signed(world, statement(world, f"sha256:{'0' * 64}")),
    ),
    "another repository": (
        r"is about another repository, registry\.local:5000/other",
        lambda world, digest: signed(
            world,
            statement(
                world,
                digest,
                subject=[
                    {
                        "name": "registry.local:5000/other",
                        "digest": {"sha256": digest.removeprefix("sha256:")},
                    }
                ],
            ),
        ),
    ),
    "two subjects": (
        "is not about exactly one image",
        lambda world, digest: signed(
            world, statement(world, digest, subject=statement(world, digest)["subject"] * 2)
        ),
    ),
    "an unknown predicate": (
        "has the unknown kind https://example.test/v1",
        lambda world, digest: signed(
            world, statement(world, digest, predicateType="https://example.test/v1")
        ),
    ),
    "another type of statement": (
        "is no statement of type",
        lambda world, digest: signed(
            world, statement(world, digest, _type="https://in-toto.io/Statement/v0.1")
        ),
    ),
    "not a test result": (
        "is not a test result: configuration",
        lambda world, digest: signed(world, statement(world, digest, predicate={"result": "PASSED"})),
    ),
    "another environment, with stage's key": (
        "is about another environment, dev",
        lambda world, digest: signed(
            world, statement(world, digest, predicate=world.result(world.pipeline.environment("dev")))
        ),
    ),
    "a payload changed after it was signed": (
        "is not signed by stage, or was changed",
        lambda world, digest: tampered(signed(world, failed(world, digest))),
    ),
    "truncated": (
        "is not a whole DSSE envelope",
        lambda world, digest: signed(world, statement(world, digest))[:200],
    ),
    "empty": ("is not a whole DSSE envelope", lambda world, digest: b""),
    "not signed at all": (
        "carries no signature",
        lambda world, digest: json.dumps(
            json.loads(signed(world, statement(world, digest))) | {"signatures": []}
        ).encode(),
    ),
}


def failed(world: World, digest: str) -> dict[str, Any]:
    data = world.result(world.pipeline.environment("stage"), {"smoke": "failed"})
    return statement(world, digest, predicate=data)


def tampered(text: bytes) -> bytes:
    """FAILED made PASSED, the signature left as it was."""
    data = json.loads(text)
    payload = base64.b64decode(data["payload"]).replace(b'"FAILED"', b'"PASSED"')
    return json.dumps(data | {"payload": base64.b64encode(payload).decode()}).encode()


def test_what_does_not_count(stocked: World, shelf: Shelf, digest: str, subtests: pytest.Subtests) -> None:
    """Each is no evidence, the reason is kept for the user, and good evidence beside it still counts."""
    good = signed(stocked, statement(stocked, digest))
    for case, (says, make) in WRONG.items():
        with subtests.test(case):
            bad = make(stocked, digest)
            replace_attached(shelf, digest, [bad])
            found = fetched(stocked, digest)
            assert found.evidence == ()
            assert len(found.rejected) == 1
            assert re.search(says, found.rejected[0]), found.rejected
            replace_attached(shelf, digest, [bad, good])
            assert [one.result for one in fetched(stocked, digest).evidence] == ["PASSED"]


def test_evidence_moved_to_another_image(stocked: World, shelf: Shelf, digest: str) -> None:
    """The signed evidence of one digest, attached to another one: it counts for neither more nor less than before."""
    other = shelf.push("16", REVISION, "16", layer=b"other")
    stocked.prove(stocked.pipeline.environment("stage"), digest)
    replace_attached(shelf, other, envelopes(stocked, digest))
    found = fetched(stocked, other)
    assert found.evidence == ()
    assert found.rejected


def test_keys(stocked: World) -> None:
    """One key pair for each signer, none readable by others, and a second `up` leaves them as they are."""
    folder = stocked.cluster.state / "keys"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {name.partition(".")[0] for name in before} == {"build", "dev", "stage", "prod", "approver"}
    assert len(before) == 15
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    keys.create(stocked.cluster)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_key_half_made_is_made_again(stocked: World) -> None:
    """A kill between the files of one key pair is mended by the next `up`, the other pairs stay."""
    folder = stocked.cluster.state / "keys"
    dev, stage = (folder / "dev.key").read_bytes(), (folder / "stage.key").read_bytes()
    (folder / "dev.key").unlink()
    with pytest.raises(PlatformError, match="the key of dev is not on this machine"):
        keys.private(stocked.cluster, "dev")
    keys.create(stocked.cluster)
    assert (folder / "dev.key").read_bytes() != dev
    assert (folder / "stage.key").read_bytes() == stage
    cosign.sign(b"{}", keys.private(stocked.cluster, "dev"))


def test_the_password_of_a_key_is_in_no_argument(stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users of this machine cannot read a key's password from the list of processes."""
    seen: list[list[str]] = []
    run = subprocess.run

    def watched(command: list[str], **options: Any) -> Any:
        seen.append([str(part) for part in command])
        return run(command, **options)

    monkeypatch.setattr(cosign.subprocess, "run", watched)
    cosign.sign(b"{}", keys.private(stocked.cluster, "stage"))
    password = (stocked.cluster.state / "keys" / "stage.password").read_text()
    assert seen
    assert all(password not in part for command in seen for part in command)


def test_kms(stocked: World) -> None:
    """A fork names its KMS in pipeline.yaml: that is signed with, and its public key is a file of the checkout."""
    file = stocked.checkout / "pipeline.yaml"
    text = file.read_text().replace(
        "signers: {} #", 'signers:\n  stage: { key: "awskms:///alias/stage", public: keys/stage.pub } #'
    )
    file.write_text(text)
    assert keys.private(stocked.cluster, "stage") == cosign.Key("awskms:///alias/stage")
    with pytest.raises(PlatformError, match="the public key of stage is missing"):
        keys.public(stocked.cluster, "stage")
    (stocked.checkout / "keys").mkdir()
    (stocked.checkout / "keys" / "stage.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    assert keys.public(stocked.cluster, "stage") == stocked.checkout / "keys" / "stage.pub"


def test_the_login_is_for_us_alone(stocked: World) -> None:
    """cosign's login of the registry is a file that only its owner reads, and names no other registry."""
    file = docker_config(stocked.cluster) / "config.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(file.read_text())["auths"]) == [stocked.cluster.registry_host]


def test_provenance_and_sbom(stocked: World, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are attached, signed by the build; a second time attaches nothing, and what is missing is completed.

    A base from a registry is named by the registry's digest; of a local one it is said what the digest is of.
    """
    monkeypatch.setattr(
        syft, "sbom", lambda repository, digest: {"bomFormat": "CycloneDX", "components": [{}]}
    )
    parameters = {"REVISION": REVISION, "BUILD": "15", "SOURCE": "http://git.local/manual-app.git"}
    bases = {
        "delivery-platform/python:1": {"digest": f"sha256:{'b' * 64}", "of": "config", "pinned": False},
        f"python:3.11@sha256:{'c' * 64}": {"digest": f"sha256:{'c' * 64}", "of": "manifest", "pinned": True},
    }
    with connect(stocked.cluster) as registry:
        world = (stocked.pipeline, stocked.cluster, registry, digest)
        assert provenance.missing(*world) == [statements.SBOM, statements.PROVENANCE]
        made = provenance.provenance(stocked.pipeline, parameters, bases, "a", "b")
        statements.put(stocked.pipeline, stocked.cluster, digest, statements.PROVENANCE, made, "build")
        assert provenance.missing(*world) == [statements.SBOM]
        provenance.complete(*world, parameters, bases, "a", "b")
        assert provenance.missing(*world) == []
        assert provenance.sbom(*world) == {"bomFormat": "CycloneDX", "components": [{}]}
        before = registry.attestations(digest)
        provenance.complete(*world, parameters, bases, "a", "b")
        assert registry.attestations(digest) == before
        attached = statements.read(*world, statements.PROVENANCE, ["build"])
    [said] = attached.statements
    definition = said.predicate["buildDefinition"]
    assert definition["externalParameters"]["arguments"] == parameters
    assert [(one["digest"], one.get("annotations")) for one in definition["resolvedDependencies"]] == [
        ({"gitCommit": REVISION}, None),
        ({"sha256": "b" * 64}, {"pinned": False, "digestOf": "config"}),
        ({"sha256": "c" * 64}, None),
    ]


def test_a_build_that_was_killed_is_completed(
    stocked: World, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the push and before the SBOM was attached: the next build attaches both, and then no more."""
    monkeypatch.setattr(
        syft, "sbom", lambda repository, digest: {"bomFormat": "CycloneDX", "components": [{}]}
    )
    revision = image.source(stocked.pipeline, Repository(stocked.checkout))
    pushed = shelf.push("15", revision, revision)
    record = {"parameters": {"REVISION": revision}, "bases": {}, "started": "a", "finished": "b"}
    file = stocked.cluster.state / "builds" / f"{revision}.json"
    write_private(file, json.dumps(record))
    assert image.build(stocked.pipeline, stocked.cluster).digest == pushed
    assert not file.exists()
    attached = envelopes(stocked, pushed)
    assert len(attached) == 2
    assert not image.build(stocked.pipeline, stocked.cluster).new
    assert envelopes(stocked, pushed) == attached


def test_trees(world: World) -> None:
    """The chart's hash changes with the chart, and not with an environment's values; the suites' with the suites."""
    stage, prod = (world.pipeline.environment(name) for name in ("stage", "prod"))
    repository = Repository(world.checkout)

    def at(path: str) -> tuple[tree.Trees, tree.Trees]:
        before = tree.at(world.pipeline, repository, stage, "HEAD")
        file = world.checkout / path
        world.commit(world.checkout, path, (file.read_text() if file.exists() else "") + "\n# more\n", "more")
        return before, tree.at(world.pipeline, repository, stage, "HEAD")

    before, after = at(prod.values)
    assert before == after
    before, after = at(stage.values)
    assert (before.chart, before.suites) == (after.chart, after.suites)
    assert before.values != after.values
    before, after = at("manual-app-helm/values.yaml")
    assert before.chart != after.chart
    before, after = at("manual-app-helm/templates/new.yaml")
    assert before.chart != after.chart
    before, after = at("e2e/suites/smoke/test_smoke.py")
    assert (before.chart, before.values) == (after.chart, after.values)
    assert before.suites != after.suites
    world.git(world.checkout, "rm", "-r", "--quiet", "e2e/suites")
    world.git(world.checkout, "commit", "--quiet", "--message", "none")
    with pytest.raises(BadInput, match="e2e/suites/ is not in Git"):
        tree.at(world.pipeline, repository, stage, "HEAD")


def test_cosign_that_is_not_there(stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is one line and a hint."""
    from local import tools

    monkeypatch.setattr(tools, "path", lambda name: Path("/nowhere/cosign"))
    with pytest.raises(PlatformError, match="cosign is not there") as refused:
        cosign.sign(b"{}", keys.private(stocked.cluster, "dev"))
    assert refused.value.hint
