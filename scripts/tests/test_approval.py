"""What the gate refuses on the way to prod, asked with the real verbs: the reason is named, nothing is written."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery.build import image
from delivery.desired import change
from delivery.errors import BadInput, Refused
from delivery.gate import authors
from delivery.parts import cosign, git, values
from delivery.parts.git import Repository
from delivery.parts.registry import connect
from delivery.pipeline import Approver
from delivery.signed import approval, commits, developers, evidence, statements
from delivery.verbs import approve as approving
from delivery.verbs import history as reading
from delivery.verbs import promote as promoting
from delivery.verbs import rollback as rolling
from scripts.tests.fake_cluster import REPOSITORY
from scripts.tests.signing import attached, slipped_in
from scripts.tests.steps import bare_promote, deploy, prepare, promote, proofs, put, refused

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.fake_cluster import FakeCluster


def in_stage(cluster: FakeCluster) -> None:
    """The digest is in stage, and dev's tests of it passed."""
    deploy(cluster)
    promote(cluster, "stage")


def approve(cluster: FakeCluster, name: str | None = None) -> approving.Approved:
    context = cluster.world.context
    return approving.run(context, context.environment("prod"), name)


def push(cluster: FakeCluster, path: str, text: str, message: str) -> None:
    world = cluster.world
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, path, text, message)
    world.git(world.checkout, "push", "--quiet", "origin", "main")


def with_approvers(cluster: FakeCluster, *approvers: Approver) -> None:
    cluster.world = cluster.world.ruled(approvers=approvers)


def test_a_digest_that_was_not_tested(cluster: FakeCluster, built: image.Built) -> None:
    """Neither stage nor prod takes a digest without evidence of the environment before."""
    deploy(cluster)
    refused(cluster, Refused, "dev has no evidence about sha256:", lambda: bare_promote(cluster, "stage"))
    promote(cluster, "stage")
    error = refused(
        cluster,
        Refused,
        "stage has no evidence about .*; prod needs one approval",
        lambda: bare_promote(cluster, "prod"),
    )
    assert error.hint == "what is missing: delivery status"


def test_the_newest_result_counts(cluster: FakeCluster, built: image.Built) -> None:
    """A FAILED after a PASSED refuses; a PASSED after that opens again."""
    in_stage(cluster)
    here = cluster.world.context.environment("stage")
    cluster.world.prove(here, built.digest)
    cluster.world.prove(here, built.digest, tests={"security": "failed"})
    refused(cluster, Refused, "newest test of stage FAILED: security", lambda: bare_promote(cluster, "prod"))
    refused(cluster, Refused, "nothing to approve for prod: .*FAILED", lambda: approve(cluster))
    cluster.world.prove(here, built.digest, tests={"security": "unknown"})
    refused(cluster, Refused, "newest test of stage WARNED", lambda: bare_promote(cluster, "prod"))
    cluster.world.prove(here, built.digest, changed=("pod a was replaced during the tests",))
    refused(cluster, Refused, "FAILED: pod a was replaced", lambda: bare_promote(cluster, "prod"))
    assert promote(cluster, "prod").digest == built.digest


def test_deleted_evidence_refuses_until_it_is_put_back(
    cluster: FakeCluster, built: image.Built, shelf: Shelf
) -> None:
    """Deleting the attestation makes the next promotion refuse; putting the signed files back makes it pass."""
    in_stage(cluster)
    prepare(cluster, "prod")
    attached(shelf, built.digest, "stage").remove()
    refused(cluster, Refused, "stage has no evidence", lambda: bare_promote(cluster, "prod"))
    for file in (cluster.world.context.site.state / "statements").rglob("stage-*.json"):
        envelope = cosign.envelope(file.read_bytes())
        statements.attach(cluster.world.context, built.digest, envelope, "stage")
    assert bare_promote(cluster, "prod").digest == built.digest


def test_a_newer_failed_that_was_taken_away(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """Whoever may write to the registry puts back what was there before a FAILED: it is on record, and refuses."""
    in_stage(cluster)
    stage = cluster.world.context.environment("stage")
    prepare(cluster, "prod")
    there = attached(shelf, built.digest, "stage")
    before = there.read()
    cluster.world.prove(stage, built.digest, tests={"security": "failed"})
    whole = there.read()
    there.write(before)
    refused(
        cluster,
        Refused,
        "evidence sha256:.* of stage is on record and not in the registry any more",
        lambda: bare_promote(cluster, "prod"),
    )
    there.write(whole)
    refused(cluster, Refused, "the newest test of stage FAILED", lambda: bare_promote(cluster, "prod"))


def test_what_was_shown_is_what_is_signed(cluster: FakeCluster, built: image.Built, tmp_path: Path) -> None:
    """I look in one place and say yes in another: a look signs nothing, and a change in between is not signed."""
    in_stage(cluster)
    cluster.world.prove(cluster.world.context.environment("stage"), built.digest)
    context, shown = cluster.world.context, tmp_path / "asked" / "prod.json"
    prod = context.environment("prod")
    asked = approving.look(context, prod, None, keep=shown)
    assert (asked.after, json.loads(shown.read_text())["change"]) == (built.digest, asked.change)
    refused(cluster, Refused, "prod needs one approval", lambda: bare_promote(cluster, "prod"))
    path = "manual-app-helm/values-prod.yaml"
    before = cluster.world.file(path)
    push(cluster, path, f"{before}\n# a change that nobody was shown\n", "a change")
    error = refused(
        *(cluster, Refused, "what would enter prod is not what was shown: nothing was signed"),
        lambda: approving.run(context, prod, None, shown=shown),
    )
    assert error.hint == "look again: delivery approve prod --dry-run"
    refused(cluster, Refused, "prod needs one approval", lambda: bare_promote(cluster, "prod"))
    push(cluster, path, before, "as it was")
    assert approving.run(context, prod, None, shown=shown).new
    assert bare_promote(cluster, "prod").digest == built.digest


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        '{"schema": "delivery/asked/v2", "change": ""}',
        '{"schema": "delivery/asked/v1"}',
    ],
)
def test_a_file_that_does_not_say_what_was_shown(
    cluster: FakeCluster, built: image.Built, tmp_path: Path, text: str | None
) -> None:
    """Missing, cut off or another document: bad input, and nothing is signed."""
    in_stage(cluster)
    cluster.world.prove(cluster.world.context.environment("stage"), built.digest)
    context, file = cluster.world.context, tmp_path / "prod.json"
    if text is not None:
        file.write_text(text)
    prod = context.environment("prod")
    refused(
        *(cluster, BadInput, "does not say what was shown"),
        lambda: approving.run(context, prod, None, shown=file),
    )
    refused(cluster, Refused, "prod needs one approval", lambda: bare_promote(cluster, "prod"))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("manual-app-helm/values.yaml", "the chart changed since stage was tested"),
        ("manual-app-helm/values-prod.yaml", "is for another change of manual-app-helm/values-prod.yaml"),
    ],
)
def test_changed_since(cluster: FakeCluster, built: image.Built, path: str, says: str) -> None:
    """What was tested or approved with something else does not count: it is tested and approved again, then goes."""
    in_stage(cluster)
    prepare(cluster, "prod")
    push(cluster, path, cluster.world.file(path) + "\n# a change\n", "a change")
    refused(cluster, Refused, says, lambda: bare_promote(cluster, "prod"))
    dev = cluster.world.context.environment("dev")
    cluster.deploy(dev, cluster.world.head())
    first = promote(cluster, "stage")
    assert first.new == ("chart" in says), (
        "a chart enters stage by a commit of its own, also under the same digest"
    )
    assert promote(cluster, "prod").digest == built.digest


def test_rules_of_ones_own(cluster: FakeCluster, built: image.Built) -> None:
    """I relax pipeline.yaml in my checkout: the gate goes by the one that everybody sees."""
    in_stage(cluster)
    prepare(cluster, "prod")
    file = cluster.world.checkout / "pipeline.yaml"
    text = file.read_text()
    file.write_text(text.replace("maximum_age: 24", "maximum_age: 8760"))
    refused(
        cluster,
        Refused,
        "pipeline.yaml of this checkout is not the one",
        lambda: bare_promote(cluster, "prod"),
    )
    file.write_text(text)
    assert bare_promote(cluster, "prod").digest == built.digest


def test_approval(cluster: FakeCluster, built: image.Built) -> None:
    """Approved once, by the one approver there is; the commit names evidence and approver; again changes nothing."""
    in_stage(cluster)
    here = cluster.world.context.environment("stage")
    cluster.world.prove(here, built.digest)
    refused(
        cluster,
        Refused,
        "prod stays as it is: prod needs one approval$",
        lambda: bare_promote(cluster, "prod"),
    )
    first, again = approve(cluster), approve(cluster, "approver")
    assert (first.new, again.new, first.approver) == (True, False, "approver@localhost")
    done = bare_promote(cluster, "prod")
    said = cluster.world.git(cluster.world.server, "log", "-1", "--format=%B", done.commit)
    assert f"Evidence: sha256:{first.evidence}" in said
    assert "Approved-By: approver@localhost" in said
    entries = list(change.history(stage_repository(cluster), done.commit))
    assert (entries[0].evidence, entries[0].approved_by) == (f"sha256:{first.evidence}", "approver@localhost")
    assert not bare_promote(cluster, "prod").new


def stage_repository(cluster: FakeCluster) -> Any:
    return Repository(cluster.world.server)


def test_a_new_test_voids_the_approval(cluster: FakeCluster, built: image.Built) -> None:
    """An approval rests on the evidence that was there; a newer run needs a new one."""
    in_stage(cluster)
    prepare(cluster, "prod")
    cluster.world.prove(cluster.world.context.environment("stage"), built.digest)
    refused(cluster, Refused, "rests on other evidence", lambda: bare_promote(cluster, "prod"))
    approve(cluster)
    assert bare_promote(cluster, "prod").digest == built.digest


def test_who_may_approve(cluster: FakeCluster, built: image.Built) -> None:
    """Not the author of the source commit, not who asks for the change, and nobody whom pipeline.yaml does not name."""
    in_stage(cluster)
    cluster.world.prove(cluster.world.context.environment("stage"), built.digest)
    refused(cluster, BadInput, "there is no approver 'boss'", lambda: approve(cluster, "boss"))
    with_approvers(cluster, Approver(name="approver", identity="ADA@example.test"))
    refused(cluster, Refused, "ADA@example.test is an author of it", lambda: approve(cluster))
    cluster.world.git(cluster.world.checkout, "config", "user.email", "me@example.test")
    with_approvers(cluster, Approver(name="approver", identity="me@example.test"))
    refused(cluster, Refused, "me@example.test is an author of it", lambda: approve(cluster))
    two = (
        Approver(name="approver", identity="a@example.test"),
        Approver(name="b", identity="b@example.test"),
    )
    with_approvers(cluster, *two)
    error = refused(cluster, BadInput, "who approves", lambda: approve(cluster))
    assert "approver, b" in error.hint


def test_an_approval_of_the_author_does_not_count(cluster: FakeCluster, built: image.Built) -> None:
    """Signed past `delivery approve`, with the right key: the gate still sees whose it is."""
    in_stage(cluster)
    cluster.world.prove(cluster.world.context.environment("stage"), built.digest)
    approve(cluster)
    cluster.world.git(cluster.world.checkout, "config", "user.email", "Approver@localhost")
    refused(
        cluster, Refused, "approver@localhost is by an author of it", lambda: bare_promote(cluster, "prod")
    )


def test_forged_approvals(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """With the key of stage, for stage, of long ago, edited after, or malformed: prod still needs one approval."""
    in_stage(cluster)
    world = cluster.world
    world.prove(world.context.environment("stage"), built.digest)
    approve(cluster)
    [file] = (world.context.site.state / "statements").rglob("approver-*.json")
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
    attached(shelf, built.digest, "approver").remove()
    attached(shelf, built.digest, "stage").remove()
    world.prove(world.context.environment("stage"), built.digest)
    used = current(cluster, built.digest)
    for signer, data, says in forged:
        data = data | ({"evidence": used} if "evidence" in data else {})
        slipped_in(world.context, built.digest, statements.APPROVAL, data, signer, "approver")
        refused(cluster, Refused, f"prod needs one approval; .*{says}", lambda: bare_promote(cluster, "prod"))


def current(cluster: FakeCluster, digest: str) -> dict[str, str]:
    """The hash of the evidence that counts now."""
    world = cluster.world
    with connect(world.context.site.image) as registry:
        found = evidence.fetch(world.context, registry, digest, world.context.environment("stage"))
    assert found.newest
    return {"sha256": evidence.set_hash([found.newest])}


def test_nothing_to_approve_for_dev(cluster: FakeCluster, built: image.Built) -> None:
    """dev and stage need no approval: asking for one is a mistake that is named."""
    context = cluster.world.context
    for name in ("dev", "stage"):
        with pytest.raises(BadInput, match=f"{name} needs no approval"):
            approving.run(context, context.environment(name), None)


def test_co_authors_are_authors(cluster: FakeCluster) -> None:
    """Whoever made the commit with somebody else made it."""
    world = cluster.world
    message = "two\n\nCo-authored-by: Bob <Bob@Example.Test>\nCo-authored-by: Eve <eve@example.test>"
    commit = world.commit(world.checkout, "x", "1", message)
    assert authors.emails_of(Repository(world.checkout).commits([commit]).values()) == {
        "ada@example.test",
        "bob@example.test",
        "eve@example.test",
    }


def changed_by(cluster: FakeCluster, who: str, path: str, text: str) -> None:
    """A commit on main, by somebody."""
    world = cluster.world
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, path, text, "a change")
    world.git(world.checkout, "commit", "--amend", "--quiet", "--no-edit", f"--author=Somebody <{who}>")
    world.git(world.checkout, "push", "--quiet", "origin", "main")


def test_everybody_on_the_way_is_an_author(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """My change, and then somebody else's typo: I cannot approve what has both. What prod does not get is free."""
    in_stage(cluster)
    promote(cluster, "prod")
    world = cluster.world
    for who, path in (
        ("Approver@Localhost", "manual-app/app.py"),
        ("chart@example.test", "manual-app-helm/templates/app.yaml"),
        ("values@example.test", "manual-app-helm/values-prod.yaml"),
        ("suites@example.test", "e2e/suites/smoke/test_smoke.py"),
        ("rules@example.test", "pipeline.yaml"),
        ("dev@example.test", "manual-app-helm/values-dev.yaml"),
        ("readme@example.test", "README.md"),
        ("typo@example.test", "manual-app/typo.py"),
    ):
        before = (world.checkout / path).read_text() if (world.checkout / path).exists() else ""
        changed_by(cluster, who, path, f"{before}# mine\n")
    newer = put(cluster, shelf, "16")
    deploy(cluster)
    context, server = world.context, Repository(world.server)

    def made(name: str) -> frozenset[str]:
        target = context.environment(name)
        runs = commits.newest(context, server, target, world.head())
        none = developers.Keyring()
        made = authors.between(context, server, world.head(), target, newer.revision, runs, none, none)
        assert not made.signers
        return made.emails

    ways = ("ada", "chart", "values", "suites", "rules", "typo")
    assert made("prod") == {"approver@localhost", *(f"{one}@example.test" for one in ways)}
    assert made("stage") == frozenset(), "nobody is asked there"
    promote(cluster, "stage")
    world.prove(context.environment("stage"), newer.digest)
    refused(cluster, Refused, "approver@localhost is an author of it", lambda: approve(cluster))


def test_an_approver_sees_what_is_signed(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """Digests, evidence, authors, and the difference from what prod runs now: what main got since is in there too."""
    in_stage(cluster)
    promote(cluster, "prod")
    hidden = cluster.world.file("manual-app-helm/values-prod.yaml").replace("replicas: 2", "replicas: 7")
    changed_by(cluster, "hand@example.test", "manual-app-helm/values-prod.yaml", hidden)
    changed_by(cluster, "bob@example.test", "manual-app/app.py", "2\n")
    newer = put(cluster, shelf, "16")
    deploy(cluster)
    promote(cluster, "stage")
    context = cluster.world.context
    prod = context.environment("prod")
    made = cluster.world.prove(context.environment("stage"), newer.digest)
    seen: list[approving.Asked] = []

    def refuses(asked: approving.Asked) -> bool:
        seen.append(asked)
        return False

    refused(
        cluster,
        Refused,
        "approver@localhost did not approve",
        lambda: approving.run(context, prod, None, agrees=refuses),
    )
    [asked] = seen
    assert (asked.before, asked.after, asked.build) == (built.digest, newer.digest, "16")
    assert {"bob@example.test", "hand@example.test"} <= set(asked.authors)
    assert {"-  replicas: 2", "+  replicas: 7"} <= set(asked.diff.splitlines())
    assert any(newer.digest in line for line in asked.diff.splitlines() if line.startswith("+"))
    assert any(line.startswith("stage PASSED on ") for line in asked.tested), made
    assert promoting.preview(context, prod).diff == asked.diff
    assert approval_count(cluster, newer.digest) == 0
    assert approve(cluster).new
    assert approval_count(cluster, newer.digest) == 1


def approval_count(cluster: FakeCluster, digest: str) -> int:
    world = cluster.world
    with connect(world.context.site.image) as registry:
        by = [one.name for one in world.context.pipeline.approvers]
        return len(approval.fetch(world.context, registry, digest, by).approvals)


def test_dry_run(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """It shows the digest before and after and the rendered difference, says what is missing, and writes nothing."""
    in_stage(cluster)
    context = cluster.world.context
    prod = context.environment("prod")
    before = cluster.world.head()
    preview = promoting.preview(context, prod)
    assert (preview.before, preview.after) == ("none", built.digest)
    assert f"image: {REPOSITORY}@{built.digest}" in preview.diff
    assert not preview.decision.allowed
    prepare(cluster, "prod")
    promoted = promoting.preview(context, prod)
    assert promoted.decision.allowed
    assert cluster.world.head() == before
    bare_promote(cluster, "prod")
    again = promoting.preview(context, prod)
    assert (again.before, again.after, again.diff) == (built.digest, built.digest, "")


def test_rollback(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """Back to the release before, by one more commit, without a new test; only to what entered there."""
    context = cluster.world.context
    here = context.environment("stage")
    in_stage(cluster)
    with pytest.raises(Refused, match="stage never ran anything else: nothing to go back to"):
        rolling.rollback(context, here)
    first_revision = built.revision
    push(cluster, "manual-app/app.py", "2\n", "two")
    newer = put(cluster, shelf, "16")
    deploy(cluster)
    promote(cluster, "stage")
    done = rolling.rollback(context, here)
    assert (done.digest, done.before, done.new) == (built.digest, newer.digest, True)
    assert cluster.world.commits()[0] == "stage: manual-app 15"
    stray = shelf.push("17", first_revision, "17", layer=b"stray")
    with pytest.raises(Refused, match="stage never ran sha256:"):
        rolling.rollback(context, here, stray)
    # A history that somebody wrote by hand names it: stage's gate did not sign it.
    text = cluster.world.file(here.values)
    changes = {("image", "tag"): "17", ("image", "digest"): stray}
    message = f"stage: manual-app 17\n\nEnvironment: stage\nBuild: 17\nDigest-After: {stray}\n"
    push(cluster, here.values, values.replace(text, changes, here.values), message)
    with pytest.raises(Refused, match="stage never ran sha256:"):
        rolling.rollback(context, here, stray)


def test_what_was_rolled_back_is_held(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """The bad digest does not come back on its old test and its old approval; with newer ones it does."""
    context, minute = cluster.world.context, timedelta(minutes=1)
    stage, prod = context.environment("stage"), context.environment("prod")
    in_stage(cluster)
    promote(cluster, "prod")
    push(cluster, "manual-app/app.py", "2\n", "two")
    newer = put(cluster, shelf, "16")
    deploy(cluster)
    promote(cluster, "stage")
    cluster.world.prove(stage, newer.digest, ago=minute)
    approve(cluster)
    assert bare_promote(cluster, "prod").digest == newer.digest
    assert rolling.rollback(context, prod).digest == built.digest
    refused(cluster, Refused, "was rolled back out of prod", lambda: bare_promote(cluster, "prod"))
    refused(cluster, Refused, "nothing to approve for prod: it was rolled back", lambda: approve(cluster))
    cluster.world.prove(stage, newer.digest, ago=-minute)
    refused(cluster, Refused, "rests on other evidence", lambda: bare_promote(cluster, "prod"))
    approve(cluster)
    assert bare_promote(cluster, "prod").digest == newer.digest
    assert not bare_promote(cluster, "prod").new


def test_settings_that_were_rolled_back_are_held(cluster: FakeCluster, built: image.Built) -> None:
    """The chart was bad, and the image stayed: rollback brings the chart before, and the bad one does not come back."""
    world, chart = cluster.world, "manual-app-helm/templates/app.yaml"
    stage, prod = (world.context.environment(name) for name in ("stage", "prod"))
    in_stage(cluster)
    good = promote(cluster, "prod")
    push(cluster, chart, world.file(chart).rstrip() + "\n          args: [--bad]\n", "settings")
    cluster.deploy(world.context.environment("dev"), world.head())
    assert promote(cluster, "stage").new
    bad = promote(cluster, "prod")
    assert (bad.new, bad.digest) == (True, good.digest)
    rolling.rollback(world.context, prod)
    told = cluster.applications["manual-app-prod"]["spec"]["source"]["targetRevision"]
    assert told == good.commit
    assert proofs(cluster)["prod"].verdict == "PROVEN"
    refused(cluster, Refused, "was rolled back out of prod", lambda: bare_promote(cluster, "prod"))
    world.prove(stage, built.digest, ago=-timedelta(minutes=1))
    approve(cluster)
    assert bare_promote(cluster, "prod").new


@pytest.mark.parametrize("path", ["manual-app-helm/values-prod.yaml", "manual-app-helm/values.yaml"])
def test_rollback_to_what_runs_brings_nothing_in(cluster: FakeCluster, built: image.Built, path: str) -> None:
    """Back to the digest that prod runs already: no way past the gate for settings that main has by now."""
    in_stage(cluster)
    entered = promote(cluster, "prod")
    world, name = cluster.world, "manual-app-helm/values-prod.yaml"
    prod = world.context.environment("prod")
    assert not rolling.rollback(world.context, prod, built.digest).new
    push(cluster, path, world.file(path) + "debug: true\n", "by hand")
    forged = f"prod: manual-app 15\n\nEnvironment: prod\nBuild: 15\nDigest-After: {built.digest}\n"
    push(cluster, "README.md", forged, forged)
    done = rolling.rollback(world.context, prod, built.digest)
    told = cluster.applications["manual-app-prod"]["spec"]["source"]["targetRevision"]
    assert told == entered.commit, "Argo CD renders chart and values of the commit that entered"
    assert done.new == (path == name), "values that somebody changed by hand are as they were"
    assert world.file(name) == world.file(name, entered.commit)
    assert proofs(cluster)["prod"].verdict == "PROVEN"


def test_an_entry_that_is_missing(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """Somebody deletes what the gate signed: prod is not proven, and nobody goes back to that release."""
    in_stage(cluster)
    promote(cluster, "prod")
    prod = cluster.world.context.environment("prod")
    there = attached(shelf, built.digest, "gate-prod")
    texts = there.read()
    there.remove()
    found = proofs(cluster)["prod"]
    assert found.verdict == "MISMATCH"
    assert "no entry of sha256:" in found.reasons[0]
    with pytest.raises(Refused, match="has no entry into prod"):
        rolling.rollback(cluster.world.context, prod, built.digest)
    there.write(texts)
    assert proofs(cluster)["prod"].verdict == "PROVEN"


@pytest.mark.parametrize("signer", ["nobody", "gate-stage"])
def test_a_commit_that_the_gate_did_not_sign(cluster: FakeCluster, built: image.Built, signer: str) -> None:
    """A commit with the right words, unsigned or by another gate's key, is no change of prod: it never entered."""
    in_stage(cluster)
    entered = promote(cluster, "prod")
    world = cluster.world
    with git.clone(world.context.site.git, "main") as clone:
        words = world.git(world.server, "log", "-1", "--format=%B", entered.commit) + "\n"
        environment = world.context.environment("stage")
        sign = commits.signer(world.context, environment) if signer == "gate-stage" else None
        forged = clone.commit_signed(words, ("Mallory", "mallory@example.test"), sign)
        clone.push(forged, "main")
    cluster.deploy(world.context.environment("prod"), forged)
    cluster.applications["manual-app-prod"]["spec"]["source"]["targetRevision"] = forged
    found = proofs(cluster)["prod"]
    assert found.verdict == "MISMATCH"
    assert f"Argo CD is told to keep prod at {forged}" in found.reasons[-1] or any(
        f"Argo CD is told to keep prod at {forged}" in one for one in found.reasons
    )
    [claimed] = [one for one in reading.history(world.context, 50).trail.lines if one.record.commit == forged]
    assert (claimed.state, claimed.held.reasons) == ("BROKEN", ("gate-prod did not sign its commit",))
    done = bare_promote(cluster, "prod")
    assert (done.new, done.commit) == (False, entered.commit)
    assert proofs(cluster)["prod"].verdict == "PROVEN"


def test_rules_in_force(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> None:
    """Nobody takes the approval out of pipeline.yaml in the push before the promotion: the old rules hold."""
    in_stage(cluster)
    promote(cluster, "prod")
    text = cluster.world.file("pipeline.yaml")
    start = text.index("    approval: #")
    weaker = text[:start] + text[text.index("    freeze: [] #") :]
    push(cluster, "pipeline.yaml", weaker, "less to ask")
    push(cluster, "manual-app/app.py", "2\n", "two")
    newer = put(cluster, shelf, "16")
    cluster.world = cluster.world.reloaded()
    deploy(cluster)
    promote(cluster, "stage")
    stage = cluster.world.context.environment("stage")
    cluster.world.prove(stage, newer.digest)
    refused(
        cluster,
        Refused,
        "the rules of prod became weaker since .*entered with fewer approvals.*needs one approval",
        lambda: bare_promote(cluster, "prod"),
    )


def test_proven_after_all(cluster: FakeCluster, built: image.Built) -> None:
    """After test, approval and promotion the digest is proven in prod."""
    in_stage(cluster)
    promote(cluster, "prod")
    assert proofs(cluster)["prod"].verdict == "PROVEN"


@pytest.mark.parametrize(
    ("forgery", "says"),
    [
        ("gate-stage", "is not signed by gate-prod, or was changed after it was signed"),
        ("tampered", "is not signed by gate-prod, or was changed after it was signed"),
        ("another commit", "no entry of sha256:"),
        ("another environment", "no entry of sha256:"),
    ],
)
def test_a_forged_entry(
    cluster: FakeCluster, built: image.Built, shelf: Shelf, forgery: str, says: str
) -> None:
    """In place of prod's entry is another gate's, a changed one, one for another commit or environment: MISMATCH."""
    in_stage(cluster)
    done = promote(cluster, "prod")
    context = cluster.world.context
    there = attached(shelf, built.digest, "gate-prod")
    [old] = map(cosign.envelope, there.read())
    there.remove()
    predicate = json.loads(old.payload)["predicate"]
    if forgery == "tampered":
        changed = json.loads(old.text)
        payload = old.payload.replace(b"PASSED", b"FAILED").replace(b"FAILED", b"PASSED") + b" "
        changed["payload"] = base64.b64encode(payload).decode()
        statements.attach(context, built.digest, cosign.envelope(json.dumps(changed).encode()), "gate-prod")
    else:
        other = {"another commit": {"change": "f" * 40}, "another environment": {"environment": "stage"}}
        predicate["entry"] |= other.get(forgery, {})
        signer = "gate-stage" if forgery == "gate-stage" else "gate-prod"
        slipped_in(context, built.digest, statements.ENTRY, predicate, signer, "gate-prod")
    found = proofs(cluster)["prod"]
    assert found.verdict == "MISMATCH"
    assert any(f"into prod names {done.commit[:12]}" in one and says in one for one in found.reasons), (
        found.reasons
    )
    with pytest.raises(Refused, match="has no entry into prod"):
        rolling.rollback(context, context.environment("prod"), built.digest)
