"""May this digest enter that environment? A pure decision, with every reason why not."""

from dataclasses import dataclass

from delivery.pipeline import Environment
from delivery.proof import Desired, Proof, Verdict


@dataclass(frozen=True)
class Decision:
    """The answer; it is yes only when nothing stands against it."""

    refusals: tuple[str, ...]  # known to be wrong
    unknowns: tuple[str, ...]  # could not be found out

    @property
    def allowed(self) -> bool:
        """Whether the digest may enter."""
        return not self.refusals and not self.unknowns


def decide(target: Environment, digest: str, source: Proof) -> Decision:
    """Whether a digest may enter `target`, given the proof of the environment before it.

    It must be the very digest that the environment before asks for, and proven to run there.
    """
    before = source.facts.environment
    refusals, unknowns = [], []
    if before != target.source:
        refusals.append(f"{target.name} takes digests from {target.source}, not from {before}")
    wanted = source.facts.desired
    if isinstance(wanted, Desired) and wanted.digest != digest:
        refusals.append(f"{before} is at {wanted.digest[:19]}, not at {digest[:19]}")
    if source.verdict is Verdict.MISMATCH:
        refusals += [f"{before}: {reason}" for reason in source.reasons]
    if source.verdict is Verdict.UNKNOWN:
        unknowns += [f"{before}: {reason}" for reason in source.reasons]
    return Decision(tuple(refusals), tuple(unknowns))
