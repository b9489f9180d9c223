"""What grows with history and evidence, measured on a played world: run by `make bench`, not by `make test`.

Real Git, a real registry and real signatures; no cluster. Each measurement is a line of JSON in the file $GROWTH.
"""

from __future__ import annotations

import json
import os
import time
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery.parts.registry import connect
from delivery.signed import evidence, statements, trail
from scripts.tests.long_history import BEGAN, Signer, Step, make, named
from scripts.tests.signing import Attachments

if TYPE_CHECKING:
    from scripts.tests.world import World

REPETITIONS = 3
SIZES = (10, 100, 1000)


def note(name: str, size: int, seconds: list[float]) -> None:
    """Put it on record for the bench."""
    line = json.dumps({"name": name, "size": size, "seconds": seconds})
    with Path(os.environ["GROWTH"]).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@pytest.mark.parametrize("size", SIZES)
def test_history(stocked: World, size: int) -> None:
    """`delivery history` reads and verifies every line of Git and the ledger."""
    make(stocked, [Step()] * size)
    context, taken = stocked.context, []
    for _ in range(REPETITIONS):
        start = time.monotonic()
        found = trail.read(context, [context.environment("prod")])
        taken.append(time.monotonic() - start)
        assert len(found.lines) == size
    note("history", size, taken)


@pytest.mark.parametrize("size", SIZES)
def test_evidence(stocked: World, size: int) -> None:
    """A promotion fetches and verifies all the evidence that there is about its digest; a test adds one more."""
    context, digest = stocked.context, named(1)
    stage, signer = context.environment("stage"), Signer(context, "stage")
    data = stocked.prove(stage, digest)
    texts = []
    for number in range(size - 1):
        one = deepcopy(data)
        one["run"]["finishedOn"] = (BEGAN + timedelta(minutes=number)).isoformat()
        texts.append(signer.sign(digest, statements.TEST_RESULT, one)[0].encode())
    place = context.site.statements_of("stage")
    there = Attachments.of(place.at(digest), place.docker_config)
    there.write([*there.read(), *texts])
    fetched, added = [], []
    for number in range(REPETITIONS):
        start = time.monotonic()
        with connect(context.site.image) as registry:
            found = evidence.fetch(context, registry, digest, stage)
        fetched.append(time.monotonic() - start)
        assert len(found.evidence) == size + number
        one = stocked.result(stage)
        start = time.monotonic()
        evidence.put(context, digest, stage, one)
        added.append(time.monotonic() - start)
    note("evidence_read", size, fetched)
    note("evidence_added", size, added)
