"""The bill of materials that was attached to the image at build, verified with the builder's key."""

from typing import Any
from urllib.parse import unquote

from delivery.build import provenance
from delivery.parts import registry
from e2e.suites.target import Target


def fetch(target: Target) -> dict[str, Any]:
    """The newest one of the digest that Git asks for; AssertionError when there is none by the builder."""
    with registry.connect(target.context.site.image) as connection:
        found = provenance.sbom(target.context, connection, target.wanted.digest)
    assert found, f"no bill of materials of {target.wanted.digest} that the builder signed"
    return found


def names(bill: dict[str, Any], kind: str) -> dict[str, str]:
    """The packages of a kind (deb, pypi) and their versions, by their package URLs."""
    found = {}
    for component in bill.get("components", []):
        purl = component.get("purl", "").partition("?")[0]
        if purl.startswith(f"pkg:{kind}/"):
            name, _, version = purl.rpartition("/")[2].partition("@")
            found[unquote(name)] = unquote(version)
    return found
