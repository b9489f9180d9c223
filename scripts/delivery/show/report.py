"""What people and programs read: the proof as a table or as JSON with a stable schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from delivery.desired.manifests import Desired
from delivery.errors import Unknown
from delivery.gate import decide as gate
from delivery.proof.decide import Answer, Image, Pod, Proof, Verdict
from delivery.show.out import console, write_json
from delivery.show.out import say as _say
from delivery.signed.measurements import Measurement
from delivery.site import Site

if TYPE_CHECKING:  # what is shown is at hand; a proof need not load every verb for it
    from delivery.build.image import Built
    from delivery.context import Context
    from delivery.gate.gather import Tests
    from delivery.verbs.approve import Approved, Asked
    from delivery.verbs.carry import Promotion
    from delivery.verbs.check import Checked
    from delivery.verbs.promote import Preview
    from delivery.verbs.propose import Proposal
    from delivery.verbs.report import Report, Status
    from delivery.verbs.review import Reviewed
    from delivery.verbs.test import Tested

__all__ = ["write_json"]  # with every document here goes the way out of it

_STYLE = {Verdict.PROVEN: "green", Verdict.MISMATCH: "red", Verdict.UNKNOWN: "yellow"}


def proof_document(site: Site, proofs: Iterable[Proof]) -> dict[str, Any]:
    """The proofs as data: schema delivery/proof/v2."""
    proofs = list(proofs)
    return {
        "schema": "delivery/proof/v2",
        "site": site.name,
        "verdict": str(worst(proofs)),
        "environments": [_environment(one) for one in proofs],
    }


def status_document(site: Site, status: Status) -> dict[str, Any]:
    """The proofs, and what each environment would take next: schema delivery/status/v2."""
    next_ = [
        {
            "environment": one.environment,
            "digest": one.digest,
            "build": one.build,
            "new": one.new,
            **_decision(one.decision),
        }
        for one in status.ahead
    ]
    lacks = status.lacks
    return proof_document(site, status.proofs) | {
        "schema": "delivery/status/v2",
        "next": next_,
        "release_ahead": None if isinstance(lacks, Unknown) else list(lacks),
    }


def report_document(site: Site, report: Report) -> dict[str, Any]:
    """All of it, as of one moment: the status, the evidence and the trail; schema delivery/report/v2."""
    return status_document(site, report.status) | {
        "schema": "delivery/report/v2",
        "at": report.at.isoformat(timespec="seconds"),
        "one_digest": one_digest(report.status.proofs),
        "tests": [_tests(one) for one in report.tests],
        "changes": [asdict(one) for one in report.entries],
        "lead_times": [
            asdict(one) | {"entered": one.entered.isoformat(timespec="seconds")} for one in report.lead_times
        ],
    }


def unread_document(context: Context, reason: str, at: datetime) -> dict[str, Any]:
    """The same where nothing could be read: every environment is UNKNOWN, for this reason."""
    nothing = dict.fromkeys(("desired", "revision", "argocd", "pods"))
    environments: list[dict[str, Any]] = [
        {
            "environment": one.name,
            "verdict": str(Verdict.UNKNOWN),
            "mismatches": [],
            "unknowns": [reason],
            "notes": [],
            **nothing,
            "answers": {},
        }
        for one in context.environments
    ]
    return {
        "schema": "delivery/report/v2",
        "site": context.site.name,
        "verdict": str(Verdict.UNKNOWN),
        "environments": environments,
        "next": [],
        "at": at.isoformat(timespec="seconds"),
        "one_digest": None,
        "tests": [],
        "changes": [],
        "lead_times": [],
    }


def one_digest(proofs: Iterable[Proof]) -> str | None:
    """The digest that is proven in each of several environments, or None."""
    proofs = list(proofs)
    digests = {one.facts.desired.digest for one in proofs if isinstance(one.facts.desired, Desired)}
    same = len(proofs) > 1 and len(digests) == 1 and worst(proofs) is Verdict.PROVEN
    return digests.pop() if same else None


def built_document(built: Built) -> dict[str, Any]:
    """The image of a commit: schema delivery/build/v1."""
    facts = {name: getattr(built, name) for name in ("digest", "build", "version", "revision", "new")}
    return {"schema": "delivery/build/v1", **facts}


def tested_document(tested: Tested) -> dict[str, Any]:
    """One run of the suites: schema delivery/test/v1."""
    return {"schema": "delivery/test/v1", **asdict(tested)}


def preview_document(preview: Preview) -> dict[str, Any]:
    """What a promotion would change: schema delivery/preview/v1."""
    facts = {name: getattr(preview, name) for name in ("environment", "build", "before", "after", "diff")}
    return {"schema": "delivery/preview/v1", **facts, **_decision(preview.decision)}


def checked_document(site: Site, checked: Checked) -> dict[str, Any]:
    """What a proposal would change, and whether it may: schema delivery/check/v1."""
    decision = checked.decision
    verdict = "ALLOWED" if decision.allowed else "REFUSED" if decision.refusals else "UNKNOWN"
    facts = ("branch", "base", "commit", "follows", "rules", "weaker")
    plain = (
        "environment",
        "asked",
        "build_before",
        "before",
        "build",
        "after",
        "by_review",
        "diff",
        "untested",
    )
    return {
        "schema": "delivery/check/v1",
        "site": site.name,
        "verdict": verdict,
        **{name: getattr(checked, name) for name in facts},
        "refusals": checked.refusals,
        "environments": [
            {**{name: getattr(one, name) for name in plain}, **_decision(one.decision)}
            for one in checked.environments
        ],
    }


def worst(proofs: Iterable[Proof]) -> Verdict:
    """The verdict about all of them together; about none at all it is UNKNOWN."""
    found = {one.verdict for one in proofs}
    if Verdict.MISMATCH in found:
        return Verdict.MISMATCH
    return Verdict.PROVEN if found == {Verdict.PROVEN} else Verdict.UNKNOWN


def print_proofs(proofs: Iterable[Proof]) -> None:
    """The proof table, read from the pods, and every reason below it."""
    proofs = list(proofs)
    out = console()
    table = _table("environment", "build", "digest", "commit", "pods", "argo cd", "verdict")
    for one in proofs:
        row = _row(one)
        table.add_row(*row, Text(one.verdict, style=_STYLE[one.verdict]))
    out.print(table)
    for one in proofs:
        for reason in one.reasons:
            line = f"  {one.facts.environment}: {reason}"
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        for note in one.notes:
            out.print(f"  {one.facts.environment}: {note}", markup=False, highlight=False, style="dim")
    if digest := one_digest(proofs):
        _say(f"One digest in {', '.join(one.facts.environment for one in proofs)}: {digest}")


def print_status(status: Status) -> None:
    """The proof table, and what each environment would take next, or what is missing."""
    print_proofs(status.proofs)
    for one in status.ahead:
        if one.decision.allowed and one.new:
            _say(f"{one.environment} can take build {one.build}: delivery promote {one.environment}")
        elif one.new:
            _say(f"{one.environment} cannot take build {one.build} yet:")
            for reason in (*one.decision.refusals, *one.decision.unknowns):
                _say(f"  {reason}")
    if isinstance(status.lacks, Unknown):
        _say(f"whether the branch has all of release is not known: {status.lacks.reason}")
    elif status.lacks:
        _say(f"the branch lacks {len(status.lacks)} commits of release until somebody merges it back:")
        for commit in status.lacks:
            _say(f"  {commit}")


def print_built(context: Context, built: Built) -> None:
    """Which image the newest commit has, and whether it was built just now."""
    said = "built" if built.new else "was built before"
    _say(f"build {built.build} of commit {built.revision[:12]} {said}")
    _say(f"{context.site.image.name}@{built.digest}")


def print_carried(done: Promotion) -> None:
    """What an environment runs now, and what it ran before."""
    before = "" if not done.new else f" (before: {done.before[:19]})"
    _say(f"{done.environment} runs build {done.build}, {done.digest}{before}")


def print_asked(asked: Asked) -> None:
    """All that an approver signs."""
    for what, diff in (
        (f"what changes in {asked.environment}", asked.diff),
        (f"what was tested, and what {asked.environment} would run", asked.untested),
        ("the rules", asked.rules),
    ):
        if diff:
            _say(f"{what}:")
            print(diff)
    _say(f"{asked.environment}: digest before {asked.before}")
    _say(f"{asked.environment}: digest after  {asked.after} (build {asked.build})")
    for line in asked.tested:
        _say(f"tested: {line}")
    by = (
        f"{one} ({f'signed by {name}' if name else 'e-mail, not verified'})"
        for one, name in asked.authors.items()
    )
    _say(f"by: {', '.join(by)}")


def print_approved(done: Approved) -> None:
    """Who allowed which digest where."""
    said = "approves" if done.new else "has approved"
    _say(f"{done.approver} {said} build {done.build}, {done.digest}, for {done.environment}")


def print_tested(tested: Tested) -> None:
    """How each suite ended, and every reason against PASSED."""
    judgement = tested.judgement
    for suite, result in judgement.suites.items():
        _say(f"  {suite}: {result}")
    for reason in judgement.reasons:
        _say(f"  {reason}")
    for one in judgement.excused:
        _say(f"  not known, and not required: {one.check}: {one.reason}")
    count = len(judgement.passed)
    _say(f"{tested.environment} {judgement.result}: {count} tests of build {tested.build} passed")
    _say(f"evidence sha256:{tested.evidence} about {tested.digest}")


def print_preview(preview: Preview) -> None:
    """The rendered difference, and the digest before and after."""
    if preview.diff:
        print(preview.diff)
    if preview.untested:
        _say(f"what was tested, and what {preview.environment} would run:")
        print(preview.untested)
    _say(f"{preview.environment}: digest before {preview.before}")
    _say(f"{preview.environment}: digest after  {preview.after} (build {preview.build})")
    _say("dry run: nothing was written")


def print_checked(document: dict[str, Any]) -> None:
    """What a proposal would change in each environment, the gate's answer, and what else is to be known."""
    for one in document["environments"]:
        for what in (one["diff"], one["untested"]):
            if what:
                print(what)
    for one in document["environments"]:
        name = one["environment"]
        if not one["asked"]:
            _say(f"{name}: nothing is asked for; its next promotion would bring this")
            continue
        _say(f"{name}: digest before {one['before']}")
        _say(f"{name}: digest after  {one['after']} (build {one['build'] or '?'})")
        _say(f"{name}: {'it may enter' if one['allowed'] else '; '.join(one['reasons'])}")
        if one["by_review"]:
            _say(f"{name}: its approval is the review of the proposal")
    if document["follows"]:
        _say(f"{document['follows']} follows {document['branch']}: it takes this with the merge")
    if document["rules"]:
        _say(f"it changes rules, which are judged when they are in force: {', '.join(document['rules'])}")
    for line in (*document["weaker"], *document["refusals"]):
        _say(line)
    if not document["environments"]:
        _say("no guarded environment is asked for anything")


def print_proposal(done: Proposal) -> None:
    """Where people are asked, and for what."""
    _say(f"{done.environment}: digest before {done.before}")
    _say(f"{done.environment}: digest after  {done.digest} (build {done.build})")
    _say(f"{'opened' if done.new else 'brought up to date'}: {done.page} (branch {done.branch})")


def print_reviewed(done: Reviewed) -> None:
    """Whose reviews count as the approval, and where they are."""
    said = "signed" if done.new else "signed already"
    _say(
        f"{done.environment}: {done.digest} is approved by {', '.join(done.approvers)}: {done.page} ({said})"
    )


def _environment(proof: Proof) -> dict[str, Any]:
    facts = proof.facts
    wanted = facts.desired if isinstance(facts.desired, Desired) else None
    image = facts.image if isinstance(facts.image, Image) else None
    return {
        "environment": facts.environment,
        "verdict": str(proof.verdict),
        "mismatches": list(proof.mismatches),
        "unknowns": list(proof.unknowns),
        "notes": list(proof.notes),
        "desired": wanted
        and {
            "commit": wanted.commit,
            "image": wanted.image,
            "digest": wanted.digest,
            "build": wanted.tag,
            "replicas": wanted.replicas,
        },
        "revision": image.revision if image else None,
        "argocd": None if isinstance(facts.argocd, Unknown) else asdict(facts.argocd),
        "pods": None if isinstance(facts.pods, Unknown) else [asdict(pod) for pod in facts.pods],
        "answers": {
            pod: asdict(answer) if isinstance(answer, Answer) else {"error": answer.reason}
            for pod, answer in facts.answers.items()
        },
    }


def _tests(tests: Tests) -> dict[str, Any]:
    facts = {"environment": tests.environment, "digest": tests.digest}
    if isinstance(tests.found, Unknown):
        return facts | {"newest": None, "rejected": [], "error": tests.found.reason}
    newest = tests.found.newest
    return facts | {
        "newest": newest
        and {
            "result": newest.result,
            "suites": dict(newest.suites),
            "excused": sorted(newest.excused),
            "reasons": list(newest.reasons),
            "finished": newest.finished.isoformat(timespec="seconds"),
            "hash": newest.hash,
            **_measured(newest.measured),
        },
        "rejected": list(tests.found.rejected),
        "error": None,
    }


def _measured(measured: tuple[Measurement, ...] | Unknown) -> dict[str, Any]:
    if isinstance(measured, Unknown):
        return {"measurements": [], "unread": measured.reason}
    said = [one.model_dump(mode="json") | {"holds": one.holds} for one in measured]
    return {"measurements": said, "unread": None}


def _row(proof: Proof) -> tuple[str, ...]:
    facts = proof.facts
    wanted = facts.desired if isinstance(facts.desired, Desired) else None
    pods: tuple[Pod, ...] = () if isinstance(facts.pods, Unknown) else facts.pods
    ours = [pod for pod in pods if pod.app == facts.release and pod.serves]
    builds = sorted({answer.build for answer in facts.answers.values() if isinstance(answer, Answer)})
    digests = sorted({c.image_id.partition("@")[2] for pod in ours for c in pod.containers if c.image_id})
    revision = facts.image.revision if isinstance(facts.image, Image) else ""
    ready = f"{sum(pod.ready for pod in ours)}/{wanted.replicas if wanted else '?'} ready"
    argo = "?" if isinstance(facts.argocd, Unknown) else f"{facts.argocd.sync}, {facts.argocd.health}"
    return (
        facts.environment,
        " ".join(builds) or "?",
        " ".join(map(_digest, digests)) or "?",
        revision[:12] or "?",
        "?" if isinstance(facts.pods, Unknown) else ready,
        argo,
    )


def _decision(decision: gate.Decision) -> dict[str, Any]:
    return {
        "allowed": decision.allowed,
        "reasons": [*decision.refusals, *decision.unknowns],
        "evidence": [one.hash for one in decision.uses],
        "approved_by": list(decision.approved_by),
    }


def _digest(text: str) -> str:
    return text[:19] if text.startswith("sha256:") else text or "?"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
