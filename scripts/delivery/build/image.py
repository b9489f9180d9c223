"""Build once, push, keep the digest that the push reported. A second build of a commit is the first one."""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delivery.errors import BadInput, Refused
from delivery.lock import alone
from delivery.parts import git
from delivery.parts.credentials import write_private
from delivery.parts.registry import Registry, connect
from delivery.pipeline import Cluster, Pipeline
from delivery.progress import phase

REVISION = "org.opencontainers.image.revision"


class Contradictory(Refused):
    """The images behind one digest say different things of themselves."""


class WrongPlatform(Refused):
    """No node of the cluster can run the image."""


@dataclass(frozen=True)
class Built:
    """An image in the registry: its digest is its identity, the rest is what it says of itself."""

    digest: str
    build: str
    version: str
    revision: str
    new: bool = False
    platforms: frozenset[str] = frozenset()  # such as linux/arm64; none where nobody asked
    children: frozenset[str] = frozenset()  # of an index: the digest of each platform's image


def build(pipeline: Pipeline, cluster: Cluster, number: int | None = None) -> Built:
    """The image of the newest commit that changed the app: built and pushed, or the one that already is.

    Refuses a dirty tree and a shallow clone, so that the image is what Git has. Builds on one machine wait
    for each other: two builds of one commit end with one digest.
    """
    repository = git.checkout(pipeline.root)
    revision = source(pipeline, repository)
    number = number if number is not None else _number_from_environment()
    with (
        alone(cluster.state / "build.lock", "the other build on this machine", pipeline.waits.build),
        connect(cluster) as registry,
    ):
        found = find(pipeline, registry, revision)
        if found is None:
            return _build(pipeline, cluster, registry, repository, revision, number)
        if registry.digest(found.build) is None:
            _name(pipeline, registry, found)  # a build was stopped between its two tags
        _describe(pipeline, cluster, registry, found)  # or before its SBOM was attached
        return found


def source(pipeline: Pipeline, repository: git.Repository) -> str:
    """The commit that the image is built from: the newest that changed the app's folder."""
    if repository.run("rev-parse", "--is-shallow-repository") == "true":
        raise BadInput(
            "this is a shallow clone: it does not know which commit changed the app last",
            "git fetch --unshallow (in CI: fetch-depth 0)",
        )
    changed = repository.run("status", "--porcelain").splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise BadInput(
            f"the tree is dirty: {changed[0].strip()}{more}",
            "commit or stash first; only what is committed is built",
        )
    revision = repository.last_change(repository.commit("HEAD"), pipeline.image.context)
    if not revision:
        raise BadInput(f"no commit changed {pipeline.image.context}/", "commit the app first")
    return revision


def find(pipeline: Pipeline, registry: Registry, revision: str) -> Built | None:
    """The image that was built from a commit, or None. The image itself must say so too."""
    digest = registry.digest(revision)
    if digest is None:
        return None
    found = describe(pipeline, registry, digest)
    if found is None or found.revision != revision:
        raise Refused(
            f"tag {revision[:12]} in the registry belongs to an image that says it is of another commit",
            "somebody moved the tag; commit again to get a new image",
        )
    return found


def describe(pipeline: Pipeline, registry: Registry, digest: str) -> Built | None:
    """What an image of our repository says of itself, or None when the registry does not have it."""
    found = registry.image(digest)
    if found is None:
        return None
    said = {platform: _says(config.get("config") or {}) for platform, config in found.configs.items()}
    if len(set(said.values())) > 1:
        raise Contradictory(
            f"the images of {digest[:19]} do not agree on what they are: "
            + "; ".join(f"{platform}: {' '.join(words)}" for platform, words in sorted(said.items())),
            "build all platforms from one commit, with one build number",
        )
    build_number, version, revision = next(iter(said.values()))
    return Built(
        digest=digest,
        build=build_number,
        version=version,
        revision=revision,
        platforms=frozenset(found.configs),
        children=frozenset(found.children),
    )


def _says(config: Mapping[str, Any]) -> tuple[str, str, str]:
    labels = config.get("Labels") or {}
    baked = dict(line.split("=", 1) for line in config.get("Env") or [] if "=" in line)
    return baked.get("APP_BUILD", ""), baked.get("APP_VERSION", ""), labels.get(REVISION, "")


def fits(built: Built, nodes: Set[str]) -> None:
    """Return when a node can run it; WrongPlatform when its platforms are known and no node has one of them."""
    if built.platforms and nodes and not built.platforms & nodes:
        raise WrongPlatform(
            f"build {built.build} ({built.digest[:19]}) is for {', '.join(sorted(built.platforms))}, "
            f"the cluster's nodes are {', '.join(sorted(nodes))}",
            "build it for the nodes: delivery build on such a machine, or docker buildx build --platform in CI",
        )


def known(pipeline: Pipeline, registry: Registry, digest: str) -> Built:
    """The same of a digest that must be there, and whose build number must still be its own."""
    built = describe(pipeline, registry, digest)
    if built is None:
        raise BadInput(f"{digest[:19]}… is not in the registry", "build it first: delivery build")
    agrees(pipeline, registry, built)
    return built


def agrees(pipeline: Pipeline, registry: Registry, built: Built) -> None:
    """Return when the tag that the image calls its own points to it; Refused when it does not."""
    there = registry.digest(built.build) if built.build else None
    if there != built.digest:
        raise Refused(
            f"tag {built.build or '(none)'} points to {there[:19] if there else 'nothing'} in the registry, "
            f"not to {built.digest[:19]}",
            "somebody moved the tag, or built again elsewhere; commit and build anew",
        )


def next_number(tags: list[str], first: int) -> int:
    """The build number after the highest one there is; `first` when there is none."""
    return max((int(tag) + 1 for tag in tags if re.fullmatch(r"[1-9][0-9]*", tag)), default=first)


def _build(
    pipeline: Pipeline,
    cluster: Cluster,
    registry: Registry,
    repository: git.Repository,
    revision: str,
    number: int | None,
) -> Built:
    from local.images import python_images

    from delivery.parts import docker

    build_number = number or next_number(registry.tags(), pipeline.image.first_build_number)
    if (taken := registry.digest(str(build_number))) is not None:
        owner = describe(pipeline, registry, taken)
        raise BadInput(
            f"build number {build_number} belongs to commit {owner.revision[:12] if owner else 'unknown'}",
            "leave --number out, or give one that is free",
        )
    build_image, runtime_image = python_images()
    version = _version(repository, revision, pipeline.image.context)
    arguments = {
        "BUILD_IMAGE": build_image,
        "RUNTIME_IMAGE": runtime_image,
        "VERSION": version,
        "BUILD": str(build_number),
        "REVISION": revision,
        "SOURCE": pipeline.git.url,
        "CREATED": repository.run("log", "-1", "--format=%cI", revision),
    }
    started = _now()
    context = repository.archive(f"{revision}:{pipeline.image.context}")
    with phase(f"Build {build_number} of commit {revision[:12]}") as progress:
        log = cluster.state / "build.log"
        with log.open("w", encoding="utf-8") as out:

            def note(line: str) -> None:
                out.write(f"{line}\n")
                progress.update(line)

            try:
                docker.build(context, f"{registry.repository.here}:{revision}", arguments, note)
            except docker.BuildFailed as error:
                raise docker.BuildFailed(error.message, f"{error.hint}; the whole log: {log}") from None
    record = {
        "parameters": arguments,
        "bases": {base: asdict(docker.base(base)) for base in sorted({build_image, runtime_image})},
        "started": started,
        "finished": _now(),
    }
    write_private(_record(cluster, revision), json.dumps(record))
    with phase(f"Push {registry.repository.path}:{build_number}"):
        digest = docker.push(registry.repository, revision)
        built = Built(digest, str(build_number), version, revision, new=True)
        _arrived(pipeline, registry, built)
        _name(pipeline, registry, built)
    _describe(pipeline, cluster, registry, built)
    return built


def _describe(pipeline: Pipeline, cluster: Cluster, registry: Registry, built: Built) -> None:
    """Attach SBOM and provenance, while the record of the build is there: it goes when both are attached."""
    from delivery.build import provenance

    file = _record(cluster, built.revision)
    if not file.exists():
        return
    with phase(f"SBOM and provenance of {built.digest[:19]}"):
        record = json.loads(file.read_text(encoding="utf-8"))
        provenance.complete(pipeline, cluster, registry, built.digest, **record)
        file.unlink()


def _record(cluster: Cluster, revision: str) -> Path:
    return cluster.state / "builds" / f"{revision}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _arrived(pipeline: Pipeline, registry: Registry, built: Built) -> None:
    """Return when the registry has, under the digest that the push reported, the image that was built."""
    there = describe(pipeline, registry, built.digest)
    if there is None:
        raise Refused(
            f"the push reported {built.digest[:19]}, and the registry does not have it",
            "push again: delivery build",
        )
    if (there.build, there.revision) != (built.build, built.revision):
        raise Refused(
            f"the push reported {built.digest[:19]}, which says it is build {there.build or '(none)'} of "
            f"{there.revision[:12] or 'no commit'}, not build {built.build} of {built.revision[:12]}",
            "does the Dockerfile still take ARG BUILD and ARG REVISION? then build again",
        )


def _name(pipeline: Pipeline, registry: Registry, built: Built) -> None:
    manifest = registry.manifest(built.digest)
    if manifest is None:
        raise Refused(f"{built.digest[:19]} is gone from the registry", "build it again: delivery build")
    registry.tag(manifest, built.build)


def _version(repository: git.Repository, revision: str, context: str) -> str:
    text = repository.show(revision, f"{context}/pyproject.toml")
    try:
        return str(tomllib.loads((text or b"").decode())["project"]["version"])
    except (ValueError, KeyError):
        raise BadInput(
            f"{context}/pyproject.toml names no version at {revision[:12]}", "give it [project] version"
        ) from None


def _number_from_environment() -> int | None:
    text = os.environ.get("BUILD_NUMBER", "")
    if not text:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise BadInput(f"BUILD_NUMBER={text} is not a build number", "a whole number from 1, or unset it")
    return int(text)
