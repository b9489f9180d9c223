"""Carry a change into an environment: commit it, let Argo CD act, wait until the pods run it."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from delivery.build import image
from delivery.context import Context
from delivery.desired import change
from delivery.parts import argocd, git
from delivery.parts.kubernetes import Kubernetes
from delivery.pipeline import Environment
from delivery.progress import phase
from delivery.verbs import rollout


@dataclass(frozen=True)
class Promotion:
    """What happened: the digest that runs now, the commit that asked for it, and how long it took."""

    environment: str
    build: str
    digest: str
    before: str
    revision: str
    commit: str
    new: bool
    seconds: dict[str, float]  # from the push on: seen by Argo CD, pods ready, settled


def carry(
    context: Context,
    environment: Environment,
    plan: Callable[[git.Repository, str], tuple[change.Request, image.Built]],
) -> Promotion:
    kubernetes = Kubernetes(context.site, environment.name)
    api = argocd.ArgoCD(kubernetes, environment.name)
    try:
        api.application(environment.application)  # before anything is written: is there one to follow it?
        nodes = kubernetes.platforms()
        planned: list[tuple[change.Request, image.Built]] = []

        def noted(repository: git.Repository, commit: str) -> change.Request:
            planned[:] = [plan(repository, commit)]
            [(asked, built)] = planned
            image.fits(built, nodes)
            return asked

        done = change.apply(context, noted)
        [(request, built)] = planned
        with phase(_sentence(environment, request, done)):
            pass
        seconds = _follow(context, environment, kubernetes, done, built.children)
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
    )


def _follow(
    context: Context,
    environment: Environment,
    kubernetes: Kubernetes,
    done: change.Change,
    children: Collection[str],
) -> dict[str, float]:
    """Let Argo CD act on the commit, and wait for the pods, then for Argo CD's own word."""
    api, name, waits = (
        argocd.ArgoCD(kubernetes, environment.name),
        environment.application,
        context.pipeline.waits,
    )
    start, seconds = time.monotonic(), {}
    newer: dict[str, bool] = {done.commit: True}

    def enough(revision: str) -> bool:
        """Whether a commit is ours or came after it: main may move on while we wait."""
        if revision not in newer:
            with git.clone(context.site.git, context.pipeline.git.branch, bare=True) as repository:
                newer[revision] = repository.contains(done.commit, revision)
        return newer[revision]

    with phase(f"Argo CD has seen {done.commit[:12]} for {environment.name}"):
        api.refresh(name, enough, waits.argocd)
        if environment.sync == "exact-commit":
            api.sync(name, done.commit, waits.argocd)
        seconds["seen"] = time.monotonic() - start
    with phase(f"All replicas in {environment.name} run {done.desired.digest[:19]}"):
        rollout.rolled_out(context, kubernetes, environment, done.desired, children, enough)
        seconds["ready"] = time.monotonic() - start
    with phase(f"{name} is Synced and Healthy"):
        api.settled(name, enough, waits.settle)
        seconds["settled"] = time.monotonic() - start
    return {key: round(value, 2) for key, value in seconds.items()}


def _sentence(environment: Environment, request: change.Request, done: change.Change) -> str:
    if not done.new:
        return f"Git already asks for build {request.build} in {environment.name}: nothing to commit"
    return f"Commit {done.commit[:12]} asks for build {request.build} in {environment.name}"
