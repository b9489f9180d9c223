"""`delivery verify`: what really runs, proven from the pods."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from delivery.context import Context
from delivery.pipeline import Environment
from delivery.proof.history import begun

if TYPE_CHECKING:
    from delivery.proof.decide import Proof


def verify(context: Context, environments: Iterable[Environment]) -> "list[Proof]":
    """The verdict about each of these environments, by what is read there now."""
    with begun(context) as history:
        # Here, and not above: Git's server is asked while the clients of clusters and registries are loaded.
        from delivery.proof.decide import decide
        from delivery.proof.observe import observe_by

        return [decide(found) for found in observe_by(context, environments, history)]
