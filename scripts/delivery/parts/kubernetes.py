"""The cluster's API: only through our own kubeconfig and only for our own cluster; answers as plain JSON."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from kubernetes.client import ApiClient, Configuration, CoreV1Api, CustomObjectsApi
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_kube_config
from kubernetes.watch import Watch
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as TimedOut
from yaml import YAMLError

from delivery.errors import PlatformError
from delivery.pipeline import Cluster

SECONDS = 10
Object = dict[str, Any]


class ClusterMissing(PlatformError):
    """There is no such cluster here, or its kubeconfig is not the one we made."""


class ClusterUnreachable(PlatformError):
    """The cluster exists but its API server does not answer; what runs there is unknown."""


class Denied(PlatformError):
    """The API server answered, and refused; `status` is its HTTP status."""

    def __init__(self, message: str, hint: str, status: int) -> None:
        super().__init__(message, hint)
        self.status = status


class Kubernetes:
    """One cluster. Calls are bounded, repeated only when the server did not answer, and fail typed."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        file, context = cluster.kubeconfig, cluster.context
        configuration = Configuration()
        try:
            load_kube_config(config_file=str(file), context=context, client_configuration=configuration)
        except (ConfigException, YAMLError, OSError, ValueError, TypeError, AttributeError):
            if not file.exists():
                raise ClusterMissing(
                    f"cluster {cluster.name} is not up: {file} is missing", "start it: delivery up"
                ) from None
            raise ClusterMissing(
                f"{file} has no usable context {context}: not the cluster that `delivery up` made",
                "make it again: delivery down, then delivery up",
            ) from None
        host = urlsplit(configuration.host).hostname
        if host not in ("127.0.0.1", "localhost", "::1"):
            raise ClusterMissing(
                f"context {context} leads to {host}, which is not this machine: not touching it",
                "make the kubeconfig again: delivery down, then delivery up",
            )
        configuration.proxy = None
        configuration.retries = False
        self._configuration = configuration

    @cached_property
    def _client(self) -> ApiClient:
        return ApiClient(self._configuration)

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

    def pods(self, namespace: str) -> tuple[list[Object], str]:
        """All pods of a namespace, and the resourceVersion to watch from."""
        answer = self._json(self._core.list_namespaced_pod, namespace)
        return answer["items"], answer["metadata"]["resourceVersion"]

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
        """Give the connections back."""
        self._client.close()

    def _json(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Object:
        with self._typed(call.__name__.replace("_", " ")):
            for attempt in self._attempts():
                with attempt:
                    answer = call(*arguments, **options, _preload_content=False, _request_timeout=SECONDS)
                    return dict(json.loads(answer.data))
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

    @staticmethod
    def _attempts() -> Retrying:
        return Retrying(
            # What did not answer in time once is not asked again: a verdict must not take minutes.
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
                raise ClusterUnreachable(
                    f"cluster {self.cluster.name}: {what}: {error.reason}", _DOCTOR
                ) from None
            if error.status == 401:
                raise ClusterMissing(
                    f"the API server does not know our key: not the cluster that `delivery up` made ({what})",
                    "make it again: delivery down, then delivery up",
                ) from None
            raise Denied(
                f"cluster {self.cluster.name}: {what}: {error.status} {_message(error)}",
                _DOCTOR,
                error.status,
            ) from None
        except (HTTPError, OSError) as error:
            raise ClusterUnreachable(
                f"cluster {self.cluster.name} does not answer ({what}: {type(error).__name__})", _DOCTOR
            ) from None


_DOCTOR = "look what is missing: delivery doctor"


def _message(error: ApiException) -> str:
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join((body or str(error.reason)).split())[:300]
