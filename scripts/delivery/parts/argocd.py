"""Argo CD through its Application objects: what it has seen, and telling it to look or to sync a commit."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delivery.errors import NotReached, PlatformError
from delivery.parts import admission
from delivery.wait import Failed, Pending, Reached, until

if TYPE_CHECKING:
    from delivery.parts.kubernetes import Kubernetes

_REFRESH = "argocd.argoproj.io/refresh"
_ERRORS = ("ComparisonError", "InvalidSpecError", "UnknownError")
_BLOCKED = "Sync operation blocked by sync window"  # what Argo CD says of a sync that waits
_LOOK_SECONDS = 2.0
_PIN_ATTEMPTS = 20  # Argo CD writes its own word into the same object
_CONFLICT = 409


# What has to run for Argo CD to see and to act; the names of their pods' app, whoever installed it, end with these.
_PARTS = ("application-controller", "repo-server")


class NoApplication(PlatformError):
    """Argo CD has no Application of that name."""


@dataclass(frozen=True)
class Application:
    """What Argo CD says about one Application."""

    name: str
    target: str  # what it is to follow: a commit, a branch or a tag; empty for the repository's HEAD
    revision: str  # the commit it last compared with; empty when it could not
    sync: str  # Synced, OutOfSync, Unknown
    health: str  # Healthy, Progressing, Degraded, Missing, …
    told: str  # the commit of the last sync that succeeded; empty when there was none
    operation: str  # Running, Succeeded, Failed, Error, or empty
    operation_revision: str
    automated: bool  # whether Argo CD began it by itself
    message: str  # what the operation says
    errors: tuple[str, ...]  # conditions that keep it from comparing or syncing
    syncing: bool  # a sync runs, or was asked for and has not begun
    refreshing: bool  # it was told to look, and has not looked yet
    reconciled: str
    version: str

    @property
    def blocked(self) -> bool:
        """Whether its sync, which Argo CD began by itself, came into a freeze and waits for the end of that."""
        return self.automated and self.operation == "Running" and self.message.startswith(_BLOCKED)

    @property
    def failed(self) -> bool:
        """Whether its last sync ended badly."""
        return self.operation in ("Failed", "Error") and not self.syncing

    def seen(self) -> str:
        """One line for people."""
        operation = (
            f", operation {self.operation}: {self.message}" if self.operation not in ("", "Succeeded") else ""
        )
        errors = f", {'; '.join(self.errors)}" if self.errors else ""
        return f"{self.sync}/{self.health} at {self.revision[:12] or 'no commit'}{operation}{errors}"


class ArgoCD:
    """The Applications of one Argo CD: in the cluster of an environment, or wherever the site says."""

    def __init__(self, kubernetes: "Kubernetes", environment: str) -> None:
        from delivery.parts.kubernetes import Kubernetes

        site = kubernetes.site
        elsewhere = site.argocd.context not in (None, kubernetes.context)
        self._kubernetes = Kubernetes(site, environment, site.argocd.context) if elsewhere else kubernetes
        self._namespace = site.argocd.namespace

    @property
    def cluster(self) -> "Kubernetes":
        """The cluster that this Argo CD is in."""
        return self._kubernetes

    def insist_runs(self) -> None:
        """Return when its parts are Ready; PlatformError that names one that is not: what it says may be old then."""
        if why := asleep(self._kubernetes.pods(self._namespace)[0]):
            raise PlatformError(
                why,
                "delivery up"
                if self._kubernetes.site.made_here
                else f"look: {self._kubernetes.look} -n {self._namespace} get pods",
            )

    @property
    def _resource(self) -> tuple[str, str, str, str]:
        return ("argoproj.io", "v1alpha1", self._namespace, "applications")

    @property
    def _projects(self) -> tuple[str, str, str, str]:
        return (*self._resource[:3], "appprojects")

    def application(self, name: str) -> Application:
        """What Argo CD says now; NoApplication when it has none of that name."""
        return parse(self.document(name))

    def document(self, name: str) -> dict[str, Any]:
        """The whole Application, as the API gives it; NoApplication when there is none of that name."""
        from delivery.parts.kubernetes import Denied

        try:
            return self._kubernetes.custom(*self._resource, name)
        except Denied as error:
            if error.status != 404:
                raise
            remedy = (
                "make it: delivery up"
                if self._kubernetes.site.made_here
                else 'apply argocd/ (README, "Fork it")'
            )
            raise NoApplication(f"Argo CD has no Application {name}", remedy) from None

    def project(self, name: str) -> dict[str, Any]:
        """One AppProject, as the API gives it; PlatformError when there is none of that name."""
        from delivery.parts.kubernetes import Denied

        try:
            return self._kubernetes.custom(*self._projects, name)
        except Denied as error:
            if error.status != 404:
                raise
            remedy = "delivery up" if self._kubernetes.site.made_here else "kubectl apply -k argocd/projects"
            raise PlatformError(f"Argo CD has no AppProject {name}", f"make it: {remedy}") from None

    def change_project(self, name: str, patch: dict[str, Any]) -> None:
        """Merge a patch into an AppProject."""
        self._kubernetes.patch_custom(*self._projects, name, patch)

    def refresh(
        self,
        name: str,
        enough: Callable[[str], bool],
        limit: float,
        said: Callable[[str], None] = lambda seen: None,
    ) -> Application:
        """Make it look at Git now, and return when the commit it compared with is recent `enough`.

        Ends early with Argo CD's own reason when it cannot render or compare what Git asks. `said` is told, here and
        below, what Argo CD says meanwhile.
        """
        start = self.application(name).reconciled
        failures: set[str] = set()

        def look(found: Application) -> Reached[Application] | Failed | Pending:
            if found.revision and enough(found.revision):
                return Reached(found)
            # An error may be about the commit before: believe it after two looks that began later.
            if found.errors and found.reconciled != start:
                failures.add(found.reconciled)
            if len(failures) > 2:
                return Failed(found.errors[0])
            # One that lands during a reconcile can be lost: ask again whenever it was taken without effect.
            if not found.refreshing:
                self._patch(name, {"metadata": {"annotations": {_REFRESH: "normal"}}})
            return Pending(found.seen())

        return self._until(f"Argo CD has seen the commit for {name}", name, look, limit, said)

    def pin(self, name: str, target: str, commit: str, insist_newest: Callable[[], None]) -> None:
        """Keep an Application at this exact commit from now on; a sync of another one that still runs is ended.

        `target` is what it is told: the commit itself, or the tag that stands on it. `insist_newest` raises when
        something newer entered. It is asked between the look at the Application and the pin, which the API server
        takes only where nobody changed the Application meanwhile: so a slow run never undoes the pin of a newer one.
        NotReached when it never stands still.
        """
        from delivery.parts.kubernetes import Denied

        for _ in range(_PIN_ATTEMPTS):
            found = self.application(name)
            insist_newest()
            patch: dict[str, Any] = {
                "metadata": {"resourceVersion": found.version, "annotations": {_REFRESH: "normal"}},
                "spec": {"source": {"targetRevision": target}},
            }
            if found.operation == "Running" and found.operation_revision != commit:
                patch["status"] = {"operationState": {"phase": "Terminating"}}
            try:
                return self._patch(name, patch)
            except Denied as error:
                if error.status != _CONFLICT:
                    raise
        raise NotReached(
            f"Application {name} changed {_PIN_ATTEMPTS} times while it was pinned",
            "run the same command again",
        )

    def order(
        self, name: str, commit: str, limit: float, said: Callable[[str], None] = lambda seen: None
    ) -> None:
        """Sync a commit that Argo CD does not sync by itself: its sync failed before, or a freeze was lifted for it.

        A sync that runs would take the order along when it ends: first it has to be over.
        """

        def look(found: Application) -> Reached[Application] | Pending:
            return Pending(found.seen()) if found.syncing else Reached(found)

        self._until(f"no other sync of {name} runs", name, look, limit, said)
        policy = self.document(name)["spec"].get("syncPolicy") or {}  # a sync brings its own, so bring these
        sync = {"revision": commit, "prune": True, "syncOptions": policy.get("syncOptions") or []}
        retry = policy.get("retry") or {}
        operation = {"initiatedBy": {"username": "delivery"}, "sync": sync, "retry": retry}
        self._patch(name, {"operation": operation})

    def settled(
        self,
        name: str,
        enough: Callable[[str], bool],
        limit: float,
        said: Callable[[str], None] = lambda seen: None,
    ) -> Application:
        """Return when no sync runs, and all of a commit recent `enough` is Synced and Healthy."""

        def look(found: Application) -> Reached[Application] | Failed | Pending:
            if failed := failure(found, enough):
                return failed
            good = (found.sync, found.health) == ("Synced", "Healthy") and not found.syncing
            return Reached(found) if good and enough(found.revision) else Pending(found.seen())

        return self._until(f"{name} is Synced and Healthy", name, look, limit, said)

    def _until(
        self,
        what: str,
        name: str,
        look: Callable[[Application], Reached[Application] | Failed | Pending],
        limit: float,
        said: Callable[[str], None],
    ) -> Application:
        version = ""

        def current() -> Reached[Application] | Failed | Pending:
            nonlocal version
            found = self.application(name)
            version = found.version
            return look(found)

        def change(left: float) -> None:
            self._kubernetes.custom_changed(*self._resource, name, version, min(left, _LOOK_SECONDS))

        look_at = f"{self._kubernetes.look} -n {self._namespace} get application {name} -o yaml"
        return until(what, current, limit, f"see why: {look_at}", change, said)

    def _patch(self, name: str, patch: dict[str, Any]) -> None:
        self._kubernetes.patch_custom(*self._resource, name, patch)


def asleep(pods: Iterable[Mapping[str, Any]]) -> str:
    """Why Argo CD, of whose namespace these are the pods, neither sees nor changes anything; empty when it runs."""
    ready = [
        str((one["metadata"].get("labels") or {}).get("app.kubernetes.io/name"))
        for one in pods
        if any(
            (said["type"], said["status"]) == ("Ready", "True")
            for said in (one.get("status") or {}).get("conditions") or []
        )
    ]
    for part in _PARTS:
        if not any(name.endswith(part) for name in ready):
            return f"Argo CD's {part} does not run: it sees and changes nothing"
    return ""


def failure(application: Application, enough: Callable[[str], bool]) -> Failed | None:
    """Why the sync of a commit recent `enough` ended badly, or None; what admission refused is not retried."""
    revision = application.operation_revision
    # The message of an operation that runs is its own; before it began, it is of the one before.
    denied = admission.denial(application.message) if application.operation == "Running" else None
    if not (application.failed or application.blocked or denied) or not revision or not enough(revision):
        return None
    if application.blocked:
        return Failed(
            f"the sync of {revision[:12]}: {application.message}",
            "wait until the freeze is over: Argo CD goes on by itself then",
        )
    if refused := denied or admission.refusal(application.message):
        return Failed(f"the sync of {revision[:12]}: {refused[0]}", refused[1])
    return Failed(f"the sync of {revision[:12]} ended as {application.operation}: {application.message}")


def _commit(revision: Any) -> str:
    # While it cannot compare, Argo CD gives the branch it was told to follow in the commit's place.
    return revision if isinstance(revision, str) and re.fullmatch(r"[0-9a-f]{40}", revision) else ""


def parse(application: dict[str, Any]) -> Application:
    """An Application object as plain facts; what it does not say is empty."""
    metadata, status = application["metadata"], application.get("status") or {}
    sync, state = status.get("sync") or {}, status.get("operationState") or {}
    result = state.get("syncResult") or {}
    operation = state.get("operation") or {}
    asked = operation.get("sync") or {}
    history = status.get("history") or []
    return Application(
        name=metadata["name"],
        target=((application.get("spec") or {}).get("source") or {}).get("targetRevision") or "",
        revision=_commit(sync.get("revision")),
        sync=sync.get("status") or "Unknown",
        health=(status.get("health") or {}).get("status") or "Unknown",
        told=(history[-1].get("revision") or "") if history else "",
        operation=state.get("phase") or "",
        operation_revision=result.get("revision") or asked.get("revision") or "",
        automated=bool((operation.get("initiatedBy") or {}).get("automated")),
        message=" ".join(str(state.get("message") or "").split())[:500],
        errors=tuple(
            f"{condition['type']}: {' '.join(str(condition.get('message') or '').split())[:500]}"
            for condition in status.get("conditions") or []
            if condition.get("type") in _ERRORS
        ),
        syncing=bool(application.get("operation")) or state.get("phase") in ("Running", "Terminating"),
        refreshing=_REFRESH in (metadata.get("annotations") or {}),
        reconciled=status.get("reconciledAt") or "",
        version=metadata.get("resourceVersion") or "",
    )
