"""What the gate refuses on the way to prod, asked with the real verbs: the reason is named, nothing is written."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from delivery.build import image
from delivery.desired import change
from delivery.errors import BadInput, Refused
from delivery.parts import cosign, values
from delivery.pipeline import Approver
from delivery.signed import approval, evidence, statements
from delivery.verbs import approve as approving
from delivery.verbs import promote as promotion

from scripts.tests.played import bare_promote, deploy, prepare, promote, proofs, put, refused

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.played import Stage


def in_stage(stage: Stage) -> None:
    """The digest is in stage, and dev's tests of it passed."""
    deploy(stage)
    promote(stage, "stage")


def approve(stage: Stage, name: str | None = None) -> approving.Approved:
    pipeline = stage.world.pipeline
    return approving.run(pipeline, stage.world.cluster, pipeline.environment("prod"), name)


def push(stage: Stage, path: str, text: str, message: str) -> None:
    world = stage.world
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, path, text, message)
    world.git(world.checkout, "push", "--quiet", "origin", "main")


def with_approvers(stage: Stage, *approvers: Approver) -> None:
    object.__setattr__(
        stage.world, "pipeline", stage.world.pipeline.model_copy(update={"approvers": approvers})
    )


def test_a_digest_that_was_not_tested(stage: Stage, built: image.Built) -> None:
    """Neither stage nor prod takes a digest without evidence of the environment before."""
    deploy(stage)
    refused(stage, Refused, "dev has no evidence about sha256:", lambda: bare_promote(stage, "stage"))
    promote(stage, "stage")
    error = refused(
        stage,
        Refused,
        "stage has no evidence about .*; prod needs one approval",
        lambda: bare_promote(stage, "prod"),
    )
    assert error.hint == "what is missing: delivery status"


def test_the_newest_result_counts(stage: Stage, built: image.Built) -> None:
    """A FAILED after a PASSED refuses; a PASSED after that opens again."""
    in_stage(stage)
    here = stage.world.pipeline.environment("stage")
    stage.world.prove(here, built.digest)
    stage.world.prove(here, built.digest, tests={"security": "failed"})
    refused(stage, Refused, "newest test of stage FAILED: security", lambda: bare_promote(stage, "prod"))
    refused(stage, Refused, "nothing to approve for prod: .*FAILED", lambda: approve(stage))
    stage.world.prove(here, built.digest, tests={"security": "unknown"})
    refused(stage, Refused, "newest test of stage WARNED", lambda: bare_promote(stage, "prod"))
    stage.world.prove(here, built.digest, changed=("pod a was replaced during the tests",))
    refused(stage, Refused, "FAILED: pod a was replaced", lambda: bare_promote(stage, "prod"))
    assert promote(stage, "prod").digest == built.digest


def test_deleted_evidence_refuses_until_it_is_put_back(
    stage: Stage, built: image.Built, shelf: Shelf
) -> None:
    """Deleting the attestation makes the next promotion refuse; putting the signed files back makes it pass."""
    in_stage(stage)
    prepare(stage, "prod")
    oci = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    attached = shelf.ask("GET", f"manifests/{built.digest.replace(':', '-')}.att", headers=oci)
    shelf.ask("DELETE", f"manifests/sha256:{hashlib.sha256(attached.content).hexdigest()}")
    refused(stage, Refused, "stage has no evidence", lambda: bare_promote(stage, "prod"))
    for file in (stage.world.cluster.state / "statements").rglob("*.json"):
        envelope = cosign.envelope(file.read_bytes())
        statements.attach(stage.world.pipeline, stage.world.cluster, built.digest, envelope)
    assert bare_promote(stage, "prod").digest == built.digest


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("manual-app-helm/values.yaml", "the chart changed since stage was tested"),
        ("manual-app-helm/values-prod.yaml", "is for another change of manual-app-helm/values-prod.yaml"),
    ],
)
def test_changed_since(stage: Stage, built: image.Built, path: str, says: str) -> None:
    """What was tested or approved with something else does not count: it is tested and approved again, then goes."""
    in_stage(stage)
    prepare(stage, "prod")
    push(stage, path, stage.world.file(path) + "\n# a change\n", "a change")
    environment = stage.world.pipeline.environment("stage")
    stage.deploy(environment, stage.world.head())
    refused(stage, Refused, says, lambda: bare_promote(stage, "prod"))
    assert promote(stage, "prod").digest == built.digest


def test_rules_of_ones_own(stage: Stage, built: image.Built) -> None:
    """I relax pipeline.yaml in my checkout: the gate goes by the one that everybody sees."""
    in_stage(stage)
    prepare(stage, "prod")
    file = stage.world.checkout / "pipeline.yaml"
    text = file.read_text()
    file.write_text(text.replace("maximum_age: 24", "maximum_age: 8760"))
    refused(
        stage, Refused, "pipeline.yaml of this checkout is not the one", lambda: bare_promote(stage, "prod")
    )
    file.write_text(text)
    assert bare_promote(stage, "prod").digest == built.digest


def test_approval(stage: Stage, built: image.Built) -> None:
    """Approved once, by the one approver there is; the commit names evidence and approver; again changes nothing."""
    in_stage(stage)
    here = stage.world.pipeline.environment("stage")
    stage.world.prove(here, built.digest)
    refused(
        stage, Refused, "prod stays as it is: prod needs one approval$", lambda: bare_promote(stage, "prod")
    )
    first, again = approve(stage), approve(stage, "approver")
    assert (first.new, again.new, first.approver) == (True, False, "approver@localhost")
    done = bare_promote(stage, "prod")
    said = stage.world.git(stage.world.server, "log", "-1", "--format=%B", done.commit)
    assert f"Evidence: sha256:{first.evidence}" in said
    assert "Approved-By: approver@localhost" in said
    entries = list(change.history(stage_repository(stage), done.commit))
    assert (entries[0].evidence, entries[0].approved_by) == (f"sha256:{first.evidence}", "approver@localhost")
    assert not bare_promote(stage, "prod").new


def stage_repository(stage: Stage) -> Any:
    from delivery.parts.git import Repository

    return Repository(stage.world.server)


def test_a_new_test_voids_the_approval(stage: Stage, built: image.Built) -> None:
    """An approval rests on the evidence that was there; a newer run needs a new one."""
    in_stage(stage)
    prepare(stage, "prod")
    stage.world.prove(stage.world.pipeline.environment("stage"), built.digest)
    refused(stage, Refused, "rests on other evidence", lambda: bare_promote(stage, "prod"))
    approve(stage)
    assert bare_promote(stage, "prod").digest == built.digest


def test_who_may_approve(stage: Stage, built: image.Built) -> None:
    """Not the author of the source commit, not who asks for the change, and nobody whom pipeline.yaml does not name."""
    in_stage(stage)
    stage.world.prove(stage.world.pipeline.environment("stage"), built.digest)
    refused(stage, BadInput, "there is no approver 'boss'", lambda: approve(stage, "boss"))
    with_approvers(stage, Approver(name="approver", identity="ADA@example.test"))
    refused(stage, Refused, "ADA@example.test is the author", lambda: approve(stage))
    stage.world.git(stage.world.checkout, "config", "user.email", "me@example.test")
    with_approvers(stage, Approver(name="approver", identity="me@example.test"))
    refused(stage, Refused, "me@example.test is the author", lambda: approve(stage))
    two = (
        Approver(name="approver", identity="a@example.test"),
        Approver(name="b", identity="b@example.test"),
    )
    with_approvers(stage, *two)
    error = refused(stage, BadInput, "who approves", lambda: approve(stage))
    assert "approver, b" in error.hint


def test_an_approval_of_the_author_does_not_count(stage: Stage, built: image.Built) -> None:
    """Signed past `delivery approve`, with the right key: the gate still sees whose it is."""
    in_stage(stage)
    stage.world.prove(stage.world.pipeline.environment("stage"), built.digest)
    approve(stage)
    stage.world.git(stage.world.checkout, "config", "user.email", "Approver@localhost")
    refused(stage, Refused, "approver@localhost is by the author", lambda: bare_promote(stage, "prod"))


def test_forged_approvals(stage: Stage, built: image.Built) -> None:
    """With the key of stage, for stage, of long ago, edited after, or malformed: prod still needs one approval."""
    in_stage(stage)
    world = stage.world
    world.prove(world.pipeline.environment("stage"), built.digest)
    approve(stage)
    [file] = (world.cluster.state / "statements").rglob("approver-*.json")
    said = json.loads(cosign.envelope(file.read_bytes()).payload)["predicate"]
    old = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
    forged: list[tuple[str, dict[str, Any], str]] = [
        ("approver", said | {"approvedOn": old}, "expired: it is 25 h old"),
        ("approver", said | {"environment": "stage"}, "is for stage"),
        (
            "approver",
            said | {"approver": "boss@example.test"},
            "is signed with the key of approver@localhost",
        ),
        ("approver", {"approver": "approver@localhost"}, "an attestation is not an approval"),
        ("stage", said, "is not signed by approver"),
    ]
    empty(stage, built.digest)
    world.prove(world.pipeline.environment("stage"), built.digest)
    used = current(stage, built.digest)
    for signer, data, says in forged:
        data = data | ({"evidence": used} if "evidence" in data else {})
        statements.put(world.pipeline, world.cluster, built.digest, statements.APPROVAL, data, signer)
        refused(stage, Refused, f"prod needs one approval; .*{says}", lambda: bare_promote(stage, "prod"))


def current(stage: Stage, digest: str) -> dict[str, str]:
    """The hash of the evidence that counts now."""
    from delivery.parts.registry import connect

    world = stage.world
    with connect(world.cluster) as registry:
        found = evidence.fetch(
            world.pipeline, world.cluster, registry, digest, world.pipeline.environment("stage")
        )
    assert found.newest
    return {"sha256": evidence.set_hash([found.newest])}


def empty(stage: Stage, digest: str) -> None:
    """Nothing is attached to the digest any more."""
    import httpx

    url = f"http://{stage.world.cluster.registry_host}/v2/manual-app/manifests/{digest.replace(':', '-')}.att"
    login = ("delivery", "secret")
    oci = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    attached = httpx.get(url, auth=login, headers=oci, trust_env=False)
    gone = f"sha256:{hashlib.sha256(attached.content).hexdigest()}"
    httpx.delete(url.rpartition("/")[0] + f"/{gone}", auth=login, trust_env=False).raise_for_status()


def test_nothing_to_approve_for_dev(stage: Stage, built: image.Built) -> None:
    """dev and stage need no approval: asking for one is a mistake that is named."""
    pipeline = stage.world.pipeline
    for name in ("dev", "stage"):
        with pytest.raises(BadInput, match=f"{name} needs no approval"):
            approving.run(pipeline, stage.world.cluster, pipeline.environment(name), None)


def test_co_authors_are_authors(stage: Stage) -> None:
    """Whoever made the commit with somebody else made it."""
    world = stage.world
    message = "two\n\nCo-authored-by: Bob <Bob@Example.Test>\nCo-authored-by: Eve <eve@example.test>"
    commit = world.commit(world.checkout, "x", "1", message)
    from delivery.parts.git import Repository

    assert approval.authors(Repository(world.checkout), commit) == {
        "ada@example.test",
        "bob@example.test",
        "eve@example.test",
    }


def test_dry_run(stage: Stage, built: image.Built, shelf: Shelf) -> None:
    """It shows the digest before and after and the rendered difference, says what is missing, and writes nothing."""
    in_stage(stage)
    pipeline, cluster = stage.world.pipeline, stage.world.cluster
    prod = pipeline.environment("prod")
    before = stage.world.head()
    preview = promotion.preview(pipeline, cluster, prod)
    assert (preview.before, preview.after) == ("none", built.digest)
    assert f"image: registry.local:5000/manual-app@{built.digest}" in preview.diff
    assert not preview.decision.allowed
    prepare(stage, "prod")
    promoted = promotion.preview(pipeline, cluster, prod)
    assert promoted.decision.allowed
    assert stage.world.head() == before
    bare_promote(stage, "prod")
    again = promotion.preview(pipeline, cluster, prod)
    assert (again.before, again.after, again.diff) == (built.digest, built.digest, "")


def test_rollback(stage: Stage, built: image.Built, shelf: Shelf) -> None:
    """Back to the digest before, by one more commit, without a new test; only to what ran there and once passed."""
    pipeline, cluster = stage.world.pipeline, stage.world.cluster
    here = pipeline.environment("stage")
    in_stage(stage)
    with pytest.raises(Refused, match="stage never ran anything else: nothing to go back to"):
        promotion.rollback(pipeline, cluster, here)
    first_revision = built.revision
    push(stage, "manual-app/app.py", "2\n", "two")
    newer = put(stage, shelf, "16")
    deploy(stage)
    promote(stage, "stage")
    stage.revision = first_revision  # type: ignore[attr-defined]
    done = promotion.rollback(pipeline, cluster, here)
    assert (done.digest, done.before, done.new) == (built.digest, newer.digest, True)
    assert stage.world.commits()[0] == "stage: manual-app 15"
    stray = shelf.push("17", first_revision, "17", layer=b"stray")
    with pytest.raises(Refused, match="stage never ran sha256:"):
        promotion.rollback(pipeline, cluster, here, stray)
    # A history that somebody wrote by hand names it: it still never passed a test.
    text = stage.world.file(here.values)
    changes = {("image", "tag"): "17", ("image", "digest"): stray}
    message = f"stage: manual-app 17\n\nEnvironment: stage\nBuild: 17\nDigest-After: {stray}\n"
    push(stage, here.values, values.replace(text, changes, here.values), message)
    with pytest.raises(Refused, match="never passed a test of dev or stage"):
        promotion.rollback(pipeline, cluster, here, stray)


def test_proven_after_all(stage: Stage, built: image.Built) -> None:
    """After test, approval and promotion the digest is proven in prod."""
    in_stage(stage)
    promote(stage, "prod")
    assert proofs(stage)["prod"].verdict == "PROVEN"
