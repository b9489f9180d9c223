"""Is what the cluster has what Git rendered? A pod, the template of pods, any other object: field by field.

What was rendered must be there, and beyond it nothing but what the API server and the cluster's controllers add by
themselves (defaults.py). What a mutating webhook adds was asked by nobody in Git: it is a difference.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from delivery.proof import defaults

Object = Mapping[str, Any]
_EMPTY: tuple[Any, ...] = (None, "", [], {}, ())
_OLD_NAME = "serviceAccount"  # of serviceAccountName; the API server writes both
_DATA = ("data.", "binaryData.")  # of a ConfigMap
_SHOWN = 60  # characters of a value in a reason


def template(live: Object, asked: Object) -> list[str]:
    """How the template of a live Deployment or its like differs from the rendered one, one line a field."""
    wanted, has = _spec(asked), _spec(live)
    found = list(named(live, asked, "labels"))
    found += named(live, asked, "annotations", (defaults.RESTARTED,))
    return found + list(_fields(has, wanted, "", "pod"))


def pod(live: Object, asked: Object, owner: Object) -> list[str]:
    """How a live pod differs from what `owner`, a rendered object, has for its template, one line a field."""
    wanted, has = _spec(asked), _spec(live)
    for field in defaults.FREE:
        wanted.pop(field, None)
        has.pop(field, None)
    _from_the_owner(wanted, has, live["metadata"], owner)
    _from_admission(wanted, has)
    labels = live["metadata"].get("labels") or {}
    added = tuple(name for name in labels if defaults.LABELS.match(name))
    found = list(named(live, asked, "labels", added))
    # Network plugins and others note things in a pod's annotations; what a pod does is in its spec.
    found += named(live, asked, "annotations", tuple(live["metadata"].get("annotations") or {}))
    return found + list(_fields(has, wanted, "", "pod"))


def fields(live: Object, asked: Object, inside: str) -> list[str]:
    """How any other live object differs from the one that was generated, one line a field.

    `inside` is what its defaults are known by.
    """
    return list(_fields(live, asked, "", inside))


def exact(live: Object, asked: Object) -> list[str]:
    """The same of an object that has no defaults: what it has is what was applied, one line a field."""
    return [_difference(has, wants, at) for at, has, wants in unequal(live, asked, "", (None, []))]


def unequal(live: Any, asked: Any, at: str, empty: Collection[Any]) -> Iterator[tuple[str, Any, Any]]:
    """Where two values differ, as deep as both are objects: the place, and what each has there.

    Two of `empty` are no difference.
    """
    if isinstance(live, Mapping) and isinstance(asked, Mapping):
        for field in dict.fromkeys((*asked, *live)):
            where = f"{at}.{field}" if at else field
            yield from unequal(live.get(field), asked.get(field), where, empty)
    elif not (live in empty and asked in empty) and live != asked:
        yield at, live, asked


def _spec(of: Object) -> dict[str, Any]:
    spec = deepcopy(dict(of.get("spec") or {}))
    if old := spec.get(_OLD_NAME):
        spec.setdefault("serviceAccountName", old)
        del spec[_OLD_NAME]
    return spec


def named(live: Object, asked: Object, what: str, free: Collection[str] = ()) -> Iterator[str]:
    """How the labels or the annotations of two objects differ; one that is `free` may be there besides."""
    has = (live.get("metadata") or {}).get(what) or {}
    wanted = (asked.get("metadata") or {}).get(what) or {}
    one = what.removesuffix("s")
    for name in wanted:
        if has.get(name) != wanted[name]:
            yield f"{one} {name} is {shown(has.get(name))}, Git asks for {shown(wanted[name])}"
    for name in has:
        if name not in wanted and name not in free:
            yield f"has {one} {name} that Git does not ask for"


def _from_the_owner(wanted: dict[str, Any], has: dict[str, Any], metadata: Object, owner: Object) -> None:
    """Level what the controller of that kind puts into every pod."""
    name, spec = str(metadata.get("name") or ""), owner.get("spec") or {}
    if owner["kind"] == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    if owner["kind"] == "StatefulSet":
        wanted["hostname"] = name
        if spec.get("serviceName"):
            wanted["subdomain"] = spec["serviceName"]
        for claim in spec.get("volumeClaimTemplates") or []:
            volume = claim["metadata"]["name"]
            others = [one for one in wanted.get("volumes") or [] if one["name"] != volume]
            claimed = {"name": volume, "persistentVolumeClaim": {"claimName": f"{volume}-{name}"}}
            wanted["volumes"] = [*others, claimed]
    elif owner["kind"] == "DaemonSet":  # each pod is bound to its node
        for side in (wanted, has):
            (side.get("affinity") or {}).pop("nodeAffinity", None)
    elif spec.get("completionMode") == "Indexed":
        wanted["hostname"] = has.get("hostname")
        for container in _containers(has):
            container["env"] = [one for one in container.get("env") or [] if not _index(one)]


def _index(variable: Object) -> bool:
    path = ((variable.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath")
    return (variable["name"], path) == (defaults.INDEX, defaults.INDEX_FIELD)


def _from_admission(wanted: dict[str, Any], has: dict[str, Any]) -> None:
    """Put into the rendered spec what every pod gets on its way in, and take away what is only the cluster's."""
    for container in _containers(wanted):
        if limits := (container.get("resources") or {}).get("limits"):
            requests = container["resources"].get("requests") or {}
            container["resources"] = container["resources"] | {"requests": {**limits, **requests}}
        if wanted.get("hostNetwork"):
            for port in container.get("ports") or []:
                port.setdefault("hostPort", port["containerPort"])
    for field in (
        "imagePullSecrets",
        "priorityClassName",
    ):  # the service account's, the cluster's own default
        if not wanted.get(field):
            has.pop(field, None)
    if wanted.get("automountServiceAccountToken") is not False:
        _without_token(has)
    asked = wanted.get("tolerations") or []
    has["tolerations"] = [
        one
        for one in has.get("tolerations") or []
        if one in asked or not str(one.get("key") or "").startswith(defaults.TOLERATED)
    ]
    for selector, own in _matching_own_labels(has):
        others = [one for one in selector.get("matchExpressions") or [] if one.get("key") not in own]
        selector["matchExpressions"] = others
    policies = {one["name"]: one.get("imagePullPolicy") for one in _containers(wanted)}
    for container in _containers(has):  # where the plugin AlwaysPullImages is on
        if container.get("imagePullPolicy") == "Always":
            container["imagePullPolicy"] = policies.get(container["name"])


def _without_token(has: dict[str, Any]) -> None:
    for volume in has.get("volumes") or []:
        if not defaults.TOKEN_VOLUME.match(volume["name"]) or not _is_token(volume.get("projected") or {}):
            continue
        has["volumes"] = [one for one in has["volumes"] if one is not volume]
        mount = {"name": volume["name"], "readOnly": True, "mountPath": defaults.TOKEN_PATH}
        for container in _containers(has):
            container["volumeMounts"] = [one for one in container.get("volumeMounts") or [] if one != mount]
        return


def _is_token(projected: Object) -> bool:
    """Whether it is the volume that the plugin makes; how long the token lives is the API server's to choose."""
    sources = [
        {kind: {key: value for key, value in one.items() if key != "expirationSeconds"}}
        for source in projected.get("sources") or []
        for kind, one in source.items()
    ]
    mode = projected.get("defaultMode", defaults.DEFAULTS["projected", "defaultMode"])
    return sources == list(defaults.TOKEN_SOURCES) and mode == defaults.DEFAULTS["projected", "defaultMode"]


def _matching_own_labels(spec: Object) -> Iterator[tuple[dict[str, Any], Sequence[str]]]:
    """The selectors that the API server narrows to the pod's own labels, and by which ones: `matchLabelKeys`."""
    terms = list(spec.get("topologySpreadConstraints") or [])
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = (spec.get("affinity") or {}).get(kind) or {}
        terms += rules.get("requiredDuringSchedulingIgnoredDuringExecution") or []
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        terms += [one["podAffinityTerm"] for one in preferred]
    for term in terms:
        own = [*(term.get("matchLabelKeys") or []), *(term.get("mismatchLabelKeys") or [])]
        if own and isinstance(term.get("labelSelector"), dict):
            yield term["labelSelector"], own


def _containers(spec: Object) -> list[dict[str, Any]]:
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _fields(live: Object, asked: Object, at: str, inside: str) -> Iterator[str]:
    for field in dict.fromkeys((*asked, *live)):
        where = f"{at}.{field}" if at else field
        yield from _values(
            _value(live, field, inside, asked), _value(asked, field, inside, asked), where, inside, field
        )


def _value(of: Object, field: str, inside: str, asked: Object) -> Any:
    value = of.get(field)
    if value not in _EMPTY or (value == {} and (inside, field) in defaults.SAYS_ALL):
        return value
    if (inside, field) == ("containers", "imagePullPolicy"):
        return _pull_policy(str(asked.get("image") or ""))
    return defaults.DEFAULTS.get((inside, field))


def _pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    return "IfNotPresent" if "@" in name or (":" in name and not name.endswith(":latest")) else "Always"


def _values(live: Any, asked: Any, at: str, inside: str, field: str) -> Iterator[str]:
    if live is None and asked is None:
        return
    keys = defaults.KEYS_IN.get((inside, field), defaults.KEYS.get(field, ()))
    if (inside, field) in defaults.SAYS_ALL and (live is None or asked is None):
        yield _difference(live, asked, at)
    elif isinstance(live, dict | None) and isinstance(asked, dict | None):
        yield from _objects(live, asked, at, field, inside)
    elif keys and isinstance(live, list | None) and isinstance(asked, list | None):
        yield from _elements(live or [], asked or [], at, field, keys)
    elif isinstance(live, list) and isinstance(asked, list) and len(live) == len(asked):
        for number, (one, other) in enumerate(zip(live, asked, strict=True)):
            yield from _values(one, other, f"{at}[{number}]", inside, field)
    elif not _same(live, asked, inside, field):
        yield _difference(live, asked, at)


def _objects(live: Object | None, asked: Object | None, at: str, field: str, inside: str) -> Iterator[str]:
    found = list(_fields(live or {}, asked or {}, at, _inside(field, inside)))
    # One that says nothing but defaults is as good as none, but for those that turn something on by being there.
    if found and asked is None:
        yield f"{at} is there, and Git does not ask for it"
    elif found and live is None:
        yield f"{at} is missing, and Git asks for it"
    else:
        yield from found


def _inside(field: str, inside: str) -> str:
    if field in ("initContainers", "ephemeralContainers"):
        return "containers"
    nested = inside in ("volumeClaimTemplate", "volumeClaimTemplates") or field == "rollingUpdate"
    return f"{inside}.{field}" if nested else field


def _elements(live: list[Any], asked: list[Any], at: str, field: str, keys: Sequence[str]) -> Iterator[str]:
    has, wanted = _by_key(live, field, keys), _by_key(asked, field, keys)
    if has is None or wanted is None:  # one key twice: only the whole can be compared
        if len(live) != len(asked):
            yield f"{at} has {len(live)} elements, Git asks for {len(asked)}"
            return
        for number, (one, other) in enumerate(zip(live, asked, strict=True)):
            yield from _values(one, other, f"{at}[{number}]", field, field)
        return
    for key in wanted:
        if key not in has:
            yield f"{at}[{key}] is missing, and Git asks for it"
        else:
            yield from _fields(has[key], wanted[key], f"{at}[{key}]", _inside(field, ""))
    for key in has:
        if key not in wanted and not _harmless(has[key], field):
            yield f"{at}[{key}] is there, and Git does not ask for it"
    both = [key for key in has if key in wanted]
    if field in defaults.ORDERED and both != [key for key in wanted if key in has]:
        yield f"{at} has another order than Git asks for"


def _harmless(element: Object, field: str) -> bool:
    return field == "resizePolicy" and element.get("restartPolicy") == "NotRequired"  # which is the default


def _by_key(elements: list[Any], field: str, keys: Sequence[str]) -> dict[str, Object] | None:
    found: dict[str, Object] = {}
    for one in elements:
        parts = [one.get(name) or defaults.DEFAULTS.get((field, name)) for name in keys]
        found["/".join(str(part) for part in parts)] = one
    return found if len(found) == len(elements) else None


def _same(live: Any, asked: Any, inside: str, field: str) -> bool:
    if (inside, field) in defaults.QUANTITIES or (inside, "*") in defaults.QUANTITIES:
        return _quantity(live) == _quantity(asked)
    return isinstance(live, bool) == isinstance(asked, bool) and bool(live == asked)


def _quantity(value: Any) -> Any:
    from kubernetes.utils.quantity import parse_quantity

    try:
        return None if value is None else parse_quantity(value)
    except ValueError:
        return value


def _difference(live: Any, asked: Any, at: str) -> str:
    if asked is None:
        return f"{at} is there, and Git does not ask for it"
    if live is None:
        return f"{at} is missing, and Git asks for it"
    if at.endswith("].value") or at.startswith(_DATA):  # what was set by hand may be a password
        return f"{at} is not what Git asks for"
    if shown(live) == shown(asked):  # they differ further on than is shown
        return f"{at} is not what Git asks for"
    return f"{at} is {shown(live)}, Git asks for {shown(asked)}"


def shown(value: Any) -> str:
    """A value for people, cut where it is long."""
    if value is None:
        return "missing"
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
