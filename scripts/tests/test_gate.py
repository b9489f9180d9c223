"""The gate's decision, refusal by refusal: each case is the allowed one with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from delivery import pipeline as pipelines
from delivery.desired.manifests import Desired
from delivery.desired.tree import Trees
from delivery.errors import Unknown
from delivery.freeze import Freeze
from delivery.gate import decide as gate
from delivery.gate.authors import Makers
from delivery.gate.decide import Decision, Question
from delivery.parts.argocd import Application
from delivery.pipeline import ApprovalRule, Approver, Environment, Pipeline, SuiteRules
from delivery.proof.decide import Answer, Container, Facts, Image, Pod, decide
from delivery.proof.findings import Findings
from delivery.proof.locks import Locks
from delivery.signed import approval, evidence
from scripts.tests import test_proof

PIPELINE = pipelines.load(Path(__file__).resolve().parents[2])
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)  # a Wednesday
DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
REPOSITORY = "registry.example/team/manual-app"
TREES = Trees("1" * 40, "2" * 64, "3" * 64, "7" * 64)
SCOPE = approval.Scope(
    file="manual-app-helm/values-prod.yaml",
    values=approval.Digest(sha256="4" * 64),
    chart=approval.Digest(sha256=TREES.chart),
    manifests=approval.Digest(sha256="8" * 64),
    rules=approval.Digest(sha256="9" * 64),
)
FULL = dict.fromkeys(("smoke", "integration", "performance", "security"), "PASSED")


def run(**changes: Any) -> evidence.Evidence:
    """A PASSED run of everything in stage, one hour ago."""
    facts: dict[str, Any] = {
        "environment": "stage",
        "result": "PASSED",
        "suites": FULL,
        "excused": frozenset({"vulnerability-scan"}),
        "failed": (),
        "warned": (),
        "reasons": (),
        "trees": TREES,
        "finished": NOW - timedelta(hours=1),
        "hash": "5" * 64,
    }
    return evidence.Evidence(**facts | changes)


def approved(*used: evidence.Evidence, hours_ago: float = 0.5, **changes: Any) -> approval.Approval:
    """An approval of exactly this change, half an hour ago."""
    facts: dict[str, Any] = {
        "environment": "prod",
        "approver": "approver@localhost",
        "approvedOn": NOW - timedelta(hours=hours_ago),
        "evidence": {"sha256": evidence.set_hash(used or (run(),))},
        "change": SCOPE,
    }
    signer = changes.pop("signer", "approver")
    return approval.Approval(signer, approval.Predicate(**facts | changes), "6" * 64)


def facts(environment: str = "stage", **changes: Any) -> Facts:
    """What is seen of an environment that is proven to run the digest."""
    pinned, source = f"{REPOSITORY}@{DIGEST}", "f" * 40
    container = Container("manual-app", "app", pinned, pinned)
    pods = (Pod("one", "manual-app", "Running", True, False, False, (container,)),)
    seen: dict[str, Any] = {
        "environment": environment,
        "release": "manual-app",
        "follows": True,
        "desired": Desired("c" * 40, REPOSITORY, DIGEST, "15", 1, frozenset({pinned}), TREES.manifests),
        "argocd": Application(
            *("manual-app-stage", "main", "c" * 40, "Synced", "Healthy", "c" * 40, "Succeeded", "c" * 40),
            *(False, "", (), False, False, "", ""),
        ),
        "entered": None,
        "asked": "",
        "moved": False,
        "current": True,
        "asleep": None,
        "pods": pods,
        "answers": {"one": Answer("15", source, environment)},
        "image": Image(DIGEST, "15", source),
        "foreign": (),
        "overrides": Findings(),
        "strays": Findings(),
        "objects": Findings(),
        "locks": Locks(),
    }
    return Facts(**seen | changes)


def question(**changes: Any) -> Question:
    """A question that is answered with yes, but for what is changed."""
    asked: dict[str, Any] = {
        "pipeline": PIPELINE,
        "target": PIPELINE.environment("prod"),
        "digest": DIGEST,
        "source": decide(facts()),
        "evidence": evidence.Recorded((run(),), (), frozenset({run().hash})),
        "ledger": (run().hash,),
        "origin": (),
        "approvals": approval.Given((approved(),)),
        "trees": TREES,
        "scope": SCOPE,
        "authors": Makers(frozenset({"ada@example.test"})),
        "keys": (),
        "rules": True,
        "runs": None,
        "in_force": None,
        "held": None,
        "now": NOW,
    }
    return Question(**asked | changes)


def found(*runs: evidence.Evidence, rejected: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"evidence": evidence.Recorded(runs, rejected, frozenset(one.hash for one in runs))}


def approvals(*ones: approval.Approval) -> dict[str, Any]:
    return {"approvals": approval.Given(ones)}


def with_stage(**changes: Any) -> Pipeline:
    """The pipeline with other rules for stage."""
    rules = PIPELINE.environment("stage").tests.model_copy(update=changes)
    environments = tuple(
        one.model_copy(update={"tests": rules}) if one.name == "stage" else one
        for one in PIPELINE.environments
    )
    return PIPELINE.model_copy(update={"environments": environments})


def frozen(since: str, hours: float, zone: str = "Europe/Berlin") -> Environment:
    window = Freeze.model_validate({"from": since, "hours": hours, "zone": zone, "reason": "the weekend"})
    return PIPELINE.environment("prod").model_copy(update={"freeze": (window,)})


def test_allowed() -> None:
    """Proven, tested, approved, with all of it as it would be deployed: it may enter, and the gate says on what."""
    decision = gate.decide(question())
    assert decision.allowed, decision
    assert [one.hash for one in decision.uses] == [run().hash]
    assert decision.approved_by == ("approver@localhost",)


REFUSED: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "no evidence": ("stage has no evidence about sha256:aaaa", lambda: found()),
    "FAILED": (
        "the newest test of stage FAILED: x broke",
        lambda: found(run(result="FAILED", reasons=("x broke",))),
    ),
    "WARNED": ("the newest test of stage WARNED", lambda: found(run(result="WARNED"))),
    "a required suite is missing": (
        "stage requires suite security, which did not run",
        lambda: found(run(suites={name: "PASSED" for name in FULL if name != "security"})),
    ),
    "a required suite was skipped": (
        "stage requires suite performance, which WARNED",
        lambda: found(run(suites=FULL | {"performance": "WARNED"})),
    ),
    "PASSED beside a failed test": ("names tests that did not pass", lambda: found(run(failed=("a",)))),
    "PASSED beside an unknown test": ("names tests that did not pass", lambda: found(run(warned=("a",)))),
    "an excuse that pipeline.yaml no longer has": (
        "stage requires check vulnerability-scan, which could not be made",
        lambda: {"pipeline": with_stage(without={})},
    ),
    "evidence of another environment": (
        "the evidence is about dev, not about stage",
        lambda: found(run(environment="dev")),
    ),
    "evidence that does not count": (
        "stage: an attestation is not signed by stage",
        lambda: found(rejected=("an attestation is not signed by stage",)),
    ),
    "expired": (
        "the test of stage expired: it is 25 h old and counts for 24 h",
        lambda: found(run(finished=NOW - timedelta(hours=25))),
    ),
    "from the future": (
        "the test of stage is from the future",
        lambda: found(run(finished=NOW + timedelta(minutes=10))),
    ),
    "older PASSED after newer FAILED": (
        "the newest test of stage FAILED",
        lambda: found(run(), run(result="FAILED", finished=NOW - timedelta(minutes=5))),
    ),
    "PASSED and FAILED at the same moment": (
        "the newest test of stage FAILED",
        lambda: found(run(result="FAILED"), run()),
    ),
    "chart changed since the test": (
        "the chart changed since stage was tested",
        lambda: {"trees": replace(TREES, chart="9" * 64)},
    ),
    "values changed since the test": (
        "the values changed since stage was tested",
        lambda: {"trees": replace(TREES, values="9" * 64)},
    ),
    "manifests changed since the test": (
        "the manifests changed since stage was tested",
        lambda: {"trees": replace(TREES, manifests="9" * 64)},
    ),
    "a newer FAILED was taken away": (
        "evidence sha256:abababababab of stage is on record and not in the registry any more",
        lambda: {"ledger": (run().hash, "ab" * 32)},
    ),
    "not built by us": (
        f"{DIGEST[:19]} has no provenance",
        lambda: {"origin": (f"{DIGEST[:19]} has no provenance that build signed",)},
    ),
    "evidence that nobody put on record": (
        "the newest test of stage is not on record",
        lambda: {"ledger": ()},
    ),
    "suites changed since the test": (
        "the suites changed since stage was tested",
        lambda: {"trees": replace(TREES, suites="9" * 40)},
    ),
    "rolled back since the test": (
        "it was rolled back out of prod on 2026-11-25 12:00 UTC: stage has no newer test of it",
        lambda: {"held": NOW},
    ),
    "soak not reached": (
        "it first passed stage less than 90 minutes ago: 30 more to wait",
        lambda: {"pipeline": with_stage(soak=90)},
    ),
    "freeze window": (
        "prod is frozen until 2026-11-25 14:00 CET: the weekend",
        lambda: {"target": frozen("0 9 * * WED", 5)},
    ),
    "dev straight to prod": (
        "prod takes digests from stage, not from dev",
        lambda: {"source": decide(facts("dev"))},
    ),
    "stage runs another digest": ("stage is at sha256:aaaa", lambda: {"digest": OTHER}),
    "stage is not what Git asks for": (
        "stage: tag 15 of Git's values is not in the registry",
        lambda: {"source": decide(facts(image=Image(None, "15", "f" * 40)))},
    ),
    "other rules than the server's": (
        "the pipeline.yaml of this checkout is not the one on the server",
        lambda: {"rules": False},
    ),
    "approval missing": ("prod needs one approval", lambda: approvals()),
    "approval by the author of the source commit": (
        "an approval by approver@localhost is by an author of it",
        lambda: {"authors": Makers(frozenset({"approver@localhost"}))},
    ),
    "approval for another change": (
        "is for another change of manual-app-helm/values-prod.yaml",
        lambda: approvals(approved(change=SCOPE.model_copy(update={"values": {"sha256": "8" * 64}}))),
    ),
    "approval of another chart": (
        "is for another chart",
        lambda: approvals(
            approved(change=SCOPE.model_copy(update={"chart": approval.Digest(sha256="8" * 64)}))
        ),
    ),
    "approval for another environment": ("is for stage", lambda: approvals(approved(environment="stage"))),
    "approval on other evidence": (
        "rests on other evidence",
        lambda: approvals(approved(run(hash="7" * 64))),
    ),
    "approval expired": ("expired: it is 30 h old", lambda: approvals(approved(hours_ago=30))),
    "approval from the future": ("is from the future", lambda: approvals(approved(hours_ago=-1))),
    "approval with somebody else's key": (
        "is signed with the key of nobody",
        lambda: approvals(approved(signer="intruder")),
    ),
    "approval in somebody else's name": (
        "is signed with the key of approver@localhost",
        lambda: approvals(approved(approver="boss@example.test")),
    ),
    "fewer approvals than asked for": ("prod needs one approval more", lambda: {"target": _two_approvals()}),
    "the same approver twice": (
        "prod needs one approval more",
        lambda: {"target": _two_approvals(), **approvals(approved(), approved(hours_ago=0.1))},
    ),
}


def _two_approvals() -> Environment:
    asked = ApprovalRule(required=2, maximum_age=24)
    return PIPELINE.environment("prod").model_copy(update={"approval": asked})


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """Each refusal of the promise, alone: refused, with its reason named."""
    says, change = REFUSED[case]
    decision = gate.decide(question(**change()))
    assert not decision.allowed
    assert any(says in reason for reason in decision.refusals), decision.refusals


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"evidence": Unknown("the registry is away")}, "the registry is away"),
        ({"approvals": Unknown("the registry is away")}, "the registry is away"),
        ({"ledger": Unknown("the Git server is away")}, "the Git server is away"),
        ({"origin": Unknown("the registry is away")}, "the registry is away"),
        ({"source": decide(facts(pods=Unknown("the cluster is away")))}, "stage: the cluster is away"),
        ({"source": decide(facts(argocd=Unknown("Argo CD is away")))}, "stage: Argo CD is away"),
        ({"source": decide(facts(answers={}))}, "stage: pod one does not say what it is"),
    ],
)
def test_unknown(changes: dict[str, Any], says: str) -> None:
    """What could not be read does not let anything in, and is not called wrong either."""
    decision = gate.decide(question(**changes))
    assert not decision.allowed
    assert any(says in reason for reason in decision.unknowns), decision
    assert not decision.refusals


def test_what_is_not_proven_does_not_go_on() -> None:
    """Whatever makes a proof MISMATCH refuses, and whatever makes it UNKNOWN keeps the gate shut."""
    for seen, _ in test_proof.MISMATCHES.values():
        decision = gate.decide(question(digest=test_proof.DIGEST, source=decide(seen)))
        assert not decision.allowed
        assert decision.refusals
    for seen, _ in test_proof.UNKNOWNS.values():
        decision = gate.decide(question(digest=test_proof.DIGEST, source=decide(seen)))
        assert not decision.allowed
        assert decision.unknowns
        assert not decision.refusals


def test_removing_any_one_thing_refuses() -> None:
    """Take any one input away from an allowed case, and it is refused."""
    gone: dict[str, Any] = {
        "digest": "",
        "source": decide(facts(desired=Unknown("gone"))),
        "evidence": evidence.Recorded(),
        "approvals": approval.Given(),
        "trees": Trees("", "", ""),
        "scope": SCOPE.model_copy(update={"values": approval.Digest(sha256="0" * 64)}),
        "now": NOW + timedelta(days=365),
    }
    for name, nothing in gone.items():
        assert not gate.decide(question(**{name: nothing})).allowed, name
    for suite in FULL:
        less = {name: said for name, said in FULL.items() if name != suite}
        assert not gate.decide(question(**found(run(suites=less)))).allowed, suite


def test_every_reason_is_named() -> None:
    """All that is wrong is said at once, not one thing after the other."""
    changes = found(run(result="FAILED", finished=NOW - timedelta(days=3))) | approvals()
    decision = gate.decide(question(trees=replace(TREES, chart="9" * 64), **changes))
    said = "\n".join(decision.refusals)
    for part in ("FAILED", "expired", "chart changed", "needs one approval"):
        assert part in said


def test_no_approval_is_asked_where_none_is_required() -> None:
    """stage opens to what dev has tested, without an approval."""
    rules = PIPELINE.environment("dev").tests
    tested = run(environment="dev", suites={"smoke": "PASSED"}, excused=frozenset())
    stage = PIPELINE.environment("stage")
    decision = gate.decide(
        question(target=stage, source=decide(facts("dev")), **found(tested), approvals=approval.Given())
    )
    assert decision.allowed, decision
    assert rules.requires == ("smoke",)


def test_a_fresh_PASSED_after_a_FAILED_opens() -> None:
    """What failed and was tested again and passed may enter."""
    older = run(result="FAILED", finished=NOW - timedelta(hours=2), hash="7" * 64)
    assert gate.decide(question(**found(older, run()))).allowed


def test_soak_counts_from_the_first_pass() -> None:
    """A second test does not start the soak time again."""
    first = run(finished=NOW - timedelta(hours=3), hash="7" * 64)
    assert gate.decide(question(pipeline=with_stage(soak=90), **found(first, run()))).allowed


RULES = SuiteRules(requires=("smoke", "security"), without={"network-policy": "kind"}, maximum_age=1)


def judged(*outcomes: tuple[str, str, str], changed: tuple[str, ...] = ()) -> evidence.Judgement:
    tests = [
        evidence.Test(id=f"{suite}::{check}", suite=suite, check=check, outcome=outcome, reason="why")  # type: ignore[arg-type]
        for suite, check, outcome in outcomes
    ]
    return evidence.judge(RULES, tests, changed)


BOTH = (("smoke", "starts", "passed"), ("security", "user", "passed"))


@pytest.mark.parametrize(
    ("outcomes", "changed", "result", "says"),
    [
        (BOTH, (), "PASSED", ""),
        ((*BOTH, ("security", "network-policy", "unknown")), (), "PASSED", ""),
        ((*BOTH, ("security", "network-policy", "skipped")), (), "PASSED", ""),
        ((*BOTH, ("security", "scan", "unknown")), (), "WARNED", "security::scan is unknown: why"),
        ((*BOTH, ("security", "scan", "skipped")), (), "WARNED", "security::scan is skipped: why"),
        ((*BOTH, ("security", "network-policy", "failed")), (), "FAILED", "security::network-policy: why"),
        ((*BOTH, ("extra", "x", "failed")), (), "FAILED", "extra::x: why"),
        ((*BOTH, ("extra", "x", "unknown")), (), "PASSED", "extra::x is unknown"),
        (BOTH[:1], (), "WARNED", "suite security is required and did not run"),
        (
            (*BOTH[:1], ("security", "network-policy", "unknown")),
            (),
            "WARNED",
            "no test of suite security passed",
        ),
        (BOTH, ("pod a was replaced during the tests",), "FAILED", "pod a was replaced"),
        ((), (), "WARNED", "suite smoke is required and did not run"),
    ],
)
def test_what_a_run_comes_to(
    outcomes: tuple[tuple[str, str, str], ...], changed: tuple[str, ...], result: str, says: str
) -> None:
    """FAILED if a test failed or a pod changed; WARNED if something required is not known; else PASSED."""
    judgement = judged(*outcomes, changed=changed)
    assert judgement.result == result, judgement
    assert says in "\n".join(judgement.reasons)


def test_decision_says_yes_only_when_nothing_is_against_it() -> None:
    """One refusal or one unknown is enough."""
    assert Decision((), ()).allowed
    assert not Decision(("no",), ()).allowed
    assert not Decision((), ("?",)).allowed


@pytest.mark.parametrize(
    ("approvers", "says"),
    [
        ([Approver(name="build", identity="a@b")], "must differ"),
        ([Approver(name="prod", identity="a@b")], "must differ"),
        ([Approver(name="one", identity="a@b"), Approver(name="two", identity="A@B")], "must differ"),
        ([], "prod requires 1 approvals, and there are 0 approvers"),
    ],
)
def test_approvers_of_pipeline_yaml(approvers: list[Approver], says: str) -> None:
    """One key or one person under two names could stand for two people: pipeline.yaml must not say so."""
    data = PIPELINE.model_dump(by_alias=True) | {"approvers": [one.model_dump() for one in approvers]}
    with pytest.raises(ValueError, match=says):
        Pipeline.model_validate(data)
