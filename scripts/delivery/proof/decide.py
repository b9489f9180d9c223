"""The proof: what Git asks, what Argo CD did, what every pod runs and each replica answers, side by side.

A pure decision. PROVEN only when every piece is there and all agree; a piece that is missing is UNKNOWN,
one that contradicts is MISMATCH. Both come with every reason.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from delivery.desired.manifests import Desired
from delivery.errors import Unknown
from delivery.parts.argocd import Application
from delivery.proof import locks
from delivery.proof.findings import Findings
from delivery.proof.locks import Locks
from delivery.signed.entry import Release

_REFERENCE = re.compile(r"^(?:docker-pullable://)?(?P<repository>[^@]+)@(?P<digest>sha256:[0-9a-f]{64})$")


class Verdict(StrEnum):
    """How a proof ends."""

    PROVEN = "PROVEN"
    MISMATCH = "MISMATCH"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Container:
    """One container of a pod: what was asked for, and what the node says it runs."""

    name: str
    kind: Literal["init", "app", "ephemeral"]
    image: str
    image_id: str
    state: str = "running"


@dataclass(frozen=True)
class Pod:
    """One pod of the namespace."""

    name: str
    app: str  # its label app.kubernetes.io/name
    phase: str
    ready: bool
    terminating: bool
    job: bool
    containers: tuple[Container, ...]
    uid: str = ""
    restarts: int = 0  # of all its containers

    @property
    def leaving(self) -> bool:
        """Whether it is on its way out, or failed for good: an older digest of ours is no contradiction."""
        return self.terminating or self.phase == "Failed"

    @property
    def serves(self) -> bool:
        """Whether it is meant to answer requests, now and further on."""
        return not self.job and not self.terminating and self.phase not in ("Succeeded", "Failed")


@dataclass(frozen=True)
class Answer:
    """What one replica says that it is."""

    build: str
    revision: str
    environment: str


@dataclass(frozen=True)
class Image:
    """What the registry says: the digest that the values' tag has, and what the image says of itself."""

    tag_digest: str | None
    build: str
    revision: str
    children: frozenset[str] = frozenset()  # of an index: the digests of its images, one for each platform
    contradictions: tuple[str, ...] = ()  # where what is there is not what the digest stands for


@dataclass(frozen=True)
class Entered:
    """The change by which a guarded environment has what it runs: signed by its gate, in the branch."""

    commit: str
    release: str  # the commit whose chart and values it has; of a rollback an older one
    digest: str
    entry: Release | None  # what the gate's entry says; None when there is none for this commit
    rejected: tuple[str, ...] = ()  # why other entries do not count
    at: datetime | None = None  # when the newest entry was signed; None when there is none
    tag: str = ""  # the name of the change, where it is a tag


@dataclass(frozen=True)
class Facts:
    """Everything that was read about one environment; what could not be read is Unknown, with its reason."""

    environment: str
    release: str  # the app's label
    follows: bool  # Argo CD follows the branch (else it keeps the commit that entered)
    desired: Desired | Unknown
    entered: Entered | Unknown | None  # None where nothing ever entered, or where the branch is followed
    asked: str | Unknown  # the digest that the branch's newest values name; empty when they name none
    moved: bool  # the branch's newest commit asks something else of a guarded environment than what entered
    argocd: Application | Unknown
    current: bool  # Argo CD is at the commit that entered, or at one that asks the same as Git's newest
    asleep: Unknown | None  # why Argo CD does not act, so that what it says may be old
    pods: tuple[Pod, ...] | Unknown
    answers: Mapping[str, Answer | Unknown]
    image: Image | Unknown
    foreign: tuple[str, ...] | Unknown  # commits that Argo CD is at, and that the branch never had
    overrides: Findings | Unknown  # the Application held against Git's
    strays: Findings | Unknown  # pods, and what makes them, held against what the chart renders
    objects: Findings | Unknown  # all other objects, and those that nobody asked for
    locks: Locks  # what guards it, and the emergencies in which somebody went around that
    tags: tuple[str, ...] | Unknown = ()  # what is wrong with the tags by which things enter


@dataclass(frozen=True)
class Proof:
    """The verdict about one environment, with every reason against it, and what is worth knowing besides."""

    facts: Facts
    verdict: Verdict
    mismatches: tuple[str, ...]
    unknowns: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything that stands against PROVEN, contradictions first."""
        return self.mismatches + self.unknowns


class _Findings:
    def __init__(self) -> None:
        self.mismatches: list[str] = []
        self.unknowns: list[str] = []
        self.notes: list[str] = []


def identity(image_id: str) -> tuple[str, str] | None:
    """Repository and digest of an imageID or a pinned reference; None when it has not both."""
    match = _REFERENCE.match(image_id)
    return (match["repository"], match["digest"]) if match else None


def runs(image_id: str, pinned: str, children: Collection[str] = ()) -> bool:
    """Whether a node that shows this imageID runs the pinned image.

    Most nodes show the digest that was asked for. Where that is of an index, some show the image of their own
    platform instead: it counts when the index names it, and `children` are what the index names.
    """
    shown, wanted = identity(image_id), identity(pinned)
    if shown is None or wanted is None:
        return False
    return shown == wanted or (shown[0] == wanted[0] and shown[1] in children)


def decide(facts: Facts) -> Proof:
    """The verdict; UNKNOWN outweighs PROVEN, MISMATCH outweighs both."""
    found = _Findings()
    if isinstance(facts.foreign, Unknown):
        found.unknowns.append(facts.foreign.reason)
    elif facts.foreign:
        at = ", ".join(commit[:12] for commit in facts.foreign)
        found.mismatches.append(f"Argo CD is at {at}, which the branch in Git never had")
    if isinstance(facts.tags, Unknown):
        found.unknowns.append(facts.tags.reason)
    else:
        found.mismatches += facts.tags
    _argocd(facts, found)
    if not facts.follows:
        _entered(facts, found)
    if isinstance(facts.desired, Unknown):
        found.unknowns.append(facts.desired.reason)
    else:
        _image(facts.desired, facts.image, found)
    if isinstance(facts.pods, Unknown):
        found.unknowns.append(facts.pods.reason)
    elif isinstance(facts.desired, Desired):
        for pod in facts.pods:
            _pod(pod, pod.app == facts.release, facts.desired, facts.image, found)
        _replicas(facts, facts.desired, facts.pods, found)
    _emergencies(facts, found)
    _lifts(facts, found)
    for part in (facts.overrides, facts.strays, facts.objects, facts.locks.off):
        if isinstance(part, Unknown):
            found.unknowns.append(part.reason)
        else:
            # While Argo CD brings the objects, the cluster has some of before and some of after.
            waits = part is facts.objects and _brings(facts)
            (found.unknowns if waits else found.mismatches).extend(part.mismatches)
            found.unknowns += part.unknowns
    verdict = Verdict.MISMATCH if found.mismatches else Verdict.UNKNOWN if found.unknowns else Verdict.PROVEN
    unknowns = tuple(dict.fromkeys(found.unknowns))  # one cause can hide several pieces
    return Proof(facts, verdict, tuple(found.mismatches), unknowns, tuple(found.notes))


def _argocd(facts: Facts, found: _Findings) -> None:
    argocd = facts.argocd
    if facts.asleep is not None:
        found.unknowns.append(facts.asleep.reason)
    if isinstance(argocd, Unknown):
        found.unknowns.append(argocd.reason)
        return
    if argocd.errors:
        found.unknowns.append(f"Argo CD: {argocd.errors[0]}")
    if argocd.syncing:
        found.unknowns.append("Argo CD is still syncing")
    if facts.foreign and not isinstance(facts.foreign, Unknown):
        return  # what it says is about that
    if not facts.current:
        wants = (
            f"{facts.entered.release[:12]} entered"
            if isinstance(facts.entered, Entered)
            else "Git asks for something newer"
        )
        found.unknowns.append(f"Argo CD is at {argocd.revision[:12] or 'no commit'}, {wants}")
        return
    if argocd.sync == "OutOfSync":
        found.mismatches.append(f"Argo CD: the live objects differ from Git{_because(argocd)}")
    elif argocd.sync != "Synced":
        found.unknowns.append(f"Argo CD does not know whether it is in sync{_because(argocd)}")
    if argocd.health != "Healthy":
        found.unknowns.append(f"Argo CD calls it {argocd.health}{_because(argocd)}")


def _brings(facts: Facts) -> bool:
    """Whether Argo CD is on its way to what Git asks for."""
    return isinstance(facts.argocd, Application) and (facts.argocd.syncing or not facts.current)


def _entered(facts: Facts, found: _Findings) -> None:
    """Whether what a guarded environment is asked to run is what its gate let in, and Argo CD is told so."""
    entered, name = facts.entered, facts.environment
    if isinstance(entered, Unknown):
        found.unknowns.append(entered.reason)
        return
    digest = entered.digest if entered else ""
    if isinstance(facts.asked, Unknown):
        found.unknowns.append(facts.asked.reason)
    elif facts.asked and facts.asked != digest:
        found.mismatches.append(f"Git's values ask for {_short(facts.asked)}, which never entered {name}")
    if entered is None:
        found.unknowns.append(f"nothing entered {name} yet")
        return
    if entered.entry is None:
        why = f": {entered.rejected[0]}" if entered.rejected else ""
        found.mismatches.append(f"no entry of {_short(digest)} into {name} names {entered.commit[:12]}{why}")
    else:
        if entered.entry.commit != entered.release:
            found.mismatches.append(
                f"the entry is about {entered.entry.commit[:12]}, not {entered.release[:12]}"
            )
        if isinstance(facts.desired, Desired) and entered.entry.manifests.sha256 != facts.desired.manifests:
            found.mismatches.append(
                f"{entered.release[:12]} renders other manifests than those that entered {name}"
            )
    if facts.moved:
        found.notes.append(
            f"Git has changed since; {name} stays at {entered.release[:12]} until something enters"
        )
    # What a tag stands on is signed as well: after a change of the strategy the pin may be either.
    if isinstance(facts.argocd, Unknown) or facts.argocd.target in {entered.tag, entered.release} - {""}:
        return
    target = facts.argocd.target[:40] or "the repository's HEAD"
    if facts.argocd.revision == entered.release:
        found.notes.append(f"{name} follows {target}, which is at {entered.release[:12]} now")
    else:
        found.mismatches.append(
            f"Argo CD is told to keep {name} at {target}, and {entered.tag or entered.release[:12]} entered"
        )


def _emergencies(facts: Facts, found: _Findings) -> None:
    """Who wrote there past Argo CD: after that, only what entered anew says what is there."""
    told = facts.locks.emergencies
    if isinstance(told, Unknown):
        found.unknowns.append(told.reason)
        return
    if isinstance(facts.entered, Unknown):  # then nobody knows what entered after those that are over
        told = tuple(one for one in told if one.until is None)
    at = facts.entered.at if isinstance(facts.entered, Entered) else None
    against, notes = locks.emergencies(told, facts.environment, at)
    found.mismatches += against
    found.notes += notes


def _lifts(facts: Facts, found: _Findings) -> None:
    """Whoever lifted a freeze brought in what the gate had signed, or nothing: worth knowing for ever, no more."""
    told = facts.locks.lifts
    if isinstance(told, Unknown):
        found.unknowns.append(told.reason)
        return
    found.notes += [
        f"the freeze of {facts.environment} was lifted at {one.at:%Y-%m-%d %H:%M:%SZ}: {one.reason}"
        for one in told
    ]


def _because(argocd: Application) -> str:
    return f" ({argocd.operation}: {argocd.message})" if argocd.failed else ""


def _image(desired: Desired, image: Image | Unknown, found: _Findings) -> None:
    if isinstance(image, Unknown):
        found.unknowns.append(image.reason)
        return
    if image.tag_digest is None:
        found.mismatches.append(f"tag {desired.tag} of Git's values is not in the registry")
    elif image.tag_digest != desired.digest:
        there = _short(image.tag_digest)
        found.mismatches.append(
            f"tag {desired.tag} points to {there} in the registry, not to {_short(desired.digest)}"
        )
    if image.contradictions:
        found.mismatches.extend(image.contradictions)
        return  # what it says of itself counts for nothing then
    if image.build != desired.tag:
        found.mismatches.append(
            f"Git's values call it build {desired.tag}, the image says {image.build or 'nothing'}"
        )
    if not image.revision:
        found.unknowns.append("the image does not say from which commit it was built")


def _pod(pod: Pod, ours: bool, desired: Desired, image: Image | Unknown, found: _Findings) -> None:
    if not pod.containers:
        found.unknowns.append(f"pod {pod.name} shows no containers")
    if pod.leaving:
        found.notes.append(
            f"pod {pod.name} {'is terminating' if pod.terminating else 'failed and runs no more'}"
        )
    for container in pod.containers:
        where = f"pod {pod.name}, container {container.name}"
        where += "" if container.kind == "app" else f" ({container.kind})"
        if not container.image_id:
            if not pod.terminating:
                found.unknowns.append(f"{where} does not say what it runs ({container.state})")
        elif pod.leaving:
            _leaving(where, container, desired, found)
        else:
            _running(where, container, ours, desired, image, found)
        if not pod.leaving and container.image not in ({desired.image} if ours else desired.images):
            found.mismatches.append(f"{where} was started as {_short(container.image)}, not as Git asks")


def _running(
    where: str,
    container: Container,
    ours: bool,
    desired: Desired,
    image: Image | Unknown,
    found: _Findings,
) -> None:
    children = image.children if isinstance(image, Image) else frozenset()
    allowed = {desired.image} if ours else desired.images
    if any(runs(container.image_id, one, children if one == desired.image else ()) for one in allowed):
        return
    shown = identity(container.image_id)
    if isinstance(image, Unknown) and shown and shown[0] == desired.repository:
        found.unknowns.append(
            f"{where} runs {_short(container.image_id)}; whether that is an image of the index "
            f"{_short(desired.digest)} is not known: {image.reason}"
        )
        return
    found.mismatches.append(f"{where} runs {_short(container.image_id)}{_instead(ours, desired)}")


def _leaving(where: str, container: Container, desired: Desired, found: _Findings) -> None:
    shown = identity(container.image_id)
    repositories = {pinned[0] for image in desired.images if (pinned := identity(image))}
    if shown is None or shown[0] not in repositories:
        found.mismatches.append(f"{where} runs {_short(container.image_id)}, which Git never asked for")


def _instead(ours: bool, desired: Desired) -> str:
    return f", Git asks for {_short(desired.digest)}" if ours else ", which Git does not ask for"


def _replicas(facts: Facts, desired: Desired, pods: tuple[Pod, ...], found: _Findings) -> None:
    serving = [pod for pod in pods if pod.app == facts.release and pod.serves]
    ready = [pod for pod in serving if pod.ready]
    most = max(desired.replicas, desired.most, 1)
    if len(ready) > most:
        moving = isinstance(facts.argocd, Application) and (
            facts.argocd.syncing or facts.argocd.health == "Progressing"
        )
        against = found.unknowns if moving else found.mismatches
        against.append(f"{len(ready)} replicas, Git asks for {most}")
    if len(ready) < max(desired.replicas, 1):
        found.unknowns.append(f"{len(ready)} of {max(desired.replicas, 1)} replicas are Ready")
    for pod in serving:
        if not pod.ready:
            states = ", ".join(sorted({c.state for c in pod.containers if c.state != "running"}))
            found.unknowns.append(f"pod {pod.name} is not Ready{f' ({states})' if states else ''}")
        else:
            _answer(pod.name, facts.answers.get(pod.name), facts, desired, found)


def _answer(
    pod: str, answer: Answer | Unknown | None, facts: Facts, desired: Desired, found: _Findings
) -> None:
    if answer is None or isinstance(answer, Unknown):
        reason = answer.reason if answer else "was not asked"
        found.unknowns.append(f"pod {pod} does not say what it is: {reason}")
        return
    if answer.build != desired.tag:
        found.mismatches.append(f"pod {pod} says it is build {answer.build}, Git asks for {desired.tag}")
    if answer.environment != facts.environment:
        found.mismatches.append(f"pod {pod} says it is in {answer.environment}, not {facts.environment}")
    built_from = facts.image.revision if isinstance(facts.image, Image) else ""
    if built_from and answer.revision != built_from:
        found.mismatches.append(
            f"pod {pod} says it was built from {answer.revision[:12]}, its image says {built_from[:12]}"
        )


def _short(reference: str) -> str:
    """A reference for people: the digest cut to twelve, the host left out."""
    text = re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1", reference)
    return text.removeprefix("docker-pullable://") or "nothing"
