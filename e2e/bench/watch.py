"""What a cluster says of objects as they change, each with the moment at which it was heard."""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from delivery.errors import NotReached
from e2e.delivery import Checkout

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """An object as it is after a change, and when that was heard, in seconds of time.monotonic()."""

    at: float
    deleted: bool
    object: dict[str, Any]

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.object["metadata"]["name"])


class Watch:
    """`kubectl get … --watch` while the block runs. Kubernetes' own times are whole seconds; these are finer."""

    def __init__(self, checkout: Checkout, *arguments: str) -> None:
        self._command = [*checkout.kubectl_command(), "get", *arguments]
        self._command += ["--watch", "--output-watch-events", "-o", "json"]
        self._said: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        if self._process.stdout:
            self._process.stdout.close()

    def until(self, look: Callable[[Event], T | None], limit: float, what: str) -> T:
        """The first thing that `look` makes of an event; NotReached after `limit` seconds."""
        end = time.monotonic() + limit
        while (left := end - time.monotonic()) > 0:
            try:
                event = self._said.get(timeout=left)
            except queue.Empty:
                break
            if event is None:
                raise NotReached(f"{what}: the watch ended", "run it again")
            if (found := look(event)) is not None:
                return found
        raise NotReached(f"{what}: not within {limit:.0f} s", f"look: {' '.join(self._command[:-3])}")

    def heard(self) -> list[Event]:
        """Everything that was heard and not looked at yet."""
        found = []
        while not self._said.empty():
            if event := self._said.get():
                found.append(event)
        return found

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:  # an event a line
            said = json.loads(line)
            self._said.put(Event(time.monotonic(), said["type"] == "DELETED", said["object"]))
        self._said.put(None)


class Rollout:
    """The pods of an app, as a watch tells of them: whether a digest has taken over."""

    def __init__(self, digest: str, replicas: int) -> None:
        self._digest, self._replicas = digest, replicas
        self._pods: dict[str, dict[str, Any]] = {}

    def look(self, event: Event) -> float | None:
        """When all replicas ran the digest, Ready, and no other pod served any more; None as long as they do not."""
        if event.deleted or event.object["metadata"].get("deletionTimestamp"):
            self._pods.pop(event.name, None)
        else:
            self._pods[event.name] = event.object
        new = [pod for pod in self._pods.values() if ready(pod) and runs(pod, self._digest)]
        return event.at if len(new) == len(self._pods) == self._replicas else None


def runs(pod: dict[str, Any], digest: str) -> bool:
    """Whether a pod was made to run a digest."""
    return any(one["image"].endswith(digest) for one in pod["spec"]["containers"])


def ready(pod: dict[str, Any]) -> bool:
    """Whether it is Ready."""
    return condition(pod, "Ready")


def condition(pod: dict[str, Any], name: str) -> bool:
    """Whether a condition of a pod is true."""
    said = pod.get("status", {}).get("conditions", [])
    return any((one["type"], one["status"]) == (name, "True") for one in said)


def started(pod: dict[str, Any]) -> bool:
    """Whether all its containers run."""
    said = pod.get("status", {}).get("containerStatuses", [])
    return bool(said) and all("running" in one["state"] for one in said)
