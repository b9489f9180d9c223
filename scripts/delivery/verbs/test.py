"""`delivery test ENV`: the gate suites against an environment, and signed evidence of how they ended.

What is tested is what is proven to run there. The pods are looked at before and after; a run that was killed,
or whose results cannot be read, leaves nothing.
"""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

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
from delivery.proof.decide import Image, Pod, Proof, Verdict
from delivery.signed import evidence
from delivery.signed.evidence import Judgement
from delivery.verbs import rollout

SCHEMA = "delivery/results/v1"
_INSIDE = (
    65536  # bytes: an artifact up to this size is kept inside the evidence, of a larger one only its hash
)


@dataclass(frozen=True)
class Tested:
    """One run: what was tested, how it ended, and the hash of the signed evidence."""

    environment: str
    digest: str
    build: str
    judgement: Judgement
    evidence: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class Results:
    """What the suites wrote."""

    tests: tuple[evidence.Test, ...]
    artifacts: tuple[dict[str, Any], ...]
    restarted: tuple[str, ...]


def run(context: Context, environment: Environment, suites: Iterable[str] = ()) -> Tested:
    """Test an environment with the suites that it requires, or with these, and attach the signed evidence.

    Raises DeliveryError, and leaves no evidence, when nothing could be known.
    """
    repository = git.checkout(context.checkout)
    chosen = tuple(dict.fromkeys(suites)) or environment.tests.requires
    paths = _paths(context, repository, chosen)
    name = environment.name
    limit = context.pipeline.waits.tests
    with alone(context.site.state / f"test-{name}.lock", f"another `delivery test {name}`", limit):
        return _run(context, environment, repository, paths, chosen)


def _run(
    context: Context,
    environment: Environment,
    repository: git.Repository,
    paths: list[str],
    suites: tuple[str, ...],
) -> Tested:
    name, waits = environment.name, context.pipeline.waits
    started = _now()
    with phase(f"{name} is proven to run what Git asks for"):
        [found] = observe.proofs(context, [environment])
        wanted = _proven(found)
        with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as server:
            revision = _revision(found, environment)
            trees = Trees(
                suites=tree.suites(repository, "HEAD"),
                chart=tree.chart(context, server, revision),
                values=tree.values(server, environment, revision),
            )
    kubernetes = Kubernetes(context.site, environment.name)
    try:
        before = rollout.settled(kubernetes, environment.namespace, waits.settle)
        began = _now()
        with phase(f"Testing {name}: {', '.join(suites)}") as progress:
            results = _pytest(context, environment, paths)
            progress.update(f"{len(results.tests)} tests")
        ended = _now()
        with phase(f"The pods in {name} are those that were tested"):
            changed: list[str] = []
            after: tuple[Pod, ...] = ()
            try:
                after = rollout.settled(kubernetes, environment.namespace, waits.settle)
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
            wanted.commit,
            revision,
            evidence.Pods(
                before=_running(before),
                after=_running(after),
            ),
            began,
            finished := _now(),
            results.artifacts,
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


def results(file: Path) -> Results:
    """The results file of the suites; ValueError says why it cannot be believed."""
    data = json.loads(file.read_bytes())
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"not {SCHEMA}")
    names = TypeAdapter(tuple[str, ...])
    try:
        tests = TypeAdapter(tuple[evidence.Test, ...]).validate_python(data["tests"])
        restarted = names.validate_python(data.get("restarted", ()))
        artifacts = names.validate_python(data.get("artifacts", ()))
    except (ValidationError, KeyError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None
    if not tests:
        raise ValueError("no test ran")
    ids = [test.id for test in tests]
    if len(set(ids)) != len(ids):
        raise ValueError("a test is named twice")
    return Results(tests, tuple(_artifact(file.parent, name) for name in artifacts), restarted)


def _running(pods: Iterable[Pod]) -> tuple[evidence.Running, ...]:
    return tuple(
        evidence.Running(pod=pod.name, uid=pod.uid, container=one.name, imageID=one.image_id)
        for pod in pods
        for one in sorted(pod.containers, key=lambda container: container.name)
    )


def _paths(context: Context, repository: git.Repository, suites: Iterable[str]) -> list[str]:
    folder = context.checkout / tree.SUITES
    there = sorted(p.name for p in folder.glob("[a-z]*/") if any(p.glob("test_*.py")))
    if unknown := [name for name in suites if name not in there]:
        raise BadInput(
            f"there is no suite {unknown[0]!r} in {tree.SUITES}", f"one of: {', '.join(there) or 'none'}"
        )
    changed = repository.run("status", "--porcelain", "--", tree.SUITES).splitlines()
    if changed:
        raise BadInput(
            f"the suites are not committed: {changed[0].strip()}",
            "commit them first: the evidence names them by Git's hash",
        )
    return [f"{tree.SUITES}/{name}" for name in suites]


def _proven(found: Proof) -> Desired:
    if found.verdict is Verdict.PROVEN and isinstance(found.facts.desired, Desired):
        return found.facts.desired
    kind = Refused if found.verdict is Verdict.MISMATCH else NotReached
    name = found.facts.environment
    reasons = "; ".join(found.reasons)
    raise kind(f"{name} does not run what Git asks for: {reasons}", f"look: delivery verify {name}")


def _revision(found: Proof, environment: Environment) -> str:
    application = found.facts.argocd
    if isinstance(application, Unknown):  # not after PROVEN
        raise NotReached(application.reason, f"look: delivery verify {environment.name}")
    return application.revision if environment.sync == "automatic" else application.told


def _pytest(context: Context, environment: Environment, paths: list[str]) -> Results:
    folder = context.site.state / "tests" / environment.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, log = folder / "results.json", folder / "log"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *paths, "-p", "no:cacheprovider", "--no-header"]
    command += ["--environment", environment.name, "--results", str(file)]
    hint = f"see why: {log}"
    with log.open("wb") as out:
        # In a session of its own, so that whatever the suites started ends with them.
        process = subprocess.Popen(
            command,
            cwd=context.checkout,
            env=os.environ | {"DELIVERY_SITE": context.site.name, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(context.pipeline.waits.tests)
        except subprocess.TimeoutExpired:
            raise NotReached(
                f"the tests of {environment.name} did not end within {context.pipeline.waits.tests:.0f} s",
                hint,
            ) from None
        finally:
            _end(process)
    try:
        if code not in (0, 1):
            raise ValueError(f"pytest ended with {code}")
        found = results(file)
        if (code == 0) != all(test.outcome != "failed" for test in found.tests):
            raise ValueError(f"pytest ended with {code}, and the results say otherwise")
    except (OSError, ValueError) as error:
        why = "they wrote no results" if isinstance(error, OSError) else str(error)
        raise NotReached(f"nothing is known of the tests of {environment.name}: {why}", hint) from None
    return found


def _end(process: "subprocess.Popen[bytes]") -> None:
    # macOS says "not permitted" of a group whose last processes have ended and wait to be buried.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _artifact(folder: Path, name: str) -> dict[str, Any]:
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents:
        raise ValueError(f"artifact {name} is not in the results' folder")
    content = path.read_bytes()
    descriptor: dict[str, Any] = {"name": name, "digest": {"sha256": hashlib.sha256(content).hexdigest()}}
    if len(content) <= _INSIDE:
        descriptor["content"] = base64.b64encode(content).decode()
    return descriptor


def _now() -> datetime:
    return datetime.now(UTC)
