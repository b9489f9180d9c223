"""Who can be reached from inside an environment, and whether anything keeps pods apart at all."""

import json
from itertools import compress

from e2e.suites.outcome import unknown
from e2e.suites.target import Target, name, ready

# Runs inside a container: which of these addresses take a connection?
PROBE = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def reached(address):
    try:
        socket.create_connection(address, timeout=1.5).close()
    except OSError:
        return False
    return True

addresses = [tuple(one) for one in json.loads(sys.argv[1])]
with ThreadPoolExecutor(16) as pool:
    print(json.dumps(list(pool.map(reached, addresses))))
"""
WEB, OPERATORS, DATABASE = 8080, 9090, 5432
Address = tuple[str, int]


def reached(target: Target) -> list[str]:
    """The pods of other environments that a pod of this one gets through to; unknown where all would."""
    app = target.pipeline.chart.release
    others = _others(target, app)
    if not others:
        unknown("no other environment runs, so there is nothing to reach for")
    own = [(pod["status"]["podIP"], DATABASE) for pod in target.pods("postgresql") if ready(pod)]
    answers = _probe(target, name(target.app_pods()[0]), app, [*own, *others.values()])
    assert all(answers[: len(own)]), "the app does not even reach its own database: the probe shows nothing"
    found = list(compress(others, answers[len(own) :]))
    if found and (reason := _not_enforced(target, own)):
        unknown(reason)
    return found


def _others(target: Target, app: str) -> dict[str, Address]:
    ports = {app: (WEB, OPERATORS), "postgresql": (DATABASE,)}
    here = target.context.site.place(target.environment.name).context
    return {
        f"{environment.namespace}/{name(pod)}:{port}": (pod["status"]["podIP"], port)
        for environment in target.pipeline.environments
        if environment.namespace != target.namespace
        # Another cluster has a network of its own, and the tester of this one no rights there.
        if target.context.site.place(environment.name).context == here
        for pod in target.pods(namespace=environment.namespace)
        if ready(pod)
        for port in ports.get(pod["metadata"]["labels"].get("app.kubernetes.io/name"), ())
    }


def _probe(target: Target, pod: str, container: str, addresses: list[Address]) -> list[bool]:
    return list(target.python(pod, container, PROBE, json.dumps(addresses)))


def _not_enforced(target: Target, own: list[Address]) -> str:
    """Why nobody is kept out here: what the network says of itself, or a policy that it lets break."""
    chosen = ("--namespace=kube-system", "--field-selector=metadata.name=node-network")
    for one in target.get("configmaps", *chosen):
        if one.get("data", {}).get("network-policy") == "not enforced":
            return "the cluster's network does not enforce NetworkPolicy (ConfigMap kube-system/node-network)"
    for pod in target.pods("rates"):
        if own and any(_probe(target, name(pod), "rates", own)):
            return "the cluster's network enforces nothing: a pod without rights reached the database"
    return ""
