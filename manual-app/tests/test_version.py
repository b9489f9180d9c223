"""The service's version is written in two files, which a new version changes together."""

import re
from pathlib import Path

APP = Path(__file__).resolve().parents[1]


def test_the_version_of_the_image_is_the_package_s() -> None:
    """What /version and the image's label say is what pyproject.toml says."""
    package = re.search(r'^version = "(.+)"$', (APP / "pyproject.toml").read_text("utf-8"), re.M)
    image = re.search(r"^ARG VERSION=(.+)$", (APP / "Dockerfile").read_text("utf-8"), re.M)
    assert package
    assert image
    assert package[1] == image[1]
