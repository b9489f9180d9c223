"""What an image is made of and how: an SBOM (CycloneDX) and a build provenance (SLSA v1), signed, attached.

Both are made from the registry's image and the record of its build, so that a build that was stopped before is
completed by the next one.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from delivery.context import Context
from delivery.parts import syft
from delivery.parts.registry import Registry
from delivery.pipeline import BUILD
from delivery.signed import statements

BUILD_TYPE = "https://delivery/docker-build/v1"
BUILDER = "https://delivery/delivery-build"


def complete(
    context: Context,
    registry: Registry,
    digest: str,
    revision: str,
    parameters: Mapping[str, str],
    bases: Mapping[str, Mapping[str, Any]],
    started: str,
    finished: str,
    said: Callable[[str], None] = lambda step: None,
) -> None:
    """Attach the SBOM and the provenance that the digest lacks.

    `revision` is the commit, `parameters` are the build's arguments, `bases` what the images are known by that it
    started from. `said` is told which of the two is made, and which signed.
    """
    made: dict[str, Callable[[], dict[str, Any]]] = {
        statements.SBOM: lambda: syft.sbom(context.site.image, digest),
        statements.PROVENANCE: lambda: provenance(context, revision, parameters, bases, started, finished),
    }
    names = {statements.SBOM: "SBOM", statements.PROVENANCE: "provenance"}
    wanted = missing(context, registry, digest)
    for count, kind in enumerate(wanted, 1):
        step = f"{count} of {len(wanted)}: {names[kind]}"
        said(step)
        predicate = made[kind]()
        said(f"{step}, signing")
        statements.put(context, digest, kind, predicate, BUILD)


def missing(context: Context, registry: Registry, digest: str) -> list[str]:
    """Which of the two are not attached to a digest, signed by the build's key."""
    kinds = (statements.SBOM, statements.PROVENANCE)
    with ThreadPoolExecutor(max_workers=2) as pool:
        found = pool.map(
            lambda kind: statements.read(context, registry, digest, kind, [BUILD]).statements, kinds
        )
        return [kind for kind, there in zip(kinds, found, strict=True) if not there]


def sbom(context: Context, registry: Registry, digest: str) -> dict[str, Any] | None:
    """The bill of materials that the build attached to a digest; None when there is none that verifies."""
    found = statements.read(context, registry, digest, statements.SBOM, [BUILD]).statements
    return found[-1].predicate if found else None


def objections(context: Context, registry: Registry, digest: str) -> tuple[str, ...]:
    """Why a digest does not count as one that `delivery build` made of this site's source; empty when it does.

    The cluster asks the same of what it lets in: policy/evidence.yaml.
    """
    found = statements.read(context, registry, digest, statements.PROVENANCE, [BUILD])
    if any(_ours(context, one.predicate) for one in found.statements):
        return ()
    if found.statements:
        return (f"the provenance of {digest[:19]} is not that of a build of {_source(context)}",)
    return (
        f"{digest[:19]} has no provenance that {BUILD} signed",
        *(f"{BUILD}: {one.reason}" for one in found.rejected),
    )


def _ours(context: Context, predicate: Mapping[str, Any]) -> bool:
    try:
        builder = predicate["runDetails"]["builder"]["id"]
        source = predicate["buildDefinition"]["externalParameters"]["source"]
        return bool(builder == BUILDER and source.startswith(f"{_source(context)}@"))
    except (KeyError, TypeError, AttributeError):
        return False


def _source(context: Context) -> str:
    return f"git+{context.site.git.for_argocd}"


def provenance(
    context: Context,
    revision: str,
    parameters: Mapping[str, str],
    bases: Mapping[str, Mapping[str, Any]],
    started: str,
    finished: str,
) -> dict[str, Any]:
    """SLSA's provenance v1: from which commit, on which base images, with which arguments."""
    source = {
        "name": "source",
        "uri": _source(context),
        "digest": {"gitCommit": revision},
    }
    images = [_base(name, base) for name, base in sorted(bases.items())]
    metadata = {"startedOn": started, "finishedOn": finished}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "source": f"{source['uri']}@{revision}",
                "context": context.pipeline.image.context,
                "arguments": dict(parameters),
            },
            "internalParameters": {},
            "resolvedDependencies": [source, *images],
        },
        "runDetails": {
            "builder": {"id": BUILDER},
            "metadata": {key: value for key, value in metadata.items() if value},
        },
    }


def _base(name: str, base: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "uri": f"docker:{name}"}
    if not base["digest"]:
        return found | {"annotations": {"pinned": False, "digestOf": base["of"]}}
    found["digest"] = {"sha256": str(base["digest"]).removeprefix("sha256:")}
    # A pinned digest is the registry's, and anybody can ask for it. Another is known to the builder's Docker
    # alone, and its two stores count different things.
    return found if base["pinned"] else found | {"annotations": {"pinned": False, "digestOf": base["of"]}}
