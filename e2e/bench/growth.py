"""What more of the same costs: Applications in one Argo CD, lines of history, evidence about one digest."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from delivery import roles
from delivery.errors import NotReached
from e2e.bench import copies, polling
from e2e.bench.copies import Copy
from e2e.bench.rendered import Branch
from e2e.bench.results import Measurement
from e2e.bench.watch import Event, Watch
from e2e.delivery import Checkout

GROUP = "Growth"
APPLICATIONS = (1, 10, 50)
_LIMIT = 180.0  # seconds, until all Applications are Synced
_IDLE = 65.0  # seconds: a period of Argo CD's polling and a little
_ARGOCD = ("argocd-application-controller", "argocd-repo-server")
_PLAYED_LIMIT = 1200.0


def applications(checkout: Checkout, branch: Branch, rounds: int) -> Iterator[Measurement]:
    """Detection and the processors' time as there are more Applications, each of one ConfigMap."""
    copy = Copy(checkout, checkout.environments()[0], "apps")
    with copies.kept(copy), polling.project(checkout, [copy.namespace]):
        detected, busy = {}, {}
        for size in APPLICATIONS:
            names = [f"{polling.NAME}-{number:02}" for number in range(size)]
            commit = branch.push({f"{name}/one.yaml": _config_map(name, f"{size}") for name in names})
            manifests = [polling.manifest(checkout, name, name, copy.namespace) for name in names]
            checkout.apply({"apiVersion": "v1", "kind": "List", "items": manifests}, *roles.AS_PLATFORM)
            with _applications(checkout) as watch:
                watch.until(_Synced(set(names), commit).look, _LIMIT, f"{size} Applications are Synced")
            detected[size] = [_detected(checkout, branch, names[0]) for _ in range(max(3, rounds))]
            busy[size] = _busy(checkout)
    for size, values in detected.items():
        says = f"a commit seen after a refresh, {size} Applications more"
        yield Measurement(GROUP, f"detection.{size}", says, tuple(values), size=size)
    for size, cores in busy.items():
        says = f"Argo CD's processors while nothing changes, {size} Applications more"
        yield Measurement(GROUP, f"idle.{size}", says, (cores,), unit="millicores", size=size)


class _Synced:
    """Whether all of them are at a commit."""

    def __init__(self, names: set[str], commit: str) -> None:
        self._missing, self._commit = names, commit

    def look(self, event: Event) -> bool | None:
        sync = (event.object.get("status") or {}).get("sync") or {}
        if (sync.get("revision"), sync.get("status")) == (self._commit, "Synced"):
            self._missing.discard(event.name)
        return not self._missing or None


def _applications(checkout: Checkout) -> Watch:
    return Watch(checkout, "applications", "-n", "argocd", "-l", "delivery/bench=true")


def _detected(checkout: Checkout, branch: Branch, name: str) -> float:
    """Seconds from a refresh, as `delivery` asks for one, until Argo CD names the commit."""

    def seen(event: Event) -> float | None:
        sync = (event.object.get("status") or {}).get("sync") or {}
        return event.at if event.name == name and sync.get("revision") == commit else None

    with _applications(checkout) as watch:
        commit = branch.push({f"{name}/one.yaml": _config_map(name, f"{time.time_ns()}")})
        start = time.monotonic()
        refresh = ("annotate", "application", name, "argocd.argoproj.io/refresh=normal", "--overwrite")
        checkout.kubectl(*roles.AS_PLATFORM, "-n", "argocd", *refresh)
        return watch.until(seen, _LIMIT, f"Argo CD has seen the commit for {name}") - start


def _busy(checkout: Checkout) -> float:
    """Thousandths of a processor that Argo CD's controller and its repo-server use over one period of polling."""
    before, start = _used(checkout), time.monotonic()
    time.sleep(_IDLE)  # a time is what is measured over: there is nothing to watch for
    return (_used(checkout) - before) / (time.monotonic() - start) * 1000


def _used(checkout: Checkout) -> float:
    """Seconds of a processor that they have used so far, as the node counts them."""
    node = checkout.get("nodes")["items"][0]["metadata"]["name"]
    text = checkout.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics/resource").stdout
    pods: list[dict[str, Any]] = checkout.get("pods", "-n", "argocd")["items"]
    names = [name for pod in pods if (name := str(pod["metadata"]["name"])).startswith(_ARGOCD)]
    return sum(_processor_seconds(text, name) for name in names)


def _processor_seconds(metrics: str, pod: str) -> float:
    for line in metrics.splitlines():
        if line.startswith("pod_cpu_usage_seconds_total{") and f'pod="{pod}"' in line:
            return float(line.partition("} ")[2].split()[0])
    raise NotReached(
        f"the node does not say how much pod {pod} used", "look: kubectl get --raw …/metrics/resource"
    )


def _config_map(name: str, value: str) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"value": value},
    }
    return json.dumps(document) + "\n"


def played(checkout: Checkout) -> Iterator[Measurement]:
    """History and evidence up to 1,000, on a world that is played on this machine: no cluster has that many yet."""
    with tempfile.TemporaryDirectory(prefix="delivery-bench-") as folder:
        file = Path(folder, "growth")
        pytest = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "scripts/tests/local/growth.py",
        ]
        environment = {**os.environ, "GROWTH": str(file), "DELIVERY_TOOLS": "pinned"}
        done = subprocess.run(
            pytest,
            cwd=checkout.path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PLAYED_LIMIT,
        )
        if done.returncode:
            raise NotReached(f"growth was not measured: {done.stdout[-300:].strip()}", " ".join(pytest[1:]))
        for line in file.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            name, size, values = found["name"], int(found["size"]), tuple(found["seconds"])
            yield Measurement(
                GROUP, f"{name}.{size}", _SAYS[name].format(size=f"{size:,}"), values, size=size
            )


_SAYS = {
    "history": "`delivery history`, all signatures verified, {size} lines",
    "evidence_read": "a gate reads the evidence about a digest, {size} statements",
    "evidence_added": "a test adds its evidence to {size} statements",
}
