"""`delivery test ENV`: the gate suites against an environment, and signed evidence of how they ended.

What is tested is what is proven to run there, by the suites of the checkout's commit. The pods are looked at before and
after; a run that was killed, or whose results cannot be read, leaves nothing. What was signed is put on the ledger.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from delivery.context import Context
from delivery.desired import tree
from delivery.desired.manifests import Desired
from delivery.desired.tree import Trees
from delivery.errors import BadInput, NotReached, Refused, Unknown
from delivery.lock import alone
from delivery.parts import git
from delivery.parts.kubernetes import Kubernetes
from delivery.pipeline import Environment
from delivery.progress import phase
from delivery.proof import observe, stayed
from delivery.proof.decide import Entered, Image, Pod, Proof, Verdict
from delivery.signed import evidence
from delivery.signed.evidence import Judgement
from delivery.verbs import rollout
from delivery.verbs.suites import Suites, exported


@dataclass(frozen=True)
class Tested:
    """One run: what was tested, how it ended, and the hash of the signed evidence."""

    environment: str
    digest: str
    build: str
    judgement: Judgement
    evidence: str
    seconds: dict[str, float]


def run(
    context: Context, environment: Environment, suites: Iterable[str] = (), junit: Path | None = None
) -> Tested:
    """Test an environment with the suites that it requires, or with these, and attach the signed evidence.

    `junit` is a file for how each test ended, as JUnit's XML; no evidence names it, and one of an earlier run is gone
    first. Raises DeliveryError, and leaves no evidence, when nothing could be known.
    """
    if junit:
        _make_room(junit)
    repository = git.checkout(context.checkout)
    chosen = tuple(dict.fromkeys(suites)) or environment.tests.requires
    name = environment.name
    limit = context.pipeline.waits.tests
    with (
        exported(repository, repository.commit("HEAD"), chosen) as files,
        alone(context.site.state / f"test-{name}.lock", f"another `delivery test {name}`", limit),
    ):
        return _run(context, environment, files, junit)


def _run(context: Context, environment: Environment, suites: Suites, junit: Path | None) -> Tested:
    name, waits = environment.name, context.pipeline.waits
    started = _now()
    with phase(f"{name} is proven to run what Git asks for"):
        [found] = observe.proofs(context, [environment])
        wanted = _proven(found)
        with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as server:
            revision = _revision(found)
            trees = Trees(
                suites=suites.tree,
                chart=tree.chart(context, server, revision),
                values=tree.values(server, environment, revision),
                manifests=wanted.manifests,
            )
    kubernetes = Kubernetes(context.site, environment.name)
    try:
        before = rollout.settled(kubernetes, environment.namespace, waits.settle)
        began = _now()
        with phase(f"Testing {name}: {', '.join(suites.names)}") as progress:
            expected, results = suites.run(context, environment, junit, progress.update)
        ended = _now()
        with phase(f"The pods in {name} are those that were tested") as progress:
            changed: list[str] = []
            after: tuple[Pod, ...] = ()
            try:
                after = rollout.settled(kubernetes, environment.namespace, waits.settle, progress.update)
                children = found.facts.image.children if isinstance(found.facts.image, Image) else ()
                changed = stayed.changes(
                    before, after, results.restarted, context.pipeline.chart.release, wanted.image, children
                )
            except NotReached as error:
                changed = [error.message]
    finally:
        kubernetes.close()
    judgement = evidence.judge(environment.tests, results.tests, changed)
    with phase(f"Signing {judgement.result} evidence about {wanted.digest[:19]}"):
        data = evidence.predicate(
            context,
            environment,
            judgement,
            trees,
            expected,
            wanted.commit,
            revision,
            evidence.Pods(
                before=_running(before),
                after=_running(after),
            ),
            began,
            finished := _now(),
            results.artifacts,
            results.measured,
        )
        made = evidence.put(context, wanted.digest, environment, data)
    seconds = {
        "before": (began - started).total_seconds(),
        "tests": (ended - began).total_seconds(),
        "after": (finished - ended).total_seconds(),
        "signing": (_now() - finished).total_seconds(),
    }
    rounded = {key: round(value, 2) for key, value in seconds.items()}
    return Tested(name, wanted.digest, wanted.tag, judgement, made.hash, rounded)


def insist(context: Context, tested: Tested) -> None:
    """Return when the result is PASSED, else Refused."""
    result = tested.judgement.result
    if result != "PASSED":
        raise Refused(
            f"{tested.environment} {result}: build {tested.build} goes no further",
            f"the reasons are above; the log: {context.site.state}/tests/{tested.environment}/log",
        )


def _make_room(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}", "name another file: --junit") from None


def _running(pods: Iterable[Pod]) -> tuple[evidence.Running, ...]:
    return tuple(
        evidence.Running(pod=pod.name, uid=pod.uid, container=one.name, imageID=one.image_id)
        for pod in pods
        for one in sorted(pod.containers, key=lambda container: container.name)
    )


def _proven(found: Proof) -> Desired:
    if found.verdict is Verdict.PROVEN and isinstance(found.facts.desired, Desired):
        return found.facts.desired
    kind = Refused if found.verdict is Verdict.MISMATCH else NotReached
    name = found.facts.environment
    reasons = "; ".join(found.reasons)
    raise kind(f"{name} does not run what Git asks for: {reasons}", f"look: delivery verify {name}")


def _revision(found: Proof) -> str:
    application = found.facts.argocd
    if isinstance(application, Unknown):  # not after PROVEN
        raise NotReached(application.reason, f"look: delivery verify {found.facts.environment}")
    entered = found.facts.entered
    return entered.release if isinstance(entered, Entered) else application.revision


def _now() -> datetime:
    return datetime.now(UTC)
