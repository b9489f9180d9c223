"""`make bench` [ROUNDS=5]: measure on the cluster that `make demo` left running, and write docs/bench and the README.

Medians, because machines are noisy, and ratios to a floor that is measured in the same rounds, because machines differ.
A part that cannot be measured is named in the notes, and the others go on; the exit code is then 3.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from delivery import context as contexts
from delivery import pipeline as pipelines
from delivery.errors import DeliveryError, NotReached
from delivery.progress import note, phase
from e2e.bench import (
    admission,
    bringup,
    deployments,
    documents,
    growth,
    images,
    machine,
    polling,
    promotions,
    rendered,
    tables,
)
from e2e.bench.flux import deployments as flux
from e2e.bench.results import Measurement, Results
from e2e.delivery import Checkout

ROUNDS = 5
_POLLED = 2  # of what waits for a minute to pass: one is as good as another
Part = Callable[[], Iterator[Measurement]]


def main(
    rounds: Annotated[int, typer.Argument(min=1, help="How often each thing is measured.")] = ROUNDS,
    only: Annotated[list[str] | None, typer.Option(help="A part; nothing is written then.")] = None,
) -> None:
    """Measure on the selected cluster, print the tables and write the documents; what was made is removed again."""
    root, site = pipelines.root(), contexts.load().site
    # A clone is another checkout: it works with this one's cluster and keys.
    os.environ |= {"DELIVERY_STATE": str(site.state.parent), "DELIVERY_SITE": site.name}
    with tempfile.TemporaryDirectory(prefix="delivery-bench-") as folder:
        path = Path(folder, "checkout")
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", root, path], check=True, timeout=120)
        checkout = Checkout(path, site.name)
        checkout.pull()
        with rendered.branch(checkout, Path(folder, "rendered")) as branch:
            parts = _parts(checkout, branch, rounds)
            wanted = {name: part for name, part in parts.items() if not only or name in only}
            measured, missing = _measured(wanted)
        notes = (*missing, *_notes(checkout))
    results = Results(machine.here(root), tuple(measured), notes)
    tables.show(results, Console(width=None if sys.stdout.isatty() else 140))
    if not only:
        for file in documents.write(results, root):
            print(file)
    raise SystemExit(NotReached.exit_code if missing else 0)


def _parts(checkout: Checkout, branch: rendered.Branch, rounds: int) -> dict[str, Part]:
    """What is measured, by name, in order."""

    def new(count: int) -> list[str]:
        return [images.fresh(checkout) for _ in range(count)]

    def polled() -> Iterator[Measurement]:
        yield from polling.measure(checkout, branch, new(_POLLED + 1))

    def fluxed() -> Iterator[Measurement]:
        yield from flux.measure(checkout, branch, new(_POLLED + 1), new(rounds))

    return {
        "deployments": partial(deployments.measure, checkout, rounds),
        "polling": polled,
        "flux": fluxed,
        "promotions": partial(promotions.measure, checkout, max(1, rounds // 2)),
        "admission": partial(admission.measure, checkout, rounds),
        "applications": partial(growth.applications, checkout, branch, rounds),
        "played": partial(growth.played, checkout),
        "bringup": partial(bringup.measure, checkout),
    }


def _measured(parts: dict[str, Part]) -> tuple[list[Measurement], list[str]]:
    """What the parts measured, and a line for each that could not."""
    found: list[Measurement] = []
    missing = []
    for name, part in parts.items():
        try:
            with phase(f"Measuring {name}"):
                found += part()
        except (DeliveryError, AssertionError, subprocess.SubprocessError) as error:
            missing.append(f"not measured: {name}: {' '.join(str(error).split())[:300]}")
            note(missing[-1])
    return [*found, *promotions.combined(found)], missing


def _notes(checkout: Checkout) -> list[str]:
    """What the numbers do not say by themselves."""
    return [
        "a round builds a new digest for each side of a comparison, so both pull it; into the environments after the "
        "first a digest is promoted that is on the node already, and their floors are set to that one",
        f"Argo CD polls every {polling.period(checkout)} here (argocd/install/settings.yaml); upstream's default, "
        "120s + up to 60s, was not measured. The commits are pushed at moments spread evenly over a period, for it as "
        "for Flux",
        "Flux is source-controller and kustomize-controller as their own manifests have them (flags, resources), in "
        "the intervals that `flux bootstrap` sets; it applies the migration with everything else, and knows no waves",
        "ratios are round by round where both were measured in the same rounds, else to the floor's median",
        "history and evidence up to 1,000 are read from a played world: real Git, registry and signatures, no cluster",
        "cluster up by phase is what the cluster's own objects tell, to a second; the images were "
        "there already",
    ]


def _run() -> int:
    try:
        typer.run(main)
    except DeliveryError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_run())
