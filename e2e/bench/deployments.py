"""A commit into the first environment, through Git and Argo CD, beside `kubectl set image`; and where its time goes.

The two take turns, so that a slow moment of the machine meets both.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from e2e.bench import copies, images, timed
from e2e.bench.results import Measurement
from e2e.bench.timed import Timed
from e2e.bench.watch import Event, Watch, condition, ready, runs, started
from e2e.delivery import Checkout

READY, PARTS = "Commit to Ready", "Where the time of one deployment goes"
FLOOR = "dev.set_image"
_GOAL = 1.4  # times the floor
_HELD_BY = (
    "Argo CD fetches, renders and compares before it applies, and the new pod is not Ready before the migration's Job, "
    "which the floor does not have, has opened the database to it (the steps are below)"
)

# Moment -> what passes until then, in order.
STEPS = {
    "pushed": "pushed: the verb starts, clones, renders, commits, pushes",
    "seen": "seen and rendered: Argo CD names the commit (it says both at once)",
    "sync": "sync begins",
    "applied": "applied: the new pod exists",
    "scheduled": "scheduled",
    "started": "started: pulled, and the container runs",
    "ready": "ready: the app answers its probe",
}


@dataclass
class Taken:
    """Seconds of each round."""

    floor: list[float] = field(default_factory=list)
    commit: list[float] = field(default_factory=list)
    build: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STEPS})


def measure(checkout: Checkout, rounds: int) -> Iterator[Measurement]:
    """Commit to Ready in the first environment and its floor, with a digest of its own for each side of each round."""
    first, taken = checkout.environments()[0], Taken()
    checkout.pull()
    with copies.running(checkout, first) as copy:
        for number in range(rounds):
            turns = [
                lambda: taken.floor.append(copy.set_image(images.fresh(checkout, taken.build))),
                lambda: _deploy(checkout, taken),
            ]
            for turn in turns if number % 2 == 0 else reversed(turns):
                turn()
    yield Measurement(READY, FLOOR, f"`kubectl set image` in {first.name}: the floor", tuple(taken.floor))
    yield Measurement(
        *(READY, "dev.commit", f"commit to {first.name}, by `delivery deploy`", tuple(taken.commit)),
        floor=FLOOR,
        goal=_GOAL,
        held_by=_HELD_BY,
    )
    for name, values in taken.steps.items():
        yield Measurement(PARTS, f"dev.{name}", STEPS[name], tuple(values))
    yield Measurement(
        "Verbs", "build", "`delivery build`: the image built and pushed, SBOM", tuple(taken.build)
    )


def _deploy(checkout: Checkout, taken: Taken) -> None:
    digest = images.fresh(checkout, taken.build)
    first = checkout.environments()[0]
    application = Watch(checkout, "application", first.application, "-n", "argocd")
    pods = Watch(checkout, "pods", "-n", first.namespace, "-l", checkout.selector)
    with application, pods:
        done = timed.run(checkout, "deploy", "--digest", digest)
        moments = {
            "began": done.began,
            **timeline(done, checkout.main(), digest, application.heard(), pods.heard()),
        }
    taken.commit.append(done.ready())
    for name, seconds in steps(moments).items():
        taken.steps[name].append(seconds)


def timeline(
    done: Timed, commit: str, digest: str, application: Iterable[Event], pods: Iterable[Event]
) -> dict[str, float]:
    """When each step of a deployment was over, in seconds of time.monotonic(); of the pods, the last one's."""
    found = {"pushed": done.phase("Commit ").at}
    for event in application:
        status = event.object.get("status", {})
        state = status.get("operationState", {})
        synced = (state.get("syncResult") or {}).get("revision") or (
            (state.get("operation") or {}).get("sync") or {}
        ).get("revision")
        if (status.get("sync") or {}).get("revision") == commit:
            found.setdefault("seen", event.at)
        if synced == commit:
            found.setdefault("sync", event.at)
    looks = {
        "applied": lambda pod: True,
        "scheduled": lambda pod: condition(pod, "PodScheduled"),
        "started": started,
        "ready": ready,
    }
    times: dict[tuple[str, str], float] = {}
    for event in pods:
        if runs(event.object, digest):
            for name, look in looks.items():
                if look(event.object):
                    times.setdefault((name, event.name), event.at)
    for name in looks:
        if of := [at for (step, _), at in times.items() if step == name]:
            found[name] = max(of)
    return found


def steps(moments: dict[str, float]) -> dict[str, float]:
    """Seconds from each moment to the one after it; 0 where a later one was heard of first."""
    last, found = moments["began"], {}
    for name in STEPS:
        at = max(last, moments.get(name, last))
        found[name], last = at - last, at
    return found
