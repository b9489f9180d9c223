"""Build once, push, keep the digest that the push reported. A second build of a commit is the first one."""

import json
import os
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delivery.build import dockerfile
from delivery.build.dockerfile import VERSION
from delivery.context import Context
from delivery.errors import BadInput, Refused
from delivery.files import write_private
from delivery.lock import alone
from delivery.parts import git
from delivery.parts.registry import Registry, connect
from delivery.pipeline import BUILD
from delivery.progress import phase
from delivery.site import ImageRepository, Site

# What an image says of itself, for whoever reads it without us: the build writes these labels into it, whatever the
# Dockerfile is like. The version is the app's own affair: the Dockerfile writes that label.
REVISION = "org.opencontainers.image.revision"
SOURCE = "org.opencontainers.image.source"
CREATED = "org.opencontainers.image.created"
NUMBER = "delivery.build"


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


def build(context: Context, number: int | None = None) -> Built:
    """The image of the newest commit that changed the app: built and pushed, or the one that already is.

    Refuses a dirty tree and a shallow clone, so that the image is what Git has. Builds on one machine wait
    for each other: two builds of one commit end with one digest.
    """
    repository = git.checkout(context.checkout)
    revision = source(context, repository)
    number = number if number is not None else _number_from_environment()
    with (
        alone(
            context.site.state / "build.lock", "the other build on this machine", context.pipeline.waits.build
        ),
        connect(_pushed_to(context.site)) as registry,
    ):
        found = find(context, registry, revision)
        if found is None:
            return _build(context, registry, repository, revision, number)
        if registry.digest(found.build) is None:
            _name(context, registry, found)  # a build was stopped between its two tags
        _describe(context, registry, found)  # or before its SBOM was attached
        return found


def source(context: Context, repository: git.Repository) -> str:
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
    revision = repository.last_change(repository.commit("HEAD"), context.pipeline.image.context)
    if not revision:
        raise BadInput(f"no commit changed {context.pipeline.image.context}/", "commit the app first")
    return revision


def find(context: Context, registry: Registry, revision: str) -> Built | None:
    """The image that was built from a commit, or None. The image itself must say so too."""
    digest = registry.digest(revision)
    if digest is None:
        return None
    found = describe(context, registry, digest)
    if found is None or found.revision != revision:
        raise Refused(
            f"tag {revision[:12]} in the registry belongs to an image that says it is of another commit",
            "somebody moved the tag; commit again to get a new image",
        )
    return found


def describe(context: Context, registry: Registry, digest: str) -> Built | None:
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
    return labels.get(NUMBER, ""), labels.get(VERSION, ""), labels.get(REVISION, "")


def fits(built: Built, nodes: Set[str]) -> None:
    """Return when a node can run it; WrongPlatform when its platforms are known and no node has one of them."""
    if built.platforms and nodes and not built.platforms & nodes:
        raise WrongPlatform(
            f"build {built.build} ({built.digest[:19]}) is for {', '.join(sorted(built.platforms))}, "
            f"the cluster's nodes are {', '.join(sorted(nodes))}",
            "build it for the nodes: delivery build on such a machine, or docker buildx build --platform in CI",
        )


def known(context: Context, registry: Registry, digest: str) -> Built:
    """The same of a digest that must be there, and whose build number must still be its own."""
    built = describe(context, registry, digest)
    if built is None:
        raise BadInput(f"{digest[:19]}… is not in the registry", "build it first: delivery build")
    agrees(context, registry, built)
    return built


def agrees(context: Context, registry: Registry, built: Built) -> None:
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
    context: Context,
    registry: Registry,
    repository: git.Repository,
    revision: str,
    number: int | None,
) -> Built:
    from delivery.parts import docker

    build_number = number or next_number(registry.tags(), context.pipeline.image.first_build_number)
    if (taken := registry.digest(str(build_number))) is not None:
        owner = describe(context, registry, taken)
        raise BadInput(
            f"build number {build_number} belongs to commit {owner.revision[:12] if owner else 'unknown'}",
            "leave --number out, or give one that is free",
        )
    recipe = prepare(context, repository, revision, build_number)
    started = _now()
    local = context.site.image.here
    with phase(f"Build {build_number} of commit {revision[:12]}") as progress:
        log = context.site.state / "build.log"
        with log.open("w", encoding="utf-8") as out:

            def note(line: str) -> None:
                out.write(f"{line}\n")
                progress.update(line)

            try:
                recipe.build(f"{local}:{revision}", note)
            except docker.BuildFailed as error:
                raise docker.BuildFailed(error.message, f"{error.hint}; the whole log: {log}") from None
    record = {
        "parameters": dict(recipe.arguments),
        "bases": {base: asdict(docker.base(base)) for base in recipe.bases},
        "started": started,
        "finished": _now(),
    }
    write_private(_record(context.site, revision), json.dumps(record))
    version = docker.labels(f"{local}:{revision}").get(VERSION, "")
    with phase(f"Push {context.site.image.path}:{build_number}") as progress:
        digest = docker.push(_pushed_to(context.site), revision, progress.update)
        built = Built(digest, str(build_number), version, revision, new=True)
        _arrived(context, registry, built)
        _name(context, registry, built)
    _describe(context, registry, built)
    return built


@dataclass(frozen=True)
class Recipe:
    """All that an image is built from: the app's folder at a commit, arguments that its Dockerfile takes, labels."""

    arguments: Mapping[str, str]
    labels: Mapping[str, str]
    bases: tuple[str, ...]
    context: bytes = field(repr=False)

    def build(self, tag: str, log: Callable[[str], None]) -> None:
        """Build it on the Docker daemon, under this name."""
        from delivery.parts import docker

        docker.build(self.context, tag, self.arguments, log, labels=self.labels)


def prepare(context: Context, repository: git.Repository, revision: str, number: int) -> Recipe:
    """How the app is built at a commit; BadInput where its Dockerfile is missing or names no version.

    A Dockerfile need not take any of the arguments, and gets those alone that it takes.
    """
    name = f"{context.pipeline.image.context}/Dockerfile"
    text = repository.show(revision, name)
    if text is None:
        raise BadInput(f"{name} is not in Git at {revision[:12]}", "commit it first: it builds the image")
    source, created = context.site.git.for_argocd, repository.run("log", "-1", "--format=%cI", revision)
    facts = {"BUILD": str(number), "REVISION": revision, "SOURCE": source, "CREATED": created}
    # What a Dockerfile takes from elsewhere below this argument, it asks for anew each hour.
    facts["UPDATES"] = f"{datetime.now(UTC):%Y-%m-%dT%H}"
    known = facts | context.site.arguments
    found = dockerfile.read(text.decode("utf-8", "replace"), known)
    if VERSION not in found.labels:  # a base image's own would be taken for the app's
        raise BadInput(
            f"{name} does not say which version the app is",
            f'write it there, such as: LABEL {VERSION}="1.0.0"',
        )
    return Recipe(
        arguments={key: value for key, value in known.items() if key in found.arguments},
        labels={REVISION: revision, SOURCE: source, CREATED: created, NUMBER: str(number)},
        bases=found.bases,
        context=repository.archive(f"{revision}:{context.pipeline.image.context}"),
    )


def _describe(context: Context, registry: Registry, built: Built) -> None:
    """Attach SBOM and provenance, while the record of the build is there: it goes when both are attached."""
    from delivery.build import provenance

    file = _record(context.site, built.revision)
    if not file.exists():
        return
    with phase(f"SBOM and provenance of {built.digest[:19]}") as progress:
        record = json.loads(file.read_text(encoding="utf-8"))
        provenance.complete(context, registry, built.digest, built.revision, **record, said=progress.update)
        file.unlink()


def _pushed_to(site: Site) -> ImageRepository:
    return site.logged_in(site.image, BUILD)


def _record(site: Site, revision: str) -> Path:
    return site.state / "builds" / f"{revision}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _arrived(context: Context, registry: Registry, built: Built) -> None:
    """Return when the registry has, under the digest that the push reported, the image that was built."""
    there = describe(context, registry, built.digest)
    if there is None:
        raise Refused(
            f"the push reported {built.digest[:19]}, and the registry does not have it",
            "push again: delivery build",
        )
    if (there.build, there.revision) != (built.build, built.revision):
        raise Refused(
            f"the push reported {built.digest[:19]}, which says it is build {there.build or '(none)'} of "
            f"{there.revision[:12] or 'no commit'}, not build {built.build} of {built.revision[:12]}",
            "somebody pushed another image meanwhile; build again",
        )


def _name(context: Context, registry: Registry, built: Built) -> None:
    manifest = registry.manifest(built.digest)
    if manifest is None:
        raise Refused(f"{built.digest[:19]} is gone from the registry", "build it again: delivery build")
    registry.tag(manifest, built.build)


def _number_from_environment() -> int | None:
    text = os.environ.get("BUILD_NUMBER", "")
    if not text:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise BadInput(f"BUILD_NUMBER={text} is not a build number", "a whole number from 1, or unset it")
    return int(text)
