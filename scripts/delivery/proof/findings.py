"""What one part of the proof found against PROVEN."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Findings:
    """What contradicts Git, and what is not known; one line each."""

    mismatches: tuple[str, ...] = ()
    unknowns: tuple[str, ...] = ()
