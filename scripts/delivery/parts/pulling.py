"""A pull that says what went wrong: errors come inside the stream, each kind with its own remedy."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from delivery.errors import PlatformError
from delivery.parts.daemon import FAILURES, client, logins, one_line, words
from delivery.parts.heard import heard

# A daemon says something every second while bytes come; this long without a word is a connection that hangs.
SILENCE = 300.0
_WINDOW = timedelta(hours=6)  # Docker Hub counts the pulls of the last six hours


class PullFailed(PlatformError):
    """An image was not pulled."""


class PinGone(PullFailed):
    """The digest that is pinned is not in the registry (any more)."""


class RateLimited(PullFailed):
    """The registry lets this user or address pull no more for now."""


class CertificateUnknown(PullFailed):
    """The registry's certificate is of an authority that Docker does not know."""


class WrongPlatform(PullFailed):
    """There is no such image for the daemon's platform."""


class RegistrySilent(PullFailed):
    """The registry does not answer, or no longer."""


def pull(name: str, log: Callable[[str], None] = lambda line: None, platform: str | None = None) -> None:
    """Pull an image by tag or digest; its progress goes to `log`. PullFailed, or one of its kinds, says why not.

    `platform` is such as linux/arm64; without it the image must be for the daemon's own.
    """
    daemon = client(seconds=60)
    try:
        # docker-py itself would wait for ever.
        for message in heard(
            lambda: daemon.api.pull(name, stream=True, decode=True, platform=platform), SILENCE
        ):
            if said := error_in(message):
                raise failure(name, said)
            if status := str(message.get("status") or ""):
                log(" ".join(filter(None, [str(message.get("id") or ""), status])))
        if platform is None:
            _fits(daemon, name)
    except FAILURES as error:
        raise logins(error) or failure(name, words(error)) from None
    except TimeoutError as error:
        raise failure(name, f"timeout: {error}") from None
    finally:
        daemon.close()


def failure(name: str, said: str) -> PullFailed:
    """What Docker says about a pull, told apart. The order counts: a missing platform is `not found` as well."""
    text, said = said.lower(), one_line(said)
    host = registry(name)
    if re.search(r"no match(ing manifest)? for (platform|\w+/\w+)|not match the specified platform", text):
        return WrongPlatform(
            f"{name} is not made for this platform: {said}", "pin an image that is: make pin, or another tag"
        )
    if re.search(r"toomanyrequests|too many requests|\b429\b|pull rate limit", text):
        return _limited(name, host, said)
    if re.search(r"x509|certificate|tls: (failed to verify|unknown)", text):
        return certificate_unknown(host, said)
    if re.search(r"pull access denied|unauthorized|authentication required|forbidden|\b40[13]\b", text):
        return PullFailed(
            f"{host} does not let us pull {name}: {said}", f"log in, if it is private: docker login {host}"
        )
    asked = (name[name.index("@") :] if "@" in name else name.rpartition("/")[2]).lower()
    if re.search(rf"manifest unknown|name unknown|\b404\b|{re.escape(asked)}(: | )not found", text):
        if "@sha256:" in name:
            return PinGone(f"the pinned {name} is not in {host} any more", "pin what is there now: make pin")
        return PullFailed(
            f"{host} has no {name}: {said}", "is the name right? see scripts/local/versions.yaml"
        )
    if re.search(r"time-?out|deadline exceeded|no such host|connection re|unreachable|\beof\b|dial ", text):
        return RegistrySilent(
            f"{host} does not answer: {said}",
            "look at network and proxy (docker info shows Docker's own), then run it again: what came is kept",
        )
    return PullFailed(f"cannot pull {name}: {said}", "run it again: what came is kept")


def certificate_unknown(host: str, said: str) -> CertificateUnknown:
    """Docker does not trust a registry, and goes by a store of its own."""
    return CertificateUnknown(
        f"Docker does not trust the certificate of {host}: {said}",
        "a proxy may re-sign TLS, or the registry has an authority of its own: give that CA certificate to Docker "
        f"(/etc/docker/certs.d/{host}/ca.crt, or the system's store; then start Docker again)",
    )


def registry(name: str) -> str:
    """The registry that an image's name stands for, such as docker.io."""
    first, slash, _ = name.partition("/")
    return first if slash and re.search(r"[.:]|^localhost$", first) else "docker.io"


def _limited(name: str, host: str, said: str) -> RateLimited:
    remedy = (
        f"docker login {host} raises the limit" if host != "docker.io" else "docker login raises the limit"
    )
    now = datetime.now().astimezone()
    if found := re.search(r"retry-after:? *(\d+)", said, re.I):
        end = f"until {now + timedelta(seconds=int(found[1])):%H:%M}"
    elif found := re.search(r"ratelimit-reset:? *(\d{9,})", said, re.I):
        end = f"until {datetime.fromtimestamp(int(found[1])).astimezone():%H:%M}"
    elif host == "docker.io":
        # The daemon passes on no header: known is only how long Docker Hub counts a pull.
        end = f"until six hours after the first pull, {now + _WINDOW:%H:%M} at the latest"
    else:
        end = "a while"
    return RateLimited(f"{host} lets us pull no more for now ({name}): {said}", f"{remedy}; or wait {end}")


def error_in(message: Mapping[str, Any]) -> str:
    """The error that a message of Docker's streams carries; empty when it carries none."""
    detail = message.get("errorDetail")
    return str((detail.get("message") if isinstance(detail, dict) else "") or message.get("error") or "")


def _fits(daemon: Any, name: str) -> None:
    # An image of one platform alone is pulled without a word by every platform, and then does not start.
    ours, its = str(daemon.version().get("Arch") or ""), daemon.images.get(name).attrs.get("Architecture")
    if ours and its and ours != its:
        raise WrongPlatform(
            f"{name} is for linux/{its}, Docker here runs linux/{ours}",
            "pin an image that is for both: make pin, or another tag",
        )
