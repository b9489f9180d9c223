"""The rules in force are read from the pipeline.yaml of then, whatever `delivery` wrote it: no lock is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from delivery.build import image
from delivery.errors import Refused, Unknown
from delivery.gate import decide as gate
from delivery.gate import gather, in_force
from delivery.gate.in_force import InForce
from delivery.pipeline import ApprovalRule, Approver, Environment, Pipeline
from delivery.verbs import approve as approving
from delivery.verbs import rollback as rolling
from scripts.tests.steps import bare_promote, deploy, promote, put, refused
from scripts.tests.test_approval import approve, changed_by, in_stage, push
from scripts.tests.test_gate import NOW, PIPELINE, approvals, found, question, run

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.fake_cluster import FakeCluster

COMMIT = "c" * 40
# As it was written before sites, and before the order said where an environment's digests come from.
OLD = """\
image: { context: app, first_build_number: 1 }
chart: { path: chart, release: shop }
clusters: { local: { name: shop, registry: 5001 } }
environments:
  - name: dev
    source: null
    namespace: dev
    application: shop-dev
    values: chart/values-dev.yaml
    sync: automatic
    gates: { requires: [smoke], maximum_age: 24 }
  - name: stage
    source: dev
    namespace: stage
    application: shop-stage
    values: chart/values-stage.yaml
    sync: automatic
    gates:
      requires: [smoke, performance]
      without: { network-policy: nobody enforces it }
      maximum_age: 12
      soak: 30
  - name: prod
    source: stage
    namespace: prod
    application: shop-prod
    values: chart/values-prod.yaml
    sync: exact-commit
    gates: { requires: [smoke], maximum_age: 24 }
    approval: { required: 1, maximum_age: 8 }
    freeze:
      - { from: "0 16 * * FRI", zone: Europe/Berlin, hours: 64, reason: the weekend }
approvers:
  - { name: approver, identity: grace@example.test }
signers: {}
waits: { argocd: 1 }
"""


def read(text: str, name: str = "prod") -> InForce | Unknown:
    return in_force.read(COMMIT, text.encode(), PIPELINE, name)


def understood(text: str, name: str = "prod") -> InForce:
    told = read(text, name)
    assert isinstance(told, InForce), told
    return told


def test_what_an_older_delivery_wrote() -> None:
    """Keys that are gone or have another name, sections that look otherwise: each lock of then is read all the same."""
    told = understood(OLD)
    assert told.strange == ()
    dev, stage, prod = told.pipeline.environments
    assert [one.source for one in (dev, stage, prod)] == [None, "dev", "stage"]
    assert stage.tests.model_dump() == {
        "requires": ("smoke", "performance"),
        "without": {"network-policy": "nobody enforces it"},
        "maximum_age": 12,
        "soak": 30,
    }
    assert prod.approval
    assert prod.approval.model_dump() == {"required": 1, "maximum_age": 8, "by": "key"}
    assert [one.reason for one in prod.freeze] == ["the weekend"]
    assert [one.model_dump() for one in told.pipeline.approvers] == [
        {"name": "approver", "identity": "grace@example.test", "login": None}
    ]
    assert (told.pipeline.image, told.pipeline.sites) == (PIPELINE.image, PIPELINE.sites)


def test_an_order_that_was_said() -> None:
    """An environment named its source: that one counts, and not the one that stood before it."""
    told = understood(OLD.replace("source: stage", "source: dev"))
    assert told.pipeline.environment("prod").source == "dev"


def test_todays_rules_are_read_as_they_are() -> None:
    """Of a pipeline.yaml of today nothing is lost and nothing is strange."""
    text = (PIPELINE.root / "pipeline.yaml").read_text()
    told = understood(text)
    assert told.strange == ()
    assert told.pipeline.environments == PIPELINE.environments
    assert [one.source for one in told.pipeline.environments] == [one.source for one in PIPELINE.environments]
    assert told.pipeline.approvers == PIPELINE.approvers


@pytest.mark.parametrize(
    ("old", "new", "strange"),
    [
        ("    approval: {", "    signatures: 2\n    approval: {", "prod.signatures"),
        ("required: 1,", "required: 1, teams: [ops],", "prod.approval.teams"),
        ("soak: 30", "soak: 30\n      flaky: refuse", "stage.tests.flaky"),
        ("hours: 64,", "hours: 64, only: [prod],", "prod.freeze.0.only"),
        ("signers: {}", "quorum: 2", "quorum"),
    ],
)
def test_a_key_that_nobody_knows(old: str, new: str, strange: str) -> None:
    """It may have been a lock: it is told with its place, and everything beside it is read."""
    told = understood(OLD.replace(old, new))
    assert told.strange == (strange,)
    rule = told.pipeline.environment("prod").approval
    assert rule
    assert rule.model_dump() == {"required": 1, "maximum_age": 8, "by": "key"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "its pipeline.yaml is no mapping"),
        ("environments: [", "it is not YAML"),
        ("environments: []", "it lists none"),
        (OLD.replace("name: stage", "title: stage"), "one has no name"),
        (OLD.replace("maximum_age: 12", "maximum_age: soon"), "stage: tests.maximum_age"),
        (OLD.replace("required: 1", "required: some"), "prod: approval.required"),
        (OLD.replace('"0 16 * * FRI"', "fridays"), "prod: freeze.0.from"),
        (OLD.replace("source: stage", "source: nowhere"), "prod has no source that stands before it"),
        (OLD.replace("identity: grace@example.test", "identity: grace"), "approvers: 0.identity"),
        (OLD.replace("name: prod", "name: live"), "there is no environment 'prod'"),
        (OLD.replace("    gates: { requires: [smoke], maximum_age: 24 }\n", "", 1), "dev: tests"),
    ],
)
def test_a_lock_that_cannot_be_understood(text: str, why: str) -> None:
    """Nothing is guessed: it stays unknown, and I read what to do about it."""
    told = read(text)
    assert isinstance(told, Unknown)
    assert f"the rules in force since {COMMIT[:12]} cannot be understood" in told.reason
    assert why in told.reason
    assert in_force.WAY_OUT in told.reason
    assert not gate.decide(question(in_force=told)).allowed


def test_no_pipeline_at_all() -> None:
    """The commit that entered has no pipeline.yaml: unknown."""
    assert isinstance(in_force.read(COMMIT, None, PIPELINE, "prod"), Unknown)


def strangely(name: str, approval: ApprovalRule | None) -> tuple[Pipeline, Environment, InForce]:
    """Rules of `name` that lock what nobody knows: who has to approve now, and nobody had to before."""
    before = PIPELINE.environment(name).model_copy(update={"approval": None})
    now = before.model_copy(update={"approval": approval})
    pipelines = [
        PIPELINE.model_copy(
            update={"environments": tuple(one if old.name == name else old for old in PIPELINE.environments)}
        )
        for one in (before, now)
    ]
    return pipelines[1], now, InForce(COMMIT, pipelines[0], (f"{name}.quorum",))


def test_those_who_approved_may_take_what_nobody_understands() -> None:
    """The approver of then signs the release with the new rules, and it enters; without the signature it does not."""
    old = InForce(COMMIT, PIPELINE, ("prod.quorum",))
    assert gate.decide(question(in_force=old)).allowed
    decision = gate.decide(question(in_force=old, **approvals()))
    assert any(
        f"the rules of prod since {COMMIT[:12]} have prod.quorum, which nobody here knows: prod needs" in one
        for one in decision.refusals
    )


def test_where_nobody_had_to_approve_somebody_may() -> None:
    """Nobody approved there: it is not known, until the new rules ask one of the approvers of then, who signs."""
    pipeline, target, old = strangely("prod", None)
    decision = gate.decide(question(pipeline=pipeline, target=target, in_force=old))
    assert decision.refusals == ()
    assert decision.unknowns == (
        f"the rules of prod since {COMMIT[:12]} have prod.quorum, which nobody here knows: "
        f"let prod ask for an approval, or {in_force.WAY_OUT}",
    )
    pipeline, target, old = strangely("prod", ApprovalRule(required=1, maximum_age=24))
    asked = question(pipeline=pipeline, target=target, in_force=old)
    assert gate.decide(asked).allowed
    stranger = old.pipeline.model_copy(update={"approvers": ()})
    assert not gate.decide(replace(asked, in_force=replace(old, pipeline=stranger))).allowed


def test_soak_and_suites_of_then_hold() -> None:
    """Rules that nobody approved became weaker: the release must satisfy what an older delivery had written."""
    old = InForce(
        COMMIT, understood(OLD.replace("    approval: { required: 1, maximum_age: 8 }\n", "")).pipeline
    )
    asked = question(in_force=old, **found(run(finished=NOW - timedelta(minutes=5))))
    assert any("less than 30 minutes ago" in one for one in gate.decide(asked).refusals)


WITHOUT_APPROVAL = ("    approval: #", "    freeze: [] #")


def without_approval(text: str) -> str:
    start, end = (text.index(word) for word in WITHOUT_APPROVAL)
    return text[:start] + text[end:]


def newer(cluster: FakeCluster, shelf: Shelf) -> image.Built:
    """Build 16 is in stage and was tested there, by the pipeline.yaml of the checkout, whose policies were applied."""
    push(cluster, "manual-app/app.py", "2\n", "two")
    built = put(cluster, shelf, "16")
    cluster.world = cluster.world.reloaded()
    cluster.locks = {}
    deploy(cluster)
    promote(cluster, "stage")
    cluster.world.prove(cluster.world.context.environment("stage"), built.digest)
    return built


def test_a_rollback_brings_no_rules_into_force(
    cluster: FakeCluster, built: image.Built, shelf: Shelf
) -> None:
    """I take the approval away, roll prod back, which asks no rules, and promote: the old rules still hold."""
    in_stage(cluster)
    promote(cluster, "prod")
    newer(cluster, shelf)
    promote(cluster, "prod")
    push(cluster, "pipeline.yaml", without_approval(cluster.world.file("pipeline.yaml")), "less to ask")
    cluster.world = cluster.world.reloaded()
    context = cluster.world.context
    assert rolling.rollback(context, context.environment("prod"), built.digest).new
    push(cluster, "manual-app/app.py", "3\n", "three")
    third = put(cluster, shelf, "17")
    deploy(cluster)
    promote(cluster, "stage")
    cluster.world.prove(context.environment("stage"), third.digest)
    says = "the rules of prod became weaker since .*entered with fewer approvals.*needs one approval"
    refused(cluster, Refused, says, lambda: bare_promote(cluster, "prod"))


def test_an_approval_that_is_taken_away_is_approved(
    cluster: FakeCluster, built: image.Built, shelf: Shelf
) -> None:
    """Those who had to approve sign that nobody has to any more, and it enters; from then on nobody has to."""
    in_stage(cluster)
    promote(cluster, "prod")
    push(cluster, "pipeline.yaml", without_approval(cluster.world.file("pipeline.yaml")), "less to ask")
    newer(cluster, shelf)
    refused(cluster, Refused, "entered with fewer approvals", lambda: bare_promote(cluster, "prod"))
    assert approve(cluster).new
    assert not approve(cluster).new  # it counts, and is not made twice
    assert bare_promote(cluster, "prod").new
    push(cluster, "manual-app/app.py", "3\n", "three")
    third = put(cluster, shelf, "17")
    deploy(cluster)
    promote(cluster, "stage")
    cluster.world.prove(cluster.world.context.environment("stage"), third.digest)
    assert bare_promote(cluster, "prod").new


def test_who_takes_an_approval_away_cannot_approve_that(
    cluster: FakeCluster, built: image.Built, shelf: Shelf
) -> None:
    """An approver pushes the commit that takes the approval out: its author approves nothing of it."""
    in_stage(cluster)
    promote(cluster, "prod")
    [by] = cluster.world.context.pipeline.approvers
    weaker = without_approval(cluster.world.file("pipeline.yaml"))
    changed_by(cluster, by.identity, "pipeline.yaml", weaker)
    newer(cluster, shelf)
    refused(cluster, Refused, "is an author of it and cannot approve it", lambda: approve(cluster))


def test_an_approver_who_left(cluster: FakeCluster, built: image.Built) -> None:
    """The rules in force name an approver whose key this site has no more: nothing of it can count, nothing waits."""
    in_stage(cluster)
    promote(cluster, "prod")
    left = Approver(name="gone", identity="gone@example.test")
    context = cluster.world.context
    rules = context.pipeline.model_copy(update={"approvers": (*context.pipeline.approvers, left)})
    given = gather._approvals(context, built.digest, context.environment("prod"), InForce(COMMIT, rules))
    assert not isinstance(given, Unknown)
    assert [one.signer for one in given.approvals] == ["approver"]
    assert approving.run(context, context.environment("prod"), None).new is False
