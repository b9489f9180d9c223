"""What really runs: every container of every pod, what Argo CD did, and what each replica says of itself."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from delivery.app import Version
from delivery.build import image
from delivery.context import Context
from delivery.desired import derived, kinds
from delivery.desired.manifests import Desired
from delivery.errors import DeliveryError, Unknown, or_unknown
from delivery.parts import argocd, git
from delivery.parts.emergency import Emergency
from delivery.parts.registry import Falsified, connect
from delivery.parts.windows import Lift
from delivery.pipeline import Environment
from delivery.proof import asked, objects, overrides, owners
from delivery.proof import guards as guarding
from delivery.proof.decide import Answer, Container, Facts, Image, Pod, Proof, decide
from delivery.proof.findings import Findings
from delivery.proof.guards import Guards
from delivery.proof.history import History, begun

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
    with begun(context, repository) as history:
        return observe_by(context, environments, history)


def observe_by(context: Context, environments: Iterable[Environment], history: History) -> list[Facts]:
    """The same, given Git's history: clusters are asked while Git is, nothing of one waits for the other."""
    chosen = list(environments)
    with (
        ThreadPoolExecutor(max_workers=max(1, len(chosen))) as pool,
        _clusters(context, chosen) as clusters,
        closing(Guards(context, chosen, clusters)) as guards,
    ):
        one = partial(facts, context, history, guards)
        return list(pool.map(lambda e: one(e, clusters[e.name]), chosen))


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


def lifts(context: Context, environments: Iterable[Environment]) -> dict[str, tuple[Lift, ...] | Unknown]:
    """Every lifted freeze of the guarded ones among these environments, by their names, the oldest first."""
    chosen = [one for one in environments if one.guarded]
    with _clusters(context, chosen) as clusters:
        return guarding.lifts(chosen, clusters)


def facts(
    context: Context,
    history: History,
    guards: Guards,
    environment: Environment,
    kubernetes: "Kubernetes | Unknown",
) -> Facts:
    """The facts about one environment, given Git's history, what is read of all locks, and its cluster."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        looking = pool.submit(_live, context, environment, kubernetes)
        git_asks = asked.of(context, environment, history.result())
        wanted = git_asks.desired
        looked_up = pool.submit(_image, context, wanted)
        beside = _beside(context, environment, wanted, kubernetes)
        live, image = looking.result(), looked_up.result()
    application = (
        live.application if isinstance(live.application, Unknown) else argocd.parse(live.application)
    )
    return Facts(
        environment=environment.name,
        release=context.pipeline.chart.release,
        follows=not environment.guarded,
        desired=wanted,
        entered=git_asks.entered,
        asked=git_asks.newest,
        moved=git_asks.moved,
        argocd=application,
        current=asked.current(context, environment, git_asks, application),
        asleep=guards.asleep(environment),
        pods=live.pods if isinstance(live.pods, Unknown) else tuple(parse(item) for item in live.pods),
        answers=live.answers,
        image=image,
        foreign=asked.foreign(context, environment, git_asks, application),
        tags=asked.faults(context, environment, git_asks, application),
        overrides=_overrides(context, environment, live.application),
        strays=_strays(environment, wanted, live),
        objects=_objects(environment, wanted, live, beside),
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
    wanted = derived.application(context.pipeline, environment, derived.of(context.pipeline, context.site))
    return overrides.found(application, wanted)


def _strays(environment: Environment, wanted: Desired | Unknown, live: _Live) -> Findings | Unknown:
    if isinstance(wanted, Unknown):
        return wanted
    if isinstance(live.pods, Unknown):
        return live.pods
    if isinstance(live.makers, Unknown):
        return live.makers
    return owners.strays(wanted.documents, environment.namespace, live.makers, live.pods)


def _beside(
    context: Context, environment: Environment, wanted: Desired | Unknown, api: "Kubernetes | Unknown"
) -> objects.Live | Unknown:
    """The objects of the namespace beside pods and those that make them."""
    if isinstance(wanted, Unknown):
        return wanted
    if isinstance(api, Unknown):
        return api
    return or_unknown(
        lambda: objects.read(api, environment.namespace, wanted.documents, kinds.named(context.pipeline.root))
    )


def _objects(
    environment: Environment, wanted: Desired | Unknown, live: _Live, beside: objects.Live | Unknown
) -> Findings | Unknown:
    if isinstance(wanted, Unknown):
        return wanted
    if isinstance(beside, Unknown):
        return beside
    if isinstance(live.makers, Unknown):
        return live.makers
    makers = {objects.MAKERS[kind]: some for kind, some in live.makers.items()}
    return objects.found(wanted.documents, environment.namespace, {**makers, **beside})


def _image(context: Context, wanted: Desired | Unknown) -> Image | Unknown:
    return wanted if isinstance(wanted, Unknown) else or_unknown(lambda: registered(context, wanted))


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


def _each(work: Callable[[Any], T], items: list[Any]) -> list[T]:
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(work, items))
