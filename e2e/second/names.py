"""What this host is told of the second site: names in /etc/hosts, and the authority that Docker is to trust.

Both need root, and both are taken away again, also those of a run that was killed: at the next start.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from delivery.parts.daemon import endpoint

DOMAIN = "shop.test"
REGISTRY, LOGIN, GIT = f"registry.{DOMAIN}", f"auth.{DOMAIN}", f"git.{DOMAIN}"
# Also a fork that is called shop must be told from this site, with which it shares a cluster.
_ENVIRONMENT = "second-site"
_HOSTS = Path("/etc/hosts")
_CERTIFICATES = Path("/etc/docker/certs.d", REGISTRY)
_MARK = "# delivery: the second site of its e2e"


def of(environment: str) -> str:
    """What an environment's namespace, Application and project are called."""
    return f"{_ENVIRONMENT}-{environment}"


def unfit() -> str:
    """Why this machine cannot be told; empty when it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the second site needs root on Linux, for /etc/hosts and /etc/docker/certs.d"
    if not endpoint().url.startswith("unix://"):
        return f"the second site needs this machine's own Docker daemon, not {endpoint().url}"
    return ""


def tell(addresses: Mapping[str, str]) -> None:
    """Have these names lead to these addresses, and no other names of ours."""
    forget()
    lines = "".join(f"{address} {name} {_MARK}\n" for name, address in addresses.items())
    # In place: in a container it is mounted, and nothing can be moved there.
    before = _HOSTS.read_text(encoding="utf-8")
    _HOSTS.write_text(f"{before}{'' if before.endswith(chr(10)) else chr(10)}{lines}", encoding="utf-8")


def trust(authority: Path) -> None:
    """Have Docker's daemon trust the registry's authority."""
    _CERTIFICATES.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(authority, _CERTIFICATES / "ca.crt")


def forget() -> None:
    """Take the names away."""
    lines = _HOSTS.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if _MARK not in line]
    if kept != lines:
        _HOSTS.write_text("".join(kept), encoding="utf-8")


def distrust() -> None:
    """Take the authority away, and the folder that was made for it."""
    shutil.rmtree(_CERTIFICATES, ignore_errors=True)
    with suppress(OSError):  # others have theirs in it, or it was never there
        _CERTIFICATES.parent.rmdir()
