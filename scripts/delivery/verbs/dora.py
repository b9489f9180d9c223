"""The four figures of DORA (https://dora.dev/guides/dora-metrics-four-keys/) about one environment. Pure arithmetic.

What counts, and how, is said at each of them in `Figures`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from delivery.parts.emergency import Emergency
from delivery.signed.trail import Line, State

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Figures:
    """The figures of the time from `since` to `until`; None where there is nothing to measure.

    A promotion is a release that entered, by a new digest or by a change of chart or values alone. It failed when it
    was rolled back, or when an emergency began while it ran.
    """

    environment: str
    since: datetime
    until: datetime
    promotions: int
    failed: int
    per_day: float  # deployment frequency: promotions a day
    lead: timedelta | None  # lead time for changes: the median from source commit to entry, of new digests
    failure_rate: float | None  # change failure rate: failed promotions of all promotions
    recovery: timedelta | None  # time to restore: the median from the entry of what failed to what ended that


def figures(
    environment: str,
    lines: Iterable[Line],
    emergencies: Iterable[Emergency],
    since: datetime,
    until: datetime,
) -> Figures:
    """The figures about an environment. `lines` are all of its changes, of any time; those not VERIFIED are left out.

    What entered before `since` is not counted, and that it is rolled back later is no failure of the time asked for.
    """
    counted = [one for one in lines if one.state is State.VERIFIED and one.record.environment == environment]
    ordered = sorted((one for one in counted if one.at <= until), key=lambda one: one.at)
    inside = [one for one in ordered if one.kind != "rollback" and one.at >= since]
    failures = _failures(ordered, emergencies, until)
    failed = [failures[one.record.commit] for one in inside if one.record.commit in failures]
    lasted = [one for one in failed if one is not None]
    leads = [one.lead for one in inside if one.lead is not None]
    return Figures(
        environment=environment,
        since=since,
        until=until,
        promotions=len(inside),
        failed=len(failed),
        per_day=len(inside) / ((until - since) / DAY),
        lead=_median(leads),
        failure_rate=len(failed) / len(inside) if inside else None,
        recovery=_median(lasted),
    )


def _failures(
    ordered: Sequence[Line], emergencies: Iterable[Emergency], until: datetime
) -> dict[str, timedelta | None]:
    """By the commits of the promotions that failed: how long it lasted, from the entry to the first that ended it.

    None while nothing has.
    """
    ends: dict[str, list[datetime]] = {}
    entered: dict[str, datetime] = {}

    def ended(ran: Sequence[Line], at: datetime | None) -> None:
        if promotion := _promotion(ran):
            entered[promotion.record.commit] = promotion.at
            ends.setdefault(promotion.record.commit, []).extend([at] if at else [])

    for number, one in enumerate(ordered):
        # A rollback that says again what runs ends nothing: the release is the same.
        if number and one.kind == "rollback" and one.record.release != ordered[number - 1].record.release:
            ended(ordered[:number], one.at)
    for emergency in emergencies:
        if emergency.since <= until:
            over = emergency.until if emergency.until and emergency.until <= until else None
            ended([one for one in ordered if one.at <= emergency.since], over)
    return {commit: min(all_) - entered[commit] if all_ else None for commit, all_ in ends.items()}


def _promotion(ran: Sequence[Line]) -> Line | None:
    """The promotion that brought what ran last, which may have come back by a rollback since."""
    return next(
        (
            one
            for one in reversed(ran)
            if one.kind != "rollback" and one.record.release == ran[-1].record.release
        ),
        None,
    )


def _median(times: Sequence[timedelta]) -> timedelta | None:
    return timedelta(seconds=median(one.total_seconds() for one in times)) if times else None
