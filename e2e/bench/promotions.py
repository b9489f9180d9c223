"""One digest through all environments with their gates, beside `kubectl set image` into copies of them; and back.

The digest is on the node since it was deployed, so neither side pulls it. The suites' own seconds are a team's, and are
left out.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from delivery.parts.registry import connect
from delivery.pipeline import Environment
from delivery.signed import evidence
from e2e.bench import copies, images, timed
from e2e.bench.copies import Copy
from e2e.bench.results import Measurement, sums
from e2e.bench.timed import Timed
from e2e.delivery import Checkout

READY, GROUP, GATE, VERBS = "Commit to Ready", "Promotions", "Gate, evidence, entry, admission", "Verbs"
# What the issue asks for: times the floor; seconds.
_READY_GOAL, _ALL_GOAL, _VERIFY_GOAL, _ROLLBACK_GOAL = 2.0, 15.0, 1.5, 1.5
# What stands in the way of each where it is missed.
_READY_HELD_BY = (
    "the entry is signed after the commit, Argo CD fetches, verifies, renders and compares, and the migration's Job, "
    "which the floor does not have, is over before the first new pod is made (values: migration.rollout: before)"
)
_ALL_HELD_BY = (
    "each verb waits until Argo CD calls the environment Synced and Healthy, starts anew (Python, a clone, the "
    "cluster's facts), and the environments come one after the other"
)
_GUARDED_HELD_BY = "gate and entry each read or write the Git server's ledger and the registry over HTTP"


@dataclass
class Taken:
    """Seconds of each round, by what took them."""

    floor: dict[str, list[float]]
    ready: dict[str, list[float]]
    gated: list[float] = field(default_factory=list)  # all environments, without the suites
    settled: list[float] = field(default_factory=list)
    gate: list[float] = field(default_factory=list)
    entry: list[float] = field(default_factory=list)
    sign: list[float] = field(default_factory=list)
    approve: list[float] = field(default_factory=list)
    promote: list[float] = field(default_factory=list)
    rollback: list[float] = field(default_factory=list)
    verify: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)


def measure(checkout: Checkout, rounds: int) -> Iterator[Measurement]:
    """Promotions into every environment, as many rounds; the last digest stays in all of them."""
    names = [one.name for one in checkout.environments()]
    taken = Taken({name: [] for name in names}, {name: [] for name in names})
    checkout.pull()
    with ExitStack() as stack:
        floors = [stack.enter_context(copies.running(checkout, one)) for one in checkout.environments()]
        for number in range(rounds):
            _round(checkout, floors, taken, floor_first=number % 2 == 0)
        second = checkout.environments()[1]
        timed.run(checkout, "test", names[0])  # what was rolled back is held until a newer test
        timed.run(checkout, "promote", second.name)
    yield from _measurements(taken, names)


def _round(checkout: Checkout, floors: list[Copy], taken: Taken, floor_first: bool) -> None:
    digest, passed = images.fresh(checkout), 0.0
    for floor in floors:
        environment = floor.environment
        passed += _before(checkout, environment, taken)
        promoted: Timed | None = None
        # The first environment's image is pulled by its deployment: the floor must not pull it first.
        for turn in ("floor", "promotion") if floor_first and environment.guarded else ("promotion", "floor"):
            if turn == "floor":
                taken.floor[environment.name].append(floor.set_image(digest))
            else:
                promoted = _promoted(checkout, environment, digest, taken)
        assert promoted
        passed += promoted.seconds
        taken.ready[environment.name].append(promoted.ready())
        taken.settled.append(promoted.phase(f"{environment.application} is Synced").seconds)
        if environment == checkout.environments()[1]:
            taken.promote.append(promoted.seconds)
    taken.gated.append(passed)
    taken.verify.append(timed.run(checkout, "verify").seconds)
    second = checkout.environments()[1]
    taken.read.append(_read(checkout, second, digest))
    taken.rollback.append(timed.run(checkout, "rollback", second.name).seconds)


def _before(checkout: Checkout, environment: Environment, taken: Taken) -> float:
    """Seconds of what must be done before a digest may enter: test it where it is, without the suites; approve it."""
    passed = 0.0
    if environment.source:
        tested = timed.run(checkout, "test", environment.source)
        passed += tested.seconds - tested.phase(f"Testing {environment.source}").seconds
        taken.sign.append(tested.phase("Signing PASSED evidence").seconds)
    if environment.approval:
        approved = timed.run(checkout, "approve", environment.name)
        taken.approve.append(approved.seconds)
        passed += approved.seconds
    return passed


def _promoted(checkout: Checkout, environment: Environment, digest: str, taken: Taken) -> Timed:
    if not environment.guarded:
        return timed.run(checkout, "deploy", "--digest", digest)
    done = timed.run(checkout, "promote", environment.name, "--digest", digest)
    taken.gate.append(done.phase(f"The gate of {environment.name}").seconds)
    taken.entry.append(done.phase("Signing the entry of").seconds)
    return done


def _read(checkout: Checkout, environment: Environment, digest: str) -> float:
    """Seconds to fetch an environment's evidence about a digest and to verify every signature of it."""
    context = checkout.context

    def fetch() -> None:
        with connect(context.site.image) as registry:
            found = evidence.fetch(context, registry, digest, environment)
        assert found.newest, json.dumps(found.rejected)

    return timed.seconds(fetch)


def _measurements(taken: Taken, names: list[str]) -> Iterator[Measurement]:
    for name in names[1:]:
        floor = f"{name}.set_image"
        yield Measurement(READY, floor, f"`kubectl set image` in {name}: its floor", tuple(taken.floor[name]))
        says = f"commit to {name}, by `delivery promote`"
        ready = tuple(taken.ready[name])
        yield Measurement(
            READY, f"{name}.commit", says, ready, floor=floor, goal=_READY_GOAL, held_by=_READY_HELD_BY
        )
    yield Measurement(
        *(GROUP, "all.set_image", "all environments: `kubectl set image` in one after the other"),
        sums(*taken.floor.values()),
    )
    yield Measurement(
        *(
            GROUP,
            "all.commit",
            "all environments without gates: commit to Ready alone",
            sums(*taken.ready.values()),
        ),
        floor="all.set_image",
    )
    says = "all environments with gates: deploy, test, approve, promote, without the suites' seconds"
    yield Measurement(GROUP, "all.gated", says, tuple(taken.gated), goal=_ALL_GOAL, held_by=_ALL_HELD_BY)
    says = "of it in each environment: from Ready until Argo CD calls it Synced and Healthy"
    yield Measurement(GROUP, "settled", says, tuple(taken.settled))
    yield Measurement(GROUP, "promote", f"`delivery promote {names[1]}`", tuple(taken.promote))
    yield Measurement(
        *(
            GROUP,
            "rollback",
            f"`delivery rollback {names[1]}`, its floor the promotion",
            tuple(taken.rollback),
        ),
        floor="promote",
        goal=_ROLLBACK_GOAL,
    )
    yield Measurement(GATE, "gate", "the gate's decision", tuple(taken.gate))
    yield Measurement(GATE, "entry", "the entry signed and kept", tuple(taken.entry))
    yield Measurement(GATE, "evidence.sign", "test evidence signed and kept", tuple(taken.sign))
    yield Measurement(GATE, "evidence.verify", "test evidence fetched and verified", tuple(taken.read))
    yield Measurement(VERBS, "approve", f"`delivery approve {names[-1]}`", tuple(taken.approve))
    yield Measurement(
        *(VERBS, "verify", "`delivery verify` of all environments", tuple(taken.verify)), goal=_VERIFY_GOAL
    )


def combined(measurements: list[Measurement]) -> Iterator[Measurement]:
    """Gate, entry and admission's share together, round by round; nothing where one of them was not measured."""
    found = {one.name: one.values for one in measurements}
    if {"gate", "entry", "admission.share"} <= set(found):
        share = sorted(found["admission.share"])[len(found["admission.share"]) // 2]
        values = tuple(
            gate + entry + share for gate, entry in zip(found["gate"], found["entry"], strict=True)
        )
        yield Measurement(
            GATE, "guarded", "gate, entry and admission together", values, goal=1.0, held_by=_GUARDED_HELD_BY
        )
