"""Test evidence about a digest: what was tested, with what, on which pods, and how it ended.

The statement is in-toto's test-result v0.1. Only a whole run of everything that the environment requires can
be PASSED; anything less says so.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from delivery.context import Context
from delivery.desired.tree import Trees
from delivery.errors import Unknown
from delivery.parts.registry import Registry
from delivery.pipeline import Environment, SuiteRules
from delivery.signed import ledger, measurements, statements
from delivery.signed.measurements import Measurement
from delivery.signed.statements import Attached, Model

Result = Literal["PASSED", "WARNED", "FAILED"]
GitHash = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]


class Running(Model):
    """One container of one pod as it ran."""

    pod: str
    uid: str
    container: str
    imageID: str


class Pods(Model):
    """What ran before the tests and after them."""

    before: tuple[Running, ...]
    after: tuple[Running, ...]


class Excused(Model):
    """A check that could not be made and that pipeline.yaml allows to be missing."""

    test: str
    check: str
    reason: str


class Run(Model):
    """The circumstances of one run."""

    environment: str
    application: str
    revision: GitHash
    suites: dict[str, Result]
    expected: tuple[str, ...]  # every test that the committed suites have
    excused: tuple[Excused, ...]
    reasons: tuple[str, ...]
    pods: Pods
    startedOn: AwareDatetime
    finishedOn: AwareDatetime


class Descriptor(Model):
    """Something that the result depends on, or that came out of the run."""

    name: str
    digest: dict[str, str]


class Predicate(Model):
    """in-toto's test-result, with our run beside it."""

    result: Result
    configuration: tuple[Descriptor, ...]
    passedTests: tuple[str, ...]
    warnedTests: tuple[str, ...]
    failedTests: tuple[str, ...]
    run: Run


class Test(BaseModel):
    """One test of a results file: delivery/results/v1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Annotated[str, Field(min_length=1)]
    suite: Annotated[str, Field(min_length=1)]
    check: str
    outcome: Literal["passed", "failed", "unknown", "skipped"]
    reason: str = ""


@dataclass(frozen=True)
class Judgement:
    """What a run comes to."""

    result: Result
    suites: Mapping[str, Result]
    passed: tuple[str, ...]
    warned: tuple[str, ...]
    failed: tuple[str, ...]
    excused: tuple[Excused, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """One run about a digest, verified and read."""

    environment: str
    result: Result
    suites: Mapping[str, Result]
    excused: frozenset[str]  # checks that were allowed to be missing
    failed: tuple[str, ...]
    warned: tuple[str, ...]
    reasons: tuple[str, ...]
    trees: Trees
    finished: datetime
    hash: str
    measured: tuple[Measurement, ...] | Unknown = ()  # for people; nothing is decided by it


@dataclass(frozen=True)
class Recorded:
    """An environment's evidence about a digest, oldest first, and why other attestations do not count."""

    evidence: tuple[Evidence, ...] = ()
    rejected: tuple[str, ...] = ()
    hashes: frozenset[str] = frozenset()  # of all that its key signed, also where nobody can read it

    @property
    def newest(self) -> Evidence | None:
        """The run that counts: the last one to end; of two at once the one that did not pass."""
        ordered = sorted(self.evidence, key=lambda one: (one.finished, one.result != "PASSED"))
        return ordered[-1] if ordered else None


def judge(rules: SuiteRules, tests: Iterable[Test], changed: Iterable[str] = ()) -> Judgement:
    """What the tests come to under an environment's rules; `changed` says how the pods did not stay."""
    tests, changes = tuple(tests), tuple(changed)
    passed = tuple(test.id for test in tests if test.outcome == "passed")
    failed = tuple(test.id for test in tests if test.outcome == "failed")
    open_ = [test for test in tests if test.outcome in ("unknown", "skipped")]
    excused = [test for test in open_ if test.check in rules.without]
    warned = [test for test in open_ if test.check not in rules.without]
    suites: dict[str, Result] = {}
    for test in tests:
        own: Result = "FAILED" if test.outcome == "failed" else "WARNED" if test in warned else "PASSED"
        suites[test.suite] = max(own, suites.get(test.suite, "PASSED"), key=_ORDER.index)
    empty = [name for name in suites if not any(t.suite == name and t.outcome == "passed" for t in tests)]
    for name in empty:
        suites[name] = max("WARNED", suites[name], key=_ORDER.index)
    missing = [name for name in rules.requires if name not in suites]
    reasons = [
        *(f"{test.id}: {test.reason or 'failed'}" for test in tests if test.outcome == "failed"),
        *changes,
        *(f"suite {name} is required and did not run" for name in missing),
        *(f"no test of suite {name} passed" for name in empty),
        *(f"{test.id} is {test.outcome}: {test.reason or 'no reason given'}" for test in warned),
    ]
    result: Result = "PASSED"
    if missing or any(suites[name] != "PASSED" for name in rules.requires if name in suites):
        result = "WARNED"
    if failed or changes:
        result = "FAILED"
    return Judgement(
        result=result,
        suites=suites,
        passed=passed,
        warned=tuple(test.id for test in warned),
        failed=failed,
        excused=tuple(Excused(test=t.id, check=t.check, reason=t.reason) for t in excused),
        reasons=tuple(reasons),
    )


_ORDER: tuple[Result, ...] = ("PASSED", "WARNED", "FAILED")


def predicate(
    context: Context,
    environment: Environment,
    judgement: Judgement,
    trees: Trees,
    expected: tuple[str, ...],
    commit: str,
    revision: str,
    pods: Pods,
    started: datetime,
    finished: datetime,
    artifacts: Iterable[dict[str, Any]] = (),
    measured: Iterable[Measurement] = (),
) -> dict[str, Any]:
    """The test-result predicate of one run, as data."""
    run = Run(
        environment=environment.name,
        application=environment.application,
        revision=revision,
        suites=dict(judgement.suites),
        expected=expected,
        excused=judgement.excused,
        reasons=judgement.reasons,
        pods=pods,
        startedOn=started,
        finishedOn=finished,
    )
    return {
        "result": judgement.result,
        "configuration": [
            {"name": "suites", "digest": {"gitTree": trees.suites}},
            {"name": "chart", "digest": {"sha256": trees.chart}},
            {"name": _values_name(environment), "digest": {"sha256": trees.values}},
            {"name": "manifests", "digest": {"sha256": trees.manifests}},
            {"name": "commit", "uri": context.site.git.for_argocd, "digest": {"gitCommit": commit}},
        ],
        "passedTests": list(judgement.passed),
        "warnedTests": list(judgement.warned),
        "failedTests": list(judgement.failed),
        "run": run.model_dump(mode="json")
        | {
            "artifacts": list(artifacts),
            "measurements": [one.model_dump(mode="json") for one in measured],
        },
    }


def put(
    context: Context, digest: str, environment: Environment, data: dict[str, Any]
) -> statements.Statement:
    """Sign a run's predicate with the environment's key, attach it to the digest, and put it on record."""
    made = statements.put(context, digest, statements.TEST_RESULT, data, environment.name)
    ledger.record(context, digest, environment, made.hash)
    return made


def fetch(context: Context, registry: Registry, digest: str, environment: Environment) -> Recorded:
    """Every run of an environment about a digest that its key signed, oldest first."""
    attached = statements.read(context, registry, digest, statements.TEST_RESULT, [environment.name])
    return read(environment, attached)


def read(environment: Environment, attached: Attached) -> Recorded:
    """Those of what was signed that are an environment's test results, oldest first."""
    found, rejected = [], []
    for one in attached.rejected:
        claims = one.predicate.get("run")
        claimed = claims.get("environment") if isinstance(claims, dict) else None
        if claimed in (None, environment.name):
            rejected.append(one.reason)
    for statement in attached.statements:
        try:
            found.append(parse(environment, statement))
        except ValueError as error:
            rejected.append(str(error))
    there = frozenset(one.hash for one in attached.statements)
    return Recorded(tuple(sorted(found, key=lambda one: one.finished)), tuple(rejected), there)


def parse(environment: Environment, statement: statements.Statement) -> Evidence:
    """A verified statement as evidence of an environment; ValueError says why it is none."""
    try:
        read = Predicate.model_validate(statement.predicate)
    except ValidationError as error:
        raise ValueError(f"an attestation is not a test result: {statements.first(error)}") from None
    if read.run.environment != environment.name:
        raise ValueError(
            f"an attestation signed by {environment.name} is about another environment, "
            f"{read.run.environment[:40]}"
        )
    digests = {one.name: one.digest for one in read.configuration}
    try:
        trees = Trees(
            digests["suites"]["gitTree"],
            digests["chart"]["sha256"],
            digests[_values_name(environment)]["sha256"],
            digests["manifests"]["sha256"],
        )
    except KeyError as error:
        raise ValueError(f"an attestation does not say with which {error.args[0]} it was tested") from None
    told = {*read.passedTests, *read.warnedTests, *read.failedTests, *(one.test for one in read.run.excused)}
    if different := told ^ set(read.run.expected):
        raise ValueError(
            f"an attestation does not say how {min(different)[:80]} ended, or tells of one too many"
        )
    return Evidence(
        environment=read.run.environment,
        result=read.result,
        suites=read.run.suites,
        excused=frozenset(one.check for one in read.run.excused),
        failed=read.failedTests,
        warned=read.warnedTests,
        reasons=read.run.reasons,
        trees=trees,
        finished=read.run.finishedOn,
        hash=statement.hash,
        measured=_measured(statement.predicate["run"]),
    )


def set_hash(used: Iterable[Evidence]) -> str:
    """One hash for the evidence that a decision rests on, whatever its order."""
    return hashlib.sha256("\n".join(sorted(one.hash for one in used)).encode()).hexdigest()


def _measured(run: dict[str, Any]) -> tuple[Measurement, ...] | Unknown:
    # An older run measured nothing; measurements that nobody can read take nothing from how the tests ended.
    try:
        return measurements.read(run.get("measurements", ()))
    except ValueError as error:
        return Unknown(str(error))


def _values_name(environment: Environment) -> str:
    return environment.values.rpartition("/")[2]
