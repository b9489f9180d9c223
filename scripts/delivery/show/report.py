"""What people and programs read: the proof as a table or as JSON with a stable schema."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from delivery.build.image import Built
from delivery.context import Context
from delivery.desired.manifests import Desired
from delivery.errors import Unknown
from delivery.gate import decide as gate
from delivery.gate.gather import Tests
from delivery.parts.emergency import Emergency
from delivery.proof.decide import Answer, Image, Pod, Proof, Verdict
from delivery.site import Site
from delivery.verbs.approve import Approved, Asked
from delivery.verbs.carry import Promotion
from delivery.verbs.promote import Preview
from delivery.verbs.report import History, Report, Status
from delivery.verbs.test import Tested

_STYLE = {Verdict.PROVEN: "green", Verdict.MISMATCH: "red", Verdict.UNKNOWN: "yellow"}


def write_json(document: Any) -> None:
    """One JSON document on standard output."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


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
    return proof_document(site, status.proofs) | {"schema": "delivery/status/v2", "next": next_}


def report_document(site: Site, report: Report) -> dict[str, Any]:
    """All of it, as of one moment: the status, the evidence and the trail; schema delivery/report/v2."""
    return status_document(site, report.status) | {
        "schema": "delivery/report/v2",
        "at": report.at.isoformat(timespec="seconds"),
        "one_digest": one_digest(report.status.proofs),
        "tests": [_tests(one) for one in report.tests],
        "changes": [asdict(one) for one in report.entries],
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


def history_document(history: History) -> dict[str, Any]:
    """The changes of the past, and the emergencies: schema delivery/history/v1."""
    return {
        "schema": "delivery/history/v1",
        "changes": [asdict(one) for one in history.changes],
        "emergencies": [
            one for name, told in history.emergencies.items() for one in _emergencies(name, told)
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
    _say(f"by, as Git tells it and nobody verified: {', '.join(asked.authors)}")


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


def print_history(history: History) -> None:
    """The changes of the past, newest first, and below them the emergencies, if there were any."""
    table = _table("when", "environment", "build", "digest", "before", "commit", "from", "by")
    for one in history.changes:
        table.add_row(
            *(one.date, one.environment, one.build, _digest(one.after), _digest(one.before)),
            *(one.commit[:12], one.promoted_from, one.requested_by),
        )
    console().print(table)
    told = history_document(history)["emergencies"]
    if known := [one for one in told if one["error"] is None]:
        table = _table("emergency in", "since", "until", "by", "reason")
        for one in known:
            table.add_row(
                *(one["environment"], one["since"], one["until"] or "is on", one["person"], one["reason"])
            )
        console().print(table)
    for one in told:
        if one["error"] is not None:
            _say(f"{one['environment']}: emergencies are not known: {one['error']}")


def _emergencies(environment: str, told: tuple[Emergency, ...] | Unknown) -> list[dict[str, Any]]:
    """One object for each emergency, or one that says why they are not known."""
    if isinstance(told, Unknown):
        nothing = dict.fromkeys(("person", "since", "until", "reason"))
        return [{"environment": environment, **nothing, "error": told.reason}]
    return [
        {
            "environment": environment,
            "person": one.person,
            "since": one.since.isoformat(),
            "until": one.until.isoformat() if one.until else None,
            "reason": one.reason,
            "error": None,
        }
        for one in told
    ]


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
        },
        "rejected": list(tests.found.rejected),
        "error": None,
    }


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


def _say(line: str) -> None:
    console().print(line, markup=False, highlight=False, soft_wrap=True)


def _digest(text: str) -> str:
    return text[:19] if text.startswith("sha256:") else text or "?"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def console() -> Console:
    """Where tables go."""
    # Piped into a file or a CI log, a table must not be cut to 80 columns.
    return Console(width=None if sys.stdout.isatty() else 160)
