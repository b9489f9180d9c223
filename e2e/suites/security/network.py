"""Who is reached from inside an environment: what the app needs, and nobody else, here or in another environment."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from e2e.suites.outcome import unknown
from e2e.suites.target import Object, Target, name, ready

# Runs inside a container: which of these addresses take a connection? Without a host: its name server.
PROBE = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

lines = open("/etc/resolv.conf").read().splitlines()
server = next(line.split()[1] for line in lines if line.startswith("nameserver "))

def reached(address):
    host, port = address
    try:
        socket.create_connection((host or server, port), timeout=1.5).close()
    except OSError:
        return False
    return True

addresses = json.loads(sys.argv[1])
with ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(reached, addresses))))
"""
WEB, OPERATORS, DATABASE, DNS, DNS_METRICS = 8080, 9090, 5432, 53, 9153
Address = tuple[str, int]
Addresses = dict[str, Address]  # what a person calls it -> where it is


@dataclass(frozen=True)
class Reach:
    """What pods of the environment got through to, of what no policy opens to them."""

    here: list[str]
    elsewhere: list[str] | None  # in other environments; None: none runs

    def others(self) -> list[str]:
        """What was reached in other environments; unknown where there is none."""
        if self.elsewhere is None:
            unknown("no other environment runs, so there is nothing to reach for")
        return self.elsewhere


def look(target: Target) -> Reach:
    """Knock from the app, and from its stand-in, which may reach nobody; fails when the app lacks what it needs."""
    app = target.pipeline.chart.release
    asking = target.app_pods()[0]
    needed = {**_pods(target, target.namespace, "postgresql", "rates"), "DNS": ("", DNS)}
    peers = _but(asking, _pods(target, target.namespace, app))
    closed = {**peers, "DNS's metrics": ("", DNS_METRICS)}
    others = _others(target)
    reached = _probe(target, asking, app, {**needed, **closed, **others})
    lacking = needed.keys() - reached
    # Nor would the rest mean anything: nobody is kept out where nothing is reached.
    assert not lacking, f"the app does not reach what it needs: {', '.join(sorted(lacking))}"
    here = [key for key in closed if key in reached]
    for idle in filter(ready, target.pods("rates")):
        itself, around = {"itself": ("127.0.0.1", WEB)}, _but(idle, {**needed, **closed})
        also = _probe(target, idle, "rates", {**itself, **around, **others})
        assert "itself" in also, "the stand-in does not reach itself: what it reaches shows nothing"
        here += [f"{key} from {name(idle)}" for key in around if key in also]
        reached |= also & others.keys()
    return Reach(here, [key for key in others if key in reached] if others else None)


def listening(app: str) -> dict[str, tuple[int, ...]]:
    """The ports where the pods of an environment listen, by the pod's app."""
    return {app: (WEB, OPERATORS), "postgresql": (DATABASE,), "rates": (WEB,)}


def _others(target: Target) -> Addresses:
    """The pods and Services of other environments, the Services also by the node's port."""
    here = target.context.site.place(target.environment.name).context
    found: Addresses = {}
    for environment in target.pipeline.environments:
        # Another cluster has a network of its own, and the tester of this one no rights there.
        if (
            environment.namespace == target.namespace
            or target.context.site.place(environment.name).context != here
        ):
            continue
        pods = _pods(target, environment.namespace, *listening(target.pipeline.chart.release))
        found |= pods
        if pods:  # a Service takes a connection where a pod stands behind it
            nodes = {pod["status"]["hostIP"] for pod in target.pods(namespace=environment.namespace)}
            found |= _services(target, environment.namespace, nodes)
    return found


def _pods(target: Target, namespace: str, *apps: str) -> Addresses:
    ports = listening(target.pipeline.chart.release)
    return {
        f"{namespace}/{name(pod)}:{port}": (pod["status"]["podIP"], port)
        for app in apps
        for pod in target.pods(app, namespace)
        if ready(pod)
        for port in ports[app]
    }


def _but(pod: Object, addresses: Addresses) -> Addresses:
    return {key: one for key, one in addresses.items() if one[0] != pod["status"]["podIP"]}


def _services(target: Target, namespace: str, nodes: set[str]) -> Addresses:
    def addresses(service: Object) -> Iterator[Address]:
        for port in service["spec"]["ports"]:
            if (own := service["spec"].get("clusterIP", "None")) != "None":
                yield own, port["port"]
            if "nodePort" in port:
                yield from ((node, port["nodePort"]) for node in nodes)

    return {
        f"{namespace}'s Service {name(service)} at {host}:{port}": (host, port)
        for service in target.get("services", f"--namespace={namespace}")
        for host, port in addresses(service)
    }


def _probe(target: Target, pod: Object, container: str, addresses: Addresses) -> set[str]:
    """Those of them that take a connection from that container."""
    answers = target.python(name(pod), container, PROBE, json.dumps(list(addresses.values())))
    return {key for key, reached in zip(addresses, answers, strict=True) if reached}
