"""What a failed CI run leaves behind: the words of the pods, of Argo CD, of kind and of Docker.

python -m e2e.logs FOLDER
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from delivery import pipeline as pipelines
from e2e.conftest import SITE
from e2e.delivery import Checkout
from local import cluster as clusters
from local import paths

_APPLICATIONS = ("-n", "argocd", "get", "applications", "-o", "yaml")


def main(folder: Path) -> None:
    """Write what can be had; whatever cannot is said in its file and stops nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = clusters.chosen(SITE)
    kubectl = Checkout(pipelines.root(), SITE).kubectl_command()
    asked = {
        "pods.txt": [*kubectl, "get", "pods", "-A", "-o", "wide"],
        "events.txt": [*kubectl, "get", "events", "-A", "--sort-by=.lastTimestamp"],
        "applications.yaml": [*kubectl, *_APPLICATIONS],
        "containers.txt": ["docker", "ps", "--all"],
        "gateway.txt": ["docker", "logs", "--tail=500", f"{cluster.name}-gateway"],
        "registry.txt": ["docker", "logs", "--tail=500", f"{cluster.name}-registry"],
    }
    for name, command in asked.items():
        (folder / name).write_text(_said(command), encoding="utf-8")
    environments = {environment.namespace for environment in pipelines.load().environments}
    for namespace, pod in _pods(kubectl, environments | {"argocd", "cosign-system"}):
        logs = [*kubectl, "-n", namespace, "logs", pod, "--all-containers", "--tail=500"]
        (folder / f"{namespace}-{pod}.log").write_text(_said(logs), encoding="utf-8")
    for file in (cluster.state / "kind.log", cluster.state / "build.log", paths.host("dockerd.log")):
        if file.exists():
            (folder / file.name).write_bytes(file.read_bytes()[-1_000_000:])
    print(f"logs are in {folder}", file=sys.stderr)


def _pods(kubectl: list[str], namespaces: set[str]) -> Iterator[tuple[str, str]]:
    rows = _said([*kubectl, "get", "pods", "-A", "--no-headers"]).splitlines()
    namespaces = {"argocd", "cosign-system", *(one.namespace for one in pipelines.load().environments)}
    for fields in (row.split() for row in rows):
        if len(fields) > 1 and fields[0] in namespaces:
            yield fields[0], fields[1]


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)}: {error}\n"
    return done.stdout + done.stderr


if __name__ == "__main__":
    main(Path(sys.argv[1]))
