"""The locks of a guarded environment: what its cluster has of them, held against what this site's policies say.

An administrator can take a lock away, and nothing in the cluster can prevent that. So the proof looks whether each is
there, as it was generated, and whether somebody went through the way that is left open for an emergency.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from delivery.errors import Unknown
from delivery.parts import windows
from delivery.parts.emergency import Emergency
from delivery.proof import spec
from delivery.proof.findings import Findings, told
from delivery.signed import keys

Object = Mapping[str, Any]
# Those of one kind by their names.
Named = Mapping[str, Object]

POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
WEBHOOK = "policy.sigstore.dev"  # what policy-controller calls its configuration
KEYRING = "argocd-gpg-keys-cm"
# Of policy-controller: what it does with an image that no policy is about, for example.
SETTINGS, SETTINGS_IN = "config-policy-controller", "cosign-system"
# Who of Argo CD looks at signatures, by their labels, and the variable that tells them not to.
_NAME, _VERIFIES = "app.kubernetes.io/name", "argocd-repo-server"
_OF_COMMITS = (_VERIFIES, "argocd-application-controller")
_SWITCH, _OFF = "ARGOCD_GPG_ENABLED", ("false", "no")
# A label says whether policy-controller is asked about a namespace; that of knative takes one out.
_GUARDING = (
    *("policy.sigstore.dev/include", "webhooks.knative.dev/exclude"),
    *("pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/enforce-version"),
)
# What Argo CD is told is guarded where Argo CD is.
_OF_ARGOCD = ("applications", "argocd")
_PINNED = re.compile(r"^[\w./:-]+@sha256:[0-9a-f]{64}$")
_LISTED = re.compile(r'^\[("[^"\\]*"(, ?"[^"\\]*")*)?\]$')


_NOTHING = Findings()


@dataclass(frozen=True)
class Locks:
    """What was found about the locks of an environment, every emergency and every lifted freeze."""

    off: Findings | Unknown = _NOTHING
    emergencies: tuple[Emergency, ...] | Unknown = ()
    lifts: tuple[windows.Lift, ...] | Unknown = ()


@dataclass(frozen=True)
class Wanted:
    """What should be there for one environment; what this machine does not know is Unknown."""

    app: str
    admission: tuple[Object, ...]  # the API server's own policies, and their bindings
    namespace: Object
    project: Object | Unknown
    commits: tuple[str, str] | Unknown  # the id and the certificate of the key that signs its gate's commits
    image_policy: Object | Unknown | None  # policy-controller's; None where no evidence is asked for
    conditions: tuple[Object, ...] = ()  # by which policy-controller may be asked less
    keys: Mapping[str, str] | Unknown = field(default_factory=dict)  # the public keys of this site


@dataclass(frozen=True)
class Cluster:
    """What holds in a whole cluster; None for an object that is not there."""

    policies: Named | Unknown
    bindings: Named | Unknown
    image_policies: Named | Unknown
    webhook: Object | Unknown | None
    settings: Object | Unknown | None  # policy-controller's


@dataclass(frozen=True)
class There:
    """What one environment has: its cluster, Argo CD's where that is another one, and what is its own."""

    cluster: Cluster
    hub: Cluster | Unknown | None
    namespace: Object | Unknown | None
    project: Object | Unknown | None
    keyring: Object | Unknown | None
    argocd: Collection[Object] | Unknown  # the pods of Argo CD's namespace
    keys: Object | Unknown | None = None  # the public keys that an administrator put there


def found(there: There, wanted: Wanted) -> Findings:
    """Every lock that is off, and every one that could not be looked at."""
    unknowns: list[str] = []
    lines = [
        *_admission(there.cluster, wanted, wanted.admission, unknowns),
        *_hub(there.hub, wanted, unknowns),
        *_namespace(there.namespace, wanted, unknowns),
        *_project(there.project, wanted, unknowns),
        *_keyring(there.keyring, wanted, unknowns),
        *_verifiers(there.argocd, unknowns),
        *_public_keys(there.keys, wanted, unknowns),
    ]
    if wanted.image_policy is not None:
        lines += _image_policies(there.cluster.image_policies, wanted, unknowns)
        lines += _webhook(there.cluster.webhook, there.namespace, wanted, unknowns)
        lines += _settings(there.cluster.settings, unknowns)
    return Findings(
        tuple(f"a lock is off: {line}" for line in lines),
        tuple(f"whether all locks are in place is not known: {one}" for one in dict.fromkeys(unknowns)),
    )


def emergencies(
    told: Collection[Emergency], environment: str, entered: datetime | None
) -> tuple[list[str], list[str]]:
    """What stands against PROVEN, and what is worth knowing for ever.

    `entered` is when the newest entry was signed: what entered after an emergency was looked at by the gate again.
    """
    against, notes = [], []
    for one in told:
        if one.until is None:
            since = f"{one.since:%Y-%m-%d %H:%M:%SZ}"
            against.append(f"an emergency is on in {environment} since {since} by {one.person}: {one.reason}")
            continue
        ended = f"an emergency ended in {environment} at {one.until:%Y-%m-%d %H:%M:%SZ}"
        by = f"begun at {one.since:%Y-%m-%d %H:%M:%SZ} by {one.person}: {one.reason}"
        if over(one, entered):
            notes.append(f"{ended} ({by})")
        else:
            against.append(f"{ended} and nothing entered since ({by})")
    return against, notes


def over(emergency: Emergency, entered: datetime | None) -> bool:
    """Whether something entered after an emergency, both after its end and after its beginning."""
    if emergency.until is None or entered is None:
        return False
    return entered > max(emergency.since, emergency.until)


def _admission(
    cluster: Cluster, wanted: Wanted, asked: Collection[Object], unknowns: list[str]
) -> Iterator[str]:
    for kind, live in ((POLICY, cluster.policies), (BINDING, cluster.bindings)):
        if isinstance(live, Unknown):
            unknowns.append(live.reason)
            continue
        for one in asked:
            name = one["metadata"]["name"]
            if one["kind"] != kind:
                continue
            if name not in live:
                yield f"{kind} {name} is not there"
                continue
            has, wants = dict(live[name].get("spec") or {}), dict(one["spec"])
            if kind == POLICY and name == f"{wanted.app}-pinned-images":
                yield from (f"{kind} {name}: {line}" for line in _platform(has, wants))
            yield from _told(f"{kind} {name}", spec.fields(has, wants, "policy"))


def _hub(hub: Cluster | Unknown | None, wanted: Wanted, unknowns: list[str]) -> Iterator[str]:
    if isinstance(hub, Unknown):
        unknowns.append(hub.reason)
    elif hub is not None:
        names = {f"{wanted.app}-{one}" for one in _OF_ARGOCD}
        asked = [one for one in wanted.admission if one["metadata"]["name"] in names]
        yield from (f"Argo CD's {line}" for line in _admission(hub, wanted, asked, unknowns))


def _platform(has: dict[str, Any], wants: dict[str, Any]) -> Iterator[str]:
    """Level the list of the platform's images, which whoever applies it knows: it names digests, and nothing else."""
    variables = {one.get("name"): one for one in has.get("variables") or []}
    listed = str((variables.get("platform") or {}).get("expression") or "")
    if not _LISTED.match(listed):
        return  # the whole is told then
    yield from (f"it lets in {loose}" for loose in _loose(re.findall(r'"([^"]*)"', listed)))
    wants["variables"] = [
        {**one, "expression": listed} if one["name"] == "platform" else one for one in wants["variables"]
    ]


def _loose(references: Collection[str]) -> list[str]:
    return [one for one in references if not _PINNED.match(one)]


def _namespace(live: Object | Unknown | None, wanted: Wanted, unknowns: list[str]) -> Iterator[str]:
    name = wanted.namespace["metadata"]["name"]
    if isinstance(live, Unknown):
        unknowns.append(live.reason)
        return
    if live is None:
        yield f"Namespace {name} is not there"
        return
    has, wants = ((one["metadata"].get("labels") or {}) for one in (live, wanted.namespace))
    for label in dict.fromkeys((*wants, *_GUARDING)):
        if has.get(label) != wants.get(label):
            asked = f"it should be {wants[label]}" if label in wants else "it should not be there"
            yield f"Namespace {name}: label {label} is {has.get(label) or 'missing'}, {asked}"


def _project(live: Object | Unknown | None, wanted: Wanted, unknowns: list[str]) -> Iterator[str]:
    if isinstance(wanted.project, Unknown):
        unknowns.append(wanted.project.reason)
    elif isinstance(live, Unknown):
        unknowns.append(live.reason)
    else:
        name = f"AppProject {wanted.project['metadata']['name']}"
        if live is None:
            yield f"{name} is not there"
        else:
            if windows.lifted(live):
                yield f"{name}: its freezes are lifted, so that it is synced by hand"
                live = {**live, "spec": {**live["spec"], "syncWindows": windows.shut(live)}}
            yield from _told(name, spec.fields(live.get("spec") or {}, wanted.project["spec"], "project"))


def _keyring(live: Object | Unknown | None, wanted: Wanted, unknowns: list[str]) -> Iterator[str]:
    if isinstance(wanted.commits, Unknown):
        unknowns.append(wanted.commits.reason)
    elif isinstance(live, Unknown):
        unknowns.append(live.reason)
    elif live is None:
        yield f"ConfigMap {KEYRING} is not there"
    else:
        key, certificate = wanted.commits
        has = str((live.get("data") or {}).get(key) or "")
        if not has:
            yield f"ConfigMap {KEYRING} has no key {key}, which signs the commits of the gate"
        elif has.strip() != certificate.strip():
            yield f"ConfigMap {KEYRING} has another certificate under {key}"


def _verifiers(live: Collection[Object] | Unknown, unknowns: list[str]) -> Iterator[str]:
    """Whether Argo CD looks at signatures at all: what it does without, its project's keys do not tell."""
    if isinstance(live, Unknown):
        unknowns.append(live.reason)
        return
    running = [one for one in live if (one.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
    looks = [one for one in running if _labels(one).get(_NAME) in _OF_COMMITS]
    if not any(_labels(one)[_NAME] == _VERIFIES for one in looks):
        unknowns.append(f"Argo CD has no pod with the label {_NAME}={_VERIFIES}, which verifies commits")
    for pod in looks:
        for container in pod["spec"]["containers"]:
            where = f"pod {pod['metadata']['name']}, container {container['name']}"
            said = [
                one for one in container.get("env") or [] if one["name"] == _SWITCH
            ]  # the last one counts
            value = str(said[-1].get("value") or "") if said else ""
            if value.lower() in _OFF:
                yield f"{where}: {_SWITCH} is {value}, so Argo CD takes commits that nobody signed"
            elif (
                "$(" in value or (said and "valueFrom" in said[-1]) or (not said and container.get("envFrom"))
            ):
                unknowns.append(f"{where}: {_SWITCH} comes from elsewhere, say it in place: true")


def _settings(live: Object | Unknown | None, unknowns: list[str]) -> Iterator[str]:
    if isinstance(live, Unknown):
        unknowns.append(live.reason)
    elif live is None:
        yield f"ConfigMap {SETTINGS} is not there"
    else:
        data = live.get("data") or {}
        if (unmatched := data.get("no-match-policy")) in ("allow", "warn"):
            yield f"ConfigMap {SETTINGS}: no-match-policy is {unmatched}, it should be deny"
        if str(empty := data.get("fail-on-empty-authorities")).lower() in ("0", "f", "false"):
            yield f"ConfigMap {SETTINGS}: fail-on-empty-authorities is {empty}, it should be true"


def _public_keys(live: Object | Unknown | None, wanted: Wanted, unknowns: list[str]) -> list[str]:
    if isinstance(wanted.keys, Unknown):
        unknowns.append(wanted.keys.reason)
    elif isinstance(live, Unknown):
        unknowns.append(live.reason)
    else:
        return keys.differences(wanted.keys, live)
    return []


def _image_policies(live: Named | Unknown, wanted: Wanted, unknowns: list[str]) -> Iterator[str]:
    asked = wanted.image_policy
    if asked is None or isinstance(asked, Unknown):
        unknowns += [asked.reason] if asked else []
        return
    if isinstance(live, Unknown):
        unknowns.append(live.reason)
        return
    name = f"ClusterImagePolicy {asked['metadata']['name']}"
    if asked["metadata"]["name"] not in live:
        yield f"{name} is not there"
    else:
        has, wants = (_unplaced(one["spec"]) for one in (live[asked["metadata"]["name"]], asked))
        yield from _told(name, [*_keys(has, wants), *spec.fields(has, wants, "image policy")])
    # The platform's own images, where there are any: they pass for their digests alone.
    others = live.get(f"{wanted.app}-platform")
    globs = [str(one.get("glob") or one) for one in (others or {"spec": {}})["spec"].get("images") or []]
    yield from (f"ClusterImagePolicy {wanted.app}-platform lets in {loose}" for loose in _loose(globs))


def _unplaced(of: Object) -> dict[str, Any]:
    """Without the places where evidence is looked for: wherever it is, it counts for its signature alone."""
    authorities = [
        {name: value for name, value in one.items() if name != "source"}
        for one in of.get("authorities") or []
    ]
    return {**of, "authorities": authorities}


def _keys(has: dict[str, Any], wants: dict[str, Any]) -> Iterator[str]:
    """Say whose key is another one, and level it."""
    there = {one.get("name"): one for one in has["authorities"]}
    for one in wants["authorities"]:
        live = there.get(one["name"])
        data = str(((live or {}).get("key") or {}).get("data") or "")
        if live is None or not data:
            continue
        if data.strip() != one["key"]["data"].strip():
            yield f"authority {one['name']} has another key than this site's"
        live["key"] = {**live["key"], "data": one["key"]["data"]}


def _webhook(
    live: Object | Unknown | None, namespace: Object | Unknown | None, wanted: Wanted, unknowns: list[str]
) -> Iterator[str]:
    name = f"ValidatingWebhookConfiguration {WEBHOOK}"
    if isinstance(live, Unknown):
        unknowns.append(live.reason)
        return
    hooks = [] if live is None else [one for one in live.get("webhooks") or [] if one.get("name") == WEBHOOK]
    if not hooks:
        yield f"{name} is not there" if live is None else f"{name} has no webhook"
    for hook in hooks:
        if hook.get("failurePolicy", "Fail") != "Fail":
            yield f"{name}: failurePolicy is {hook['failurePolicy']}, it should be Fail"
        if not any(_about_pods(rule) for rule in hook.get("rules") or []):
            yield f"{name} is not asked about new pods"
        labels = {} if namespace is None or isinstance(namespace, Unknown) else _labels(namespace)
        if labels and not _selects(hook.get("namespaceSelector") or {}, labels):
            yield f"{name}: namespaceSelector leaves {wanted.namespace['metadata']['name']} out"
        if hook.get("objectSelector"):
            yield f"{name}: objectSelector is {spec.shown(hook['objectSelector'])}, it should be empty"
        if any(one not in wanted.conditions for one in hook.get("matchConditions") or []):
            yield f"{name}: matchConditions are others than those of policy/policy-controller"


def _about_pods(rule: Object) -> bool:
    asked = {"apiGroups": "", "apiVersions": "v1", "operations": "CREATE", "resources": "pods"}
    return all({one, "*", "*/*"} & set(rule.get(field) or []) for field, one in asked.items())


def _labels(one: Object) -> Mapping[str, str]:
    return one["metadata"].get("labels") or {}


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector, as Kubernetes knows it, selects what has these labels."""
    equal = all(labels.get(name) == value for name, value in (selector.get("matchLabels") or {}).items())
    return equal and all(_holds(one, labels) for one in selector.get("matchExpressions") or [])


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    has, values = labels.get(expression["key"]), expression.get("values") or []
    return {
        "In": has in values,
        "NotIn": has not in values,
        "Exists": has is not None,
        "DoesNotExist": has is None,
    }.get(expression["operator"], False)


def _told(where: str, lines: Iterable[str]) -> Iterator[str]:
    return told(where, list(lines), "what is generated")
