"""The locks as the clusters have them: few reads, all at once, and what holds in a whole cluster only once."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from delivery.context import Context
from delivery.desired import derived, policy
from delivery.errors import Unknown, or_unknown
from delivery.parts import argocd, emergency, openpgp
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
        guarded = [one for one in environments if one.guarded]
        for one in guarded:
            self._begin(one)
        self._admission = self._pool.submit(or_unknown, lambda: _admission(context)) if guarded else None

    def close(self) -> None:
        """Nothing more is read."""
        self._pool.shutdown(cancel_futures=True)
        for hub in self._opened:
            hub.close()

    def of(self, environment: Environment) -> Locks:
        """The locks of one environment; of the first one, which has none, there is nothing to say."""
        if not environment.guarded or self._admission is None:
            return Locks()
        api, hub = self._clusters[environment.name], self._hubs[environment.name]
        if isinstance(api, Unknown):
            return Locks(api, api)
        namespace = self._said(api, f"namespace {environment.namespace}")
        told, admission = told_by(namespace), self._admission.result()
        if isinstance(admission, Unknown):
            return Locks(admission, told)
        wanted = _wanted(self._context, environment, admission)
        if isinstance(wanted, Unknown):
            return Locks(wanted, told)
        project, keyring = self._said(hub, "projects"), self._said(hub, "keyring")
        there = There(
            cluster=self._cluster(api),
            hub=None if hub is api else hub if isinstance(hub, Unknown) else self._cluster(hub),
            namespace=namespace,
            project=project if isinstance(project, Unknown) else project.get(environment.namespace),
            keyring=keyring,
        )
        return Locks(locks.found(there, wanted), told)

    def _begin(self, environment: Environment) -> None:
        api, site = self._clusters[environment.name], self._context.site
        if isinstance(api, Unknown):
            self._hubs[environment.name] = api
            return
        hub = self._hub(environment, api)
        for cluster in (api, hub):
            if not isinstance(cluster, Unknown):
                self._ask(cluster, "policies", partial(_named, cluster.admission_policies))
                self._ask(cluster, "bindings", partial(_named, cluster.admission_bindings))
        if not isinstance(hub, Unknown):
            own = site.argocd.namespace
            kind = ("argoproj.io", "v1alpha1", "appprojects", own)
            self._ask(hub, "projects", lambda: _named(lambda: hub.customs(*kind)))
            self._ask(hub, "keyring", lambda: _there(lambda: hub.config_map(own, locks.KEYRING)))
        if environment.admits == "tested":
            kinds = ("policy.sigstore.dev", "v1alpha1", "clusterimagepolicies")
            self._ask(api, "image policies", lambda: _named(lambda: api.customs(*kinds)))
            self._ask(api, "webhook", lambda: _there(lambda: api.validating_webhooks(locks.WEBHOOK)))
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
            self._reads[cluster.context, what] = self._pool.submit(or_unknown, read)

    def _said(self, cluster: "Kubernetes | Unknown", what: str) -> Any:
        if isinstance(cluster, Unknown):
            return cluster
        asked = self._reads.get((cluster.context, what))
        return asked.result() if asked else None

    def _cluster(self, cluster: "Kubernetes") -> Cluster:
        whole = ("policies", "bindings", "image policies", "webhook")
        return Cluster(*(self._said(cluster, what) for what in whole))


def told_by(namespace: Object | Unknown | None) -> tuple[Emergency, ...] | Unknown:
    """The emergencies that a namespace tells of; Unknown where it cannot be read, or cannot be understood."""
    if isinstance(namespace, Unknown):
        return namespace
    try:
        return emergency.of(namespace) if namespace else ()
    except ValueError as error:
        return Unknown(str(error))


def emergencies(
    environments: Iterable[Environment], clusters: "Mapping[str, Kubernetes | Unknown]"
) -> dict[str, tuple[Emergency, ...] | Unknown]:
    """Every emergency that the namespaces of guarded environments tell of, by the environments' names."""

    def read(one: Environment) -> tuple[Emergency, ...] | Unknown:
        api = clusters[one.name]
        if isinstance(api, Unknown):
            return api
        return told_by(or_unknown(lambda: _there(lambda: api.namespace(one.namespace))))

    guarded = [one for one in environments if one.guarded]
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        return dict(zip((one.name for one in guarded), pool.map(read, guarded), strict=True))


def _admission(context: Context) -> tuple[Object, ...]:
    argocd_sees = derived.of(context.pipeline, context.site)
    return tuple(policy.admission(context.pipeline, argocd_sees, context.site.image.name))


def _wanted(context: Context, environment: Environment, admission: tuple[Object, ...]) -> Wanted | Unknown:
    """What should be there, by the pipeline.yaml and the public keys of this machine."""
    pipeline, site = context.pipeline, context.site
    sees = derived.of(pipeline, site)

    def commits() -> tuple[str, str]:
        certificate = keys.commit_certificate(site, environment.gate)
        return openpgp.key_id(certificate), certificate

    key = or_unknown(commits)

    def image_policy() -> Object | None:
        if environment.admits != "tested":
            return None
        return policy.image_policy(pipeline, sees, site.image.name, keys.authorities(context))

    def wanted() -> Wanted:
        return Wanted(
            app=pipeline.chart.release,
            admission=tuple(
                one
                for one in admission
                if environment.admits != "anything" or not one["metadata"]["name"].endswith(policy.BY_DIGEST)
            ),
            namespace=policy.namespace(pipeline, sees, environment.namespace),
            project=key
            if isinstance(key, Unknown)
            else or_unknown(lambda: derived.project(pipeline, environment, sees)),
            commits=key,
            image_policy=or_unknown(image_policy),
            conditions=tuple(policy.asked_less(pipeline.root)),
        )

    return or_unknown(wanted)


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
