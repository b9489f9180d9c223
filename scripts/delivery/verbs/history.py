"""`delivery history`: what changed what runs where, each line verified while it is read, and how a team does by it."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from delivery.context import Context
from delivery.errors import BadInput, NotReached, Refused, Unknown
from delivery.parts import openpgp
from delivery.parts.emergency import Emergency
from delivery.parts.windows import Lift
from delivery.pipeline import Environment
from delivery.signed import keys, trail
from delivery.signed.trail import State, Trail
from delivery.verbs import dora

Emergencies = Mapping[str, tuple[Emergency, ...] | Unknown]
Lifts = Mapping[str, tuple[Lift, ...] | Unknown]


@dataclass(frozen=True)
class History:
    """What changed, newest first; emergencies and lifted freezes by environment, the oldest first."""

    trail: Trail
    emergencies: Emergencies  # empty where the clusters were not asked
    lifts: Lifts
    asked: bool  # whether the clusters were
    keys: Mapping[str, str]  # the id of each gate's OpenPGP key, by which its changes were told from others


@dataclass(frozen=True)
class Metrics:
    """The four figures, and what they leave out."""

    figures: dora.Figures
    left_out: Trail  # of the whole history of the environment, what is not VERIFIED
    emergencies: Emergencies
    asked: bool


def history(
    context: Context,
    limit: int | None,
    environment: Environment | None = None,
    since: datetime | None = None,
    clusters: bool = True,
) -> History:
    """What changed what runs where: the newest `limit` changes, every emergency and every lifted freeze.

    `since` leaves out what is older. All but emergencies and freezes comes from Git and the registry; without
    `clusters` it does so alone.
    """
    chosen = (environment,) if environment else context.environments
    with ThreadPoolExecutor(max_workers=1) as pool:
        told = pool.submit(_told, context, chosen, clusters)
        found = trail.read(context, chosen, limit, since)
        emergencies, lifts = told.result()
    if since:
        emergencies = {
            name: some if isinstance(some, Unknown) else tuple(one for one in some if _lasts(one, since))
            for name, some in emergencies.items()
        }
        lifts = {
            name: some if isinstance(some, Unknown) else tuple(one for one in some if one.at >= since)
            for name, some in lifts.items()
        }
    ids = {
        one.name: openpgp.key_id(keys.commit_certificate(context.site, one.gate))
        for one in chosen
        if one.guarded
    }
    return History(found, emergencies, lifts, clusters, ids)


def metrics(
    context: Context, days: int, environment: Environment | None = None, clusters: bool = True
) -> Metrics:
    """The four figures of DORA about an environment, by default the last one, of the last `days` days."""
    chosen = environment or context.environments[-1]
    if not chosen.guarded:
        raise BadInput(
            f"{chosen.name} has no gate: nothing of its history is verified",
            f"ask about another: delivery history {context.environments[-1].name} --metrics",
        )
    now = datetime.now(UTC)
    found = history(context, None, chosen, clusters=clusters)
    told = found.emergencies.get(chosen.name, ())
    figures = dora.figures(
        *(chosen.name, found.trail.lines, () if isinstance(told, Unknown) else told),
        *(now - timedelta(days=days), now),
    )
    doubtful = tuple(one for one in found.trail.lines if one.state is not State.VERIFIED)
    return Metrics(figures, Trail(doubtful, found.trail.missing), found.emergencies, clusters)


def insist(found: Trail, told: Emergencies, lifts: Lifts | None = None) -> None:
    """Return when everything holds; Refused when a line is BROKEN, NotReached when something could not be read."""
    broken = sum(one.state is State.BROKEN for one in found.lines) + len(found.missing)
    if broken:
        raise Refused(
            f"BROKEN: {broken} {'line does' if broken == 1 else 'lines do'} not hold",
            "the reasons are above; git show COMMIT says who wrote it",
        )
    unread = [one for one in found.lines if one.state is State.UNKNOWN]
    away = [name for name, one in [*told.items(), *(lifts or {}).items()] if isinstance(one, Unknown)]
    if unread or away:
        what = [f"{len(unread)} entries"] if unread else []
        what += [f"the cluster of {name}" for name in dict.fromkeys(away)]
        raise NotReached(
            f"UNKNOWN: not everything could be read ({', '.join(what)})",
            "the reasons are above; --no-clusters asks Git and the registry alone",
        )


def _told(context: Context, chosen: tuple[Environment, ...], clusters: bool) -> tuple[Emergencies, Lifts]:
    if not clusters:
        return {}, {}
    from delivery.proof import observe  # what it takes to ask a cluster, whoever asks none does not wait for

    with ThreadPoolExecutor(max_workers=1) as pool:
        emergencies = pool.submit(observe.emergencies, context, chosen)
        return emergencies.result(), observe.lifts(context, chosen)


def _lasts(emergency: Emergency, since: datetime) -> bool:
    return emergency.until is None or emergency.until >= since
