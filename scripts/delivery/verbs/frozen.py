"""A freeze as the cluster holds it: what stops before it, and how a rollback with a stated reason goes through."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from delivery.context import Context
from delivery.desired.change import Request
from delivery.errors import PlatformError, Refused
from delivery.gate.decide import Decision
from delivery.parts import windows
from delivery.parts.argocd import ArgoCD
from delivery.parts.kubernetes import Kubernetes
from delivery.pipeline import Environment
from delivery.progress import phase


def insist(context: Context, api: ArgoCD, environment: Environment, request: Request) -> None:
    """Return when Argo CD would take it, or it says why it cannot wait; Refused with the end of the freeze if not."""
    if (holds := _holds(context, api, environment)) and not request.reason:
        raise Refused(
            _said(environment, holds),
            "wait; a rollback says with --reason why it cannot. Where pipeline.yaml has no such freeze any more: "
            + _apply(context),
        )


def also(context: Context, environment: Environment, decision: Decision) -> Decision:
    """The gate's yes, unless Argo CD would not take it: the cluster may have a freeze that pipeline.yaml has not.

    PlatformError where Argo CD cannot be asked.
    """
    if not decision.allowed:
        return decision
    with closing(Kubernetes(context.site, environment.name)) as kubernetes:
        holds = _holds(context, ArgoCD(kubernetes, environment.name), environment)
    return replace(decision, refusals=(_said(environment, holds),)) if holds else decision


@contextmanager
def lifted(context: Context, api: ArgoCD, environment: Environment, reason: str) -> Iterator[bool]:
    """Whether a freeze holds, which is lifted meanwhile for this reason: then a sync has to be ordered by hand.

    Afterwards it holds again, also where a verb that was killed had lifted it.
    """
    holds = bool(reason) and _holds(context, api, environment)
    try:
        if holds:
            what = f"Lifting the freeze of {environment.name}"
            with phase(f"{what}: {reason}", like=what):
                api.change_project(
                    environment.namespace,
                    windows.to_lift(api.project(environment.namespace), reason, datetime.now(UTC)),
                )
        yield bool(holds)
    finally:
        project = api.project(environment.namespace)
        if windows.lifted(project):
            api.change_project(environment.namespace, windows.to_put_back(project))


def _holds(context: Context, api: ArgoCD, environment: Environment) -> windows.Frozen | None:
    try:
        return windows.frozen(api.project(environment.namespace), datetime.now(UTC))
    except ValueError as error:
        raise PlatformError(
            f"whether {environment.name} is frozen is not known: AppProject {environment.namespace}: {error}",
            f"put back what is generated: {_apply(context)}",
        ) from None


def _said(environment: Environment, holds: windows.Frozen) -> str:
    return f"{environment.name} is frozen in Argo CD until {holds}"


def _apply(context: Context) -> str:
    return "delivery up" if context.site.made_here else "kubectl apply -k argocd/projects"
