"""What the publishers of kind, kubectl, helm and cosign release, as scripts/local/versions.yaml has it."""

from functools import cached_property

import semver
from pydantic import BaseModel, ConfigDict, ValidationError

from delivery.errors import BadInput
from local.catalog import Catalog
from local.platforms import Platform


class Signed(BaseModel):
    """How a release is signed: its list with a sigstore bundle or by PGP, or each program with a certificate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str = ""
    program: str = ""
    pgp: str = ""
    keys: str = ""
    by: str = ""
    issuer: str = ""


class Tool(BaseModel):
    """One program: which versions are good enough, and where the module's own version is published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    module: str
    version: str  # such as v1.36.1
    range: str = ""
    minors: int | None = None
    url: str
    member: str = ""
    list: str
    signed: Signed | None = None
    pinned: dict[str, str]

    def takes(self, version: semver.Version) -> bool:
        """Whether a program of this version may be used instead of the module's own."""
        return all(version.match(bound) for bound in self._bounds.split())

    @property
    def words(self) -> str:
        """The range as a reader understands it."""
        if self.minors is None:
            return self.range.replace("-0", "")
        own = self.own
        return f"{own.major}.{own.minor - self.minors} to {own.major}.{own.minor + self.minors}"

    @cached_property
    def own(self) -> semver.Version:
        """The module's version."""
        return semver.Version.parse(self.version.removeprefix("v"))

    @property
    def _bounds(self) -> str:
        if self.minors is None:
            return self.range
        major, minor = self.own.major, self.own.minor
        # A vendor's suffix (1.35.4-eks-1) makes a pre-release of it: -0 is the very first of them.
        return f">={major}.{minor - self.minors}.0-0 <{major}.{minor + self.minors + 1}.0-0"

    def checksum(self, platform: Platform) -> str:
        """The pinned SHA-256 of what `url` gives for a platform; "" where none is known for this version."""
        return self.pinned.get(str(platform), "") if self.pinned.get("version") == self.version else ""

    def at(self, template: str, platform: Platform) -> str:
        """An address (or the name of a file in an archive) for a platform."""
        return template.format(version=self.version, os=platform.os, arch=platform.arch)


def tools(catalog: Catalog) -> dict[str, Tool]:
    """Every tool of scripts/local/versions.yaml by name; BadInput where it is written wrongly."""
    found = {}
    for name, section in catalog.versions["tools"].items():
        try:
            version = catalog.module.version(section["module"])
            found[name] = Tool.model_validate({"name": name, "version": version, **section})
        except (ValidationError, KeyError, TypeError) as error:
            said = " ".join(str(error).split())[:200]
            raise BadInput(
                f"scripts/local/versions.yaml: tools.{name}: {said}",
                "restore it: git checkout scripts/local/versions.yaml",
            ) from None
    return found
