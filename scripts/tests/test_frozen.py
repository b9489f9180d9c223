"""A freeze that the cluster holds: nothing is written before it, and a rollback with a reason goes through and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from delivery import roles
from delivery.build import image
from delivery.errors import NotReached, PlatformError, Refused
from delivery.freeze import Freeze
from delivery.parts import argocd, windows
from delivery.proof.decide import Verdict
from delivery.show import history as showing
from delivery.verbs import history as reading
from delivery.verbs import promote as promoting
from delivery.verbs import rollback as rolling
from scripts.tests.fake_cluster import FakeCluster
from scripts.tests.steps import deploy, promote, proofs, put, refused
from scripts.tests.world import World

if TYPE_CHECKING:
    from conftest import Shelf

Object = dict[str, Any]
ALWAYS = {"from": "* * * * *", "zone": "UTC", "hours": 1, "reason": "the end of the year"}
WINDOW = {
    "kind": "deny",
    "schedule": "* * * * *",
    "timeZone": "UTC",
    "duration": "1h",
    "applications": ["manual-app-stage"],
    "manualSync": False,
    "description": "the end of the year",
}


def project(cluster: FakeCluster) -> Object:
    return cluster.guard()["AppProject"]["stage"]


def freeze(cluster: FakeCluster, **changes: Any) -> None:
    """Stage gets a freeze that holds now, as its cluster has it."""
    project(cluster)["spec"]["syncWindows"] = [WINDOW | changes]


@pytest.fixture
def second(cluster: FakeCluster, built: image.Built, shelf: Shelf) -> FakeCluster:
    """Stage runs build 16, and ran build 15 before."""
    deploy(cluster)
    promote(cluster, "stage")
    world: World = cluster.world
    world.git(world.checkout, "pull", "--quiet", "--rebase", "origin", "main")
    world.commit(world.checkout, "manual-app/app.py", "2\n", "two")
    put(cluster, shelf, "16")
    deploy(cluster)
    promote(cluster, "stage")
    return cluster


def rollback(cluster: FakeCluster, reason: str = "") -> object:
    context = cluster.world.context
    return rolling.rollback(context, context.environment("stage"), reason=reason)


def test_a_promotion_stops_before_a_window_that_only_the_cluster_has(
    cluster: FakeCluster, built: image.Built
) -> None:
    """The freeze went from pipeline.yaml, and nobody told Argo CD: refused at once with its end; nothing is written."""
    deploy(cluster)
    freeze(cluster)
    error = refused(
        cluster,
        Refused,
        r"^stage is frozen in Argo CD until \d{4}-\d\d-\d\d \d\d:\d\d UTC: the end of the year$",
        lambda: promote(cluster, "stage"),
    )
    assert error.hint.endswith("no such freeze any more: kubectl apply -k argocd/projects")
    context = cluster.world.context
    [said] = promoting.preview(context, context.environment("stage")).decision.refusals
    assert said == error.message, "a dry run says it too"
    assert cluster.lifts == []


@pytest.mark.parametrize(
    "changes", [{"kind": "allow"}, {"schedule": "0 0 * * 7"}, {"duration": "1h30m"}, {"timeZone": "Nowhere"}]
)
def test_a_window_that_is_none_of_ours(cluster: FakeCluster, built: image.Built, changes: Object) -> None:
    """Somebody put a window there that we do not read as Argo CD does: it is not known, and that refuses."""
    deploy(cluster)
    freeze(cluster, **changes)
    says = "whether stage is frozen is not known: AppProject stage: it has a sync window that is none of ours"
    refused(cluster, PlatformError, says, lambda: promote(cluster, "stage"))


def test_a_rollback_says_why_it_cannot_wait(second: FakeCluster, built: image.Built) -> None:
    """In a freeze it is refused without a reason. With one the freeze is lifted for it alone, and holds again after."""
    freeze(second)
    refused(second, Refused, "stage is frozen in Argo CD until", lambda: rollback(second))
    before = datetime.now(UTC).replace(microsecond=0)
    assert rollback(second, "orders are lost").digest == built.digest  # type: ignore[attr-defined]
    assert second.lifts == [[True], [False]]
    [lift] = windows.lifts(project(second))
    assert (lift.reason, lift.at >= before) == ("orders are lost", True)
    [operation] = second.operations
    assert (
        operation["sync"]["revision"]
        == second.applications["manual-app-stage"]["spec"]["source"]["targetRevision"]
    )
    assert rollback(second, "once more").digest  # type: ignore[attr-defined]
    assert [one.reason for one in windows.lifts(project(second))] == ["orders are lost", "once more"]


def test_the_freeze_holds_again_whatever_happens(second: FakeCluster) -> None:
    """The rollback does not get ready in its time: the freeze is back all the same, and a rerun finishes it."""
    freeze(second)
    second.starts_ready = False
    with pytest.raises(NotReached):
        rollback(second, "orders are lost")
    assert second.lifts == [[True], [False]]
    assert not windows.lifted(project(second))


def test_what_a_killed_rollback_left_is_put_back(cluster: FakeCluster, built: image.Built) -> None:
    """It was killed while the freeze was lifted: MISMATCH, until the next verb into that environment puts it back."""
    deploy(cluster)
    promote(cluster, "stage")
    never = {"schedule": "0 0 1 1 *", "duration": "60s"}
    freeze(cluster, manualSync=True, **never)
    assert "a lock is off: AppProject stage: its freezes are lifted, so that it is synced by hand" in (
        proofs(cluster)["stage"].mismatches
    )
    promote(cluster, "stage")
    assert cluster.lifts == [[False]]


def test_a_window_that_is_generated_is_no_mismatch(cluster: FakeCluster, built: image.Built) -> None:
    """Stage is PROVEN only with the freeze of pipeline.yaml; a field that is left out is false."""
    deploy(cluster)
    promote(cluster, "stage")
    pipeline = cluster.world.context.pipeline
    environments = tuple(
        one.model_copy(update={"freeze": (Freeze.model_validate(ALWAYS),)}) if one.name == "stage" else one
        for one in pipeline.environments
    )
    cluster.world = cluster.world.ruled(environments=environments)
    [said] = proofs(cluster)["stage"].mismatches
    assert said.startswith("a lock is off: AppProject stage: syncWindows is ")
    freeze(cluster)
    assert proofs(cluster)["stage"].reasons == ()
    del project(cluster)["spec"]["syncWindows"][0]["manualSync"]
    assert proofs(cluster)["stage"].reasons == ()
    freeze(cluster, duration="1s")
    assert proofs(cluster)["stage"].verdict is Verdict.MISMATCH


def test_a_lifted_freeze_is_told_for_ever(
    cluster: FakeCluster, built: image.Built, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever lifts a freeze is seen: `verify` notes it and `history` lists it; what cannot be read is not known."""
    deploy(cluster)
    promote(cluster, "stage")
    annotations = project(cluster)["metadata"].setdefault("annotations", {})
    annotations[roles.LIFTS] = "2026-11-28T12:00:00Z orders are lost"
    found = proofs(cluster)["stage"]
    assert found.verdict is Verdict.PROVEN
    assert "the freeze of stage was lifted at 2026-11-28 12:00:00Z: orders are lost" in found.notes
    history = reading.history(cluster.world.context, 20)
    assert showing.document(history)["lifted_freezes"] == [
        {
            "environment": "stage",
            "at": "2026-11-28T12:00:00+00:00",
            "reason": "orders are lost",
            "error": None,
        }
    ]
    annotations[roles.LIFTS] = "nonsense"
    assert proofs(cluster)["stage"].verdict is Verdict.UNKNOWN
    showing.print_history(reading.history(cluster.world.context, 20))
    assert re.search("stage: lifted freezes are not known: .*'nonsense'", capsys.readouterr().out)


def test_a_sync_that_came_into_a_freeze_is_said_at_once(second: FakeCluster) -> None:
    """A freeze began while Argo CD synced by itself: the wait ends at once and says so. One by hand goes on."""
    application = second.applications["manual-app-stage"]
    state = application["status"]["operationState"]
    state |= {"phase": "Running", "message": "Sync operation blocked by sync window"}
    state["operation"]["initiatedBy"] = {"automated": True}
    said = argocd.failure(argocd.parse(application), lambda commit: True)
    assert said
    assert said.reason.endswith("Sync operation blocked by sync window")
    assert said.hint == "wait until the freeze is over: Argo CD goes on by itself then"
    state["operation"]["initiatedBy"] = {"username": "delivery"}
    assert argocd.failure(argocd.parse(application), lambda commit: True) is None
