"""The live Application against the one that Git has: what somebody put in between the chart and the cluster.

Argo CD says Synced about what its Application tells it to compare. Whoever changes that (other Helm parameters,
fields that are left out, an annotation that keeps it from looking) gets Synced for something else than Git's.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from delivery.proof import spec
from delivery.proof.findings import Findings

Object = Mapping[str, Any]
_SKIP = "argocd.argoproj.io/skip-reconcile"
# Which commit it looks at is for decide.py to judge.
_REVISION = "targetRevision"
_EMPTY: tuple[Any, ...] = (None, "", [])


def found(live: Object, asked: Object) -> Findings:
    """Where an Application, as the API gives it, is not the one that `delivery generate` writes for the site."""
    wanted = asked["spec"]
    lines = list(_differences(live.get("spec") or {}, wanted, ""))
    if str(((live.get("metadata") or {}).get("annotations") or {}).get(_SKIP, "")).lower() == "true":
        lines.append(f"annotation {_SKIP} is set: Argo CD looks no more")
    status = live.get("status") or {}
    renders = status.get("sourceType") or "Helm"
    if renders != "Helm":
        lines.append(f"Argo CD renders it as {renders}, not as Helm does")
    lines += _operation(status.get("operationState") or {}, wanted)
    if live.get("operation"):
        lines += _synced(live["operation"], wanted, "the sync that was asked for")
    return Findings(tuple(f"the Application: {line}" for line in lines), tuple(_compared(status, wanted)))


def _operation(state: Object, wanted: Object) -> Iterator[str]:
    yield from _synced(state.get("operation") or {}, wanted, "its last sync")
    result = state.get("syncResult") or {}
    for field in ("source", "sources"):
        if field in result:
            yield from _differences(result[field], wanted.get(field), f"its last sync's {field}")


def _synced(operation: Object, wanted: Object, what: str) -> Iterator[str]:
    sync = operation.get("sync") or {}
    for field in ("source", "sources"):
        if sync.get(field):
            yield from _differences(sync[field], wanted.get(field), f"{what}'s {field}")
    if sync.get("manifests"):
        yield f"{what} brought manifests of its own"
    # When it heals by itself, Argo CD names the objects that drifted.
    if sync.get("resources") and not (operation.get("initiatedBy") or {}).get("automated"):
        yield f"{what} was about some of the objects only"
    strategy = sync.get("syncStrategy") or {}
    if "apply" in strategy or (strategy.get("hook") or {}).get("force"):
        yield f"{what} brought a strategy of its own"
    asked = (wanted.get("syncPolicy") or {}).get("syncOptions") or []
    for option in sync.get("syncOptions") or []:
        if option not in asked:
            yield f"{what} brought the option {option}"


def _compared(status: Object, wanted: Object) -> Iterator[str]:
    """What it compared with is a spec of before: its word is about that, until it looks again."""
    compared = (status.get("sync") or {}).get("comparedTo") or {}
    for field in ("source", "sources", "destination", "ignoreDifferences"):
        differs = field in compared and list(_differences(compared[field], wanted.get(field), field))
        if differs:
            yield f"Argo CD has not compared with what the Application asks for: {differs[0]}"


def _differences(live: Any, wanted: Any, at: str) -> Iterator[str]:
    for where, has, wants in spec.unequal(live, wanted, at, _EMPTY):
        if where.rpartition(".")[2] == _REVISION:
            continue
        if wants is None:
            yield f"{where} is set, and Git does not set it"
        else:
            yield f"{where} is {spec.shown(has)}, Git has {spec.shown(wants)}"
