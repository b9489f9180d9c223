"""The locks as the clusters have them: few reads, all at once, and what holds in a whole cluster only once."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from delivery import roles
from delivery.context import Context
from delivery.desired import derived, policy
from delivery.errors import DeliveryError, Unknown, or_unknown
from delivery.parts import argocd, emergency, openpgp, windows
from delivery.parts.emergency import Emergency
from delivery.pipeline import Environment
from delivery.proof import locks
from delivery.proof.locks import Cluster, Locks, There, Wanted
from delivery.signed import keys

if TYPE_CHECKING:
    from delivery.parts.kubernetes import Kubernetes

T = TypeVar("T")
Object = dict[str, Any]
_THREADS = 16  # one for each read: where nothing answers, all of them wait at the same time


class Guards:
    """The locks of these environments: the reads begin at once, and `of` waits for those of one environment."""

    def __init__(
        self,
        context: Context,
        environments: Iterable[Environment],
        clusters: "Mapping[str, Kubernetes | Unknown]",
    ) -> None:
        self._context, self._clusters = context, clusters
        self._pool = ThreadPoolExecutor(max_workers=_THREADS)
        self._reads: dict[tuple[str | None, str], Future[Any]] = {}
        self._hubs: dict[str, Kubernetes | Unknown] = {}
        self._opened: list[Kubernetes] = []
        guarded = False
        for one in environments:
            self._begin(one)
            guarded = guarded or one.guarded
        self._made = self._pool.submit(or_unknown, lambda: _made(context)) if guarded else None

    def close(self) -> None:
        """Nothing more is read."""
        self._pool.shutdown(cancel_futures=True)
        for hub in self._opened:
            hub.close()

    def asleep(self, environment: Environment) -> Unknown | None:
        """Why the Argo CD of an environment does not act, or nobody may look; what its Application says may be old."""
        pods = self._said(self._hubs[environment.name], "argocd")
        if isinstance(pods, Unknown):
            return pods
        why = argocd.asleep(pods)
        return Unknown(why) if why else None

    def of(self, environment: Environment) -> Locks:
        """The locks of one environment; of the first one, which has none, there is nothing to say."""
        if not environment.guarded or self._made is None:
            return Locks()
        api, hub = self._clusters[environment.name], self._hubs[environment.name]
        if isinstance(api, Unknown):
            return Locks(api, api, api)
        namespace = self._said(api, f"namespace {environment.namespace}")
        projects, keyring = self._said(hub, "projects"), self._said(hub, "keyring")
        project = projects if isinstance(projects, Unknown) else projects.get(environment.namespace)
        told, lifts, made = told_by(namespace), lifted_by(project), self._made.result()
        if isinstance(made, Unknown):
            return Locks(made, told, lifts)
        wanted = _wanted(self._context, environment, made)
        there = There(
            cluster=self._cluster(api),
            hub=None if hub is api else hub if isinstance(hub, Unknown) else self._cluster(hub),
            namespace=namespace,
            project=project,
            keyring=keyring,
            argocd=self._said(hub, "argocd"),
            keys=self._said(api, "keys"),
        )
        return Locks(locks.found(there, wanted), told, lifts)

    def _begin(self, environment: Environment) -> None:
        api, site = self._clusters[environment.name], self._context.site
        if isinstance(api, Unknown):
            self._hubs[environment.name] = api
            return
        hub, own = self._hub(environment, api), site.argocd.namespace
        if not isinstance(hub, Unknown):
            self._ask(hub, "argocd", lambda: hub.pods(own)[0])
        if not environment.guarded:
            return
        for cluster in (api, hub):
            if not isinstance(cluster, Unknown):
                self._ask(cluster, "policies", partial(_named, cluster.admission_policies))
                self._ask(cluster, "bindings", partial(_named, cluster.admission_bindings))
        if not isinstance(hub, Unknown):
            kind = ("argoproj.io", "v1alpha1", "appprojects", own)
            self._ask(hub, "projects", lambda: _named(lambda: hub.customs(*kind)))
            self._ask(hub, "keyring", lambda: _there(lambda: hub.config_map(own, locks.KEYRING)))
        home = roles.home(self._context.pipeline.chart.release)
        self._ask(api, "keys", lambda: _there(lambda: api.config_map(home, roles.KEYS)))
        if environment.admits == "tested":
            kinds = ("policy.sigstore.dev", "v1alpha1", "clusterimagepolicies")
            self._ask(api, "image policies", lambda: _named(lambda: api.customs(*kinds)))
            self._ask(api, "webhook", lambda: _there(lambda: api.validating_webhooks(locks.WEBHOOK)))
            settings = (locks.SETTINGS_IN, locks.SETTINGS)
            self._ask(api, "settings", lambda: _there(lambda: api.config_map(*settings)))
        self._ask(
            api,
            f"namespace {environment.namespace}",
            lambda: _there(lambda: api.namespace(environment.namespace)),
        )

    def _hub(self, environment: Environment, api: "Kubernetes") -> "Kubernetes | Unknown":
        """The cluster that Argo CD is in; one connection for all environments."""
        at = self._context.site.argocd.context
        known = [one for one in (*self._clusters.values(), *self._opened) if not isinstance(one, Unknown)]
        hub: Kubernetes | Unknown | None = (
            api if at is None else next((one for one in known if one.context == at), None)
        )
        if hub is None:
            hub = or_unknown(lambda: argocd.ArgoCD(api, environment.name).cluster)
            if not isinstance(hub, Unknown):
                self._opened.append(hub)
        self._hubs[environment.name] = hub
        return hub

    def _ask(self, cluster: "Kubernetes", what: str, read: Callable[[], Any]) -> None:
        if (cluster.context, what) not in self._reads:
            self._reads[cluster.context, what] = self._pool.submit(_read, read)

    def _said(self, cluster: "Kubernetes | Unknown", what: str) -> Any:
        if isinstance(cluster, Unknown):
            return cluster
        asked = self._reads.get((cluster.context, what))
        return asked.result() if asked else None

    def _cluster(self, cluster: "Kubernetes") -> Cluster:
        whole = ("policies", "bindings", "image policies", "webhook", "settings")
        return Cluster(*(self._said(cluster, what) for what in whole))


def told_by(namespace: Object | Unknown | None) -> tuple[Emergency, ...] | Unknown:
    """The emergencies that a namespace tells of; Unknown where it cannot be read, or cannot be understood."""
    return _told(namespace, emergency.of)


def lifted_by(project: Object | Unknown | None) -> tuple[windows.Lift, ...] | Unknown:
    """The lifted freezes that an AppProject tells of; Unknown where it cannot be read, or cannot be understood."""
    return _told(project, windows.lifts)


def _told(live: Object | Unknown | None, tells: Callable[[Object], tuple[T, ...]]) -> tuple[T, ...] | Unknown:
    if isinstance(live, Unknown):
        return live
    try:
        return tells(live) if live else ()
    except ValueError as error:
        return Unknown(str(error))


def lifts(
    environments: Iterable[Environment], clusters: "Mapping[str, Kubernetes | Unknown]"
) -> dict[str, tuple[windows.Lift, ...] | Unknown]:
    """Every lifted freeze that the projects of guarded environments tell of, by the environments' names."""

    def read(one: Environment) -> tuple[windows.Lift, ...] | Unknown:
        api = clusters[one.name]
        if isinstance(api, Unknown):
            return api
        hub = argocd.ArgoCD(api, one.name)
        return lifted_by(or_unknown(lambda: _there(lambda: hub.project(one.namespace))))

    return _each(read, environments)


def _each(read: Callable[[Environment], T], environments: Iterable[Environment]) -> dict[str, T]:
    guarded = [one for one in environments if one.guarded]
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        return dict(zip((one.name for one in guarded), pool.map(read, guarded), strict=True))


def emergencies(
    environments: Iterable[Environment], clusters: "Mapping[str, Kubernetes | Unknown]"
) -> dict[str, tuple[Emergency, ...] | Unknown]:
    """Every emergency that the namespaces of guarded environments tell of, by the environments' names."""

    def read(one: Environment) -> tuple[Emergency, ...] | Unknown:
        api = clusters[one.name]
        if isinstance(api, Unknown):
            return api
        return told_by(or_unknown(lambda: _there(lambda: api.namespace(one.namespace))))

    return _each(read, environments)


@dataclass(frozen=True)
class _Made:
    """What is generated for all environments at once, by the pipeline.yaml and the public keys of this machine."""

    sees: derived.Seen
    admission: tuple[Object, ...]
    namespaces: Mapping[str, Object]
    image_policy: Object | Unknown | None
    conditions: tuple[Object, ...]
    keys: Mapping[str, str] | Unknown


def _made(context: Context) -> _Made:
    pipeline, site = context.pipeline, context.site
    sees, name = derived.of(pipeline, site), site.image.name
    return _Made(
        sees=sees,
        admission=tuple(policy.admission(pipeline, sees, name)),
        namespaces=policy.labelled(pipeline, sees),
        image_policy=or_unknown(lambda: policy.image_policy(pipeline, sees, name, keys.authorities(context))),
        conditions=tuple(policy.asked_less(pipeline.root)),
        keys=or_unknown(lambda: keys.everybody(site)),
    )


def _wanted(context: Context, environment: Environment, made: _Made) -> Wanted:
    """What should be there for one environment."""
    pipeline, site = context.pipeline, context.site

    def commits() -> tuple[str, str]:
        certificate = keys.commit_certificate(site, environment.gate)
        return openpgp.key_id(certificate), certificate

    key = or_unknown(commits)
    return Wanted(
        app=pipeline.chart.release,
        admission=tuple(
            one
            for one in made.admission
            if environment.admits != "anything" or not one["metadata"]["name"].endswith(policy.BY_DIGEST)
        ),
        namespace=made.namespaces[environment.namespace],
        project=key
        if isinstance(key, Unknown)
        else or_unknown(lambda: derived.project(pipeline, environment, made.sees)),
        commits=key,
        image_policy=made.image_policy if environment.admits == "tested" else None,
        conditions=made.conditions,
        keys=made.keys,
    )


def _read(read: Callable[[], T]) -> T | Unknown:
    """What is read, or Unknown with the reason why it cannot be, and who would give the right to."""
    from delivery.parts.kubernetes import Denied

    try:
        return read()
    except Denied as error:
        more = " (policy/roles.yaml gives the deployer that right)" if error.status == 403 else ""
        return Unknown(f"{error.message}{more}")
    except DeliveryError as error:
        return Unknown(error.message)


def _there(read: Callable[[], Object]) -> Object | None:
    """What the API has; None where it says that there is no such thing."""
    from delivery.parts.kubernetes import Denied

    try:
        return read()
    except Denied as error:
        if error.status != 404:
            raise
        return None


def _named(read: Callable[[], list[Object]]) -> dict[str, Object]:
    """Objects by their names; none where the cluster does not know their kind."""
    from delivery.parts.kubernetes import Denied

    try:
        return {one["metadata"]["name"]: one for one in read()}
    except Denied as error:
        if error.status != 404:
            raise
        return {}
