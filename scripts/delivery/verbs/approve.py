"""`delivery approve ENV`: look at what is asked, and sign it, as one of the approvers of pipeline.yaml."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delivery import files
from delivery import pipeline as pipelines
from delivery.build import image
from delivery.context import Context
from delivery.desired import difference
from delivery.errors import BadInput, Refused, Unknown
from delivery.gate import candidate, gather
from delivery.gate import decide as gate
from delivery.gate.in_force import InForce
from delivery.parts import git
from delivery.parts.registry import connect
from delivery.pipeline import Approver, Environment
from delivery.progress import phase
from delivery.signed import approval, evidence, keys

SHOWN = "delivery/asked/v1"


@dataclass(frozen=True)
class Asked:
    """What an approver is shown before the signature."""

    environment: str
    build: str
    before: str
    after: str
    diff: str  # of the rendered manifests, from what runs there now
    untested: str  # of the rendered manifests, from what was tested in the environment before
    rules: str  # of pipeline.yaml, from the one by which the environment was last entered
    authors: Mapping[str, str]  # of all commits on the way, and who asks; whose key signed, or nothing
    tested: tuple[str, ...]  # the evidence, one line each
    change: str  # the hash of all that the signature is bound to

    @property
    def document(self) -> dict[str, Any]:
        """The same as JSON: schema delivery/asked/v1."""
        return {"schema": SHOWN, **asdict(self)}


@dataclass(frozen=True)
class Approved:
    """What was allowed, by whom, on which evidence."""

    environment: str
    digest: str
    build: str
    approver: str
    evidence: str
    new: bool


@dataclass(frozen=True)
class _Question:
    """What could be signed now, and by whom."""

    by: Approver
    gate: gate.Question
    built: image.Built
    used: str  # one hash over the evidence
    new: bool  # no approval of it counts yet
    shown: Callable[[], Asked]


def run(
    context: Context,
    environment: Environment,
    name: str | None,
    digest: str | None = None,
    agrees: Callable[[Asked], bool] = lambda _: True,
    shown: Path | None = None,
) -> Approved:
    """Sign that what the environment before runs may enter, exactly as it would be committed now.

    `agrees` is asked with all that there is to see. Refused when it says no, when the tests do not allow it, or when
    the approver is an author. An approval that already counts is not made twice. `digest` says which one is meant.
    With `shown` it is also Refused when what would be signed is not any more what `look` kept in that file; BadInput
    when that file cannot be read.
    """
    earlier = _kept(shown) if shown else None
    with _question(context, environment, name, digest) as question:
        wanted = question.gate.digest
        if question.new:
            asked = question.shown()
            if earlier is not None and asked.change != earlier:
                raise Refused(
                    f"what would enter {environment.name} is not what was shown: nothing was signed",
                    f"look again: delivery approve {environment.name} --dry-run",
                )
            if not agrees(asked):
                raise Refused(
                    f"{question.by.identity} did not approve {wanted[:19]} for {environment.name}",
                    "nothing was signed",
                )
    if question.new:
        with phase(f"Signing the approval of {wanted[:19]} for {environment.name}"):
            given = approval.unsigned(
                *(environment, question.by, question.used, question.gate.scope), datetime.now(UTC)
            )
            approval.put(context, wanted, given)
    return Approved(
        *(environment.name, wanted, question.built.build, question.by.identity),
        *(question.used, question.new),
    )


def look(
    context: Context,
    environment: Environment,
    name: str | None,
    digest: str | None = None,
    keep: Path | None = None,
) -> Asked:
    """All that an approver would sign now, and nothing signed; Refused as `run` would be. `keep` is the file for it."""
    with _question(context, environment, name, digest) as question:
        asked = question.shown()
    if keep:
        try:
            files.write(keep, json.dumps(asked.document, indent=1) + "\n")
        except OSError as error:
            raise BadInput(f"{keep} cannot be written: {error.strerror}", "name another file") from None
    return asked


def _kept(file: Path) -> str:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if said["schema"] != SHOWN or not isinstance(said["change"], str):
            raise ValueError(f"it is not {SHOWN}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is not {SHOWN}"
        raise BadInput(
            f"{file} does not say what was shown: {why}", "approve ENV --dry-run writes it"
        ) from None
    return str(said["change"])


@contextmanager
def _question(
    context: Context, environment: Environment, name: str | None, digest: str | None
) -> Iterator[_Question]:
    none = BadInput(f"{environment.name} needs no approval", f"delivery promote {environment.name}")
    if environment.source is None:
        raise none
    by = approval.approver(context, name)
    with (
        git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository,
        connect(context.site.image) as registry,
    ):
        if (rule := gather.approving(context, repository, environment)) is None:
            raise none
        what = candidate.of(context, repository, environment, digest)
        built = image.known(context, registry, what.digest)
        with phase(f"The evidence of {environment.source} about {what.digest[:19]}"):
            asked = gather.question(context, repository, what.commit, environment, built, what.proof)
            insist_tested(asked)
            _insist_other(asked, by)
            _insist_by_key(asked, rule)
        used = evidence.set_hash(gate.uses(asked))
        yield _Question(
            *(by, asked, built, used, not _counts(asked, rule, by, used)),
            lambda: _shown(context, repository, what.commit, asked, built),
        )


def _shown(
    context: Context, repository: git.Repository, commit: str, asked: gate.Question, built: image.Built
) -> Asked:
    target = asked.target
    request = gather.as_it_stands(context, target, built, commit)
    has = asked.runs.release if asked.runs else ""
    tested_in = context.pipeline.environment(target.source or "")
    shown = difference.shown(context, repository, request, commit, has, tested_in)
    judged = asked.runs.rules if asked.runs else ""
    rules = repository.run("diff", judged, "HEAD", "--", pipelines.FILE) if judged else ""
    tested = [
        f"{one.environment} {one.result} on {one.finished:%Y-%m-%d %H:%M} UTC, evidence sha256:{one.hash}"
        for one in gate.uses(asked)
    ]
    return Asked(
        *(target.name, built.build, shown.before, built.digest, shown.diff, shown.untested, rules),
        *(
            {one: asked.authors.signers.get(one, "") for one in sorted(asked.authors.everybody)},
            *(tuple(tested), _hash(asked)),
        ),
    )


def _hash(asked: gate.Question) -> str:
    bound = {
        "digest": asked.digest,
        "environment": asked.target.name,
        "evidence": evidence.set_hash(gate.uses(asked)),
        "change": asked.scope.model_dump(mode="json"),
    }
    return f"sha256:{hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()}"


def insist_tested(asked: gate.Question) -> None:
    """Return when the tests allow what is asked, and somebody answers for every commit of it; Refused when not."""
    name = asked.target.name
    if isinstance(asked.keys, Unknown) or asked.keys:
        why = asked.keys.reason if isinstance(asked.keys, Unknown) else "; ".join(asked.keys)
        raise Refused(f"nothing to approve for {name}: {why}", keys.REMEDY)
    for piece in (asked.evidence, asked.ledger):
        if isinstance(piece, Unknown):
            raise Refused(
                f"nothing to approve for {name}: {piece.reason}", f"when it answers: delivery approve {name}"
            )
    if reasons := gate.tested(asked):
        raise Refused(
            f"nothing to approve for {name}: {'; '.join(reasons)}",
            f"first: delivery test {asked.target.source}",
        )
    if asked.authors.unsigned:
        raise Refused(
            f"nothing to approve for {name}: {'; '.join(asked.authors.unsigned)}", "git log --show-signature"
        )


def _insist_other(asked: gate.Question, by: Approver) -> None:
    if by.identity.lower() in asked.authors.everybody:
        raise Refused(
            f"{by.identity} is an author of it and cannot approve it for {asked.target.name}",
            "somebody else approves: --as",
        )


def _insist_by_key(asked: gate.Question, rule: Environment) -> None:
    """Return where a signature of one's own is asked for, by the rules that are asked for or by those in force."""
    rules = [rule.approval]
    if isinstance(asked.in_force, InForce):
        rules.append(asked.in_force.pipeline.environment(rule.name).approval)
    if not any(one and not one.by_review for one in rules):
        raise BadInput(
            f"{rule.name} is approved by review",
            f"when it is merged: delivery approve {rule.name} --from-review",
        )


def _counts(asked: gate.Question, rule: Environment, by: Approver, used: str) -> bool:
    if isinstance(asked.approvals, Unknown):
        return False
    return any(
        one.signer == by.name
        and not approval.objections(
            one, asked.pipeline, rule, used, asked.scope, asked.authors.everybody, asked.now
        )
        for one in asked.approvals.approvals
    )
