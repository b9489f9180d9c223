"""What a build needs of this host to reach a package index: the certificates it trusts, and pip's settings.

Both go into the image of a build stage alone, which stays on this Docker daemon: the address of an index
may carry a password.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

from delivery.errors import PlatformError
from delivery.parts import certificates
from local.shell import last_line

_INDEX = ("extra-index-url", "index-url", "trusted-host")


def ca_bundle() -> Path:
    """The certificates that this host trusts: TLS may be re-signed on the way out."""
    return certificates.system(_pip().get("cert"))


def pip_configuration() -> str:
    """This host's package index as a pip.conf, so that pip in a build stage asks the same one."""
    return pip_conf(_pip())


def pip_conf(settings: dict[str, str]) -> str:
    """Those of pip's settings that say where packages come from, in pip's own format.

    A folder of wheels on this host (find-links) is not among them: a build does not see it.
    """
    values = {option: "\n    ".join(settings[option].split()) for option in _INDEX if option in settings}
    return "".join(["[global]\n", *(f"{option} = {value}\n" for option, value in values.items())])


def pip_settings(listed: str) -> dict[str, str]:
    """What holds for `pip install`, out of what `pip config list` prints."""
    found = {}
    for section in ("global", "install", ":env:"):  # as in pip, a later one wins
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            where, _, option = name.rpartition(".")
            if where == section:
                found[option] = str(ast.literal_eval(value))
    return found


@cache
def _pip() -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    if listed.returncode:
        raise PlatformError(
            f"pip does not tell which package index this host uses: {last_line(listed.stderr)}",
            f"see: {sys.executable} -m pip config debug",
        )
    return pip_settings(listed.stdout)
