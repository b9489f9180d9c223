"""Signed evidence, with real keys and a real registry: what counts, what does not, and what survives."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from delivery import context as contexts
from delivery.build import image, provenance
from delivery.desired import tree
from delivery.errors import BadInput, PlatformError
from delivery.files import write_private
from delivery.parts import cosign, syft
from delivery.parts.git import Repository
from delivery.parts.registry import LoginRefused, connect
from delivery.signed import evidence, keys, statements
from scripts.tests.signing import Attachments, attached

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Shelf

    from scripts.tests.world import World

REVISION = "f" * 40


@pytest.fixture
def digest(shelf: Shelf) -> str:
    """An image of ours in the registry."""
    return shelf.push("15", REVISION, REVISION, "15")


def fetched(world: World, digest: str, name: str = "stage") -> evidence.Recorded:
    with connect(world.context.site.image) as registry:
        environment = world.context.environment(name)
        return evidence.fetch(world.context, registry, digest, environment)


def envelopes(world: World, digest: str, signer: str = "stage") -> list[bytes]:
    with connect(world.context.site.statements_of(signer)) as registry:
        return registry.attestations(digest)


def signed(world: World, document: dict[str, Any], signer: str = "stage") -> bytes:
    return cosign.sign(json.dumps(document).encode(), keys.private(world.context.site, signer)).text


def statement(world: World, digest: str, **changes: Any) -> dict[str, Any]:
    """A statement of stage that is right, but for what is changed."""
    return {
        "_type": statements.STATEMENT,
        "subject": [
            {"name": world.context.site.image.name, "digest": {"sha256": digest.removeprefix("sha256:")}}
        ],
        "predicateType": statements.TEST_RESULT,
        "predicate": world.result(world.context.environment("stage")),
    } | changes


def test_what_is_signed_is_read_back(stocked: World, digest: str) -> None:
    """A PASSED run of stage is found again, with its suites, hashes and time."""
    stage = stocked.context.environment("stage")
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
    trees = tree.at(stocked.context, Repository(stocked.server), stage, "main")
    assert one.trees == replace(trees, manifests="0" * 64)
    assert one.finished.isoformat().replace("+00:00", "Z") == data["run"]["finishedOn"]


def test_failed_runs_leave_evidence(stocked: World, digest: str) -> None:
    """A failed run is kept beside the passed one, and the newest counts."""
    stage = stocked.context.environment("stage")
    stocked.prove(stage, digest, ago=timedelta(minutes=5))
    stocked.prove(stage, digest, tests={"security": "failed"})
    found = fetched(stocked, digest)
    assert [one.result for one in found.evidence] == ["PASSED", "FAILED"]
    assert found.newest is not None
    assert found.newest.failed == ("security/test_it.py::test_it",)


def test_deleted_and_put_back(stocked: World, shelf: Shelf, digest: str) -> None:
    """Deleting what is attached leaves nothing; putting the signed file back brings the evidence back."""
    stocked.prove(stocked.context.environment("stage"), digest)
    attached(shelf, digest, "stage").remove()
    assert fetched(stocked, digest) == evidence.Recorded()
    [file] = (stocked.context.site.state / "statements").rglob("stage-*.json")
    statements.attach(stocked.context, digest, cosign.envelope(file.read_bytes()), "stage")
    assert fetched(stocked, digest).evidence[0].result == "PASSED"


def test_attached_once(stocked: World, digest: str) -> None:
    """Attaching the same signed file again changes nothing."""
    stocked.prove(stocked.context.environment("stage"), digest)
    before = envelopes(stocked, digest)
    statements.attach(stocked.context, digest, cosign.envelope(before[0]), "stage")
    assert envelopes(stocked, digest) == before


@pytest.mark.parametrize("times", [1, 9])
def test_sent_away_by_the_guard(
    stocked: World, shelf: Shelf, digest: str, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Who writes at the moment in which another does is sent away: a second look, and it is there; not for ever."""
    stocked.prove(stocked.context.environment("stage"), digest)
    [before] = envelopes(stocked, digest)
    attached(shelf, digest, "stage").remove()
    attach, refusals = cosign.attach, [cosign.CosignFailed("cosign attach: 429", "")] * times

    def guarded(*arguments: Any) -> None:
        if refusals:
            raise refusals.pop()
        attach(*arguments)

    monkeypatch.setattr(cosign, "attach", guarded)
    if times == 1:
        statements.attach(stocked.context, digest, cosign.envelope(before), "stage")
        assert envelopes(stocked, digest) == [before]
    else:
        with pytest.raises(cosign.CosignFailed, match="429"):
            statements.attach(stocked.context, digest, cosign.envelope(before), "stage")


def test_writers_at_once_lose_nothing(stocked: World, digest: str) -> None:
    """Four that sign about one digest at the same time: all four are there afterwards."""
    dev, stage = (stocked.context.environment(name) for name in ("dev", "stage"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: stocked.prove(one, digest), (dev, stage, dev, stage)))
    assert [len(envelopes(stocked, digest, name)) for name in ("dev", "stage")] == [2, 2]
    assert len(fetched(stocked, digest).evidence) == len(fetched(stocked, digest, "dev").evidence) == 2


def test_other_environments_do_not_disturb(stocked: World, digest: str) -> None:
    """dev's evidence is neither stage's evidence nor a complaint about it."""
    stocked.prove(stocked.context.environment("dev"), digest)
    assert fetched(stocked, digest) == evidence.Recorded()


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
            world, statement(world, digest, predicate=world.result(world.context.environment("dev")))
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
    data = world.result(world.context.environment("stage"), {"smoke": "failed"})
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
            attached(shelf, digest, "stage").write([bad])
            found = fetched(stocked, digest)
            assert found.evidence == ()
            assert len(found.rejected) == 1
            assert re.search(says, found.rejected[0]), found.rejected
            attached(shelf, digest, "stage").write([bad, good])
            assert [one.result for one in fetched(stocked, digest).evidence] == ["PASSED"]


def test_each_signer_has_a_place_of_its_own(stocked: World, shelf: Shelf, digest: str) -> None:
    """What stage's key signed counts where stage's login writes, and nowhere else: not at the image, not at dev's."""
    good = signed(stocked, statement(stocked, digest))
    for elsewhere in ("dev", "gate-stage"):
        attached(shelf, digest, elsewhere).write([good])
    Attachments(shelf.name, digest, base64.b64encode(b"delivery:secret").decode()).write([good])
    assert fetched(stocked, digest) == evidence.Recorded()
    attached(shelf, digest, "stage").write([good])
    assert [one.result for one in fetched(stocked, digest).evidence] == ["PASSED"]


def test_a_site_says_where_a_signers_statements_are(stocked: World, shelf: Shelf, digest: str) -> None:
    """A registry without nested names: the site names a repository, and two signers may share one."""
    shared = f"registry.example/{shelf.repository}-evidence"
    for name in ("dev", "stage"):
        stocked = stocked.keyed(name, repository=shared)
    for name in ("dev", "stage"):
        stocked.prove(stocked.context.environment(name), digest)
    assert len(envelopes(stocked, digest)) == 2
    assert stocked.context.site.statements_of("dev").here == f"{shelf.name}-evidence"
    for name in ("dev", "stage"):
        [one] = fetched(stocked, digest, name).evidence
        assert one.environment == name


def test_a_statement_is_attached_with_its_signers_login(stocked: World, digest: str, tmp_path: Path) -> None:
    """A signer that has a login of its own writes with that one; the site's only reads."""
    mine = stocked.context.site.image.docker_config
    assert mine
    theirs, host = tmp_path / "theirs", stocked.context.site.image.host
    word = base64.b64encode(b"delivery:wrong").decode()
    write_private(theirs / "config.json", json.dumps({"auths": {host: {"auth": word}}}))
    wrong, stage = stocked.keyed("stage", docker_config=theirs), stocked.context.environment("stage")
    with pytest.raises(LoginRefused, match=str(theirs)):
        wrong.prove(stage, digest)
    right = stocked.keyed("stage", docker_config=mine)
    right.prove(stage, digest)
    assert len(envelopes(stocked, digest)) == 1


def test_evidence_moved_to_another_image(stocked: World, shelf: Shelf, digest: str) -> None:
    """The signed evidence of one digest, attached to another one: it counts for neither more nor less than before."""
    other = shelf.push("16", REVISION, "16", layer=b"other")
    stocked.prove(stocked.context.environment("stage"), digest)
    attached(shelf, other, "stage").write(envelopes(stocked, digest))
    found = fetched(stocked, other)
    assert found.evidence == ()
    assert found.rejected


def test_kms(world: World) -> None:
    """A fork names its KMS in pipeline.yaml: that is signed with, and its public key is a file of the checkout."""
    file = world.checkout / "pipeline.yaml"
    named = '      stage: { key: "awskms:///alias/stage", public: keys/stage.pub }\n'
    file.write_text(re.sub(r" +stage: \{ key: .*\n", named, file.read_text()))
    site = contexts.load("team").site
    assert keys.private(site, "stage") == cosign.Key("awskms:///alias/stage")
    with pytest.raises(PlatformError, match="the public key of stage is missing"):
        keys.public(site, "stage")
    (world.checkout / "keys").mkdir()
    (world.checkout / "keys" / "stage.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    assert keys.public(site, "stage") == world.checkout / "keys" / "stage.pub"


def test_a_key_that_somebody_else_has(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only verifies needs no private key; a password comes from the variable that the site names."""
    site = world.keyed("stage", key=None).context.site
    with pytest.raises(PlatformError, match="names no private key of stage: somebody else signs") as refused:
        keys.private(site, "stage")
    assert refused.value.hint
    with pytest.raises(PlatformError, match="site team names no key of nobody"):
        keys.public(site, "nobody")
    site = world.keyed(
        "stage", key="env://STAGE_KEY", password_file=None, password="STAGE_PASSWORD"
    ).context.site
    monkeypatch.setenv("STAGE_PASSWORD", "s3cret")
    assert keys.private(site, "stage").password() == "s3cret"
    monkeypatch.delenv("STAGE_PASSWORD")
    assert keys.private(site, "stage").password() == ""


def test_provenance_and_sbom(stocked: World, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are attached, signed by the build; a second time attaches nothing, and what is missing is completed.

    A base from a registry is named by the registry's digest; of a local one it is said what the digest is of.
    """
    monkeypatch.setattr(syft, "sbom", lambda image, login: {"bomFormat": "CycloneDX", "components": [{}]})
    parameters = {"BUILD": "15"}  # a Dockerfile need not take more
    bases = {
        "delivery-platform/python:1": {"digest": f"sha256:{'b' * 64}", "of": "config", "pinned": False},
        f"python:3.11@sha256:{'c' * 64}": {"digest": f"sha256:{'c' * 64}", "of": "manifest", "pinned": True},
    }
    with connect(stocked.context.site.image) as registry:
        world = (stocked.context, registry, digest)
        assert provenance.missing(*world) == [statements.SBOM, statements.PROVENANCE]
        made = provenance.provenance(stocked.context, REVISION, parameters, bases, "a", "b")
        statements.put(stocked.context, digest, statements.PROVENANCE, made, "build")
        assert provenance.missing(*world) == [statements.SBOM]
        provenance.complete(*world, REVISION, parameters, bases, "a", "b")
        assert provenance.missing(*world) == []
        assert provenance.sbom(*world) == {"bomFormat": "CycloneDX", "components": [{}]}
        before = envelopes(stocked, digest, "build")
        provenance.complete(*world, REVISION, parameters, bases, "a", "b")
        assert envelopes(stocked, digest, "build") == before
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
    stocked: World, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, details: dict[str, list[str]]
) -> None:
    """Killed after the push and before the SBOM was attached: the next build attaches both, and then no more.

    Meanwhile it says which of the two it makes or signs.
    """
    monkeypatch.setattr(syft, "sbom", lambda image, login: {"bomFormat": "CycloneDX", "components": [{}]})
    revision = image.source(stocked.context, Repository(stocked.checkout))
    pushed = shelf.push("15", revision, revision)
    record = {"parameters": {"REVISION": revision}, "bases": {}, "started": "a", "finished": "b"}
    file = stocked.context.site.state / "builds" / f"{revision}.json"
    write_private(file, json.dumps(record))
    assert image.build(stocked.context).digest == pushed
    assert not file.exists()
    attached = envelopes(stocked, pushed, "build")
    assert len(attached) == 2
    assert details[f"SBOM and provenance of {pushed[:19]}"] == [
        "1 of 2: SBOM",
        "1 of 2: SBOM, signing",
        "2 of 2: provenance",
        "2 of 2: provenance, signing",
    ]
    assert not image.build(stocked.context).new
    assert envelopes(stocked, pushed, "build") == attached


def test_trees(world: World) -> None:
    """The chart's hash changes with the chart, and not with an environment's values; the suites' with the suites."""
    stage, prod = (world.context.environment(name) for name in ("stage", "prod"))
    repository = Repository(world.checkout)

    def at(path: str) -> tuple[tree.Trees, tree.Trees]:
        before = tree.at(world.context, repository, stage, "HEAD")
        file = world.checkout / path
        world.commit(world.checkout, path, (file.read_text() if file.exists() else "") + "\n# more\n", "more")
        return before, tree.at(world.context, repository, stage, "HEAD")

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
        tree.at(world.context, repository, stage, "HEAD")
