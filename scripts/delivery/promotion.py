"""A digest into an environment: check, commit, let Argo CD act, and wait until the pods run it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from delivery import change, desired, gate, image, live, proof
from delivery.cluster.progress import phase
from delivery.errors import BadInput, NotReached, Refused
from delivery.parts import argocd, credentials, git
from delivery.parts.kubernetes import Kubernetes
from delivery.parts.registry import Registry
from delivery.pipeline import Cluster, Environment, Pipeline


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


def deploy(pipeline: Pipeline, cluster: Cluster, digest: str | None = None) -> Promotion:
    """A built digest into the first environment: what CI does after a build.

    Without a digest it is the image of the newest commit that changed the app; it must be built already.
    """
    if digest is not None:
        desired.digest(digest)
    checkout = git.checkout(pipeline.root)
    with _registry(cluster) as registry:
        if digest is None:
            revision = image.source(pipeline, checkout)
            built = image.find(pipeline, registry, revision)
            if built is None:
                raise BadInput(f"commit {revision[:12]} is not built yet", "build it: delivery build")
        else:
            built = _known(pipeline, registry, digest)
        _agrees(pipeline, registry, built)
    if change.publish(pipeline, cluster):
        head = checkout.commit("HEAD")
        with phase(f"{pipeline.git.branch} of the Git server is at {head[:12]}"):
            pass

    def plan(repository: git.Repository, commit: str) -> change.Request:
        if not _contains(repository, built.revision, commit):
            raise BadInput(
                f"{built.digest[:19]} was built from {built.revision[:12] or 'an unnamed commit'}, "
                f"which is not in {pipeline.git.branch}",
                "build what is committed: delivery build",
            )
        return change.Request(pipeline.first, built.digest, built.build, built.revision, None)

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

    def plan(repository: git.Repository, commit: str) -> change.Request:
        nonlocal meant
        try:
            _, asked = desired.image(repository, source, commit)
        except desired.NothingYet as error:
            raise Refused(
                f"nothing can enter {environment.name}: {error.message}",
                f"first: delivery {'promote ' + source.name if source.source else 'deploy'}",
            ) from None
        if meant is not None and asked != meant:
            raise Refused(
                f"{source.name} asks for {asked[:19]}, not for {meant[:19]}: "
                f"{environment.name} takes only what {source.name} runs",
                f"bring it to {source.name} first, or promote what is there",
            )
        meant = asked
        with _registry(cluster) as registry:
            built = _known(pipeline, registry, asked)
            _agrees(pipeline, registry, built)
        if tag is not None:
            _tagged(pipeline, cluster, repository, tag, built)
        _decide(pipeline, cluster, environment, source, asked)
        return change.Request(environment, asked, built.build, built.revision, source.name)

    return _carry(pipeline, cluster, environment, plan)


def _decide(
    pipeline: Pipeline, cluster: Cluster, environment: Environment, source: Environment, digest: str
) -> None:
    """The gate. Nothing is written before it has said yes, and it is asked again after each race."""
    with phase(f"{source.name} is proven to run {digest[:19]}"):
        found = proof.decide(live.observe(pipeline, cluster, [source])[0])
        decision = gate.decide(environment, digest, found)
        if decision.allowed:
            return
        reasons = "; ".join(decision.refusals + decision.unknowns)
        kind = Refused if decision.refusals else NotReached
        raise kind(f"{environment.name} stays as it is: {reasons}", f"look: delivery verify {source.name}")


def _carry(
    pipeline: Pipeline,
    cluster: Cluster,
    environment: Environment,
    plan: Callable[[git.Repository, str], change.Request],
) -> Promotion:
    kubernetes = Kubernetes(cluster)
    api = argocd.ArgoCD(kubernetes)
    try:
        api.application(environment.application)  # before anything is written: is there one to follow it?
        requested: list[change.Request] = []

        def noted(repository: git.Repository, commit: str) -> change.Request:
            requested[:] = [plan(repository, commit)]
            return requested[0]

        done = change.apply(pipeline, cluster, noted)
        request = requested[0]
        with phase(_sentence(environment, request, done)):
            pass
        seconds = _follow(pipeline, cluster, environment, kubernetes, done)
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
        live.rolled_out(pipeline, kubernetes, environment, done.desired, enough)
        seconds["ready"] = time.monotonic() - start
    with phase(f"{name} is Synced and Healthy"):
        api.settled(name, enough, waits.settle)
        seconds["settled"] = time.monotonic() - start
    return {key: round(value, 2) for key, value in seconds.items()}


def _sentence(environment: Environment, request: change.Request, done: change.Change) -> str:
    if not done.new:
        return f"Git already asks for build {request.build} in {environment.name}: nothing to commit"
    return f"Commit {done.commit[:12]} asks for build {request.build} in {environment.name}"


def _registry(cluster: Cluster) -> Registry:
    return Registry(cluster.registry_host, credentials.load(cluster).registry)


def _known(pipeline: Pipeline, registry: Registry, digest: str) -> image.Built:
    built = image.describe(pipeline, registry, digest)
    if built is None:
        raise BadInput(f"{digest[:19]}… is not in the registry", "build it first: delivery build")
    return built


def _agrees(pipeline: Pipeline, registry: Registry, built: image.Built) -> None:
    there = registry.digest(pipeline.image.name, built.build) if built.build else None
    if there != built.digest:
        raise Refused(
            f"tag {built.build or '(none)'} points to {there[:19] if there else 'nothing'} in the registry, "
            f"not to {built.digest[:19]}",
            "somebody moved the tag, or built again elsewhere; commit and build anew",
        )


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
