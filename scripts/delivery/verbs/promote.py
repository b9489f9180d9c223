"""A digest into an environment: check, commit, let Argo CD act, and wait until the pods run it."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from delivery.build import image
from delivery.desired import change, difference
from delivery.desired import manifests as desired
from delivery.errors import BadInput, NotReached, Refused
from delivery.gate import decide as gate
from delivery.gate import gather
from delivery.parts import argocd, git
from delivery.parts.kubernetes import Kubernetes
from delivery.parts.registry import Registry, connect
from delivery.pipeline import Cluster, Environment, Pipeline
from delivery.progress import phase
from delivery.proof import observe
from delivery.signed import evidence


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


@dataclass(frozen=True)
class Preview:
    """What a promotion would change: the digest, the rendered manifests, and the gate's answer."""

    environment: str
    build: str
    before: str
    after: str
    diff: str
    decision: gate.Decision


def deploy(pipeline: Pipeline, cluster: Cluster, digest: str | None = None) -> Promotion:
    """A built digest into the first environment: what CI does after a build.

    Without a digest it is the image of the newest commit that changed the app; it must be built already.
    """
    if digest is not None:
        desired.digest(digest)
    checkout = git.checkout(pipeline.root)
    with connect(cluster) as registry:
        if digest is None:
            revision = image.source(pipeline, checkout)
            built = image.find(pipeline, registry, revision)
            if built is None:
                raise BadInput(f"commit {revision[:12]} is not built yet", "build it: delivery build")
        else:
            built = image.known(pipeline, registry, digest)
        image.agrees(pipeline, registry, built)
    if change.publish(pipeline, cluster):
        head = checkout.commit("HEAD")
        with phase(f"{pipeline.git.branch} of the Git server is at {head[:12]}"):
            pass

    def plan(repository: git.Repository, commit: str) -> tuple[change.Request, image.Built]:
        if not _contains(repository, built.revision, commit):
            raise BadInput(
                f"{built.digest[:19]} was built from {built.revision[:12] or 'an unnamed commit'}, "
                f"which is not in {pipeline.git.branch}",
                "build what is committed: delivery build",
            )
        return change.Request(pipeline.first, built.digest, built.build, built.revision, None), built

    return _carry(pipeline, cluster, pipeline.first, plan)


def promote(
    pipeline: Pipeline,
    cluster: Cluster,
    environment: Environment,
    digest: str | None = None,
    tag: str | None = None,
) -> Promotion:
    """The digest of the environment before into this one, and no other.

    `digest` says which one is meant, `tag` that it must be built from this Git tag: either only refuses more.
    """
    if environment.source is None:
        raise BadInput(f"{environment.name} gets its digests from the build", "delivery deploy")
    if digest is not None:
        desired.digest(digest)
    source = pipeline.environment(environment.source)
    meant = digest

    def plan(repository: git.Repository, commit: str) -> tuple[change.Request, image.Built]:
        nonlocal meant
        meant = change.wanted(repository, source, environment, commit, meant)
        with connect(cluster) as registry:
            built = image.known(pipeline, registry, meant)
        if tag is not None:
            _tagged(pipeline, cluster, repository, tag, built)
        with phase(f"The gate of {environment.name} lets {meant[:19]} in"):
            decision = gate.decide(gather.question(pipeline, cluster, repository, commit, environment, built))
            insist(environment.name, decision)
        asked = change.Request(
            environment=environment,
            digest=meant,
            build=built.build,
            revision=built.revision,
            promoted_from=source.name,
            evidence=evidence.set_hash(decision.uses),
            approved_by=decision.approved_by,
        )
        return asked, built

    return _carry(pipeline, cluster, environment, plan)


def preview(
    pipeline: Pipeline, cluster: Cluster, environment: Environment, digest: str | None = None
) -> Preview:
    """What `promote` would do now, and whether the gate would let it; nothing is written."""
    if environment.source is None:
        raise BadInput(f"{environment.name} gets its digests from the build", "delivery deploy")
    if digest is not None:
        desired.digest(digest)
    source = pipeline.environment(environment.source)
    with git.clone(cluster.git_url, pipeline.git.branch) as repository:
        commit = repository.commit("HEAD")
        asked = change.wanted(repository, source, environment, commit, digest)
        with connect(cluster) as registry:
            built = image.known(pipeline, registry, asked)
        decision = gate.decide(gather.question(pipeline, cluster, repository, commit, environment, built))
        request = change.Request(environment, asked, built.build, built.revision, source.name)
        try:
            _, before = desired.image(repository, environment, commit)
            old = difference.rendered(pipeline, repository.path, environment)
        except desired.NothingYet:
            before, old = "none", []
        change.write(repository, request)
        new = difference.rendered(pipeline, repository.path, environment)
    return Preview(
        environment=environment.name,
        build=built.build,
        before=before,
        after=asked,
        diff=difference.difference(old, new, f"{environment.name} at {commit[:12]}", "promoted"),
        decision=decision,
    )


def rollback(
    pipeline: Pipeline, cluster: Cluster, environment: Environment, digest: str | None = None
) -> Promotion:
    """A digest that already ran here, again: by default the one before; one more commit, like every change.

    The gate is not asked again: what ran here had passed it. Refused for a digest that Git's history does not
    show here, or that no signed evidence ever called PASSED.
    """
    if digest is not None:
        desired.digest(digest)

    def plan(repository: git.Repository, commit: str) -> tuple[change.Request, image.Built]:
        _, now = desired.image(repository, environment, commit)
        ran = [e.after for e in change.history(repository, commit) if e.environment == environment.name]
        before = [one for one in ran if one != now]
        asked = digest or (before[0] if before else "")
        if asked not in ran:
            raise Refused(
                f"{environment.name} never ran {asked[:19] or 'anything else'}: nothing to go back to",
                "see what ran there: delivery history",
            )
        with connect(cluster) as registry:
            built = image.known(pipeline, registry, asked)
            _passed_once(pipeline, cluster, registry, environment, asked)
        return change.Request(environment, asked, built.build, built.revision, environment.name), built

    return _carry(pipeline, cluster, environment, plan)


def _passed_once(
    pipeline: Pipeline, cluster: Cluster, registry: Registry, environment: Environment, digest: str
) -> None:
    # Git's history alone can be written by hand.
    if environment.source is None:
        return
    asked = (environment, pipeline.environment(environment.source))
    found = (evidence.fetch(pipeline, cluster, registry, digest, one).evidence for one in asked)
    if not any(run.result == "PASSED" for runs in found for run in runs):
        raise Refused(
            f"{digest[:19]} never passed a test of {asked[1].name} or {environment.name}",
            "go back to one that did: delivery history",
        )


def insist(environment: str, decision: gate.Decision) -> None:
    """Return when the gate said yes; Refused or NotReached with every reason when it did not."""
    if decision.allowed:
        return
    reasons = "; ".join(decision.refusals + decision.unknowns)
    kind = Refused if decision.refusals else NotReached
    raise kind(f"{environment} stays as it is: {reasons}", "what is missing: delivery status")


def _carry(
    pipeline: Pipeline,
    cluster: Cluster,
    environment: Environment,
    plan: Callable[[git.Repository, str], tuple[change.Request, image.Built]],
) -> Promotion:
    kubernetes = Kubernetes(cluster)
    api = argocd.ArgoCD(kubernetes)
    try:
        api.application(environment.application)  # before anything is written: is there one to follow it?
        nodes = kubernetes.platforms()
        planned: list[tuple[change.Request, image.Built]] = []

        def noted(repository: git.Repository, commit: str) -> change.Request:
            planned[:] = [plan(repository, commit)]
            [(asked, built)] = planned
            image.fits(built, nodes)
            return asked

        done = change.apply(pipeline, cluster, noted)
        [(request, built)] = planned
        with phase(_sentence(environment, request, done)):
            pass
        seconds = _follow(pipeline, cluster, environment, kubernetes, done, built.children)
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
    pipeline: Pipeline,
    cluster: Cluster,
    environment: Environment,
    kubernetes: Kubernetes,
    done: change.Change,
    children: Collection[str],
) -> dict[str, float]:
    """Let Argo CD act on the commit, and wait for the pods, then for Argo CD's own word."""
    api, name, waits = argocd.ArgoCD(kubernetes), environment.application, pipeline.waits
    start, seconds = time.monotonic(), {}
    newer: dict[str, bool] = {done.commit: True}

    def enough(revision: str) -> bool:
        """Whether a commit is ours or came after it: main may move on while we wait."""
        if revision not in newer:
            with git.clone(cluster.git_url, pipeline.git.branch, bare=True) as repository:
                newer[revision] = _contains(repository, done.commit, revision)
        return newer[revision]

    with phase(f"Argo CD has seen {done.commit[:12]} for {environment.name}"):
        api.refresh(name, enough, waits.argocd)
        if environment.sync == "exact-commit":
            api.sync(name, done.commit, waits.argocd)
        seconds["seen"] = time.monotonic() - start
    with phase(f"All replicas in {environment.name} run {done.desired.digest[:19]}"):
        observe.rolled_out(pipeline, kubernetes, environment, done.desired, children, enough)
        seconds["ready"] = time.monotonic() - start
    with phase(f"{name} is Synced and Healthy"):
        api.settled(name, enough, waits.settle)
        seconds["settled"] = time.monotonic() - start
    return {key: round(value, 2) for key, value in seconds.items()}


def _sentence(environment: Environment, request: change.Request, done: change.Change) -> str:
    if not done.new:
        return f"Git already asks for build {request.build} in {environment.name}: nothing to commit"
    return f"Commit {done.commit[:12]} asks for build {request.build} in {environment.name}"


def _tagged(
    pipeline: Pipeline, cluster: Cluster, repository: git.Repository, tag: str, built: image.Built
) -> None:
    commit = git.server_ref(cluster.git_url, f"refs/tags/{tag}")
    if commit is None:
        raise BadInput(f"the Git server has no tag {tag}", f"git push {cluster.git_url} {tag}")
    repository.fetch(cluster.git_url, f"refs/tags/{tag}")
    source = repository.last_change(commit, pipeline.image.context)
    if source != built.revision:
        raise BadInput(
            f"tag {tag} is source commit {source[:12] or 'none'}, "
            f"but build {built.build} was built from {built.revision[:12]}",
            "tag the commit that was built, or build the one that was tagged",
        )


def _contains(repository: git.Repository, commit: str, branch: str) -> bool:
    return bool(commit) and repository.ok("merge-base", "--is-ancestor", commit, branch)
