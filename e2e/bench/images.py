"""New digests of the app, which no node has seen: each side of a comparison gets its own and pulls it."""

import json
import time

from e2e.bench import timed
from e2e.delivery import Checkout


def fresh(checkout: Checkout, seconds: list[float] | None = None) -> str:
    """Change the app by one line, commit and build it; its digest. How long the build took is added to `seconds`."""
    checkout.pull()
    (checkout.path / checkout.pipeline.image.context / "BENCH").write_text(f"{time.time_ns()}\n")
    checkout.commit(f"{checkout.app}: a change to measure with")
    made = timed.run(checkout, "build", "--format", "json")
    if seconds is not None:
        seconds.append(made.seconds)
    return str(json.loads(made.out)["digest"])
