"""The bill of materials that was attached to the image at build, verified with the builder's key."""

import json
from typing import Any
from urllib.parse import unquote

from delivery import keys
from delivery.parts import cosign

from e2e.gates.target import Target

CYCLONEDX = "https://cyclonedx.org/bom"


def fetch(target: Target) -> dict[str, Any]:
    """The newest one of the digest that Git asks for; NotVerified when there is none by the builder."""
    image = f"{target.cluster.registry_host}/{target.pipeline.image.name}@{target.wanted.digest}"
    public, login = keys.public(target.cluster, "build"), keys.docker_config(target.cluster)
    statement = json.loads(cosign.verify(image, CYCLONEDX, public, login)[-1].payload)
    subjects = [subject["digest"]["sha256"] for subject in statement["subject"]]
    assert f"sha256:{subjects[0]}" == target.wanted.digest
    return dict(statement["predicate"])


def names(bill: dict[str, Any], kind: str) -> dict[str, str]:
    """The packages of a kind (deb, pypi) and their versions, by their package URLs."""
    found = {}
    for component in bill.get("components", []):
        purl = component.get("purl", "").partition("?")[0]
        if purl.startswith(f"pkg:{kind}/"):
            name, _, version = purl.rpartition("/")[2].partition("@")
            found[unquote(name)] = unquote(version)
    return found
