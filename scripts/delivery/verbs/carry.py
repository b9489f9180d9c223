"""Carry a change into an environment: commit it, sign that it entered, let Argo CD act, wait until the pods run it."""

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

from delivery.build import image
from delivery.context import Context
from delivery.desired import change
from delivery.errors import NotReached
from delivery.parts import argocd, emergency, git
from delivery.parts.kubernetes import Denied, Kubernetes
from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.progress import phase
from delivery.proof import locks
from delivery.signed import commits, entry, keys, trail
from delivery.verbs import frozen, rollout


@dataclass(frozen=True)
class Planned:
    """What is to be carried, and what its entry will say."""

    request: change.Request
    built: image.Built
    rules: str = ""  # the hash of the pipeline.yaml that it was judged by
    inputs: tuple[str, ...] = ()  # the hashes of the statements that the gate rested on
    form: entry.Form = "promotion"


@dataclass(frozen=True)
class Promotion:
    """What happened: the digest that runs now, the commit that asked for it, and how long it took."""

    environment: str
    build: str
    digest: str
    before: str
    revision: str
    commit: str  # its id, also where it is a tag
    new: bool
    seconds: dict[str, float]  # from the push on: seen by Argo CD, pods ready, settled
    tag: str = ""  # its name, where it is one


def carry(
    context: Context,
    environment: Environment,
    plan: Callable[[git.Repository, str], Planned],
) -> Promotion:
    """Carry what is planned on top of the server's newest commit; PlatformError when the gate's keys are not here."""
    kubernetes = Kubernetes(context.site, environment.name)
    api = argocd.ArgoCD(kubernetes, environment.name)
    try:
        _insist_followed(api, environment)
        nodes = kubernetes.platforms()
        sign = commits.signer(context, environment)
        if environment.guarded:
            keys.private(context.site, environment.gate)
        planned: list[Planned] = []

        def noted(repository: git.Repository, commit: str) -> change.Request:
            planned[:] = [plan(repository, commit)]
            image.fits(planned[0].built, nodes)
            if environment.guarded:
                frozen.insist(context, api, environment, planned[0].request)
            return planned[0].request

        done = change.apply(context, noted, sign)
        [found] = planned
        request = found.request
        with phase(_sentence(environment, request, done)):
            pass
        if environment.guarded:
            _enter(context, environment, kubernetes, found, done)
        seconds = _follow(context, environment, kubernetes, done, found)
    finally:
        kubernetes.close()
    return Promotion(
        environment=environment.name,
        build=request.build,
        digest=request.digest,
        before=done.before,
        revision=request.revision,
        commit=done.commit,
        new=done.new,
        seconds=seconds,
        tag=done.tag,
    )


def insist_followed(context: Context, environment: Environment) -> None:
    """Return when Argo CD has an Application of the environment and runs; PlatformError as `carry` raises it."""
    with closing(Kubernetes(context.site, environment.name)) as kubernetes:
        _insist_followed(argocd.ArgoCD(kubernetes, environment.name), environment)


def _insist_followed(api: argocd.ArgoCD, environment: Environment) -> None:
    """Before anything is written: is there one to follow it, and somebody to act on it?"""
    api.application(environment.application)
    api.insist_runs()


def _enter(
    context: Context,
    environment: Environment,
    kubernetes: Kubernetes,
    planned: Planned,
    done: change.Change,
) -> None:
    """Sign that it enters, once, and anew after an emergency: only then is it known what is there again.

    The ledger keeps it. What a run left that was killed after its commit, the next one makes up for.
    """
    digest = planned.request.digest
    with connect(context.site.image) as registry:
        known = entry.fetch(context, registry, digest, environment)
    signed = known.of(done.commit)
    hashes = {signed.hash, *signed.inputs} if signed else set()
    if signed is None or _emergency_since(kubernetes, environment, signed.at):
        release = entry.release(
            *(environment, done.release, done.commit, done.desired.manifests),
            *(planned.form, planned.request.reason),
        )
        with phase(f"Signing the entry of {digest[:19]} into {environment.name}"):
            now, inputs = datetime.now(UTC), planned.inputs
            made = entry.put(context, digest, environment, release, planned.rules, inputs, now)
        hashes |= {made, *inputs}
    trail.keep(context, environment, digest, done.commit, hashes)


def _insist_newest(context: Context, environment: Environment, done: change.Change) -> None:
    """Return when nothing newer entered the environment than this change; NotReached when something did."""
    if git.server_ref(context.site.git, f"refs/heads/{context.pipeline.git.branch}") == done.commit:
        return
    with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
        newest = commits.newest(context, repository, environment)
    if newest is None or newest.commit != done.commit:
        raise NotReached(
            f"something newer entered {environment.name} meanwhile",
            f"look: delivery verify {environment.name}",
        )


def _emergency_since(kubernetes: Kubernetes, environment: Environment, entered: datetime) -> bool:
    """Whether an emergency ended after this entry. What cannot be read is for the proof to tell."""
    try:
        told = emergency.of(kubernetes.namespace(environment.namespace))
    except (Denied, ValueError):
        return False
    return any(one.until and not locks.over(one, entered) for one in told)


def _follow(
    context: Context,
    environment: Environment,
    kubernetes: Kubernetes,
    done: change.Change,
    planned: Planned,
) -> dict[str, float]:
    """Let Argo CD act on the commit, and wait for the pods, then for Argo CD's own word."""
    api, name, waits = (
        argocd.ArgoCD(kubernetes, environment.name),
        environment.application,
        context.pipeline.waits,
    )
    start, seconds = time.monotonic(), {}
    newer: dict[str, bool] = {done.release: True}

    def enough(revision: str) -> bool:
        """Whether a commit is ours or, where the branch is followed, came after it: main may move on while we wait."""
        if revision not in newer and environment.guarded:
            return False
        if revision not in newer:
            with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
                newer[revision] = repository.contains(done.commit, revision)
        return newer[revision]

    with phase(f"Argo CD has seen {done.release[:12]} for {environment.name}") as progress:
        if environment.guarded:
            api.pin(name, done.pin, done.release, lambda: _insist_newest(context, environment, done))
        found = api.refresh(name, enough, waits.argocd, progress.update)
        seconds["seen"] = time.monotonic() - start
    by_hand = (
        frozen.lifted(context, api, environment, planned.request.reason)
        if environment.guarded
        else nullcontext(False)
    )
    with by_hand as lifted:
        if lifted or (found.failed and found.operation_revision == done.release):
            with phase(f"Argo CD is told to sync {done.release[:12]}") as progress:
                api.order(name, done.release, waits.settle, progress.update)
        with phase(f"All replicas in {environment.name} run {done.desired.digest[:19]}") as progress:
            wanted, children = done.desired, planned.built.children
            rollout.rolled_out(context, kubernetes, environment, wanted, children, enough, progress.update)
            seconds["ready"] = time.monotonic() - start
        with phase(f"{name} is Synced and Healthy") as progress:
            api.settled(name, enough, waits.settle, progress.update)
            seconds["settled"] = time.monotonic() - start
    return {key: round(value, 2) for key, value in seconds.items()}


def _sentence(environment: Environment, request: change.Request, done: change.Change) -> str:
    if not done.new:
        return f"Git already asks for build {request.build} in {environment.name}: nothing to commit"
    made = f"Tag {done.tag}" if done.tag else f"Commit {done.commit[:12]}"
    return f"{made} asks for build {request.build} in {environment.name}"
