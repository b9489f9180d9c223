"""An emergency, from its beginning to the entry after it: whoever is on call, and whoever keeps the platform."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from delivery import roles
from delivery.parts import emergency
from delivery.parts.emergency import Emergency
from e2e.delivery import Checkout

PERSON = "eve@example.org"
ON_CALL = roles.acting(PERSON, roles.EMERGENCY)


def now() -> str:
    """The time, as an emergency tells it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def told(platform: Checkout, environment: str) -> tuple[Emergency, ...]:
    """Every emergency that the environment's namespace tells of, the oldest first."""
    return emergency.of(platform.get("namespace", platform.pipeline.environment(environment).namespace))


def begin(platform: Checkout, environment: str, reason: str) -> str:
    """Somebody who is on call opens an environment; what its namespace says of it."""
    line = f"{PERSON} {now()} {reason}"
    platform.kubectl(*ON_CALL, *annotate(platform, environment), f"{roles.IN_EMERGENCY}={line}")
    return line


def end(platform: Checkout, environment: str) -> None:
    """The platform shuts it again, where it is open; the line about it stays beside those of before."""
    namespace = platform.get("namespace", platform.pipeline.environment(environment).namespace)
    annotations = namespace["metadata"].get("annotations") or {}
    if line := annotations.get(roles.IN_EMERGENCY):
        lines = [*annotations.get(roles.EMERGENCIES, "").splitlines(), f"{line} until {now()}"]
        kept = "\n".join(lines)
        platform.kubectl(
            *(*roles.AS_PLATFORM, *annotate(platform, environment), "--overwrite"),
            *(f"{roles.IN_EMERGENCY}-", f"{roles.EMERGENCIES}={kept}"),
        )


def annotate(platform: Checkout, environment: str) -> tuple[str, ...]:
    """kubectl's words for an annotation of the namespace."""
    return ("annotate", "namespace", platform.pipeline.environment(environment).namespace)


@contextmanager
def over_afterwards(platform: Checkout, environment: str, digest: str) -> Iterator[None]:
    """Whatever happens inside, afterwards no emergency is on, and what runs there has entered again."""
    try:
        yield
    finally:
        end(platform, environment)
        platform.delivery("rollback", environment, "--digest", digest)
