"""The public registries, as Docker reaches them: whether one answers, and the pull of what is not there yet."""

import re
from collections.abc import Callable, Sequence

from requests.exceptions import RequestException, Timeout
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from delivery.errors import PlatformError
from delivery.parts import docker
from delivery.parts.daemon import FAILURES, logins, short
from delivery.parts.pulling import PinGone, RateLimited, RegistrySilent, WrongPlatform, failure, registry
from local.recipes import image_exists

ANSWER_LIMIT = 20  # seconds for one registry's answer about one small image
_ATTEMPTS = 3
_PAUSES = wait_exponential(multiplier=2, max=10)
# The registry's own words, which a proxy on the way does not say.
_ITS_WORDS = re.compile(r"unauthorized|authentication required|access .*denied|(manifest|name) unknown", re.I)


def silence(name: str) -> PlatformError | None:
    """Why the registry of a public image does not answer Docker; None where it does, if only to refuse.

    The daemon asks, not this host: it is the one that will pull. Raises what keeps Docker from asking at all.
    """
    client = docker.client(seconds=ANSWER_LIMIT)
    try:
        client.api.inspect_distribution(name)
    except FAILURES as error:
        if broken := logins(error):
            raise broken from None
        if isinstance(error, Timeout) or (isinstance(error, RequestException) and "timed out" in str(error)):
            said = f"nothing within {ANSWER_LIMIT} s"
            return RegistrySilent(f"{registry(name)} does not answer: {said}", "look at network and proxy")
        why = failure(name, short(error))
        refuses = isinstance(why, (RateLimited, PinGone, WrongPlatform)) or _ITS_WORDS.search(short(error))
        return None if refuses else why
    finally:
        client.close()
    return None


def pull(names: Sequence[str], said: Callable[[str], None]) -> None:
    """Pull what Docker does not have yet, one after another: Docker itself fetches several layers at once.

    A registry that falls silent is asked again, three times in all; every other reason ends it (PullFailed).
    """
    for count, name in enumerate(names, 1):
        if image_exists(name):
            continue
        what = f"{count} of {len(names)}: {name.partition('@')[0]}"
        said(what)
        retrying = Retrying(
            retry=retry_if_exception_type(RegistrySilent),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=_PAUSES,
            reraise=True,
        )
        retrying(docker.pull, name, _layers(what, said))


def _layers(what: str, said: Callable[[str], None]) -> Callable[[str], None]:
    """A listener to Docker's lines about each layer, such as `3f4a Pull complete`, that says how many are done."""
    seen: set[str] = set()
    done: set[str] = set()

    def listen(line: str) -> None:
        layer, _, status = line.partition(" ")
        if status.startswith(("Pulling fs layer", "Downloading", "Extracting", "Waiting", "Verifying")):
            seen.add(layer)
        elif status.startswith(("Pull complete", "Already exists")):
            seen.add(layer)
            done.add(layer)
        if seen:
            said(f"{what} ({len(done)} of {len(seen)} layers)")

    return listen
