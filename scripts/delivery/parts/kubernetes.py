"""The API of the cluster that an environment is in: by the site's context and no other; answers as plain JSON.

The cluster behind a context is remembered. When the name leads to another one, nobody asks it anything.
"""

import base64
import hashlib
import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes.client import (
    AdmissionregistrationV1Api,
    ApiClient,
    ApisApi,
    AppsV1Api,
    BatchV1Api,
    Configuration,
    CoreV1Api,
    CustomObjectsApi,
)
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.watch import Watch
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as TimedOut
from yaml import YAMLError

from delivery import files
from delivery.errors import PlatformError
from delivery.site import Site

SECONDS = 10
_CONNECTIONS = 32  # that are kept: three environments are asked for six lists and their replicas, all at once
Object = dict[str, Any]
# API servers that let a question time out: when that was, and what is said of it.
_silent: dict[str, tuple[float, str]] = {}


class ClusterMissing(PlatformError):
    """There is no such cluster, or it is not the one that was meant."""


class ClusterUnreachable(PlatformError):
    """The cluster exists but its API server does not answer; what runs there is unknown."""


class Denied(PlatformError):
    """The API server answered, and refused; `status` is its HTTP status."""

    def __init__(self, message: str, hint: str, status: int) -> None:
        super().__init__(message, hint)
        self.status = status


class Kubernetes:
    """The cluster of one environment. Calls are bounded, repeated only when the server did not answer, and fail typed.

    `context` overrules the environment's own. BadInput when the site names none, ClusterMissing when it is not there.
    """

    def __init__(self, site: Site, environment: str, context: str | None = None) -> None:
        place = site.place(environment)
        self.site = site
        self.context = context or place.context
        self.name = f"cluster of {self.context}" if self.context else "the cluster around this pod"
        if site.made_here:
            self._insist_on_privacy(site.kubeconfig)
        self._configuration = self._load(site.kubeconfig)
        self._opening = threading.Lock()
        self._opened: ApiClient | None = None
        self._failed: tuple[float, PlatformError] | None = None  # when it could not be opened, and why
        self._configuration.retries = False
        self._configuration.connection_pool_maxsize = _CONNECTIONS
        if site.made_here:
            self._insist_on_this_machine()
            self._configuration.proxy = None

    @property
    def look(self) -> str:
        """The beginning of a kubectl command for this cluster."""
        where = f" --kubeconfig {shlex.quote(str(self.site.kubeconfig))}" if self.site.kubeconfig else ""
        return f"kubectl{where} --context {self.context}" if self.context else "kubectl"

    def _load(self, file: Path | None) -> Configuration:
        configuration = Configuration()
        try:
            if self.context is None:
                load_incluster_config(client_configuration=configuration)
            else:
                named = str(file) if file else None
                load_kube_config(named, self.context, client_configuration=configuration)
        except (ConfigException, YAMLError, OSError, ValueError, TypeError, AttributeError) as error:
            where = str(file) if file else "the kubeconfig"
            if self.context is None:
                raise ClusterMissing(
                    f"this is no pod of a cluster: {error}", "name a context instead of in_cluster"
                ) from None
            if file and not file.exists():
                raise ClusterMissing(f"{file} is missing", self.site.remedy("kubeconfig")) from None
            raise ClusterMissing(
                f"{where} has no usable context {self.context}", self.site.remedy("environments")
            ) from None
        return configuration

    def _insist_on_privacy(self, file: Path | None) -> None:
        """The kubeconfig of a local site has the tokens of its roles, for its owner alone."""
        if file and file.exists() and file.stat().st_mode & 0o077:
            raise ClusterMissing(
                f"{file}, which has the login of {self.context}, can be read by others",
                f"make it yours alone: chmod 600 {file}",
            )

    def _insist_on_this_machine(self) -> None:
        host = urlsplit(self._configuration.host).hostname or ""
        try:
            here = host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            here = False
        if not here:
            raise ClusterMissing(
                f"context {self.context} leads to {host}, which is not this machine: not touching it",
                "make the kubeconfig again: delivery down, then delivery up",
            )

    @property
    def _client(self) -> ApiClient:
        """The connections, opened once for all threads; who waited for an attempt that failed, failed with it."""
        asked = time.monotonic()
        with self._opening:
            if self._failed and self._failed[0] >= asked:
                raise self._failed[1]
            if self._opened is None:
                client = ApiClient(self._configuration)
                try:
                    self._remember(client)
                except BaseException as error:
                    client.close()
                    if isinstance(error, PlatformError):
                        self._failed = (time.monotonic(), error)
                    raise
                self._opened = client
            return self._opened

    def _remember(self, client: ApiClient) -> None:
        """Return when it is the cluster of last time; the first time is remembered."""
        file = self.site.state / "clusters.json"
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        name, now = self.context or "", self._identity(client)
        if known.get(name, now) != now:
            raise ClusterMissing(
                f"context {name} of site {self.site.name} leads to another cluster than last time: not touching it",
                f"if that is meant, forget the old one: rm {file}",
            )
        if name not in known:
            files.write_private(file, json.dumps(known | {name: now}, indent=2) + "\n")

    def _identity(self, client: ApiClient) -> str:
        try:
            namespace = self._json(CoreV1Api(client).read_namespace, "kube-system")
            return str(namespace["metadata"]["uid"])
        except Denied:  # not everybody may look there
            authority = self._configuration.ssl_ca_cert
            content = Path(authority).read_bytes() if authority else b""
            return hashlib.sha256(self._configuration.host.encode() + content).hexdigest()

    @cached_property
    def _core(self) -> CoreV1Api:
        return CoreV1Api(self._client)

    @cached_property
    def _custom(self) -> CustomObjectsApi:
        return CustomObjectsApi(self._client)

    def platforms(self) -> frozenset[str]:
        """What the nodes run, such as linux/arm64; none where this user may not look at nodes."""
        try:
            nodes = self._json(self._core.list_node)["items"]
        except Denied:
            return frozenset()
        told = [(node.get("status") or {}).get("nodeInfo") or {} for node in nodes]
        return frozenset(
            f"{one.get('operatingSystem', 'linux')}/{one['architecture']}" for one in told if one
        )

    def namespace(self, name: str) -> Object:
        """One Namespace; delivery.parts.emergency reads what it tells of emergencies."""
        return self._json(self._core.read_namespace, name)

    def config_map(self, namespace: str, name: str) -> Object:
        """One ConfigMap."""
        return self._json(self._core.read_namespaced_config_map, name, namespace)

    def admission_policies(self) -> list[Object]:
        """The ValidatingAdmissionPolicies of the cluster."""
        api = AdmissionregistrationV1Api(self._client)
        return list(self._json(api.list_validating_admission_policy)["items"])

    def admission_bindings(self) -> list[Object]:
        """What binds them to namespaces."""
        api = AdmissionregistrationV1Api(self._client)
        return list(self._json(api.list_validating_admission_policy_binding)["items"])

    def validating_webhooks(self, name: str) -> Object:
        """One ValidatingWebhookConfiguration."""
        api = AdmissionregistrationV1Api(self._client)
        return self._json(api.read_validating_webhook_configuration, name)

    def pods(self, namespace: str) -> tuple[list[Object], str]:
        """All pods of a namespace, and the resourceVersion to watch from."""
        answer = self._json(self._core.list_namespaced_pod, namespace)
        return answer["items"], answer["metadata"]["resourceVersion"]

    def makers(self, namespace: str) -> dict[str, list[Object]]:
        """All objects of a namespace that make pods, by their kind; Denied when one kind may not be read."""
        apps, batch = AppsV1Api(self._client), BatchV1Api(self._client)
        lists = {
            "Deployment": apps.list_namespaced_deployment,
            "ReplicaSet": apps.list_namespaced_replica_set,
            "StatefulSet": apps.list_namespaced_stateful_set,
            "DaemonSet": apps.list_namespaced_daemon_set,
            "Job": batch.list_namespaced_job,
            "CronJob": batch.list_namespaced_cron_job,
        }
        with ThreadPoolExecutor(max_workers=len(lists)) as pool:
            found = pool.map(lambda call: self._json(call, namespace)["items"], lists.values())
            return dict(zip(lists, found, strict=True))

    def objects(self, namespace: str, group: str, version: str, plural: str) -> list[Object]:
        """All objects of a kind in a namespace, with the version that the cluster prefers where `version` is empty.

        None where the cluster does not know that kind; Denied when it may not be read.
        """
        try:
            if not group:
                return list(self._json(self._core_objects, namespace, version or "v1", plural)["items"])
            chosen = version or self._preferred.get(group)
            return self.customs(group, chosen, plural, namespace) if chosen else []
        except Denied as error:
            if error.status != 404:
                raise
            return []

    def _core_objects(self, namespace: str, version: str, plural: str, **options: Any) -> Any:
        """What CustomObjectsApi does, for the one group that has no name."""
        return self._client.call_api(
            "/api/{version}/namespaces/{namespace}/{plural}",
            "GET",
            {"version": version, "namespace": namespace, "plural": plural},
            auth_settings=["BearerToken"],
            **options,
        )

    @cached_property
    def _preferred(self) -> dict[str, str]:
        """Each API group of the cluster, and the version that it prefers."""
        groups = self._json(ApisApi(self._client).get_api_versions)["groups"]
        return {one["name"]: one["preferredVersion"]["version"] for one in groups}

    def pods_changed(self, namespace: str, since: str, seconds: float) -> None:
        """Return when a pod of the namespace changed after `since`, or when the time is over."""
        self._changed(self._core.list_namespaced_pod, namespace, since=since, seconds=seconds)

    def pod_http(self, namespace: str, pod: str, port: int, path: str, seconds: float) -> bytes:
        """What one pod itself answers over HTTP, asked through the API server."""
        with self._typed(f"ask pod {pod} for /{path}"):
            answer = self._core.connect_get_namespaced_pod_proxy_with_path(
                f"{pod}:{port}", namespace, path, _preload_content=False, _request_timeout=seconds
            )
            return bytes(answer.data)

    def pod_log(self, namespace: str, pod: str, container: str, lines: int = 20) -> str:
        """The last lines that a container wrote."""
        with self._typed(f"read the log of {pod}"):
            answer = self._core.read_namespaced_pod_log(
                pod,
                namespace,
                container=container,
                tail_lines=lines,
                _preload_content=False,
                _request_timeout=SECONDS,
            )
            return bytes(answer.data).decode("utf-8", "replace")

    def custom(self, group: str, version: str, namespace: str, plural: str, name: str) -> Object:
        """One custom object."""
        return self._json(self._custom.get_namespaced_custom_object, group, version, namespace, plural, name)

    def customs(self, group: str, version: str, plural: str, namespace: str | None = None) -> list[Object]:
        """All custom objects of a kind, of one namespace or of the cluster."""
        found = (
            self._json(self._custom.list_cluster_custom_object, group, version, plural)
            if namespace is None
            else self._json(self._custom.list_namespaced_custom_object, group, version, namespace, plural)
        )
        return list(found["items"])

    def patch_custom(
        self, group: str, version: str, namespace: str, plural: str, name: str, patch: Object
    ) -> Object:
        """Merge a patch into one custom object."""
        return self._json(
            self._custom.patch_namespaced_custom_object,
            *(group, version, namespace, plural, name, patch),
            _content_type="application/merge-patch+json",
        )

    def custom_changed(
        self, group: str, version: str, namespace: str, plural: str, name: str, since: str, seconds: float
    ) -> None:
        """Return when the custom object changed after `since`, or when the time is over."""
        self._changed(
            self._custom.list_namespaced_custom_object,
            *(group, version, namespace, plural),
            since=since,
            seconds=seconds,
            field_selector=f"metadata.name={name}",
        )

    def close(self) -> None:
        """Give the connections back; nobody is asked anything for that."""
        with self._opening:
            client, self._opened = self._opened, None
        if client:
            client.close()

    def _json(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Object:
        what = call.__name__.replace("_", " ")
        with self._typed(what):
            self._insist_not_silent()
            try:
                for attempt in self._attempts():
                    with attempt:
                        answer = call(*arguments, **options, _preload_content=False, _request_timeout=SECONDS)
                        return dict(json.loads(answer.data))
            except TimedOut as error:
                _silent[self._configuration.host] = (time.monotonic(), self._no_answer(what, error))
                raise
        raise AssertionError("tenacity reraises")

    def _changed(
        self, call: Callable[..., Any], *arguments: Any, since: str, seconds: float, **options: Any
    ) -> None:
        try:
            with self._typed("watch"):
                for _ in Watch(return_type="object").stream(
                    call,
                    *arguments,
                    resource_version=since,
                    timeout_seconds=max(1, round(seconds)),
                    _request_timeout=(SECONDS, max(seconds, 0.1)),
                    **options,
                ):
                    return
        except (Denied, ClusterUnreachable):
            return  # The next look says what is wrong, or that nothing is.

    def _login(self) -> str:
        """Whose login it is, as the kubeconfig calls that user, and whether its token is over."""
        owner = "the login of this pod" if self.context is None else f"the login of context {self.context}"
        token = str(self._configuration.api_key.get("BearerToken") or "").removeprefix("Bearer ")
        if not token:
            return owner
        over = _expired(token)
        return (
            f"{owner}, whose token was over on {over}" if over else f"{owner}, whose token is no longer good"
        )

    @staticmethod
    def _attempts() -> Retrying:
        return Retrying(
            # What did not answer in time once is not asked again (_insist_not_silent).
            retry=retry_if_exception(
                lambda error: isinstance(error, HTTPError) and not isinstance(error, TimedOut)
            ),
            stop=stop_after_attempt(3),
            wait=wait_exponential(multiplier=0.1, max=1),
            reraise=True,
        )

    @contextmanager
    def _typed(self, what: str) -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            if not error.status:
                raise ClusterUnreachable(f"{self.name}: {what}: {error.reason}", self.site.look) from None
            if error.status == 401:
                raise ClusterMissing(
                    f"{self.name} does not take {self._login()} ({what})", self.site.remedy("environments")
                ) from None
            raise Denied(
                f"{self.name}: {what}: {error.status} {_message(error)}", self.site.look, error.status
            ) from None
        except (HTTPError, OSError) as error:
            raise ClusterUnreachable(self._no_answer(what, error), self.site.look) from None

    def _no_answer(self, what: str, error: Exception) -> str:
        return f"{self.name} does not answer ({what}: {type(error).__name__})"

    def _insist_not_silent(self) -> None:
        """Whoever let one question time out is not asked the next at once: a verdict must not take minutes."""
        since, said = _silent.get(self._configuration.host, (0.0, ""))
        if said and time.monotonic() - since < SECONDS:
            raise ClusterUnreachable(said, self.site.look)


def _expired(token: str) -> str:
    """When a ServiceAccount's token ended, or nothing where it did not, or does not say."""
    try:
        body = token.split(".")[1]
        end = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"]
        moment = datetime.fromtimestamp(end, UTC)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, OSError):
        return ""
    return f"{moment:%Y-%m-%d}" if moment < datetime.now(UTC) else ""


def _message(error: ApiException) -> str:
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join((body or str(error.reason)).split())[:300]
