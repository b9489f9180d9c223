"""What really runs: every container of every pod, what Argo CD did, and what each replica says of itself."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from delivery.app import Version
from delivery.build import image
from delivery.context import Context
from delivery.desired import derived
from delivery.desired import manifests as desired
from delivery.desired.manifests import Desired
from delivery.errors import DeliveryError, Unknown, or_unknown
from delivery.parts import argocd, git
from delivery.parts.emergency import Emergency
from delivery.parts.registry import Falsified, connect
from delivery.pipeline import Environment
from delivery.proof import guards as guarding
from delivery.proof import overrides, owners
from delivery.proof.decide import Answer, Container, Entered, Facts, Image, Pod, Proof, decide
from delivery.proof.findings import Findings
from delivery.proof.guards import Guards
from delivery.signed import commits, entry

if TYPE_CHECKING:
    from delivery.parts.kubernetes import Kubernetes

T = TypeVar("T")
Object = dict[str, Any]


def observe(
    context: Context, environments: Iterable[Environment], repository: git.Repository | None = None
) -> list[Facts]:
    """Read everything there is to know about these environments; what cannot be read is Unknown.

    `repository` is a clone of the server's branch, where one is at hand: then its HEAD is what Git asks.
    """
    chosen = list(environments)
    with _clusters(context, chosen) as clusters, ExitStack() as stack:
        guards = stack.enter_context(closing(Guards(context, chosen, clusters)))  # reads while Git is asked
        history: git.Repository | Unknown
        try:
            history = repository or stack.enter_context(
                git.clone(context.site.git, context.pipeline.git.branch, bare=True)
            )
        except (git.GitFailed, git.ServerUnreachable) as error:
            history = Unknown(error.message)
        return _each(lambda e: facts(context, e, history, clusters[e.name], guards), chosen)


@contextmanager
def _clusters(
    context: Context, environments: Iterable[Environment]
) -> Iterator[dict[str, "Kubernetes | Unknown"]]:
    """The cluster of each environment, by the environment's name; those in one cluster share the connection."""
    from delivery.parts.kubernetes import Kubernetes

    found: dict[str, Kubernetes | Unknown] = {}
    opened: dict[str | None, Kubernetes] = {}
    for name in [environment.name for environment in environments]:
        one = or_unknown(lambda name=name: Kubernetes(context.site, name))  # type: ignore[misc]
        found[name] = one if isinstance(one, Unknown) else opened.setdefault(one.context, one)
    try:
        yield found
    finally:
        for kubernetes in opened.values():
            kubernetes.close()


def proofs(
    context: Context, environments: Iterable[Environment], repository: git.Repository | None = None
) -> list[Proof]:
    """The verdict about each of these environments, by what is read there now."""
    return [decide(found) for found in observe(context, environments, repository)]


def emergencies(
    context: Context, environments: Iterable[Environment]
) -> dict[str, tuple[Emergency, ...] | Unknown]:
    """Every emergency of the guarded ones among these environments, by their names, the oldest first."""
    chosen = [one for one in environments if one.guarded]
    with _clusters(context, chosen) as clusters:
        return guarding.emergencies(chosen, clusters)


def facts(
    context: Context,
    environment: Environment,
    repository: git.Repository | Unknown,
    kubernetes: "Kubernetes | Unknown",
    guards: Guards,
) -> Facts:
    """The facts about one environment, given its Git history, its cluster, and what is read of all locks."""
    live = _live(context, environment, kubernetes)
    application = (
        live.application if isinstance(live.application, Unknown) else argocd.parse(live.application)
    )
    entered = _entered(context, environment, repository)
    if environment.guarded:
        wanted, current, moved = _let_in(context, environment, repository, entered, application)
    else:
        wanted, current = _followed(context, environment, repository, application)
        moved = False
    return Facts(
        environment=environment.name,
        release=context.pipeline.chart.release,
        follows=not environment.guarded,
        desired=wanted,
        entered=entered,
        asked=_asked(environment, repository),
        moved=moved,
        argocd=application,
        current=current,
        pods=live.pods if isinstance(live.pods, Unknown) else tuple(parse(item) for item in live.pods),
        answers=live.answers,
        image=wanted if isinstance(wanted, Unknown) else or_unknown(lambda: registered(context, wanted)),
        foreign=_foreign(context, repository, application),
        overrides=_overrides(context, environment, live.application),
        strays=_strays(environment, wanted, live),
        locks=guards.of(environment),
    )


@dataclass(frozen=True)
class _Live:
    """What an environment's cluster says, as its API gives it."""

    application: Object | Unknown
    pods: list[Object] | Unknown
    makers: dict[str, list[Object]] | Unknown
    answers: Mapping[str, Answer | Unknown]


def _live(context: Context, environment: Environment, kubernetes: "Kubernetes | Unknown") -> _Live:
    if isinstance(kubernetes, Unknown):
        return _Live(kubernetes, kubernetes, kubernetes, {})
    api, namespace, name = kubernetes, environment.namespace, environment.application
    with ThreadPoolExecutor(max_workers=2) as pool:
        items = or_unknown(lambda: api.pods(namespace)[0])
        # After the pods: whoever made one was there before it.
        makers = pool.submit(or_unknown, lambda: api.makers(namespace))
        application = pool.submit(or_unknown, lambda: argocd.ArgoCD(api, environment.name).document(name))
        found = [] if isinstance(items, Unknown) else [parse(item) for item in items]
        answers = ask(context, api, namespace, found)
        return _Live(application.result(), items, makers.result(), answers)


def _overrides(
    context: Context, environment: Environment, application: Object | Unknown
) -> Findings | Unknown:
    if isinstance(application, Unknown):
        return application
    asked = derived.application(context.pipeline, environment, derived.of(context.pipeline, context.site))
    return overrides.found(application, asked)


def _strays(environment: Environment, wanted: Desired | Unknown, live: _Live) -> Findings | Unknown:
    if isinstance(wanted, Unknown):
        return wanted
    if isinstance(live.pods, Unknown):
        return live.pods
    if isinstance(live.makers, Unknown):
        return live.makers
    return owners.strays(wanted.documents, environment.namespace, live.makers, live.pods)


def _foreign(
    context: Context, repository: git.Repository | Unknown, application: argocd.Application | Unknown
) -> tuple[str, ...] | Unknown:
    """The commits that Argo CD is at and that the branch never had."""
    if isinstance(repository, Unknown):
        return repository
    if isinstance(application, Unknown):
        return application
    at = dict.fromkeys(commit for commit in (application.revision, application.told) if commit)
    strange = [commit for commit in at if not repository.contains(commit, "HEAD")]
    if not strange:
        return ()
    # Somebody may have pushed it since the clone was made.
    served = git.Repository(repository.path, context.site.git)
    newest = or_unknown(lambda: served.fetch(f"refs/heads/{context.pipeline.git.branch}"))
    if isinstance(newest, Unknown):
        return newest
    return tuple(commit for commit in strange if not served.contains(commit, newest))


def ask(
    context: Context, kubernetes: "Kubernetes", namespace: str, found: Iterable[Pod]
) -> dict[str, Answer | Unknown]:
    """What each serving, Ready replica says that it is, asked one by one and not through the Service."""
    app = context.pipeline.app
    serving = [
        pod.name for pod in found if pod.app == context.pipeline.chart.release and pod.serves and pod.ready
    ]

    def one(pod: str) -> Answer | Unknown:
        try:
            path = app.version.path.removeprefix("/")
            return said(
                app.version,
                kubernetes.pod_http(namespace, pod, app.port, path, context.pipeline.waits.answer),
            )
        except DeliveryError as error:
            return Unknown(error.message)

    return dict(zip(serving, _each(one, serving), strict=True))


def said(version: Version, body: bytes) -> Answer | Unknown:
    """The three facts in what a replica answered, found where pipeline.yaml says that they are."""

    def fact(where: str) -> str:
        value: Any = document
        for key in where.split("."):
            value = value[key]
        if not isinstance(value, str | int):
            raise TypeError
        return str(value)

    fields = version.fields_
    try:
        document = json.loads(body)
        return Answer(fact(fields.build), fact(fields.revision), fact(fields.environment))
    except (ValueError, KeyError, TypeError):
        wanted = ", ".join((fields.build, fields.revision, fields.environment))
        return Unknown(f"{version.path} is not JSON with {wanted}")


def registered(context: Context, wanted: Desired) -> Image | Unknown:
    """What the registry says about the digest and the tag that Git's values name."""
    with connect(context.site.image) as registry:
        tagged = registry.digest(wanted.tag)
        try:
            built = image.describe(context, registry, wanted.digest)
        except (Falsified, image.Contradictory) as error:
            return Image(tagged, "", "", contradictions=(error.message,))
        if built is None:
            return Unknown(f"{wanted.digest[:19]} is not in the registry")
        return Image(tagged, built.build, built.revision, built.children)


def parse(pod: Mapping[str, Any]) -> Pod:
    """A pod object as plain facts. Every container of the spec is there, also one that has not started."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    containers, restarts = [], 0
    for kind, field in (
        ("init", "initContainers"),
        ("app", "containers"),
        ("ephemeral", "ephemeralContainers"),
    ):
        prefix = {"init": "initContainerStatuses", "app": "containerStatuses"}.get(
            kind, "ephemeralContainerStatuses"
        )
        said = {one["name"]: one for one in status.get(prefix) or []}
        restarts += sum(int(one.get("restartCount") or 0) for one in said.values())
        for one in spec.get(field) or []:
            state = said.get(one["name"], {})
            containers.append(
                Container(one["name"], kind, one["image"], state.get("imageID") or "", _state(state))  # type: ignore[arg-type]
            )
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
    return Pod(
        name=metadata["name"],
        app=(metadata.get("labels") or {}).get("app.kubernetes.io/name", ""),
        phase=status.get("phase") or "Unknown",
        ready=conditions.get("Ready") == "True",
        terminating=bool(metadata.get("deletionTimestamp")),
        uid=str(metadata.get("uid") or ""),
        restarts=restarts,
        job=any(owner.get("kind") == "Job" for owner in metadata.get("ownerReferences") or []),
        containers=tuple(containers),
    )


def _state(status: Mapping[str, Any]) -> str:
    state = status.get("state") or {}
    if "running" in state:
        return "running"
    if "terminated" in state:
        return str(state["terminated"].get("reason") or "terminated")
    return str((state.get("waiting") or {}).get("reason") or "not started")


def _entered(
    context: Context, environment: Environment, repository: git.Repository | Unknown
) -> Entered | Unknown | None:
    """The newest change that the environment's gate signed, with the entry that belongs to it."""
    if isinstance(repository, Unknown):
        return repository
    if not environment.guarded:
        return None
    try:
        record = commits.newest(context, repository, environment)
        if record is None:
            return None
        with connect(context.site.image) as registry:
            known = entry.fetch(context, registry, record.after, environment)
    except DeliveryError as error:
        return Unknown(f"what entered {environment.name} cannot be read: {error.message}")
    ticket = known.of(record.commit)
    release, at = (ticket.release, ticket.at) if ticket else (None, None)
    return Entered(record.commit, record.release, record.after, release, known.rejected, at)


def _let_in(
    context: Context,
    environment: Environment,
    repository: git.Repository | Unknown,
    entered: Entered | Unknown | None,
    application: argocd.Application | Unknown,
) -> tuple[Desired | Unknown, bool, bool]:
    """What entered a guarded environment, whether Argo CD is at that commit, and whether Git has moved on since."""
    if entered is None:
        entered = Unknown(f"nothing entered {environment.name} yet")
    if isinstance(entered, Unknown):
        return entered, False, False
    assert not isinstance(repository, Unknown)  # noqa: S101 - then what entered is unknown, too
    current = isinstance(application, argocd.Application) and application.revision == entered.release
    moved = not desired.same(context, repository, environment, entered.release, repository.commit("HEAD"))
    return or_unknown(lambda: desired.at(context, repository, environment, entered.release)), current, moved


def _asked(environment: Environment, repository: git.Repository | Unknown) -> str | Unknown:
    """The digest that the newest values of a guarded environment name; empty when they name none."""
    if isinstance(repository, Unknown) or not environment.guarded:
        return ""
    try:
        return desired.image(repository, environment, repository.commit("HEAD"))[1]
    except desired.NothingYet:
        return ""
    except DeliveryError as error:
        return Unknown(error.message)


def _followed(
    context: Context,
    environment: Environment,
    repository: git.Repository | Unknown,
    application: argocd.Application | Unknown,
) -> tuple[Desired | Unknown, bool]:
    """What Git's newest commit asks, and whether Argo CD is at a commit that asks the same."""
    if isinstance(repository, Unknown):
        return repository, False
    newest = repository.commit("HEAD")
    current = False
    if not isinstance(application, Unknown):
        at = application.revision
        known = bool(at) and repository.ok("merge-base", "--is-ancestor", at, newest)
        current = known and desired.same(context, repository, environment, at, newest)
    return or_unknown(lambda: desired.at(context, repository, environment, newest)), current


def _each(work: Callable[[Any], T], items: list[Any]) -> list[T]:
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(work, items))
