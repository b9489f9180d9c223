"""A freeze of prod, as `delivery up` brings it to Argo CD: nothing is synced but for a stated reason."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from delivery import roles
from delivery.parts import windows
from delivery.wait import Pending, Reached, until
from e2e.conftest import Build
from e2e.delivery import Checkout, consistently
from e2e.test_roles import ADMINISTRATOR, DEPLOYER, lock, merge

FREEZE = '{ from: "* * * * *", zone: UTC, hours: 1, reason: the end of the year }'
REASON = "customers wait"
BLOCKED = "Sync operation blocked by sync window"
AS_ARGOCD = "--as=system:serviceaccount:argocd:argocd-application-controller"


@pytest.fixture(scope="module")
def frozen(platform: Checkout, prod: Build) -> Iterator[None]:
    """Prod is frozen by pipeline.yaml, now and for hours, and the platform has told Argo CD; afterwards no more."""
    file = platform.path / "pipeline.yaml"
    text = file.read_text(encoding="utf-8")
    platform.git(
        "update-index", "--assume-unchanged", file.name
    )  # no commit of these journeys takes it along
    platform.edit(file.name, "    freeze: [] #", f"    freeze: [{FREEZE}] #")
    try:
        platform.delivery("up")
        yield
    finally:
        file.write_text(text, encoding="utf-8")
        platform.git("update-index", "--no-assume-unchanged", file.name)
        platform.delivery("up")
        assert project(platform)["spec"]["syncWindows"] == []
        platform.delivery("verify")


def project(platform: Checkout) -> dict[str, Any]:
    """Prod's AppProject."""
    return dict(platform.get("appproject", "prod", "-n", "argocd"))


def application(platform: Checkout) -> dict[str, Any]:
    """Prod's Application."""
    return dict(
        platform.get("application", platform.pipeline.environment("prod").application, "-n", "argocd")
    )


def order(platform: Checkout, who: tuple[str, ...], commit: str) -> tuple[str, ...]:
    """kubectl's arguments to order a sync of prod by hand."""
    sync = {"initiatedBy": {"username": "mallory"}, "sync": {"revision": commit, "prune": True}}
    name = platform.pipeline.environment("prod").application
    return (*who, "-n", "argocd", "patch", "application", name, *merge({"operation": sync}))


def waits(platform: Checkout, commit: str) -> None:
    """Return when Argo CD has begun that sync, and says that it is blocked."""

    def look() -> Reached[None] | Pending:
        state = application(platform).get("status", {}).get("operationState") or {}
        told = (state.get("operation") or {}).get("sync", {}).get("revision")
        said = f"{told} {state.get('phase')}: {state.get('message')}"
        return Reached(None) if said == f"{commit} Running: {BLOCKED}" else Pending(said)

    until("Argo CD keeps the sync waiting", look, 60, "kubectl -n argocd get application -o yaml")


def replicas(platform: Checkout) -> int:
    """How many replicas prod's Deployment asks for."""
    return int(platform.get("deployment", platform.app, "-n", "prod")["spec"]["replicas"])


@pytest.mark.usefixtures("frozen")
def test_nothing_is_synced_but_for_a_reason(platform: Checkout, prod: Build) -> None:
    """Neither what the gate signed nor an ordered sync comes in, drift stays; a rollback with a reason mends it."""
    entered = application(platform)["spec"]["source"]["targetRevision"]
    before, pods = replicas(platform), {one["metadata"]["uid"] for one in platform.pods("prod")}
    assert "prod is frozen until" in platform.delivery("promote", "prod", expect=1).error

    # Another commit that prod's gate signed, pinned and then ordered by whoever may.
    file = platform.pipeline.environment("prod").values
    platform.pull()
    text = (platform.path / file).read_text(encoding="utf-8")
    (platform.path / file).write_text(f"{text}replicas: {before + 1}\n", encoding="utf-8")
    commit = platform.commit_as("prod", "by hand")
    platform.push("HEAD:main")
    platform.pin("prod", commit)
    assert lock(platform.kubectl(*order(platform, ADMINISTRATOR, commit), check=False)) == "applications"
    platform.kubectl(*order(platform, DEPLOYER, commit))
    waits(platform, commit)
    platform.kubectl(*order(platform, roles.AS_PLATFORM, commit))
    consistently(lambda: same(replicas(platform), before), seconds=8)
    assert {one["metadata"]["uid"] for one in platform.pods("prod")} == pods

    # Argo CD heals nothing either.
    drift = merge({"spec": {"replicas": before + 1}})
    platform.kubectl("-n", "prod", AS_ARGOCD, "patch", "deployment", platform.app, *drift)
    platform.refresh("prod")
    consistently(lambda: same(replicas(platform), before + 1), seconds=8)
    assert "MISMATCH" in platform.delivery("verify", "prod", expect=1).error

    back = ("rollback", "prod", "--digest", prod.digest)
    assert "prod is frozen until" in platform.delivery(*back, expect=1).error
    platform.delivery(*back, "--reason", REASON)
    assert replicas(platform) == before
    assert application(platform)["spec"]["source"]["targetRevision"] == entered
    assert not windows.lifted(project(platform))
    found = platform.delivery("verify", "prod", "--format", "json").json
    assert found["verdict"] == "PROVEN"
    assert any(f": {REASON}" in note for one in found["environments"] for note in one["notes"])
    told = platform.history()["lifted_freezes"]
    assert [one["reason"] for one in told if one["environment"] == "prod"][-1] == REASON


def same(now: int, before: int) -> None:
    """Nothing has changed."""
    assert now == before


@pytest.mark.usefixtures("frozen")
def test_who_lifts_a_freeze_says_why(platform: Checkout) -> None:
    """The deployer lifts a freeze only with a line that says when and why; it changes no freeze, and no line goes."""
    [window], lines = project(platform)["spec"]["syncWindows"], windows.lifts(project(platform))
    told = project(platform)["metadata"].get("annotations", {}).get(roles.LIFTS)
    opened = {"spec": {"syncWindows": [window | {"manualSync": True}]}}

    def line(text: str) -> dict[str, Any]:
        return {"metadata": {"annotations": {roles.LIFTS: "\n".join(filter(None, [told, text]))}}}

    tried = {
        "without a word": opened,
        "without a time": opened | line("because"),
        "without a reason": opened | line("2026-11-28T12:00:00Z  "),
        "with two lines": opened | line("2026-11-28T12:00:00Z one\n2026-11-28T12:00:01Z two"),
        "another time": {"spec": {"syncWindows": [window | {"schedule": "0 0 1 1 *"}]}}
        | line("2026-11-28T12:00:00Z because"),
        "no window": {"spec": {"syncWindows": []}} | line("2026-11-28T12:00:00Z because"),
        "another repository": {"spec": {"sourceRepos": ["*"]}} | line("2026-11-28T12:00:00Z because"),
    }
    if lines:
        tried["no trace"] = {"metadata": {"annotations": {roles.LIFTS: None}}}
    own = ("-n", "argocd", "patch", "appproject", "prod", "--dry-run=server")
    for name, patch in tried.items():
        assert lock(platform.kubectl(*DEPLOYER, *own, *merge(patch), check=False)) == "applications", name
    rightly = opened | line("2026-11-28T12:00:00Z because")
    platform.kubectl(*DEPLOYER, *own, *merge(rightly))
    assert lock(platform.kubectl(*own, *merge(rightly), check=False)) == "applications", "an administrator"


@pytest.mark.usefixtures("frozen")
def test_a_freeze_that_is_lifted_is_seen_and_put_back(platform: Checkout) -> None:
    """A rollback that was killed leaves the freeze lifted: MISMATCH, and `delivery up` puts it back."""
    found = project(platform)
    platform.kubectl(
        *DEPLOYER,
        *("-n", "argocd", "patch", "appproject", "prod"),
        *merge(windows.to_lift(found, REASON, datetime.now(UTC))),
    )
    assert "its freezes are lifted" in platform.delivery("verify", "prod", expect=1).out
    platform.delivery("up")
    assert not windows.lifted(project(platform))
    assert platform.delivery("verify", "prod", "--format", "json").json["verdict"] == "PROVEN"


@pytest.mark.usefixtures("frozen")
def test_a_freeze_that_only_argo_cd_knows(platform: Checkout, prod: Build) -> None:
    """It went from pipeline.yaml, and nobody told Argo CD: said at once, with its end, and nothing is written."""
    file = platform.path / "pipeline.yaml"
    text, before = file.read_text(encoding="utf-8"), platform.main()
    file.write_text(text.replace(f"freeze: [{FREEZE}]", "freeze: []"), encoding="utf-8")
    try:
        ran = platform.delivery("rollback", "prod", "--digest", prod.digest, expect=1)
    finally:
        file.write_text(text, encoding="utf-8")
    assert "prod is frozen in Argo CD until" in ran.error
    assert "delivery up" in ran.hint
    assert platform.main() == before
