"""What admission costs, asked of the API server directly: a pod as a dry run, where it is guarded and where not."""

import json
from collections.abc import Iterator
from functools import partial

from delivery import roles
from e2e.bench import copies, timed
from e2e.bench.copies import Copy
from e2e.bench.results import Measurement
from e2e.delivery import Checkout

# What a promotion asks the API server to admit: Deployment, ReplicaSet, Job, its pod, and two replicas.
REQUESTS = 6


def measure(checkout: Checkout, rounds: int) -> Iterator[Measurement]:
    """The last environment's own pod, made as a dry run in its namespace and in one that nobody guards, in turns."""
    last = checkout.environments()[-1]
    [running, *_] = checkout.pods(last.name)
    spec = {key: value for key, value in running["spec"].items() if key != "nodeName"}
    with copies.kept(Copy(checkout, last, "unguarded")) as copy:
        checkout.kubectl("-n", copy.namespace, "create", "serviceaccount", spec["serviceAccountName"])
        taken: dict[str, list[float]] = {last.namespace: [], copy.namespace: []}
        for _ in range(rounds * 4):
            for namespace, times in taken.items():
                metadata = {"name": "bench", "namespace": namespace}
                pod = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
                who = roles.AS_CONTROLLER  # as a ReplicaSet's pod comes
                ask = partial(checkout.kubectl, *who, "create", "--dry-run=server", "-f", "-", input=pod)
                times.append(timed.seconds(ask))
    guarded, unguarded = taken.values()
    share = [REQUESTS * (one - other) for one, other in zip(guarded, unguarded, strict=True)]
    group = "Gate, evidence, entry, admission"
    yield Measurement(group, "admission.guarded", f"a pod admitted in {last.name}", tuple(guarded))
    yield Measurement(group, "admission.unguarded", "a pod admitted without a guard", tuple(unguarded))
    says = f"admission's share of a promotion: {REQUESTS} requests"
    yield Measurement(group, "admission.share", says, tuple(max(0.0, value) for value in share))
