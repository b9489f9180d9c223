"""How fast, as ratios measured in one run: `make bench`, on the cluster that `make demo` left running.

Each round brings one new digest to dev the way users do (commit, push, Argo CD, pods Ready) and then the
same digest to a copy of dev with `kubectl set image`, the floor that no delivery can beat. The two take
turns, so that a slow moment of the machine meets both. Medians, because these machines are noisy.

What admission costs is asked of the API server directly: prod's own pod, made as a dry run in prod and in the
namespace that nobody guards. What gate and entry cost is what a promotion into stage says of them; each is rolled back,
and tested anew before the next.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from delivery import context as contexts
from delivery import pipeline as pipelines
from delivery import roles
from delivery.parts import programs
from e2e.delivery import Checkout

ROUNDS = 5
# What a promotion asks the API server to admit: Deployment, ReplicaSet, Job, its pod, and two replicas.
REQUESTS = 6
NAMESPACE = "bench"


def main(rounds: int = ROUNDS) -> None:
    """Measure on the selected cluster, print the table, and leave dev at its newest digest."""
    root = pipelines.root()
    site = contexts.load().site
    with tempfile.TemporaryDirectory(prefix="delivery-bench-") as folder:
        path = Path(folder, "manual-app")
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", root, path], check=True)
        # The clone is another checkout: it works with this one's cluster and keys.
        os.environ |= {"DELIVERY_STATE": str(site.state.parent), "DELIVERY_SITE": site.name}
        checkout = Checkout(path, site.name)
        checkout.pull()
        try:
            measured = _measure(checkout, rounds)
        finally:
            checkout.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
    _report(measured)


def _measure(checkout: Checkout, rounds: int) -> dict[str, list[float]]:
    _copy_of_dev(checkout)
    measured: dict[str, list[float]] = {"set image": [], "commit": [], "build": []}
    for number in range(rounds):
        checkout.pull()
        (checkout.path / "manual-app" / "BENCH").write_text(f"{time.time()} {number}\n")
        checkout.commit("manual-app: a change to measure with")
        measured["build"].append(_timed(lambda: checkout.delivery("build")))
        done = checkout.delivery("deploy", "--format", "json").json
        measured["commit"].append(done["seconds"]["ready"])
        measured["set image"].append(_timed(partial(_set_image, checkout, done["digest"])))
    measured |= _promotions(checkout, max(1, rounds // 2))
    measured["guarded"], measured["unguarded"] = _admission(checkout, rounds * 4)
    measured["verify"] = [_timed(lambda: checkout.delivery("verify")) for _ in range(rounds)]
    return measured


def _copy_of_dev(checkout: Checkout) -> None:
    """The chart as dev has it, in a namespace that Argo CD does not know."""
    checkout.kubectl("create", "namespace", NAMESPACE, check=False)
    for name in checkout.pipeline.app.secrets:
        secret = checkout.get("secret", name, "-n", "dev")
        secret["metadata"] = {"name": name, "namespace": NAMESPACE}
        checkout.apply(secret)
    chart = str(checkout.path / "manual-app-helm")
    rendered = subprocess.run(
        [
            *(str(programs.path("helm")), "template", "manual-app", chart, "--namespace", NAMESPACE),
            *("--values", f"{chart}/values-dev.yaml", "--set", "service.nodePort=0"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    checkout.kubectl("-n", NAMESPACE, "apply", "-f", "-", input=rendered)
    checkout.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/manual-app", "--timeout=120s")


def _promotions(checkout: Checkout, rounds: int) -> dict[str, list[float]]:
    """Seconds of promotions into stage, of the gate and of the entry in each, and of their rollbacks."""
    taken: dict[str, list[float]] = {"promote": [], "gate": [], "entry": [], "rollback": []}
    for _ in range(rounds):
        checkout.delivery("test", "dev")
        start = time.monotonic()
        said = checkout.delivery("promote", "stage").err
        taken["promote"].append(time.monotonic() - start)
        for part, phase in (("gate", "The gate of stage lets"), ("entry", "Signing the entry of")):
            found = re.search(rf"{phase} .*\(([0-9.]+) s\)$", said, re.MULTILINE)
            assert found, said
            taken[part].append(float(found[1]))
        taken["rollback"].append(_timed(lambda: checkout.delivery("rollback", "stage")))
    return taken


def _admission(checkout: Checkout, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds to have prod's pod admitted in prod, and in a namespace without a guard; in turns."""
    [running, *_] = checkout.get("pods", "-n", "prod", "-l", checkout.selector)["items"]
    spec = {key: value for key, value in running["spec"].items() if key != "nodeName"}
    taken: dict[str, list[float]] = {"prod": [], NAMESPACE: []}
    for _ in range(rounds):
        for namespace, times in taken.items():
            metadata = {"name": "bench", "namespace": namespace}
            pod = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
            who = roles.AS_CONTROLLER  # as a ReplicaSet's pod comes
            ask = partial(checkout.kubectl, *who, "create", "--dry-run=server", "-f", "-", input=pod)
            times.append(_timed(ask))
    return taken["prod"], taken[NAMESPACE]


def _set_image(checkout: Checkout, digest: str) -> None:
    repository = checkout.context.site.image.name
    image = f"manual-app={repository}@{digest}"
    checkout.kubectl("-n", NAMESPACE, "set", "image", "deployment/manual-app", image)
    # The same end as a deployment's: a pod of that digest is Ready. Watched, not polled.
    watch = subprocess.Popen(
        [
            *checkout.kubectl_command(),
            *("-n", NAMESPACE, "get", "pods", "-l", checkout.selector, "--watch", "-o", "json"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    decoder, text = json.JSONDecoder(), ""
    try:
        assert watch.stdout
        for line in watch.stdout:
            text += line
            if line != "}\n":
                continue
            pod, _ = decoder.raw_decode(text)
            text = ""
            statuses = pod["status"].get("containerStatuses", [])
            if any(status["ready"] and status["imageID"].endswith(digest) for status in statuses):
                return
    finally:
        watch.kill()
        watch.wait()
    raise AssertionError("the watch ended before a pod was Ready")


def _timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _report(measured: dict[str, list[float]]) -> None:
    floor = measured["set image"]
    rows = {
        "kubectl set image -> Ready (the floor)": floor,
        "commit pushed -> Ready in dev": measured["commit"],
        "image built and pushed": measured["build"],
        "delivery verify": measured["verify"],
        "delivery promote stage": measured["promote"],
        "  the gate in it": measured["gate"],
        "  the entry in it": measured["entry"],
        "delivery rollback stage": measured["rollback"],
        "a pod admitted in prod": measured["guarded"],
        "a pod admitted without a guard": measured["unguarded"],
    }
    print(f"{'':42} {'median':>7} {'min':>7} {'max':>7}")
    for name, values in rows.items():
        print(f"{name:42} {statistics.median(values):6.2f}s {min(values):6.2f}s {max(values):6.2f}s")
    ratios = [commit / base for commit, base in zip(measured["commit"], floor, strict=True)]
    print(f"commit / floor, round by round: median {statistics.median(ratios):.2f}", end="")
    print(f" ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    back = [one / other for one, other in zip(measured["rollback"], measured["promote"], strict=True)]
    print(f"rollback / promotion: median {statistics.median(back):.2f}")
    more = statistics.median(measured["guarded"]) - statistics.median(measured["unguarded"])
    print(f"admission: {more * 1000:.0f} ms a request, {more * REQUESTS:.2f} s of a promotion's {REQUESTS}")
    held = more * REQUESTS + statistics.median(measured["gate"]) + statistics.median(measured["entry"])
    print(f"gate, entry and admission: {held:.2f} s of a promotion")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
